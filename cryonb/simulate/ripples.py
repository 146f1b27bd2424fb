"""Ripples of atoms whose resolutions may differ: what the near parts of their images lack.

An atom's image at a resolution d has the transform f(s) up to 1/d and nothing beyond. Its near part
(`cryonb.simulate.shells.near_profiles`) has f(s) N(sd), N the transform of a few shell terms, and
dies out within 2 d. The rest, f(s) (1 - N(sd)) up to 1/d, is the ripples, which reach as far as
there are atoms. As in Ewald's sums it is taken in Fourier space.

Its edge lies where each atom has it. There are edges at a list of levels of 1/d only; each atom's
is shared out to the four levels around its own (Keys 1981, IEEE Trans. Acoust. 29, 1153). In real
space cos(2πr/d) is interpolated in 1/d, which is good up to r = 1 / (4 × spacing of the levels).
Where all atoms have one resolution, one level is exact.
"""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.fourier import padded_box, refit, work_sizes
from cryonb.simulate.shell_terms import load_near_terms
from cryonb.simulate.structure_factors import frequencies, structure_factors

__all__ = ["ripple_density"]

# Resolutions around the model beyond which its ripples are left out.
_MARGIN = 6.0


def ripple_density(
    position, a, b, resolution, grid: Grid, *, levels: int = 16, edges: np.ndarray | None = None
):  # fmt: skip
    """Add up the ripples of atoms on a grid; differentiable in all that the atoms have.

    Parameters
    ----------
    position : Tensor, shape (n, 3)
        (x, y, z) in Å.
    a, b : Tensor, shape (n, k)
        Gaussians of each atom, Σ aₖ exp(-bₖ s²/4), occupancy and B included.
    resolution : Tensor, shape (n,)
        d of each atom in Å.
    grid : Grid
        Where the map is wanted. It is zero farther than 6 resolutions (the coarsest) from the box
        around the model.
    levels : int
        Steps of 1/d from the coarsest resolution to the finest.
    edges : ndarray, shape (k,), optional
        The levels themselves, in 1/Å and evenly spaced, each atom's 1/d between the second and the
        last but one. While these stay the density is smooth in the resolutions.

    Returns
    -------
    Tensor, shape (z, y, x)

    Raises
    ------
    CryonbError
        If there is less than one level, or a resolution lies outside those given.

    Notes
    -----
    The box is that of `fourier_map`, where the part of the grid near the model is the whole of it:
    what wraps around is the same in both.
    """
    import torch

    if levels < 1:
        raise CryonbError(f"At least one level of resolution was expected, not {levels}.")
    total = a.new_zeros(grid.shape)
    where = position.detach().cpu().numpy()
    if not len(where):
        return total
    part, place = _near_part(grid, where, _MARGIN * float(resolution.detach().max()))
    if part is None:
        return total
    sigma = 1 / resolution
    low, high = float(sigma.detach().min()), float(sigma.detach().max())
    if edges is not None:
        if not (edges[1] <= low and high <= edges[-2]):
            raise CryonbError(
                f"Levels with {low:.4g} to {high:.4g} / Å from the second to the last but one were "
                f"expected, but these are {edges[1]:.4g} to {edges[-2]:.4g}."
            )
        low, high = edges[1], edges[-2]
    voxel = np.array(grid.voxel_size)
    before, sizes = padded_box(part, low, float(b.detach().max()))
    # Finer than the voxels where these are too coarse for the limit; read off them again.
    fold = np.maximum(np.ceil(2 * high * voxel / 1.001), 1).astype(int)[::-1]
    shape = [int(n * k) for n, k in zip(sizes, fold, strict=True)]
    box = np.array(sizes[::-1]) * voxel
    work = work_sizes(box, high)
    fine = box / work[::-1]
    corner = part.lower - before[::-1] * voxel
    place_of = torch.as_tensor(corner, dtype=position.dtype, device=position.device)
    index = ((position - place_of) / position.new_tensor(fine)).flip(1)
    inside = ((index.detach() > -4) & (index.detach() < index.new_tensor(work) + 4)).all(dim=1)
    if edges is None:
        # Of one resolution only the slope needs more than one level.
        step = (high - low) / levels if high - low > 1e-9 else 0.5 / float(box.max())
        edges = low + step * np.arange(-1, np.rint((high - low) / step) + 2)
    step = float(edges[1] - edges[0])
    s = torch.sqrt(frequencies(work, tuple(fine), a.device)).to(a.dtype)
    near = load_near_terms()
    coefficients = 0
    for edge in edges.tolist():
        away = (sigma - edge) / step
        share = _keys(away).to(a.dtype)
        rows = inside & ((share != 0) | (share.requires_grad & (away.abs() < 2)))
        rows = torch.nonzero(rows)[:, 0]
        if edge <= 0 or not len(rows):
            continue
        of_level = structure_factors(
            index[rows], a[rows] * share[rows, None], b[rows], work, tuple(fine), s_max=edge,
            precise=True,
        )[0]  # fmt: skip
        # Rounding must not decide about frequencies on the edge itself.
        window = (s <= edge * (1 + 1e-6)) * (1 - near.transform(s / edge))
        coefficients = coefficients + of_level * window
    if isinstance(coefficients, int):
        return total
    density = torch.fft.irfftn(refit(coefficients, work, shape), s=tuple(shape))
    take = tuple(
        slice(pad * k, (pad + n) * k, k) for n, pad, k in zip(part.shape, before, fold, strict=True)
    )
    total[place] = density[take] * (np.prod(shape) / np.prod(box))
    return total


def _near_part(grid: Grid, position, margin: float):
    """Cut a grid to what lies near a model: the part and its place; None where there is none."""
    index = grid.to_index(position)
    extra = margin / np.array(grid.voxel_size[::-1])
    low = np.clip(np.floor(index.min(axis=0) - extra), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + extra) + 1, low, grid.shape).astype(int)
    if not (high > low).all():
        return None, None
    place = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    return grid.crop(low, high - low), place


def _keys(x):
    """Weights of cubic convolution at distances x, in steps: 1 at zero, 0 at all other steps."""
    import torch

    x = x.abs()
    inner = (1.5 * x - 2.5) * x**2 + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, inner, torch.where(x < 2, outer, torch.zeros_like(x)))
