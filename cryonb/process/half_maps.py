"""Maps of two independent halves of the images, and what their agreement tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryonb.errors import CryonbError
from cryonb.process.fourier_shells import same_grid
from cryonb.volume import Volume

__all__ = ["HalfMaps"]


@dataclass(frozen=True, repr=False)
class HalfMaps:
    """Two half maps on one grid.

    Parameters
    ----------
    first, second : Volume
        Neither masked nor filtered by one common mask or weight, best.

    Raises
    ------
    CryonbError
        If one is flat or holds what is no number, or both are the same.
    GridError
        If they are not on one grid.
    """

    first: Volume
    second: Volume

    def __post_init__(self):
        same_grid(self.first, self.second)
        for which, half in (("first", self.first), ("second", self.second)):
            if not np.isfinite(half.rms):
                raise CryonbError(
                    f"Half maps of finite densities were expected, but some of the {which} are not "
                    "numbers; repair them with numpy.nan_to_num first."
                )
            if not half.std > 0:
                raise CryonbError(
                    f"Half maps with density were expected, but all voxels of the {which} are "
                    f"{half.max:g}; open another file."
                )
        if np.array_equal(self.first.values, self.second.values):
            raise CryonbError(
                "Two independent half maps were expected, but both are the same map; open the "
                "other half."
            )

    def __iter__(self):
        return iter((self.first, self.second))

    @property
    def mean(self) -> Volume:
        """The whole map: the mean of both."""
        values = (self.first.values + self.second.values) / 2
        return self.first.replace(values, note="mean of two half maps")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: two of {self.first!r}>"
