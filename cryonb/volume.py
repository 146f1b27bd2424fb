"""Values on a grid: densities, integer labels, class probabilities."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from cryonb.errors import CryonbError, GridError
from cryonb.grid import Grid

__all__ = ["CLASSES", "LabelVolume", "ProbabilityVolume", "Volume"]

#: The classes of a voxel or a residue, everywhere in this order.
CLASSES = ("background", "helix", "strand", "coil", "nucleotide")


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


class Volume:
    """Values on a regular grid.

    Parameters
    ----------
    values : array_like, shape (z, y, x)
        Kept as float32; a copy is made where the caller could still change the array.
    grid : Grid
        Where the voxels are.
    name : str
        Shown in tables and used for file names.
    history : tuple of str
        What was done to the values, oldest first.

    Raises
    ------
    GridError
        If the array's shape is not the grid's.
    """

    _dtypes: tuple = (np.float32,)
    _order = 1
    #: Attributes, besides values and grid, that `replace` carries over.
    _carried: tuple[str, ...] = ("name",)

    def __init__(self, values, grid: Grid, *, name: str = "", history: tuple[str, ...] = ()):
        array = np.asarray(values)
        if array.dtype not in self._dtypes:
            array = array.astype(self._dtypes[0])
        elif array.flags.writeable:
            array = array.copy()
        self._check_shape(array, grid)
        self._values = _read_only(array)
        self.grid = grid
        self.name = name
        self.history = tuple(history)

    @staticmethod
    def _check_shape(array: np.ndarray, grid: Grid) -> None:
        if array.shape != grid.shape:
            raise GridError(
                f"Values of shape {grid.shape} (z, y, x) were expected for this grid, "
                f"but the array's shape is {array.shape}."
            )

    @classmethod
    def _adopt(cls, values: np.ndarray, grid: Grid, **metadata):
        """Wrap an array that nobody else holds, without a copy."""
        return cls(_read_only(np.asarray(values)), grid, **metadata)

    def replace(self, values=None, grid: Grid | None = None, *, note: str = ""):
        """Return a new object of the same kind with other values or another grid.

        Parameters
        ----------
        values : ndarray, optional
            An array that the caller hands over (it is not copied).
        grid : Grid, optional
            The grid of the new values.
        note : str
            One line for the history.
        """
        metadata = {key: getattr(self, key) for key in self._carried}
        history = (*self.history, note) if note else self.history
        return type(self)._adopt(
            self._values if values is None else values,
            self.grid if grid is None else grid,
            history=history,
            **metadata,
        )

    # ---- what it is ----------------------------------------------------------------------------

    @property
    def values(self) -> np.ndarray:
        """The values, read-only. `volume.values.copy()` can be changed."""
        return self._values

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        return self.grid.shape

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Spacing along (x, y, z) in Å."""
        return self.grid.voxel_size

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of voxel (0, 0, 0), (x, y, z) in Å."""
        return self.grid.origin

    def __array__(self, dtype=None, copy=None):
        if dtype is None or np.dtype(dtype) == self._values.dtype:
            return self._values.copy() if copy else self._values
        return self._values.astype(dtype)

    @cached_property
    def _moments(self) -> tuple[float, float, float, float]:
        flat = self._values
        mean = float(flat.mean(dtype=np.float64))
        # Section by section: squares of the whole in float64 would take twice the map's memory.
        squares = sum(float(np.square(part, dtype=np.float64).sum()) for part in flat)
        rms = float(np.sqrt(squares / flat.size))
        return mean, rms, float(flat.min()), float(flat.max())

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return self._moments[0]

    @property
    def rms(self) -> float:
        """Root mean square of all values, about zero."""
        return self._moments[1]

    @property
    def std(self) -> float:
        """Standard deviation of all values (the r.m.s.d. that viewers call sigma)."""
        mean, rms, _, _ = self._moments
        return float(np.sqrt(max(rms**2 - mean**2, 0.0)))

    @property
    def min(self) -> float:
        """Smallest value."""
        return self._moments[2]

    @property
    def max(self) -> float:
        """Largest value."""
        return self._moments[3]

    def __repr__(self) -> str:
        z, y, x = self.shape
        sizes = [f"{v:.4g}" for v in self.voxel_size]
        size = sizes[0] if len(set(sizes)) == 1 else " × ".join(sizes)
        name = f" {self.name!r}" if self.name else ""
        return f"<{type(self).__name__}{name}: {z} × {y} × {x} voxels (z, y, x) of {size} Å>"

    # ---- reading it ----------------------------------------------------------------------------

    def sample(self, points, *, order: int | None = None) -> np.ndarray:
        """Read the values at points in space.

        Parameters
        ----------
        points : array_like, shape (n, 3)
            (x, y, z) in Å.
        order : int, optional
            Order of the spline: 0 nearest, 1 linear (default for densities), 3 cubic.

        Returns
        -------
        ndarray of float32, shape (n,)
            NaN at points outside the voxel centres.
        """
        order = self._order if order is None else order
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        inside = self.grid.contains(points)
        out = np.full(len(points), np.nan, dtype=np.float32)
        if inside.any():
            out[inside] = self._interpolate(self._values, points[inside], order)
        return out

    def _interpolate(self, array, points, order):
        from scipy.ndimage import map_coordinates

        index = self.grid.to_index(points).T
        return map_coordinates(array, index, output=np.float32, order=order, mode="nearest")


class LabelVolume(Volume):
    """Integer classes on a grid.

    Parameters
    ----------
    values : array_like of int, shape (z, y, x)
        Indices into `classes`.
    grid : Grid
        Where the voxels are.
    classes : tuple of str
        Names of the classes, by index.
    """

    _dtypes = (np.uint8, np.int16, np.int32)
    _order = 0
    _carried = ("name", "classes")

    def __init__(self, values, grid, *, classes=CLASSES, name="", history=()):
        self.classes = tuple(classes)
        super().__init__(values, grid, name=name, history=history)

    def mask(self, name: str) -> np.ndarray:
        """Tell which voxels are of the class `name`: bool, shape (z, y, x)."""
        return self.values == _class_index(self.classes, name)

    def counts(self) -> dict[str, int]:
        """Number of voxels of each class."""
        counts = np.bincount(self.values.ravel(), minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))


class ProbabilityVolume(Volume):
    """One probability a class on a grid.

    Parameters
    ----------
    values : array_like, shape (class, z, y, x)
        Kept as float32, or as float16 where that is what was given (a prediction of five classes
        is large; half precision keeps a probability to 0.0005).
    grid : Grid
        Where the voxels are.
    classes : tuple of str
        Names of the classes, in the order of the first axis.
    """

    _dtypes = (np.float32, np.float16)
    _carried = ("name", "classes")

    def __init__(self, values, grid, *, classes=CLASSES, name="", history=()):
        self.classes = tuple(classes)
        if np.ndim(values) != 4 or np.shape(values)[0] != len(self.classes):
            raise GridError(
                f"Probabilities of shape ({len(self.classes)}, z, y, x) were expected for the "
                f"classes {', '.join(self.classes)}, but the array's shape is {np.shape(values)}."
            )
        super().__init__(values, grid, name=name, history=history)

    @staticmethod
    def _check_shape(array, grid):
        Volume._check_shape(array[0], grid)

    def __getitem__(self, name: str) -> Volume:
        values = self.values[_class_index(self.classes, name)].astype(np.float32)
        return Volume._adopt(values, self.grid, name=name, history=self.history)

    def labels(self) -> LabelVolume:
        """Give each voxel its most probable class."""
        best = np.zeros(self.shape, dtype=np.uint8)
        highest = self.values[0].copy()
        for index in range(1, len(self.classes)):
            better = self.values[index] > highest
            best[better] = index
            np.maximum(highest, self.values[index], out=highest)
        return LabelVolume._adopt(
            best, self.grid, classes=self.classes, name=self.name, history=self.history
        )

    def sample(self, points, *, order: int | None = None) -> np.ndarray:
        """Read the probabilities at points (n, 3) in Å: float32, shape (n, class), NaN outside."""
        order = self._order if order is None else order
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        inside = self.grid.contains(points)
        out = np.full((len(points), len(self.classes)), np.nan, dtype=np.float32)
        if not inside.any():
            return out
        index = self.grid.to_index(points[inside])
        # Half-precision arrays are cut to the box around the points, so that only that is widened.
        low = np.maximum(np.floor(index.min(axis=0)).astype(int) - 2, 0)
        high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 3, self.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        part = self.grid.crop(low, high - low)
        reader = Volume(np.zeros(part.shape, np.float32), part)
        for column, values in enumerate(self.values):
            block = np.ascontiguousarray(values[box], dtype=np.float32)
            out[inside, column] = reader._interpolate(block, points[inside], order)
        return out


def _class_index(classes: tuple[str, ...], name: str) -> int:
    if name not in classes:
        raise CryonbError(f"A class of {', '.join(classes)} was expected, but {name!r} was asked.")
    return classes.index(name)
