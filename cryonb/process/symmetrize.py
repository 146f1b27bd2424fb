"""Averages over the operations of a symmetry."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform, map_coordinates, spline_filter

from cryonb.grid import Grid
from cryonb.process.checks import require_density
from cryonb.process.helical import HelicalSymmetry, axis_frame
from cryonb.process.operators import Symmetry
from cryonb.volume import Volume

__all__ = ["symmetrize"]

#: Operations of a helix from which on one repeat is averaged, and then laid out.
_SLAB = 64
#: Voxels of that repeat over those of the map.
_FINER = 0.75


def symmetrize(volume: Volume, symmetry: Symmetry) -> Volume:
    """Average a map over the operations of its symmetry.

    Parameters
    ----------
    volume : Volume
        A map.
    symmetry : Symmetry
        From `find_symmetry`.

    Returns
    -------
    Volume
        What some operation would bring in from outside of the box counts as absent: a voxel of a
        helix is the mean over all its images that are within the map.

    Raises
    ------
    CryonbError
        If the map is no density or not finite.
    """
    require_density(volume, flat=True)
    matrices, vectors = symmetry.average_over(volume)
    if len(matrices) > _SLAB and isinstance(symmetry, HelicalSymmetry):
        mean = _through_slab(volume, symmetry, matrices, vectors)
    else:
        mean = _average(volume, matrices, vectors)
    return volume.replace(mean, note=f"averaged over {symmetry.name}")


def _average(volume: Volume, matrices, vectors, *, grid: Grid | None = None, frame=None):
    """Average a map over operations.

    Parameters
    ----------
    volume : Volume
        A map.
    matrices, vectors : ndarray, shapes (n, 3, 3) and (n, 3)
        A point x looks at matrix · x + vector.
    grid : Grid, optional
        Where the mean is wanted; on the map's own grid by default.
    frame : tuple of ndarray, shapes (3, 3) and (3,), optional
        Matrix and vector that bring points of the grid into space, where it stands aslant.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        By cubic splines; zero where no operation leads into the map.
    """
    grid = volume.grid if grid is None else grid
    turn, shift = (np.eye(3), np.zeros(3)) if frame is None else frame
    smooth = spline_filter(volume.values, 3, mode="mirror", output=np.float32)
    total = np.zeros(grid.shape, dtype=np.float32)
    count = np.zeros(grid.shape, dtype=np.int16)
    corners = np.vstack([np.zeros(3), np.eye(3)])
    for matrix, vector in zip(matrices, vectors, strict=True):
        # Where index (0, 0, 0) and its neighbours come from tells all of an affine map.
        moved = (grid.to_points(corners) @ turn.T + shift) @ matrix.T + vector
        start, *ends = volume.grid.to_index(moved)
        found = affine_transform(
            smooth, (ends - start).T, start, output_shape=grid.shape, output=np.float32, order=3,
            prefilter=False, mode="constant", cval=np.nan,
        )  # fmt: skip
        there = np.isfinite(found)
        np.add(total, found, out=total, where=there)
        count += there
    return np.divide(total, count, out=total, where=count > 0)


def _through_slab(volume: Volume, helix: HelicalSymmetry, matrices, vectors) -> np.ndarray:
    """Average one repeat of a helix across its axis, and read every voxel off that.

    The mean at a point is the mean at all its images, so that a slab as thick as the rise has all
    of them: hundreds of operations need not be applied to the whole map. The price is that values
    are interpolated twice, on finer voxels in between.
    """
    voxel = _FINER * min(volume.voxel_size)
    frame, centre, rise = axis_frame(helix.axis), helix.centre, helix.rise
    corners = volume.grid.to_points(
        np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(volume.shape) - 1)
    )
    local = (corners - centre) @ frame.T
    reach = np.hypot(local[:, 0], local[:, 1]).max() + 2 * voxel
    low = (local[:, 2].min() + local[:, 2].max() - rise) / 2
    # Splines feel what lies a few voxels away.
    margin = 5 * voxel
    shape = [
        int(np.ceil(length / voxel)) + 1 for length in (rise + 2 * margin, 2 * reach, 2 * reach)
    ]
    slab = Grid(shape, voxel, (-reach, -reach, low - margin))
    mean = _average(volume, matrices, vectors, grid=slab, frame=(frame.T, centre))
    smooth = spline_filter(mean, 3, mode="mirror", output=np.float32)
    out = np.empty(volume.shape, dtype=np.float32)
    rows, columns = np.indices(volume.shape[1:]).reshape(2, -1)
    for section in range(volume.shape[0]):
        index = np.stack([np.full_like(rows, section), rows, columns], axis=1)
        x, y, z = ((volume.grid.to_points(index) - centre) @ frame.T).T
        steps = np.floor((z - low) / rise)
        turn = -np.radians(helix.twist) * steps
        c, s = np.cos(turn), np.sin(turn)
        points = np.stack([c * x - s * y, s * x + c * y, z - rise * steps], axis=1)
        out[section] = map_coordinates(
            smooth, slab.to_index(points).T, order=3, prefilter=False, mode="nearest"
        ).reshape(volume.shape[1:])
    return out
