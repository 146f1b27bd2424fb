"""The density at atoms in units that box, mask and scale of a map do not change."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError
from cryonb.volume import Volume

__all__ = ["relative_density"]


def relative_density(volume: Volume, points):
    """Give a function that reads a map relative to its density at some points.

    Parameters
    ----------
    volume : Volume
        The map.
    points : ndarray, shape (n, 3)
        Positions of Cα atoms, (x, y, z) in Å.

    Returns
    -------
    callable
        Takes positions (..., 3) and gives values (...): 0 is the mean of the map, and what is
        outside it; 1 is the mean over `points`.

    Raises
    ------
    CryonbError
        If no point lies in the map, or the density there is not above the map's mean.
    """
    at = volume.sample(points)
    if not np.isfinite(at).any():
        raise CryonbError(
            "A map around the model was expected, but no Cα atom lies in its box; check that map "
            "and model have the same frame."
        )
    base = volume.mean
    scale = float(np.nanmean(at)) - base
    if not scale > 0:
        raise CryonbError(
            "A map whose density at the Cα atoms is above its mean was expected, but it is "
            f"{scale:.3g} beside the mean; check that map and model have the same frame."
        )

    def read(positions):
        values = (volume.sample(positions.reshape(-1, 3)) - base) / scale
        return np.nan_to_num(values, nan=0.0).reshape(positions.shape[:-1])

    return read
