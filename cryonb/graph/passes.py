"""Passes: the lowest points of the ridges between peaks, where a chain runs on without a peak."""

from __future__ import annotations

import numpy as np

from cryonb.field.protocol import Field

__all__ = ["refine_passes"]

_MOST_STEPS = 30


def refine_passes(
    field: Field, points: np.ndarray, *, tolerance: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Go from each point to the saddle near it that is a maximum across and a minimum along.

    Newton's method for a zero of the gradient.

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
    passes : ndarray of float64, shape (m, 3)
        Points that leave the map, or end on no such saddle, are dropped: m <= n. Several points
        may end on one pass.
    density : ndarray of float32, shape (m,)
    """
    longest = 0.3 * min(field.grid.voxel_size)
    here = np.array(points, dtype=np.float64)
    passes, densities = [np.empty((0, 3))], [np.empty(0, dtype=np.float32)]
    for _ in range(_MOST_STEPS):
        if not len(here):
            break
        value, gradient, hessian = field.evaluate(here, derivatives=2)
        inside = ~np.isnan(value)
        here, value = here[inside], value[inside]
        curvature, axes = np.linalg.eigh(hessian[inside].astype(np.float64))
        along = np.einsum("nij,ni->nj", axes, gradient[inside].astype(np.float64))
        # A curvature of nearly nothing would make an endless step.
        least = 1e-6 * np.abs(curvature).max(axis=1, keepdims=True) + np.finfo(np.float64).tiny
        bend = np.where(np.abs(curvature) < least, -least, curvature)
        step = np.einsum("nij,nj->ni", axes, -along / bend)
        length = np.linalg.norm(step, axis=1)
        arrived = length < tolerance
        one_way_up = arrived & (curvature[:, 2] > 0) & (curvature[:, 1] < 0)
        passes.append(here[one_way_up])
        densities.append(value[one_way_up])
        going = ~arrived
        cut = np.minimum(1.0, longest / np.maximum(length[going], longest))
        here = here[going] + step[going] * cut[:, None]
    return np.concatenate(passes), np.concatenate(densities)
