"""What every tool asks of a map that it is given."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

__all__ = ["require_density"]


def require_density(volume: Volume, *, flat: bool = False) -> None:
    """Refuse a volume that is no density, not finite, or the same everywhere.

    Parameters
    ----------
    volume : Volume
        What a tool was given.
    flat : bool
        Whether a map of one value will do.

    Raises
    ------
    CryonbError
        In one sentence that says what to do.
    """
    if isinstance(volume, LabelVolume | ProbabilityVolume):
        raise CryonbError(f"A density was expected, but {volume!r} was given; give the map itself.")
    if not np.isfinite(volume.rms):
        raise CryonbError(
            "A map of finite densities was expected, but some are not numbers; repair them with "
            "numpy.nan_to_num first."
        )
    if not flat and not volume.min < volume.max:
        raise CryonbError(
            f"A map with density was expected, but all voxels are {volume.max:g}; open another map."
        )
