"""Fourier coefficients of atoms on a grid.

Each atom is a sum of Gaussians. Their widths are shared out to a short list of widths (exact at
zero and at the highest frequency), one grid of B-spline weights a width is filled, transformed and
multiplied by its Gaussian; so any number of atoms costs a fixed number of transforms, on the CPU
or a GPU, for several maps at once. Where it is to be precise, the list is reduced to the few
functions of frequency that the atoms at hand are made of.
"""

from __future__ import annotations

import math

import numpy as np
import torch

__all__ = ["OVERSAMPLING", "frequencies", "structure_factors"]

# Atoms are spread in groups of this many, to bound the memory of their neighbours.
_CHUNK = 16384
# The smooth kernel: its width in nodes, and its shape for a grid 1.5 times as fine as is needed.
_WIDTH, _SHAPE = 6, 12.2
OVERSAMPLING = 1.5
# R.m.s. of atoms' curves that may be lost when their number of functions is reduced.
_LOST = 3e-6
# Numbers that the grids of weights of a group of widths may take.
_HELD = 50_000_000


def frequencies(shape, voxel_size, device=None) -> torch.Tensor:
    """Give s² in 1/Å² at each coefficient of a real transform.

    Parameters
    ----------
    shape : tuple of int
        (z, y, x) of the grid.
    voxel_size : tuple of float
        (x, y, z) in Å.

    Returns
    -------
    Tensor of float32, shape (z, y, x // 2 + 1)
    """
    z, y, x = shape
    vx, vy, vz = voxel_size
    sz = torch.fft.fftfreq(z, vz, device=device)
    sy = torch.fft.fftfreq(y, vy, device=device)
    sx = torch.fft.rfftfreq(x, vx, device=device)
    return sz[:, None, None] ** 2 + sy[None, :, None] ** 2 + sx[None, None, :] ** 2


def _spline_transform(shape, device) -> torch.Tensor:
    """Transform of the cubic B-spline on the grid, by which spread weights are divided."""
    axes = [torch.fft.fftfreq(n, device=device) for n in shape[:2]]
    axes.append(torch.fft.rfftfreq(shape[2], device=device))
    z, y, x = (torch.sinc(axis) ** 4 for axis in axes)
    return z[:, None, None] * y[None, :, None] * x[None, None, :]


def _cubic(f: torch.Tensor) -> torch.Tensor:
    """Cubic B-spline at nodes -1 to 2 from fractions (n, 3): (n, 3, 4)."""
    return torch.stack(
        [
            (1 - f) ** 3 / 6,
            (3 * f**3 - 6 * f**2 + 4) / 6,
            (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
            f**3 / 6,
        ],
        dim=-1,
    )


def _bell(x: torch.Tensor) -> torch.Tensor:
    """The smooth kernel at distances of -1 to 1 half widths."""
    inside = x.abs() < 1
    # Where the root is zero its derivative has none.
    root = torch.sqrt(torch.where(inside, 1 - x**2, torch.ones_like(x)))
    return torch.exp(_SHAPE * (root - 1)) * inside


def _smooth(f: torch.Tensor) -> torch.Tensor:
    """The smooth kernel at nodes -2 to 3 from fractions (n, 3): (n, 3, 6)."""
    nodes = torch.arange(1 - _WIDTH // 2, _WIDTH // 2 + 1, device=f.device)
    return _bell((f[..., None] - nodes) / (_WIDTH / 2))


def _smooth_transform(shape, device) -> torch.Tensor:
    """Transform of the smooth kernel on the grid, by Gauss-Legendre quadrature."""
    x, weight = (torch.as_tensor(part) for part in np.polynomial.legendre.leggauss(64))
    height = weight * _bell(x) * (_WIDTH / 2)
    axes = [torch.fft.fftfreq(n, dtype=torch.float64) for n in shape[:2]]
    axes.append(torch.fft.rfftfreq(shape[2], dtype=torch.float64))
    z, y, x = (
        (torch.cos(np.pi * _WIDTH * axis[:, None] * x) @ height).float().to(device) for axis in axes
    )
    return z[:, None, None] * y[None, :, None] * x[None, None, :]


def _knots(b: torch.Tensor, count: int) -> torch.Tensor:
    """Widths that cover b, denser where they are small."""
    low, high = float(b.min()), float(b.max())
    if high - low < 1e-3:
        return torch.tensor([low], device=b.device)
    shift = 4.0 - min(low, 0.0)
    steps = torch.linspace(np.log(low + shift), np.log(high + shift), count, device=b.device)
    knots = torch.exp(steps) - shift
    knots[0], knots[-1] = low, high
    return knots


def _share(a, b, knots, q_max) -> torch.Tensor:
    """Share Gaussians (n, k) out to widths (m,): amplitudes (n, m)."""
    shares = a.new_zeros(len(a), len(knots))
    if len(knots) == 1:
        return shares + a.sum(dim=1, keepdim=True)
    upper = torch.searchsorted(knots, b.contiguous()).clamp(1, len(knots) - 1)
    b0, b1 = knots[upper - 1], knots[upper]
    # Weights w and 1 - w that are right at s = 0 and at the highest frequency.
    gap = -torch.expm1(-(b1 - b0) * q_max)
    w = (torch.exp(-(b - b0) * q_max) - torch.exp(-(b1 - b0) * q_max)) / gap
    shares.scatter_add_(1, upper - 1, a * w)
    shares.scatter_add_(1, upper, a * (1 - w))
    return shares


def _chebyshev(a, b, q_max) -> tuple[torch.Tensor, torch.Tensor]:
    """Share Gaussians (n, k) out to the fewest widths that give exp(-b q) to parts in 10⁵.

    exp(-b q) is interpolated in b through Chebyshev nodes between the extremes; the error falls
    faster than exponentially with their number.
    """
    low, high = float(b.detach().min()), float(b.detach().max())
    half = max((high - low) / 2, 1e-6)
    count, bound = 2, np.inf
    while bound > 1e-6:
        count += 1
        bound = 2 * (half * q_max / 2) ** count / float(math.factorial(count))
    angle = (2 * np.arange(count) + 1) * np.pi / (2 * count)
    x = torch.as_tensor(np.cos(angle), device=b.device)
    # Barycentric weights of Chebyshev nodes of the first kind.
    weight = torch.as_tensor((-1.0) ** np.arange(count) * np.sin(angle), device=b.device)
    shares = a.new_zeros(len(a), count)
    for column in range(a.shape[1]):
        gap = (b[:, column, None].double() - low - half) / half - x
        gap = torch.where(gap.abs() < 1e-9, torch.full_like(gap, 1e-9), gap)
        part = weight / gap
        shares += (a[:, column, None] * part / part.sum(dim=1, keepdim=True)).to(a.dtype)
    return low + half + half * x.to(a.dtype), shares


def _reduced(knots, shares, q_max):
    """Find the few sums of Gaussians that all atoms are made of, by singular values.

    The curves of atoms of one molecule are so alike that a third or half as many functions as
    widths give them to parts in 10⁵ at every frequency.

    Returns
    -------
    shares : Tensor, shape (n, r)
        What each atom has of each function.
    functions : Tensor of float64, shape (r, m)
        What each function has of each width.
    """
    q = torch.linspace(0, q_max, 64, dtype=torch.float64, device=knots.device)
    gaussians = torch.exp(-knots.double()[:, None] * q)
    coefficients = shares.detach().double()
    # Relative to the curves' r.m.s. at each frequency; below 10⁻⁴ of the highest none matters.
    curves = coefficients.T @ coefficients
    rms = ((curves @ gaussians) * gaussians).sum(dim=0).clamp(min=0).sqrt()
    left, size, _ = torch.linalg.svd(
        gaussians / rms.clamp(min=max(1e-4 * float(rms.max()), 1e-30)),
        full_matrices=False,
    )
    kept = size > 1e-9 * size[0]
    left, size = left[:, kept], size[kept]
    basis = left * size
    value, vector = torch.linalg.eigh(basis.T @ curves @ basis)
    # What is left out when only the last are taken.
    lost = torch.cumsum(value.clamp(min=0), 0)
    vector = vector[:, lost > _LOST**2 * lost[-1]]
    reduce = basis @ vector
    return shares @ reduce.to(shares.dtype), vector.T @ (left / size).T


def _functions(functions, knots, q):
    """Values of sums of Gaussians, shape (r, m), at flat q: (r, len(q))."""
    parts = [
        functions.to(q.dtype) @ torch.exp(-knots.to(q.dtype)[:, None] * part)
        for part in q.split(_CHUNK)
    ]
    return torch.cat(parts, dim=1)


def structure_factors(
    index, a, b, shape, voxel_size, *, owner=None, n_maps=1, s_max=None, widths=24, precise=False
) -> torch.Tensor:
    """Compute Fourier coefficients of sums of Gaussians on a periodic grid.

    Parameters
    ----------
    index : Tensor, shape (n, 3)
        Fractional voxel indices (z, y, x) of the atoms; they wrap around the box.
    a, b : Tensor, shape (n, k)
        Gaussians of each atom, Σ aₖ exp(-bₖ s²/4); b in Å², occupancy included in a.
    shape : tuple of int
        (z, y, x) of each map.
    voxel_size : tuple of float
        (x, y, z) in Å.
    owner : Tensor of int, shape (n,), optional
        Which map each atom belongs to.
    n_maps : int
        Number of maps.
    s_max : float, optional
        Highest frequency of interest in 1/Å; the grid's own limit by default.
    widths : int
        Number of Gaussian widths that the atoms share, unless `precise`.
    precise : bool
        Spread each atom over 6 nodes an axis by an exponential of a semicircle (Barnett, Magland
        and af Klinteberg 2019, eq. 1.8) instead of 4 by a cubic spline: on a grid 1.5 times finer
        than `s_max` needs, what is wrong falls from percents at the limit to parts in 10⁴. The
        widths are then as many as that takes.

    Returns
    -------
    Tensor of complex64, shape (n_maps, z, y, x // 2 + 1)
        `torch.fft.irfftn` of it is the density integrated over a voxel. Complex128 where `a` is of
        float64; differentiable in `index`, `a` and, if `precise`, `b`.
    """
    device = index.device
    shape = tuple(shape)
    n_voxels = int(np.prod(shape))
    if s_max is None:
        s_max = 0.5 / min(voxel_size)
    kind = torch.complex128 if a.dtype == torch.float64 else torch.complex64
    if not len(index):
        return torch.zeros(n_maps, *shape[:2], shape[2] // 2 + 1, dtype=kind)
    q = frequencies(shape, voxel_size, device).to(a.dtype) / 4
    flat_q = q.reshape(-1)
    if precise:
        # A little more, so that rounding does not decide about what lies on the limit.
        known = torch.nonzero(flat_q <= s_max**2 / 4 * (1 + 1e-5))[:, 0]
        knots, shares = _chebyshev(a, b, s_max**2 / 4)
        # The functions of the atoms as they are need not be those of their derivatives.
        if shares.requires_grad or not shares.any():
            functions = torch.eye(len(knots), dtype=torch.float64, device=device)
        else:
            shares, functions = _reduced(knots, shares, s_max**2 / 4)
        functions = _functions(functions, knots, flat_q[known])
    else:
        knots = _knots(b, widths)
        shares = _share(a, b, knots, s_max**2 / 4)
    sizes = torch.tensor(shape, device=device)
    base = torch.floor(index)
    half = _WIDTH // 2 if precise else 2
    nodes = torch.arange(1 - half, half + 1, device=device)
    count = shares.shape[1]
    total = 0
    # A few widths at a time where their grids would take much memory.
    at_once = max(1, min(count, _HELD // (n_maps * n_voxels)))
    for low in range(0, count, at_once):
        group = shares[:, low : low + at_once]
        filled = a.new_zeros(n_maps * n_voxels, group.shape[1])
        for first in range(0, len(index), _CHUNK):
            part = slice(first, first + _CHUNK)
            f = (index[part] - base[part]).to(a.dtype)
            w = _smooth(f) if precise else _cubic(f)
            at = (base[part].long()[:, :, None] + nodes) % sizes[:, None]
            flat = (at[:, 0, :, None, None] * shape[1] + at[:, 1, None, :, None]) * shape[2] + at[
                :, 2, None, None, :
            ]
            if owner is not None:
                flat = flat + owner[part].long()[:, None, None, None] * n_voxels
            weight = w[:, 0, :, None, None] * w[:, 1, None, :, None] * w[:, 2, None, None, :]
            source = weight.reshape(len(f), -1, 1) * group[part, None, :]
            filled.index_add_(0, flat.reshape(-1), source.reshape(-1, group.shape[1]))
        for column in range(group.shape[1]):
            grid = filled[:, column].reshape(n_maps, *shape)
            spectrum = torch.fft.rfftn(grid, dim=(1, 2, 3))
            if precise:
                total = total + spectrum.reshape(n_maps, -1)[:, known] * functions[low + column]
            else:
                total = total + spectrum * torch.exp(-knots[low + column] * q)
    if not precise:
        return total / _spline_transform(shape, device)
    out = torch.zeros(n_maps, len(flat_q), dtype=kind, device=device)
    out[:, known] = total / _smooth_transform(shape, device).reshape(-1)[known]
    return out.reshape(n_maps, *q.shape)
