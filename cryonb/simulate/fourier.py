"""Model maps of finite resolution: atoms to structure factors on a grid, and back to density."""

from __future__ import annotations

import math

import numpy as np
import torch

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.scattering import electron_coefficients, ionic_coefficients
from cryonb.simulate.structure_factors import OVERSAMPLING, frequencies, structure_factors
from cryonb.volume import Volume

__all__ = [
    "fourier_map",
    "gaussian_sum",
    "isotropic_parts",
    "padded_box",
    "refit",
    "work_sizes",
]


def _fast_size(n: int) -> int:
    from scipy.fft import next_fast_len

    return next_fast_len(int(n), real=True)


def refit(coefficients: torch.Tensor, old, new) -> torch.Tensor:
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


def padded_box(grid: Grid, limit: float, b_max: float, *, reach: float | None = None):
    """Give a box in which little of what wraps around reaches the grid: a sharp limit rings.

    Parameters
    ----------
    grid : Grid
        Where the map is wanted.
    limit : float
        Highest frequency in 1/Å.
    b_max : float
        The largest width in Å².
    reach : float, optional
        Å on each side, in place of 4 wavelengths and 3 standard deviations.

    Returns
    -------
    before, sizes : (z, y, x) of int
        Voxels in front of the grid, and of the box.
    """
    if reach is None:
        reach = max(4.0 / limit + 3.0 * np.sqrt(max(b_max, 0.0) / (8 * np.pi**2)), 8.0)
    before = np.ceil(reach / np.array(grid.voxel_size)).astype(int)[::-1]
    return before, [_fast_size(n + 2 * pad) for n, pad in zip(grid.shape, before, strict=True)]


def work_sizes(box, limit: float) -> list[int]:
    """Give the sizes (z, y, x) of the grid on which atoms are spread in a box (x, y, z) of Å."""
    return [max(_fast_size(np.ceil(2 * OVERSAMPLING * x * limit)), 8) for x in box[::-1]]


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
    before, sizes = padded_box(grid, limit, float(np.max(b)), reach=reach)
    if periodic:
        before, sizes = np.zeros(3, dtype=int), grid.shape
    box = np.array(sizes[::-1]) * voxel
    if s_max is None:
        # So fine that the spline's aliases fall beyond the limit.
        fold = np.ceil(voxel[::-1] * limit * 3).astype(int)
        work = [int(n * k) for n, k in zip(sizes, fold, strict=True)]
    else:
        work = work_sizes(box, limit)
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
        coefficients = refit(coefficients, work, sizes)
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

    Notes
    -----
    A sharp limit rings as far as there are atoms, so some of it wraps around the box, 4 d and more
    beyond the map. Against a box with three times the margin it is, in parts of the peak, largest
    at 4 Å: 1.7 % with a B of 10 Å², 1.2 % with 30, 0.4 % with 100 (793 atoms;
    `benchmarks/bench_model_maps.py`, `wrap_error`).
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
