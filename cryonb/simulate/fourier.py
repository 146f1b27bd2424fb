"""Model maps of finite resolution: atoms to structure factors on a grid, and back to density.

Each atom is a sum of Gaussians. Their widths are shared out to a short list of widths (exact at
zero and at the highest frequency), one grid of B-spline weights a width is filled, transformed and
multiplied by its Gaussian; so any number of atoms costs a fixed number of transforms, on the CPU
or a GPU, for several maps at once.
"""

from __future__ import annotations

import numpy as np
import torch

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.scattering import electron_coefficients
from cryonb.volume import Volume

__all__ = ["fourier_map", "frequencies", "gaussian_sum", "structure_factors"]

# Atoms are spread in groups of this many, to bound the memory of their 64 neighbours a width.
_CHUNK = 16384


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


def structure_factors(
    index, a, b, shape, voxel_size, *, owner=None, n_maps=1, s_max=None, widths=24
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
        Number of Gaussian widths that the atoms share.

    Returns
    -------
    Tensor of complex64, shape (n_maps, z, y, x // 2 + 1)
        `torch.fft.irfftn` of it is the density integrated over a voxel.
    """
    device = index.device
    shape = tuple(shape)
    n_voxels = int(np.prod(shape))
    if s_max is None:
        s_max = 0.5 / min(voxel_size)
    if not len(index):
        return torch.zeros(n_maps, *shape[:2], shape[2] // 2 + 1, dtype=torch.complex64)
    knots = _knots(b, widths)
    shares = _share(a, b, knots, s_max**2 / 4)
    sizes = torch.tensor(shape, device=device)
    filled = torch.zeros(n_maps * n_voxels, len(knots), device=device)
    base = torch.floor(index)
    nodes = torch.arange(-1, 3, device=device)
    for first in range(0, len(index), _CHUNK):
        part = slice(first, first + _CHUNK)
        f = (index[part] - base[part]).float()
        w = torch.stack(
            [
                (1 - f) ** 3 / 6,
                (3 * f**3 - 6 * f**2 + 4) / 6,
                (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
                f**3 / 6,
            ],
            dim=-1,
        )  # (n, 3, 4)
        at = (base[part].long()[:, :, None] + nodes) % sizes[:, None]  # (n, 3, 4)
        flat = (at[:, 0, :, None, None] * shape[1] + at[:, 1, None, :, None]) * shape[2] + at[
            :, 2, None, None, :
        ]
        if owner is not None:
            flat = flat + owner[part].long()[:, None, None, None] * n_voxels
        weight = w[:, 0, :, None, None] * w[:, 1, None, :, None] * w[:, 2, None, None, :]
        source = weight.reshape(-1, 64, 1) * shares[part, None, :]
        filled.index_add_(0, flat.reshape(-1), source.reshape(-1, len(knots)))
    q = frequencies(shape, voxel_size, device) / 4
    total = torch.zeros(n_maps, *q.shape, dtype=torch.complex64, device=device)
    for column, knot in enumerate(knots):
        grid = filled[:, column].reshape(n_maps, *shape)
        total += torch.fft.rfftn(grid, dim=(1, 2, 3)) * torch.exp(-knot * q)
    return total / _spline_transform(shape, device)


def _fast_size(n: int) -> int:
    from scipy.fft import next_fast_len

    return next_fast_len(int(n), real=True)


def gaussian_sum(position, a, b, grid: Grid, *, s_max=None, transfer=None, device=None) -> Volume:
    """Sum Gaussians on a grid, through Fourier space.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        (x, y, z) in Å.
    a, b : ndarray, shape (n, k)
        Amplitudes and widths (Å²), Σ aₖ exp(-bₖ s²/4).
    grid : Grid
        Where the map is wanted; atoms outside it contribute as far as they reach.
    s_max : float, optional
        Sharp limit in 1/Å.
    transfer : callable, optional
        Function of s² (1/Å²) by which the coefficients are multiplied.
    device : str, optional
        Where torch computes.

    Returns
    -------
    Volume
        Density, in amplitude per Å³.
    """
    # The grid inside is fine enough that the spline's aliases fall beyond the limit, and so
    # much larger than the map that what wraps around has died out.
    voxel = np.array(grid.voxel_size)
    limit = s_max if s_max is not None else 0.5 / voxel.min()
    fold = np.maximum(np.ceil(voxel * limit * 3), 1).astype(int)
    fine = voxel / fold
    # A sharp limit rings: its ripples fall with the square of the distance.
    reach = 4.0 / limit + 3.0 * np.sqrt(max(float(np.max(b)), 0.0) / (8 * np.pi**2))
    reach = np.maximum(reach, 8.0)
    before = np.ceil(reach / voxel).astype(int)
    shape_fine = [
        _fast_size((n + 2 * pad) * k)
        for n, pad, k in zip(grid.shape, before[::-1], fold[::-1], strict=True)
    ]
    start = grid.lower - before * voxel
    index = ((position - start) / fine)[:, ::-1]
    near = ((index > -4) & (index < np.array(shape_fine) + 4)).all(axis=1)
    device = torch.device(device or "cpu")

    def as_tensor(values):
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)

    coefficients = structure_factors(
        torch.as_tensor(np.ascontiguousarray(index[near]), device=device),
        as_tensor(a[near]),
        as_tensor(b[near]),
        shape_fine,
        tuple(fine),
        s_max=limit,
    )[0]
    s2 = frequencies(shape_fine, tuple(fine), device)
    if s_max is not None:
        coefficients = coefficients * (s2 <= s_max**2)
    if transfer is not None:
        coefficients = coefficients * transfer(s2)
    density = torch.fft.irfftn(coefficients, s=tuple(shape_fine)) / float(np.prod(fine))
    take = tuple(
        slice(pad * k, (pad + n) * k, k)
        for n, pad, k in zip(grid.shape, before[::-1], fold[::-1], strict=True)
    )
    values = np.ascontiguousarray(density[take].cpu().numpy(), dtype=np.float32)
    return Volume._adopt(values, grid)


def fourier_map(
    model, grid: Grid | None = None, *, resolution: float, voxel_size: float = 1.0,
    b_add: float = 0.0, margin: float = 10.0, device: str | None = None,
) -> Volume:  # fmt: skip
    """Compute the electrostatic map of a model at finite resolution.

    Fourier coefficients with electron scattering factors, the model's own B and occupancy, cut
    sharply at the resolution.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model.
    grid : Grid, optional
        Where the map is wanted; by default a box around the model.
    resolution : float
        Limit d in Å.
    voxel_size, margin : float
        Spacing and margin in Å of the default grid.
    b_add : float
        Added to every atom's B, in Å².
    device : str, optional
        Where torch computes; the CPU by default.

    Returns
    -------
    Volume
        Potential in Å⁻² (scattering length per volume).

    Raises
    ------
    CryonbError
        If the resolution is not positive, or finer than twice the voxel size allows.
    """
    atoms = Atoms.from_structure(model)
    if not resolution > 0:
        raise CryonbError(f"A positive resolution in Å was expected, but {resolution} was given.")
    if grid is None:
        grid = Grid.around(atoms.position, min(voxel_size, resolution / 2), margin)
    if max(grid.voxel_size) > resolution / 2 * 1.001:
        raise CryonbError(
            f"A map at {resolution} Å needs voxels of at most {resolution / 2:.3g} Å, but the "
            f"grid's are {max(grid.voxel_size):.3g} Å; give a finer grid or a lower resolution."
        )
    a, b = electron_coefficients(atoms.element)
    a = a * atoms.occupancy[:, None]
    b = b + atoms.b_iso[:, None] + b_add
    volume = gaussian_sum(atoms.position, a, b, grid, s_max=1 / resolution, device=device)
    return volume.replace(note=f"simulated from {len(atoms)} atoms at {resolution:g} Å")
