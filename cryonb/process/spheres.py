"""Voxels near points, and the mask of a molecule that is made of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import distance_transform_edt

from cryonb.atoms import Atoms
from cryonb.grid import Grid, no_overlap
from cryonb.volume import Volume

__all__ = ["molecular_mask", "van_der_waals_radii", "voxels_within"]

# Pairs of point and voxel that are looked at together.
_PAIRS = 4_000_000
# Shifted copies of a mask that are looked at rather than a distance transform.
_SHIFTS = 200

# Van der Waals radii in Å by atomic number, from hydrogen on, as the Computational
# Crystallography Toolbox has them (cctbx.eltbx.van_der_waals_radii, version 2025.11).
_RADII = np.array([
    1.2, 1.4, 1.82, 0.63, 1.75, 1.775, 1.5, 1.45, 1.47, 1.54, 2.27, 1.73, 1.5, 2.1, 1.9, 1.8, 1.75,
    1.88, 2.75, 1.95, 1.32, 1.95, 1.06, 1.13, 1.19, 1.26, 1.13, 1.63, 1.4, 1.39, 1.87, 1.48, 0.83,
    1.9, 1.85, 2.02, 2.65, 2.02, 1.61, 1.42, 1.33, 1.75, 2.0, 1.2, 1.22, 1.63, 1.72, 1.58, 1.93,
    2.17, 1.12, 1.26, 1.98, 2.16, 3.01, 2.41, 1.83, 1.86, 1.62, 1.79, 1.76, 1.74, 1.96, 1.69, 1.66,
    1.63, 1.61, 1.59, 1.57, 1.54, 1.53, 1.4, 1.22, 1.26, 1.3, 1.58, 1.22, 1.72, 1.66, 1.55, 1.96,
    2.02, 1.73, 1.21, 1.12, 2.3, 3.24, 2.57, 2.12, 1.84, 1.6, 1.75, 1.71, 1.67, 1.66, 1.65, 1.64,
    1.63, 1.62, 1.61, 1.6, 1.59, 1.58,
])  # fmt: skip


def van_der_waals_radii(element) -> np.ndarray:
    """Give van der Waals radii in Å by atomic number; what is not tabulated counts as carbon."""
    element = np.asarray(element, dtype=int)
    known = (element >= 1) & (element <= len(_RADII))
    return _RADII[np.where(known, element, 6) - 1]


def voxels_within(grid: Grid, points, radius) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find the voxels whose centres lie within a radius of each point.

    Parameters
    ----------
    grid : Grid
        The voxels; what lies outside it is left out.
    points : array_like, shape (n, 3)
        (x, y, z) in Å.
    radius : float or array_like, shape (n,)
        Å.

    Yields
    ------
    point, voxel : ndarray of int, shape (m,)
        Pairs, points ascending: index of the point, and of the voxel in the flattened array. Each
        point occurs in one batch only.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    radius = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(points),))
    if not len(points):
        return
    voxel = np.array(grid.voxel_size[::-1])
    shape = np.array(grid.shape)
    reach = radius.max()
    steps = np.ceil(reach / voxel + 0.5).astype(int)
    cube = np.indices(2 * steps + 1).reshape(3, -1).T - steps
    # Half a voxel more: the point may lie that far from the voxel that the cube is laid on.
    corner = np.linalg.norm(np.maximum(np.abs(cube) - 0.5, 0) * voxel, axis=1)
    cube = cube[corner <= reach]
    length = ((cube * voxel) ** 2).sum(axis=1)
    index = grid.to_index(points)
    base = np.rint(index).astype(np.int64)
    offset = (base - index) * voxel
    flat_cube = (cube[:, 0] * shape[1] + cube[:, 1]) * shape[2] + cube[:, 2]
    batch = max(1, _PAIRS // len(cube))
    for first in range(0, len(points), batch):
        part = slice(first, first + batch)
        shift = offset[part]
        distance = 2 * shift @ (cube * voxel).T
        distance += length
        limit = radius[part] ** 2 - (shift**2).sum(axis=1)
        reached = distance <= limit[:, None]
        # numpy's own nonzero of two axes takes twice as long.
        point = np.repeat(np.arange(len(reached)), np.count_nonzero(reached, axis=1))
        place = np.flatnonzero(reached) - point * len(cube)
        near = base[part]
        # Only points near a face have to be looked at voxel by voxel.
        whole = ((near >= steps) & (near < shape - steps)).all(axis=1)
        keep = whole[point]
        rest = np.flatnonzero(~keep)
        at = near[point[rest]] + cube[place[rest]]
        keep[rest] = ((at >= 0) & (at < shape)).all(axis=1)
        point, place = point[keep], place[keep]
        start = (near[:, 0] * shape[1] + near[:, 1]) * shape[2] + near[:, 2]
        yield point + first, start[point] + flat_cube[place]


def _eroded(inside: np.ndarray, voxel, radius: float, margin) -> np.ndarray:
    """Keep what has nothing outside within a radius, less a margin that the radius fits into."""
    steps = np.floor(radius / np.array(voxel) + 1e-9).astype(int)
    offsets = np.indices(2 * steps + 1).reshape(3, -1).T - steps
    offsets = offsets[np.sqrt(((offsets * voxel) ** 2).sum(axis=1)) <= radius]
    size = np.array(inside.shape) - 2 * margin
    # A distance transform takes as long for few voxels as for many.
    if len(offsets) > _SHIFTS:
        inner = tuple(slice(m, m + n) for m, n in zip(margin, size, strict=True))
        return distance_transform_edt(inside, sampling=voxel)[inner] > radius
    kept = np.ones(size, dtype=bool)
    for start in margin + offsets:
        kept &= inside[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]
    return kept


def molecular_mask(
    model, grid: Grid, *, solvent_radius: float = 1.1, shrink: float = 0.9
) -> Volume:
    """Mark the molecule, as crystallographers tell it from bulk solvent.

    What the centre of a solvent probe cannot reach (van der Waals radius and radius of the probe),
    less what lies within the shrinkage radius of where it can: Jiang and Brünger (1994). It does
    not depend on the resolution.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model; a structure is read with its waters and alternative locations. Hydrogens and
        atoms of occupancy zero do not count.
    grid : Grid
        Where to evaluate the mask.
    solvent_radius, shrink : float
        Radius of the probe, and by how much the mask shrinks back, Å. The defaults are those of
        cctbx.

    Returns
    -------
    Volume
        1 in the molecule, else 0.

    Raises
    ------
    MapModelMismatchError
        If no atom comes near the grid.
    """
    atoms = Atoms.from_structure(model, waters=True, altlocs=True)
    atoms = atoms.select((atoms.element > 1) & (atoms.occupancy > 0))
    radius = van_der_waals_radii(atoms.element) + solvent_radius
    # Only the box around the atoms is looked at. What is solvent just outside the map eats into
    # it, too.
    margin = np.ceil(shrink / np.array(grid.voxel_size[::-1])).astype(int) + 1
    index = grid.to_index(atoms.position)
    extra = np.ceil(radius.max(initial=0.0) / np.array(grid.voxel_size[::-1])).astype(int) + 1
    low = np.clip(np.floor(index.min(axis=0, initial=np.inf)) - extra, 0, grid.shape)
    high = np.clip(np.ceil(index.max(axis=0, initial=-np.inf)) + extra + 1, low, grid.shape)
    low, high = low.astype(int), high.astype(int)
    molecule = np.zeros(grid.shape, dtype=bool)
    if (high > low).all():
        part = grid.crop(low, high - low).pad(margin)
        solvent = np.ones(part.n_voxels, dtype=bool)
        for _, voxel in voxels_within(part, atoms.position, radius):
            solvent[voxel] = False
        kept = _eroded(~solvent.reshape(part.shape), grid.voxel_size[::-1], shrink, margin)
        molecule[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = kept
    if not molecule.any():
        raise no_overlap(grid, atoms.lower, atoms.upper)
    return Volume._adopt(molecule.astype(np.float32), grid, name="molecule")
