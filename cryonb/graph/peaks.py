"""Peaks by Newton's method, from the few voxels that can lie near one."""

from __future__ import annotations

from itertools import product

import numpy as np

from cryonb.field.protocol import Field

__all__ = [
    "candidate_points",
    "distinct_points",
    "find_peaks",
    "has_seed",
    "is_inner",
    "merge_points",
    "refine_peaks",
]

# Voxels with less than this part of the threshold are not near a peak above it ...
_SHARE = 0.7
# ... nor are those from which Newton's method would go farther than this, in voxels ...
_FARTHEST = 1.6
# ... or where the density bends upward by more than this part of its strongest bend.
_MOST_UPWARD = 0.3
# A step of Newton's method is no longer than this, in voxels.
_REACH = 0.4
_MOST_STEPS = 40
# A new density may fall short of the old one by this part and still count as no lower: what single
# precision cannot tell apart.
_ROUNDING = 2e-6


def candidate_points(field: Field, *, threshold: float, rising: int = 0) -> np.ndarray:
    """Give the voxel centres from which Newton's method finds a flat point within about a voxel.

    Parameters
    ----------
    field : Field
        The map.
    threshold : float
        Least density of a peak, in units of the map.
    rising : int
        Along how many directions the density rises from the flat point: 0, a peak, or 1, a pass
        between two peaks.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        (x, y, z) in Å.
    """
    grid = field.grid
    least = _SHARE * threshold if threshold > 0 else threshold
    values = field.on_grid(grid)
    index = np.argwhere(values >= least)
    points = grid.to_points(index[_above_neighbours(values, index)])
    _, gradient, hessian = field.evaluate(points, derivatives=2)
    step, curvature = _newton_step(gradient, hessian)
    near = (np.abs(step / grid.voxel_size) <= _FARTHEST).all(axis=1)
    bends = curvature[:, 2 - rising] <= _MOST_UPWARD * np.abs(curvature[:, 0])
    return points[near & bends]


def _above_neighbours(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Tell which voxels, by index (n, 3), are denser than the mean of their six neighbours.

    On a peak or a pass the density bends down more than up, and so it does on the nearest voxel.
    """
    flat, strides = values.reshape(-1), (values[0].size, values[0, 0].size, 1)
    place = index @ np.array(strides)
    total = np.zeros(len(index), dtype=np.float32)
    for axis, stride in enumerate(strides):
        last = values.shape[axis] - 1
        # At the border a voxel is its own neighbour.
        total += flat[np.where(index[:, axis] > 0, place - stride, place)]
        total += flat[np.where(index[:, axis] < last, place + stride, place)]
    return flat[place] > total / 6


def refine_peaks(
    field: Field, points: np.ndarray, *, tolerance: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Climb from each point to the peak above it.

    Newton's method with the absolute curvatures, so that it goes uphill on saddles too; each point
    has its own longest step, which shrinks where the density did not rise.

    Parameters
    ----------
    field : Field
        The map.
    points : ndarray, shape (n, 3)
        Where to begin, (x, y, z) in Å.
    tolerance : float
        The last step is shorter than this, in Å.

    Returns
    -------
    peaks : ndarray of float64, shape (m, 3)
        Points that leave the map, or end on no maximum, are dropped: m <= n. Several points may
        end on one peak.
    density : ndarray of float32, shape (m,)
    """
    longest = _REACH * min(field.grid.voxel_size)
    here = np.array(points, dtype=np.float64)
    state = (here, *field.evaluate(here, derivatives=2))
    reach = np.full(len(here), longest)
    peaks, densities = [np.empty((0, 3))], [np.empty(0, dtype=np.float32)]
    for _ in range(_MOST_STEPS):
        here, value, gradient, hessian = state
        step, curvature = _newton_step(gradient, hessian)
        length = np.linalg.norm(step, axis=1)
        arrived = (length < tolerance) & (curvature[:, 2] < 0)
        peaks.append(here[arrived])
        densities.append(value[arrived])
        # What rests on a saddle or on a plain is no peak, and goes no farther.
        going = length >= tolerance
        if not going.any():
            break
        state = tuple(array[going] for array in state)
        here, value, _, _ = state
        cut = np.minimum(1.0, reach[going] / length[going])
        there = here + step[going] * cut[:, None]
        found = (there, *field.evaluate(there, derivatives=2))
        better = found[1] >= value - _ROUNDING * np.abs(value)
        reach = np.where(better, longest, 0.25 * cut * length[going])
        kept = ~np.isnan(found[1])
        state = tuple(
            np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)[kept]
            for new, old in zip(found, state, strict=True)
        )
        reach = reach[kept]
    return np.concatenate(peaks), np.concatenate(densities)


def _newton_step(gradient, hessian) -> tuple[np.ndarray, np.ndarray]:
    """Uphill step (n, 3) to where the density should be flat, and the curvatures, rising."""
    curvature, axes = np.linalg.eigh(hessian.astype(np.float64))
    along = np.einsum("nij,ni->nj", axes, gradient.astype(np.float64))
    size = np.abs(curvature)
    # A curvature of nearly nothing would make an endless step, and nothing at all no number.
    size = np.maximum(size, 1e-6 * size.max(axis=1, keepdims=True) + np.finfo(np.float64).tiny)
    return np.einsum("nij,nj->ni", axes, along / size), curvature


def has_seed(field: Field, peaks: np.ndarray, *, spacing: float, threshold: float) -> np.ndarray:
    """Tell which peaks a lattice of seeds would reach: those in a cell with a dense corner.

    A peak that only just rises above the threshold, between the seeds, is not reached by the
    published method.

    Parameters
    ----------
    field : Field
        The map.
    peaks : ndarray, shape (n, 3)
        (x, y, z) in Å.
    spacing : float
        Of the seeds, in Å; their lattice begins at the centre of the first voxel.
    threshold : float
        Least density of a seed, in units of the map.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    lattice = field.grid.with_voxel_size(spacing)
    cell = np.floor(lattice.to_index(peaks))
    reached = np.zeros(len(peaks), dtype=bool)
    for corner in product((0, 1), repeat=3):
        # Corners beyond the map are NaN, which is not dense.
        reached |= field.value(lattice.to_points(cell + corner)) >= threshold
    return reached


def merge_points(points: np.ndarray, *, radius: float) -> np.ndarray:
    """Choose one of each group of points that a chain of steps of at most `radius` Å joins.

    Returns
    -------
    ndarray of int
        Index of the first point of each group, rising.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if not len(points):
        return np.empty(0, dtype=np.int64)
    pairs = cKDTree(points).query_pairs(radius, output_type="ndarray")
    links = csr_array((np.ones(len(pairs), bool), tuple(pairs.T)), (len(points), len(points)))
    _, labels = connected_components(links, directed=False)
    return np.unique(labels, return_index=True)[1]


def distinct_points(
    points: np.ndarray, values: np.ndarray, *, level: float, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Drop what is below a level, and let the densest of a group stand for it.

    Returns
    -------
    points : ndarray, shape (m, 3)
        The densest first; groups are those of `merge_points`.
    values : ndarray, shape (m,)
    """
    high = values >= level
    points, values = points[high], values[high]
    order = np.argsort(-values, kind="stable")
    points, values = points[order], values[order]
    one = merge_points(points, radius=radius)
    return points[one], values[one]


def is_inner(field: Field, points: np.ndarray) -> np.ndarray:
    """Tell the points that are half a voxel or more from the border.

    A spline is mirrored at the border, so that a slope which leaves the map there ends in a peak.
    """
    index = field.grid.to_index(points)
    return ((index >= 0.5) & (index <= np.array(field.grid.shape) - 1.5)).all(axis=1)


def find_peaks(field: Field, *, threshold: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the peaks of a map by Newton's method.

    Parameters
    ----------
    field : Field
        The map.
    threshold : float
        Least density of a peak, in units of the map.
    radius : float
        Peaks that chains of steps of this length join count as one, Å.

    Returns
    -------
    peaks : ndarray of float64, shape (n, 3)
        (x, y, z) in Å, the densest first.
    density : ndarray of float32, shape (n,)
    """
    peaks, values = refine_peaks(field, candidate_points(field, threshold=threshold))
    peaks, values = distinct_points(peaks, values, level=threshold, radius=radius)
    inner = is_inner(field, peaks)
    return peaks[inner], values[inner]
