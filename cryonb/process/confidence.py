"""How sure it is that a voxel is no noise: a false-discovery-rate map."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError
from cryonb.process.checks import require_density
from cryonb.volume import Volume

__all__ = ["background", "confidence"]


def background(volume: Volume, *, part: float = 0.1) -> tuple[float, float]:
    """Estimate the noise of a map in four cubes at the sides of its box.

    Parameters
    ----------
    volume : Volume
        A map that was not masked.
    part : float
        Edge of the cubes, as a part of the box.

    Returns
    -------
    mean, deviation : float
        Of the noise, in the units of the map.

    Raises
    ------
    CryonbError
        If there is nothing but one value in the cubes, as in masked maps.

    Notes
    -----
    The cubes lie in the middle of the four sides along x and y, at half height, where an assembly
    rarely reaches (Beckers, Jakobi and Sachse, IUCrJ 6, 18 (2019)).
    """
    n = np.array(volume.shape)
    edge = np.maximum((n * part).astype(int), 3)
    middle = (n - edge) // 2
    cubes = []
    for axis in (1, 2):
        for start in (0, n[axis] - edge[axis]):
            low = middle.copy()
            low[axis] = start
            cubes.append(
                volume.values[tuple(slice(a, a + e) for a, e in zip(low, edge, strict=True))]
            )
    values = np.concatenate([cube.ravel() for cube in cubes]).astype(np.float64)
    if not values.std() > 0:
        raise CryonbError(
            "Noise at the sides of the box was expected, but all voxels there are "
            f"{values[0]:g}: the map was masked. Use the map before masking, or give "
            "noise=(mean, deviation)."
        )
    return float(values.mean()), float(values.std())


def confidence(
    volume: Volume, *, noise: tuple[float, float] | None = None, part: float = 0.1
) -> Volume:
    """Turn densities into confidences: 1 minus the false discovery rate.

    A surface at 0.99 encloses voxels of which at most one in a hundred is noise, whatever the
    scale of the map.

    Parameters
    ----------
    volume : Volume
        A map that was not masked, sharpened or not.
    noise : tuple of float, optional
        Mean and deviation of the noise; by `background` otherwise.
    part : float
        See `background`.

    Returns
    -------
    Volume
        0 to 1.

    Raises
    ------
    CryonbError
        If the noise cannot be estimated, or its deviation is not positive.

    Notes
    -----
    Each voxel's density gives the probability of a larger one by Gaussian noise; over all voxels
    these are adjusted by Benjamini and Yekutieli's rule, which holds for dependent tests (Beckers
    et al., 2019, equations 3 to 7).
    """
    from scipy.stats import false_discovery_control, norm

    require_density(volume)
    mean, deviation = background(volume, part=part) if noise is None else noise
    if not deviation > 0:
        raise CryonbError(f"A positive deviation of the noise was expected, not {deviation}.")
    p = norm.sf((volume.values.ravel().astype(np.float64) - mean) / deviation)
    rate = false_discovery_control(p, method="by").reshape(volume.shape)
    note = f"confidence over noise of {mean:.3g} ± {deviation:.3g}"
    return volume.replace((1 - rate).astype(np.float32), note=note)
