"""A map as it would be at a coarser resolution."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from cryonb.errors import CryonbError
from cryonb.process.checks import require_density
from cryonb.process.resample import resample
from cryonb.simulate.gaussian import sigma_of
from cryonb.volume import Volume

__all__ = ["blurred", "softened"]


def blurred(volume: Volume, resolution: float, target: float) -> Volume:
    """Blur a map from one resolution to a coarser one.

    By a Gaussian whose variance is the difference of those that ChimeraX's molmap has at the two
    resolutions: a map that molmap made at the first becomes that which it makes at the second.

    Parameters
    ----------
    volume : Volume
        A density; the space around it counts as empty.
    resolution, target : float
        Å; the map's, and the coarser one.

    Returns
    -------
    Volume

    Raises
    ------
    CryonbError
        If the target is finer than the map, or the map is not finite.
    """
    if not 0 < resolution <= target:
        raise CryonbError(
            f"A resolution coarser than the map's {resolution:g} Å was expected, but {target:g} Å "
            "was given."
        )
    require_density(volume, flat=True)
    sigma = np.sqrt(sigma_of(target) ** 2 - sigma_of(resolution) ** 2)
    steps = sigma / np.array(volume.voxel_size)[::-1]
    values = gaussian_filter(volume.values, steps, mode="constant")
    result = volume.replace(values, note=f"blurred from {resolution:g} to {target:g} Å")
    if hasattr(result, "resolution"):
        result.resolution = target
    return result


def softened(volume: Volume, resolution: float, target: float) -> Volume:
    """Blur to a resolution, on voxels of a third of it where those are coarser: see `blurred`."""
    found = blurred(volume, resolution, max(target, resolution))
    return resample(found, target / 3) if target / 3 > max(volume.voxel_size) else found
