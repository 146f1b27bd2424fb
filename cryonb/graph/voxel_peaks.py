"""Peaks of an array of probabilities, finer than a voxel."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError

__all__ = ["REFINEMENTS", "voxel_peaks"]

#: Ways from the highest voxel to the peak.
REFINEMENTS = ("parabola", "centroid", "none")
# A neighbour counts as no lower than this part of the peak, so that its logarithm exists.
_LEAST = 1e-3


def voxel_peaks(
    values: np.ndarray, *, threshold: float, refine: str = "parabola", reach=1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Find the voxels that are as high as all 26 neighbours, and the peaks near them.

    Unlike `cryonb.graph.peaks.find_peaks`, which climbs a spline, it finds a peak on a plateau too,
    as a saturated probability makes them.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Probabilities, or anything else that is positive at its peaks.
    threshold : float
        Least value of a peak, above zero.
    refine : {"parabola", "centroid", "none"}
        "parabola": the top of parabolas through the logarithms of the voxel and its neighbours
        along each axis, at most half a voxel away: exact where the peak is a Gaussian. "centroid":
        the mean place of the voxels within `reach`, weighted by their values.
    reach : float or array_like
        Radius of the centroid in voxels, one number or one for each of (z, y, x).

    Returns
    -------
    index : ndarray of float64, shape (n, 3)
        Fractional (z, y, x); voxels of a plateau are each a peak.
    value : ndarray of float32, shape (n,)
        Of the highest voxel.

    Raises
    ------
    CryonbError
        If the threshold is not positive or the refinement is unknown.
    """
    from scipy.ndimage import maximum_filter

    if not threshold > 0:
        raise CryonbError(f"A threshold above zero was expected, but {threshold!r} was given.")
    if refine not in REFINEMENTS:
        raise CryonbError(
            f"A refinement of {', '.join(REFINEMENTS)} was expected, but {refine!r} was asked."
        )
    values = np.asarray(values, dtype=np.float32)
    top = maximum_filter(values, 3, mode="constant", cval=-np.inf)
    voxel = np.argwhere((values >= threshold) & (values == top))
    value = values[tuple(voxel.T)]
    index = voxel.astype(np.float64)
    if refine == "parabola":
        index += _shift(values, voxel, value)
    elif refine == "centroid":
        index += _centroid(values, voxel, np.broadcast_to(np.asarray(reach, float), 3))
    return index, value


def _shift(values, voxel, value) -> np.ndarray:
    """Give the offsets (n, 3) of the tops of three parabolas; none across a border."""
    shift = np.zeros(voxel.shape)
    least = _LEAST * value.astype(np.float64)
    middle = np.log(np.maximum(value, np.finfo(np.float32).tiny).astype(np.float64))
    for axis, size in enumerate(values.shape):
        step = np.eye(3, dtype=int)[axis]
        inside = (voxel[:, axis] > 0) & (voxel[:, axis] < size - 1)
        low, high = (
            np.log(np.maximum(values[tuple((voxel[inside] + way * step).T)], least[inside]))
            for way in (-1, 1)
        )
        bend = low - 2 * middle[inside] + high
        curved = bend < -1e-9
        part = np.zeros(len(bend))
        part[curved] = 0.5 * (low - high)[curved] / bend[curved]
        shift[inside, axis] = np.clip(part, -0.5, 0.5)
    return shift


def _centroid(values, voxel, reach) -> np.ndarray:
    """Give the offsets (n, 3) of the weighted means of the voxels around."""
    half = np.floor(reach).astype(int)
    block = np.stack(np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij"), axis=-1)
    block = block.reshape(-1, 3)
    block = block[((block / np.maximum(reach, 1e-9)) ** 2).sum(axis=1) <= 1]
    padded = np.pad(np.maximum(values, 0), [(h, h) for h in half])
    around = voxel[:, None] + block + half
    weight = padded[tuple(np.moveaxis(around, -1, 0))].astype(np.float64)
    return weight @ block / weight.sum(axis=1, keepdims=True)
