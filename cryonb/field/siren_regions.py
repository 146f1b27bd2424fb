"""How a map is cut into the regions that a network each stands for, and how they are blended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from cryonb.grid import Grid

__all__ = ["Regions", "region_starts"]


def region_starts(n: int, *, edge: int = 64, overlap: int = 4) -> tuple[tuple[int, ...], int]:
    """Place regions along an axis (Ranno & Si, equation 3 and above).

    Parameters
    ----------
    n : int
        Voxels of the map along the axis.
    edge : int
        Most voxels of a region.
    overlap : int
        Least number of voxels that neighbours share.

    Returns
    -------
    starts : tuple of int
        First voxel of each region.
    size : int
        Voxels of each.
    """
    size = min(edge, n)
    count = int(np.ceil((n - size) / (edge - overlap))) + 1
    spacing = (n - size) / max(count - 1, 1)
    # A rounding error must not push a whole number below itself.
    return tuple(int(np.floor(k * spacing + 1e-9)) for k in range(count)), size


@dataclass(frozen=True)
class Regions:
    """Overlapping regions of one size that cover a grid.

    Attributes
    ----------
    grid : Grid
        The whole.
    edge, overlap : int
        See `region_starts`.
    """

    grid: Grid
    edge: int = 64
    overlap: int = 4

    @cached_property
    def _axes(self):
        return [region_starts(n, edge=self.edge, overlap=self.overlap) for n in self.grid.shape]

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels of a region along (z, y, x)."""
        return tuple(size for _, size in self._axes)

    @cached_property
    def numbers(self) -> tuple[tuple[int, int, int], ...]:
        """Place of each region among those along (z, y, x), x fastest."""
        return tuple(product(*(range(len(starts)) for starts, _ in self._axes)))

    def __len__(self) -> int:
        return len(self.numbers)

    def starts(self, region: int) -> np.ndarray:
        """First voxel (z, y, x) of a region."""
        return np.array([self._axes[a][0][k] for a, k in enumerate(self.numbers[region])])

    def cut(self, values: np.ndarray, region: int) -> np.ndarray:
        """Take a region's voxels out of the map's: (z, y, x)."""
        start = self.starts(region)
        return values[tuple(slice(s, s + n) for s, n in zip(start, self.size, strict=True))]

    def coordinates(self) -> np.ndarray:
        """Coordinates (x, y, z) of a region's voxels, x fastest: float32, (voxels, 3).

        From -1 at the centre of a region's first voxel to 1 at that of its last; the same for all
        regions.
        """
        axes = [np.linspace(-1, 1, n) for n in self.size]
        zyx = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        return np.ascontiguousarray(zyx[:, ::-1], dtype=np.float32)

    def local(self, index: np.ndarray, region: int) -> np.ndarray:
        """Turn (z, y, x) indices of the map, (n, 3), into a region's (x, y, z) coordinates."""
        return (2 * (index - self.starts(region)) / self._spans - 1)[:, ::-1]

    @property
    def scale(self) -> np.ndarray:
        """How far a region's coordinates (x, y, z) go in 1 Å."""
        return 2 / (self._spans[::-1] * self.grid.voxel_size)

    @property
    def _spans(self) -> np.ndarray:
        return np.array(self.size) - 1.0

    # ---- blending ------------------------------------------------------------------------------

    def ramps(self, index: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight of each place along an axis at indices, and its slope by voxel.

        Neighbours hand over by a straight ramp across all that they share (equation 5); the
        weights sum to 1.

        Parameters
        ----------
        index : ndarray, shape (n,)
            Along this axis.
        axis : int
            Of (z, y, x).

        Returns
        -------
        weights, slopes : ndarray, shape (places, n)
        """
        starts, size = self._axes[axis]
        begun = np.zeros((len(starts) + 1, len(index)))
        slope = np.zeros_like(begun)
        begun[0] = 1.0
        for k in range(1, len(starts)):
            low, high = starts[k], starts[k - 1] + size - 1
            part = (index - low) / (high - low)
            begun[k] = np.clip(part, 0, 1)
            slope[k] = ((part > 0) & (part < 1)) / (high - low)
        return begun[:-1] - begun[1:], slope[:-1] - slope[1:]
