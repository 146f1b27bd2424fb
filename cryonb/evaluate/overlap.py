"""Manders' overlap of a map with the map of its model: of arrays, and along a chain (SMOC)."""

from __future__ import annotations

import numpy as np

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, GridError
from cryonb.evaluate.residue_voxels import blocks_of, distinct, distinct_keys
from cryonb.simulate.gaussian import gaussian_map
from cryonb.volume import Volume

__all__ = ["check_grid", "overlap", "overlap_along_chain"]


def overlap(a, b) -> float:
    """Give Σ ab / √(Σ a² Σ b²) of two arrays of one shape; NaN where one of them is zero."""
    a, b = (np.asarray(part, dtype=np.float64).ravel() for part in (a, b))
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else np.nan


def overlap_along_chain(
    volume: Volume, model, *, resolution: float, window: int = 11, model_map: Volume | None = None
) -> np.ndarray:
    """Compute SMOC: Manders' overlap of map and model map around windows of residues.

    Parameters
    ----------
    volume : Volume
        The map.
    model : gemmi.Structure or Atoms
        The model.
    resolution : float
        d in Å.
    window : int
        Residues a window, odd. It does not reach over a break of the chain, where a number is
        left out.
    model_map : Volume, optional
        By default a Gaussian of σ = 0.225 d on each atom, on the grid of `volume`.

    Returns
    -------
    ndarray of float64, shape (residue,)
        The window's score at its middle residue: Σ mc / √(Σ m² Σ c²) over the voxels within
        2.5 max(0.225 d, 1 Å) of its atoms. NaN where no voxel lies there.

    Raises
    ------
    CryonbError
        If the window is even or not positive.

    Notes
    -----
    Joseph et al. (2016), Methods 100, 42; radius and windows as the FastSMOC of TEMPy has them.
    """
    if window < 1 or window % 2 == 0:
        raise CryonbError(f"A window of an odd number of residues was expected, not {window}.")
    atoms = Atoms.from_structure(model, waters=True, altlocs=True)
    grid = volume.grid
    if model_map is None:
        model_map = gaussian_map(atoms, grid, resolution=resolution)
    check_grid(volume, model_map)
    residues, n = atoms.residues, len(atoms.residues)
    stretch = np.zeros(n, dtype=int)
    gap = (residues.chain[1:] != residues.chain[:-1]) | (np.diff(residues.number) > 1)
    gap |= np.diff(residues.number) < 0
    stretch[1:] = np.cumsum(gap)
    m, c = (part.values.ravel().astype(np.float64) for part in (volume, model_map))
    sums = np.zeros((3, n))
    radius = 2.5 * max(0.225 * resolution, 1.0)
    half = window // 2
    reach = np.arange(-half, half + 1)
    # Pairs become as many as a window is long.
    for first, stop in blocks_of(np.repeat(atoms.residue, window), radius, grid, n):
        mine = (atoms.residue >= first - half) & (atoms.residue < stop + half)
        owner = (atoms.residue[mine] - first + half) * np.int64(grid.n_voxels)
        keys = distinct_keys(grid, atoms.position[mine], owner, radius)
        row, voxel = np.divmod(keys, grid.n_voxels)
        row = row.astype(np.int64) + first - half
        middle = row[:, None] + reach
        ok = (middle >= first) & (middle < stop)
        ok &= stretch[np.clip(middle, 0, n - 1)] == stretch[row][:, None]
        at, step = np.nonzero(ok)
        # The same voxel is near several residues of a window, but counts once.
        keys = (row[at] + reach[step] - first) * grid.n_voxels + voxel[at]
        fits = (stop - first) * grid.n_voxels < 2**31
        middle, at = np.divmod(distinct(keys.astype(np.int32) if fits else keys), grid.n_voxels)
        middle = middle + first
        for total, weight in zip(sums, (m[at] * c[at], m[at] ** 2, c[at] ** 2), strict=True):
            total += np.bincount(middle, weight, n)
    norm = np.sqrt(sums[1] * sums[2])
    return np.where(norm > 0, sums[0] / np.where(norm > 0, norm, 1), np.nan)


def check_grid(volume: Volume, model_map: Volume) -> None:
    """Refuse a map of a model that is not on the grid of the map."""
    if not model_map.grid.is_close(volume.grid):
        raise GridError(
            f"A model map on the grid of {volume!r} was expected, but {model_map!r} is not."
        )
