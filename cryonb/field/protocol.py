"""What every continuous map can do: give value, gradient and curvature at any point."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from cryonb.errors import CryonbError
from cryonb.grid import Grid

__all__ = ["Field", "Statistics", "check_density"]

#: Points that are handed to `_evaluate` at once, which bounds the memory.
_BATCH = 1 << 18


@dataclass(frozen=True)
class Statistics:
    """What thresholds on a map are made of; negative voxels are taken as zero.

    Attributes
    ----------
    mean, std : float
        Of all voxels.
    scale : float
        A typical density of the molecule, whatever the box: see
        `cryonb.process.level.density_scale`.
    """

    mean: float
    std: float
    scale: float

    @classmethod
    def of(cls, values: np.ndarray) -> Statistics:
        """Take them from the voxels (z, y, x)."""
        sums = np.zeros(3)
        for section in values:
            # Section by section, so that no second map is held.
            part = np.maximum(section, 0).ravel().astype(np.float64)
            square = part * part
            sums += part.sum(), square.sum(), np.dot(square, part)
        mean, square = sums[:2] / values.size
        scale = sums[2] / sums[1] if sums[1] > 0 else 0.0
        return cls(float(mean), float(np.sqrt(max(square - mean**2, 0.0))), float(scale))


class Field(ABC):
    """A map as a continuous function of points in space.

    Points are (n, 3), (x, y, z) in Å; values have the units of the map, derivatives those per Å
    or per Å². Outside the centres of the first and last voxels everything is NaN.

    Attributes
    ----------
    grid : Grid
        The voxels that the function goes through or near.
    statistics : Statistics
        Of the voxels of the map.
    """

    #: How often the function can be differentiated here.
    derivatives = 2

    def __init__(self, grid: Grid, statistics: Statistics):
        self.grid = grid
        self.statistics = statistics

    def value(self, points) -> np.ndarray:
        """Give the density at points.

        Parameters
        ----------
        points : array_like, shape (n, 3)
            (x, y, z) in Å.

        Returns
        -------
        ndarray of float32, shape (n,)
            NaN outside the map.
        """
        return self.evaluate(points, derivatives=0)[0]

    def gradient(self, points) -> np.ndarray:
        """Give the gradient at points (n, 3): float32, (n, 3), (x, y, z) in density per Å."""
        return self.evaluate(points, derivatives=1)[1]

    def hessian(self, points) -> np.ndarray:
        """Give the second derivatives at points (n, 3): float32, (n, 3, 3), density per Å²."""
        return self.evaluate(points, derivatives=2)[2]

    def evaluate(self, points, *, derivatives: int = 1) -> tuple[np.ndarray, ...]:
        """Give value and derivatives at points for little more than the price of the value.

        Parameters
        ----------
        points : array_like, shape (n, 3)
            (x, y, z) in Å.
        derivatives : int
            0: value; 1: value and gradient; 2: value, gradient and second derivatives.

        Returns
        -------
        tuple of ndarray of float32
            Shapes (n,), (n, 3) and (n, 3, 3), as many as asked for. NaN outside the map.

        Raises
        ------
        CryonbError
            If the points are not (n, 3), or more derivatives are asked for than there are.
        """
        if not 0 <= derivatives <= self.derivatives:
            raise CryonbError(
                f"This field gives derivatives 0 to {self.derivatives}, but {derivatives} was "
                "asked."
            )
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise CryonbError(
                f"Points of shape (n, 3), (x, y, z) in Å, were expected, but the shape is "
                f"{points.shape}."
            )
        shapes = ((), (3,), (3, 3))[: derivatives + 1]
        out = tuple(np.full((len(points), *shape), np.nan, dtype=np.float32) for shape in shapes)
        # NaN compares as outside.
        inside = self.grid.contains(points)
        whole = bool(inside.all())
        rows = np.arange(0) if whole else np.flatnonzero(inside)
        count = len(points) if whole else len(rows)
        for first in range(0, count, _BATCH):
            part = slice(first, min(first + _BATCH, count))
            where = part if whole else rows[part]
            for array, found in zip(out, self._evaluate(points[where], derivatives), strict=True):
                array[where] = found
        return out

    def on_grid(self, grid: Grid) -> np.ndarray:
        """Give the densities at the voxel centres of a grid: float32, (z, y, x), NaN outside."""
        out = np.empty(grid.shape, dtype=np.float32)
        rows, columns = np.indices(grid.shape[1:]).reshape(2, -1)
        for section in range(grid.shape[0]):
            index = np.stack([np.full_like(rows, section), rows, columns], axis=1)
            out[section] = self.value(grid.to_points(index)).reshape(grid.shape[1:])
        return out

    @abstractmethod
    def _evaluate(self, points: np.ndarray, derivatives: int) -> tuple[np.ndarray, ...]:
        """Do what `evaluate` says, for float64 points that are all inside."""


def check_density(volume) -> None:
    """Refuse what is no density, or cannot be fitted.

    Raises
    ------
    CryonbError
        If the volume is one of classes or probabilities, has an axis of one voxel, or holds NaN or
        infinite values.
    """
    values = volume.values
    if values.dtype != np.float32 or values.ndim != 3:
        raise CryonbError(
            f"A density was expected for a continuous map, but a {type(volume).__name__} was given."
        )
    if min(volume.shape) < 2:
        raise CryonbError(
            f"A continuous map needs at least two voxels along each axis, but the map's shape is "
            f"{volume.shape} (z, y, x)."
        )
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise CryonbError(
            "A continuous map expects finite values, but the volume holds NaN or infinite ones; "
            "replace them first, for example with numpy.nan_to_num."
        )
