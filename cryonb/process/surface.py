"""Adjusted surface area: how much detail a map shows before it falls to pieces."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn, rfftn
from scipy.ndimage import binary_dilation, find_objects, label

from cryonb.process.filter import ball_transform, spatial_frequency
from cryonb.volume import Volume

__all__ = ["molecule_share", "surface_and_regions"]

#: The molecule is where the variance exceeds this part of the highest.
_OF_HIGHEST = 0.05
#: Share of the molecule's volume within the contour; share of that whose surface is measured;
#: regions that are measured at most (Terwilliger et al. 2018, Acta Cryst. D74, 545, and the
#: defaults of cctbx's auto_sharpen).
_OCCUPIED, _MEASURED, _MOST = 0.20, 0.30, 31


def molecule_share(volume: Volume, resolution: float) -> float:
    """Estimate which part of the box the molecule fills.

    Parameters
    ----------
    volume : Volume
        A map.
    resolution : float
        Å; the variance is taken over balls of twice this radius, and smoothed to it.

    Returns
    -------
    float
        Between 0.001 and 0.999: share of voxels at which the local variance is above 0.05 of its
        maximum (both about the mean over the box), as cctbx has it.
    """
    s = spatial_frequency(volume.shape, volume.voxel_size)
    factor = ball_transform(s, 2 * resolution)
    factor[s > 1 / resolution] = 0
    factor[0, 0, 0] = 0
    squared = (volume.values - np.float32(volume.mean)) ** 2
    variance = irfftn(rfftn(squared, workers=-1) * factor, s=volume.shape, workers=-1)
    share = float((variance >= _OF_HIGHEST * variance.max()).mean())
    return float(np.clip(share, 0.001, 0.999))


def surface_and_regions(values: np.ndarray, share: float) -> tuple[float, float]:
    """Measure surface and pieces of a map at a contour that encloses a fifth of the molecule.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Densities.
    share : float
        Part of the box that the molecule fills.

    Returns
    -------
    surface : float
        Voxels beside the largest regions over voxels in them; regions are taken until they hold
        30 % of what the contour encloses.
    regions : float
        Number of regions (voxels that share a face) over the number of voxels enclosed.
    """
    target = max(int(values.size * _OCCUPIED * share), 1)
    threshold = np.partition(values.ravel(), -target)[-target]
    above = values > threshold
    regions, count = label(above)
    if not count:
        return 0.0, 0.0
    volume = np.bincount(regions.ravel())[1:]
    largest = np.argsort(-volume, kind="stable")[:_MOST]
    boxes = find_objects(regions)
    cube = np.ones((3, 3, 3), dtype=bool)
    inside = beside = 0
    for number in largest:
        box = tuple(slice(max(a.start - 1, 0), a.stop + 1) for a in boxes[number])
        region = regions[box] == number + 1
        inside += int(volume[number])
        beside += int(binary_dilation(region, cube).sum()) - int(volume[number])
        if inside >= _MEASURED * target:
            break
    return beside / inside, count / target
