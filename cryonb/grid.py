"""Where voxels are: the only place in which (z, y, x) indices meet (x, y, z) coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryonb.errors import GridError, MapModelMismatchError

__all__ = ["Grid", "box_text", "no_overlap"]


def _triple(values, name: str, kind=float) -> tuple:
    """Broadcast a scalar, or check three numbers."""
    try:
        array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape == (1,):
        array = np.repeat(array, 3)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise GridError(f"{name} must be one or three finite numbers, but {values!r} was given.")
    return tuple(kind(value) for value in array)


@dataclass(frozen=True)
class Grid:
    """A regular, orthogonal grid of voxels in space.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along (z, y, x).
    voxel_size : float or tuple of float
        Spacing along (x, y, z) in Å.
    origin : tuple of float
        Centre of voxel (0, 0, 0) as (x, y, z) in Å.

    Raises
    ------
    GridError
        If a count or a spacing is not positive, or a number is not finite.

    Notes
    -----
    Indices are fractional voxel numbers in array order (z, y, x); points are (x, y, z) in Å.
    All geometry is float64.
    """

    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self):
        shape = _triple(self.shape, "The shape of a grid (z, y, x)")
        if any(n < 1 or n != int(n) for n in shape):
            raise GridError(
                f"The shape of a grid (z, y, x) must be three positive whole numbers, "
                f"but {self.shape!r} was given."
            )
        voxel = _triple(self.voxel_size, "The voxel size (x, y, z)")
        if min(voxel) <= 0:
            raise GridError(f"The voxel size must be positive, but {self.voxel_size!r} was given.")
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        object.__setattr__(self, "voxel_size", voxel)
        object.__setattr__(self, "origin", _triple(self.origin, "The origin (x, y, z)"))

    # ---- sizes -------------------------------------------------------------------------------

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def lower(self) -> np.ndarray:
        """Centre of the first voxel, (x, y, z) in Å."""
        return np.array(self.origin)

    @property
    def upper(self) -> np.ndarray:
        """Centre of the last voxel, (x, y, z) in Å."""
        return self.lower + (np.array(self.shape[::-1]) - 1) * self.voxel_size

    @property
    def extent(self) -> np.ndarray:
        """Edge lengths of the box, voxel size times number of voxels, (x, y, z) in Å."""
        return np.array(self.shape[::-1]) * self.voxel_size

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in Å³."""
        return float(np.prod(self.voxel_size))

    # ---- index <-> Å ---------------------------------------------------------------------------

    def to_index(self, points) -> np.ndarray:
        """Convert points to fractional voxel indices.

        Parameters
        ----------
        points : array_like, shape (..., 3)
            (x, y, z) in Å.

        Returns
        -------
        ndarray, shape (..., 3)
            (z, y, x) indices; whole numbers are voxel centres.
        """
        points = np.asarray(points, dtype=np.float64)
        return ((points - self.lower) / self.voxel_size)[..., ::-1]

    def to_points(self, index) -> np.ndarray:
        """Convert fractional (z, y, x) indices, shape (..., 3), to (x, y, z) points in Å."""
        index = np.asarray(index, dtype=np.float64)
        return index[..., ::-1] * self.voxel_size + self.lower

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates of the voxel centres along x, y and z, in Å (three 1-D arrays)."""
        return tuple(
            start + step * np.arange(n)
            for start, step, n in zip(self.origin, self.voxel_size, self.shape[::-1], strict=True)
        )

    def contains(self, points) -> np.ndarray:
        """Tell which points (..., 3) lie between the first and the last voxel centre."""
        index = self.to_index(points)
        # A point that was itself computed from an index may be off by rounding.
        slack = 1e-9 * np.array(self.shape)
        return ((index >= -slack) & (index <= np.array(self.shape) - 1 + slack)).all(axis=-1)

    # ---- other grids -----------------------------------------------------------------------------

    def crop(self, start, shape) -> Grid:
        """Take the box of `shape` voxels (z, y, x) that begins at voxel `start` (z, y, x).

        The box may reach beyond the grid on any side: `start` may be negative.
        """
        start = np.asarray(start, dtype=np.int64)
        return Grid(shape, self.voxel_size, tuple(self.to_points(start)))

    def pad(self, before, after=None) -> Grid:
        """Add voxels (z, y, x) before and after; one number stands for all axes."""
        before = np.broadcast_to(np.asarray(before, dtype=np.int64), (3,))
        after = before if after is None else np.broadcast_to(np.asarray(after), (3,))
        return self.crop(-before, np.array(self.shape) + before + after)

    def with_voxel_size(self, voxel_size) -> Grid:
        """Cover the same centres, from the same origin, with another spacing (x, y, z) in Å.

        The last voxel centre is the last multiple of the new spacing that is not beyond this
        grid's last centre (within rounding), so no value has to be extrapolated.
        """
        voxel = np.array(_triple(voxel_size, "The voxel size (x, y, z)"))
        steps = np.floor((self.upper - self.lower) / voxel + 1e-6).astype(int)
        return Grid(tuple(steps[::-1] + 1), tuple(voxel), self.origin)

    @classmethod
    def around(cls, points, voxel_size=1.0, margin=0.0) -> Grid:
        """Make the smallest grid that holds points (n, 3) with a margin in Å on every side.

        The origin is a whole multiple of the voxel size, so that grids around parts of one model
        share their voxel centres.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        if not len(points):
            raise GridError("A grid around points needs at least one point, but none was given.")
        voxel = np.array(_triple(voxel_size, "The voxel size (x, y, z)"))
        first = np.floor((points.min(axis=0) - margin) / voxel)
        last = np.ceil((points.max(axis=0) + margin) / voxel)
        shape = (last - first).astype(int) + 1
        return cls(tuple(shape[::-1]), tuple(voxel), tuple(first * voxel))

    def overlap(self, lower, upper) -> np.ndarray:
        """Edge lengths (x, y, z) in Å that this box shares with the box from `lower` to `upper`.

        Zero along an axis on which they do not meet.
        """
        low = np.maximum(self.lower, np.asarray(lower, dtype=np.float64))
        high = np.minimum(self.upper, np.asarray(upper, dtype=np.float64))
        return np.maximum(high - low, 0.0)

    def is_close(self, other: Grid, *, tolerance: float = 1e-3) -> bool:
        """Tell whether every voxel centre agrees with the other grid's within `tolerance` Å."""
        return (
            self.shape == other.shape
            and np.abs(self.lower - other.lower).max() <= tolerance
            and np.abs(self.upper - other.upper).max() <= tolerance
        )

    def describe_box(self) -> str:
        """Give the box as text, for messages."""
        return box_text(self.lower, self.upper)


def box_text(lower, upper) -> str:
    """Give a box (corners as (x, y, z) in Å) as text, for messages."""
    pairs = zip("xyz", lower, upper, strict=True)
    return ", ".join(f"{axis} {low:.1f} to {high:.1f}" for axis, low, high in pairs) + " Å"


def no_overlap(grid: Grid, lower, upper) -> MapModelMismatchError:
    """Make the error for a model (its corners as (x, y, z) in Å) that lies outside a map."""
    return MapModelMismatchError(
        f"Map and model do not overlap: the map's box is {grid.describe_box()}, the model's is "
        f"{box_text(lower, upper)}; move one into the frame of the other, or open the map with "
        "another frame=."
    )
