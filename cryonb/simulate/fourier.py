"""Model maps of finite resolution: atoms to structure factors on a grid, and back to density.

Each atom is a sum of Gaussians. Their widths are shared out to a short list of widths (exact at
zero and at the highest frequency), one grid of B-spline weights a width is filled, transformed and
multiplied by its Gaussian; so any number of atoms costs a fixed number of transforms, on the CPU
or a GPU, for several maps at once.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.scattering import electron_coefficients, ionic_coefficients
from cryonb.volume import Volume

__all__ = [
    "fourier_map",
    "frequencies",
    "gaussian_sum",
    "isotropic_parts",
    "structure_factors",
]

# Atoms are spread in groups of this many, to bound the memory of their neighbours.
_CHUNK = 16384
# The smooth kernel: its width in nodes, and its shape for a grid 1.5 times as fine as is needed.
_WIDTH, _SHAPE = 6, 12.2
_OVERSAMPLING = 1.5
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
    return torch.exp(_SHAPE * (torch.sqrt((1 - x**2).clamp(min=0)) - 1)) * (x.abs() < 1)


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
    low, high = float(b.min()), float(b.max())
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
        shares += (a[:, column, None] * part / part.sum(dim=1, keepdim=True)).float()
    return low + half + half * x.float(), shares


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
        `torch.fft.irfftn` of it is the density integrated over a voxel.
    """
    device = index.device
    shape = tuple(shape)
    n_voxels = int(np.prod(shape))
    if s_max is None:
        s_max = 0.5 / min(voxel_size)
    if not len(index):
        return torch.zeros(n_maps, *shape[:2], shape[2] // 2 + 1, dtype=torch.complex64)
    if precise:
        knots, shares = _chebyshev(a, b, s_max**2 / 4)
    else:
        knots = _knots(b, widths)
        shares = _share(a, b, knots, s_max**2 / 4)
    sizes = torch.tensor(shape, device=device)
    base = torch.floor(index)
    half = _WIDTH // 2 if precise else 2
    nodes = torch.arange(1 - half, half + 1, device=device)
    q = frequencies(shape, voxel_size, device) / 4
    total = torch.zeros(n_maps, *q.shape, dtype=torch.complex64, device=device)
    # A few widths at a time where their grids would take much memory.
    at_once = max(1, min(len(knots), _HELD // (n_maps * n_voxels)))
    for low in range(0, len(knots), at_once):
        group = shares[:, low : low + at_once]
        filled = torch.zeros(n_maps * n_voxels, group.shape[1], device=device)
        for first in range(0, len(index), _CHUNK):
            part = slice(first, first + _CHUNK)
            f = (index[part] - base[part]).float()
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
        for column, knot in enumerate(knots[low : low + at_once]):
            grid = filled[:, column].reshape(n_maps, *shape)
            total += torch.fft.rfftn(grid, dim=(1, 2, 3)) * torch.exp(-knot * q)
    transform = _smooth_transform if precise else _spline_transform
    return total / transform(shape, device)


def _fast_size(n: int) -> int:
    from scipy.fft import next_fast_len

    return next_fast_len(int(n), real=True)


def _refit(coefficients: torch.Tensor, old, new) -> torch.Tensor:
    """Put the coefficients of a real transform on another grid of the same box.

    The frequencies that both grids have are kept; that of Nyquist, of even sizes, is left out.
    """
    out = coefficients.new_zeros(*new[:2], new[2] // 2 + 1)
    both = [(min(n, m) - 1) // 2 for n, m in zip(old, new, strict=True)]
    last = slice(0, both[2] + 1)
    for z in (slice(0, both[0] + 1), slice(-both[0], None) if both[0] else None):
        for y in (slice(0, both[1] + 1), slice(-both[1], None) if both[1] else None):
            if z is not None and y is not None:
                out[z, y, last] = coefficients[z, y, last]
    return out


def gaussian_sum(
    position,
    a,
    b,
    grid: Grid,
    *,
    s_max=None,
    transfer=None,
    periodic=False,
    reach=None,
    device=None,
) -> Volume:
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
    periodic : bool
        Whether the grid repeats itself in space, as a crystal's cell.
    reach : float, optional
        How far an atom is felt, in Å; by default as far as the widest Gaussian and the ripples of
        a sharp limit reach.
    device : str, optional
        Where torch computes.

    Returns
    -------
    Volume
        Density, in amplitude per Å³.
    """
    voxel = np.array(grid.voxel_size)
    limit = s_max if s_max is not None else 0.5 / voxel.min()
    # The box inside is so much larger than the map that what wraps around has died out. A sharp
    # limit rings: its ripples fall with the square of the distance.
    if reach is None:
        widest = np.sqrt(max(float(np.max(b)), 0.0) / (8 * np.pi**2))
        reach = max(4.0 / limit + 3.0 * widest, 8.0)
    before = np.ceil(reach / voxel).astype(int)[::-1]
    sizes = [_fast_size(n + 2 * pad) for n, pad in zip(grid.shape, before, strict=True)]
    if periodic:
        before, sizes = np.zeros(3, dtype=int), grid.shape
    box = np.array(sizes[::-1]) * voxel
    if s_max is None:
        # So fine that the spline's aliases fall beyond the limit.
        fold = np.ceil(voxel[::-1] * limit * 3).astype(int)
        work = [int(n * k) for n, k in zip(sizes, fold, strict=True)]
    else:
        work = [max(_fast_size(np.ceil(2 * _OVERSAMPLING * x * limit)), 8) for x in box[::-1]]
    fine = box / work[::-1]
    index = ((position - (grid.lower - before[::-1] * voxel)) / fine)[:, ::-1]
    near = periodic | ((index > -4) & (index < np.array(work) + 4)).all(axis=1)
    device = torch.device(device or "cpu")

    def as_tensor(values):
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)

    coefficients = structure_factors(
        torch.as_tensor(np.ascontiguousarray(index[near]), device=device),
        as_tensor(a[near]),
        as_tensor(b[near]),
        work,
        tuple(fine),
        s_max=limit,
        precise=s_max is not None,
    )[0]
    s2 = frequencies(work, tuple(fine), device)
    if s_max is not None:
        coefficients = coefficients * (s2 <= s_max**2)
    if transfer is not None:
        coefficients = coefficients * transfer(s2)
    # Without a limit the map is read off the finer grid: cutting at its own would make it ring.
    if s_max is None:
        shape, step = work, fold
    else:
        shape, step = sizes, (1, 1, 1)
        coefficients = _refit(coefficients, work, sizes)
    density = torch.fft.irfftn(coefficients, s=tuple(shape)) * (np.prod(shape) / np.prod(box))
    take = tuple(
        slice(pad * k, (pad + n) * k, k) for n, pad, k in zip(grid.shape, before, step, strict=True)
    )
    values = np.ascontiguousarray(density[take].cpu().numpy(), dtype=np.float32)
    return Volume._adopt(values, grid)


def isotropic_parts(position, b_iso, aniso, *, s_max: float, tolerance: float = 1e-5):
    """Take anisotropic atoms apart into isotropic ones at several places.

    A Gaussian displacement of variances λ1 ≤ λ2 ≤ λ3 is one of λ1 in all directions, and those of
    λ2 - λ1 and λ3 - λ1 along two axes. The latter two are taken by Gauss-Hermite quadrature, of as
    many nodes as keep the error of exp(-2π² sᵀUs) below `tolerance` up to `s_max`.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        (x, y, z) in Å.
    b_iso : ndarray, shape (n,)
        Å², of atoms without anisotropic displacements.
    aniso : ndarray, shape (n, 6)
        As in `Atoms`; zero for isotropic atoms.
    s_max : float
        Highest frequency in 1/Å.
    tolerance : float
        Of the displacement factor.

    Returns
    -------
    position, weight, b_iso, of : ndarray
        Of m isotropic parts, and the row of the atom that each belongs to.
    """
    some = aniso.any(axis=1)
    u = aniso[some][:, [[0, 3, 4], [3, 1, 5], [4, 5, 2]]]
    variance, axes = np.linalg.eigh(u)
    spread = np.sqrt(variance[:, 1:] - variance[:, :1])
    phase = 2 * np.pi * s_max * float(spread.max(initial=0.0))
    # The quadrature of cos(phase · x) with n nodes is off by at most phase^(2n) n! / (2n)!, and
    # two axes add up. More nodes than 40 lose more to rounding than they gain.
    count = 1
    while count < 40 and (
        2 * count * math.log(max(phase, 1e-9)) + math.lgamma(count + 1) - math.lgamma(2 * count + 1)
        > math.log(tolerance / 2)
    ):
        count += 1
    node, weight = np.polynomial.hermite_e.hermegauss(count)
    weight = weight / np.sqrt(2 * np.pi)
    one, two = (part.ravel() for part in np.meshgrid(node, node, indexing="ij"))
    shift = (
        one[:, None] * (spread[:, None, 0, None] * axes[:, None, :, 1])
        + two[:, None] * (spread[:, None, 1, None] * axes[:, None, :, 2])
    )  # fmt: skip
    parts, rows = len(one), np.flatnonzero(some)
    share = np.tile(np.outer(weight, weight).ravel(), len(rows))
    return (
        np.concatenate([position[~some], (position[rows][:, None] + shift).reshape(-1, 3)]),
        np.concatenate([np.ones((~some).sum()), share]),
        np.concatenate([b_iso[~some], np.repeat(8 * np.pi**2 * variance[:, 0], parts)]),
        np.concatenate([np.flatnonzero(~some), np.repeat(rows, parts)]),
    )  # fmt: skip


def _inverse(s2):
    """1/s², and nothing at zero."""
    return torch.where(s2 > 0, 1 / s2.clamp(min=1e-12), torch.zeros_like(s2))


def fourier_map(
    model, grid: Grid | None = None, *, resolution: float, voxel_size: float = 1.0,
    b_add: float = 0.0, margin: float = 10.0, periodic: bool = False, charges: bool = False,
    device: str | None = None,
) -> Volume:  # fmt: skip
    """Compute the electrostatic map of a model at finite resolution.

    Fourier coefficients with electron scattering factors, the model's own B and occupancy, cut
    sharply at the resolution. Anisotropic displacements count where the model has them (of an
    `Atoms`, where it was read with them); atoms are neutral unless `charges` are asked for.

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
    periodic : bool
        Whether the grid repeats itself in space, as crystallographic programs have it: what
        reaches over one face comes in at the opposite one.
    charges : bool
        Whether the formal charges that the model's file gives count, by Mott and Bethe
        (`cryonb.simulate.scattering.ionic_coefficients`), without screening by solvent or other
        ions. What they add has a mean of zero over the box, map and margin, in which it is
        computed: their potential reaches farther than any box.
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
    atoms = Atoms.from_structure(model, anisotropic=True)
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
    b_iso = atoms.b_iso.astype(np.float64)
    position, of = atoms.position, np.arange(len(atoms))
    if atoms.aniso is not None and atoms.aniso.any():
        position, weight, b_iso, of = isotropic_parts(
            position, b_iso, atoms.aniso, s_max=1 / resolution
        )
        a, b = a[of] * weight[:, None], b[of]
    else:
        weight = np.ones(len(atoms))
    b = b + b_iso[:, None] + b_add
    options = {"s_max": 1 / resolution, "periodic": periodic, "device": device}
    volume = gaussian_sum(position, a, b, grid, **options)
    if charges and atoms.charge is not None and atoms.charge.any():
        of_ion = atoms.charge[of] != 0
        a, b = ionic_coefficients(atoms.element, atoms.charge)
        a = a[of] * (weight * atoms.occupancy[of])[:, None]
        b = b[of] + b_iso[:, None] + b_add
        added = gaussian_sum(
            position[of_ion], a[of_ion], b[of_ion], grid, transfer=_inverse, **options
        )
        volume = volume.replace(volume.values + added.values)
    return volume.replace(note=f"simulated from {len(atoms)} atoms at {resolution:g} Å")
