"""Cut a box out of a volume, or add voxels around it."""

from __future__ import annotations

import numpy as np

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, GridError, MapModelMismatchError
from cryonb.grid import Grid, box_text
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

__all__ = ["crop", "pad"]


def crop(
    volume: Volume,
    *,
    start=None,
    shape=None,
    lower=None,
    upper=None,
    model=None,
    contour: float | None = None,
    margin: float = 0.0,
) -> Volume:
    """Cut out a box: by voxels, by coordinates, around a model or around a contour.

    Parameters
    ----------
    volume : Volume, LabelVolume or ProbabilityVolume
        What to cut; it is not changed.
    start, shape : tuple of int, optional
        First voxel and number of voxels (z, y, x). The box must lie within the volume.
    lower, upper : array_like of shape (3,), optional
        Corners (x, y, z) in Å.
    model : gemmi.Structure or Atoms, optional
        Cut around its atoms (without hydrogens and waters).
    contour : float, optional
        Cut around all voxels at or above this density.
    margin : float
        Added in Å on every side of corners, model or contour.

    Returns
    -------
    Volume
        Of the class of `volume`: the voxels whose centres lie within the box, as far as there
        are any, where they were in space.

    Raises
    ------
    GridError
        If not exactly one kind of box is given, or it does not lie within (voxels) or meet
        (coordinates) the volume.
    MapModelMismatchError
        If the model's box does not meet the volume.
    CryonbError
        If no voxel reaches the contour, or the contour is asked of something that is no density.
    """
    by_voxels = start is not None or shape is not None
    by_corners = lower is not None or upper is not None
    given = by_voxels + by_corners + (model is not None) + (contour is not None)
    if given != 1 or (start is None) != (shape is None) or (lower is None) != (upper is None):
        raise GridError(
            "Cropping needs one box, given by start and shape, by lower and upper, by a model or "
            "by a contour."
        )
    grid = volume.grid
    if by_voxels:
        return _cut(volume, *_voxel_box(grid, start, shape))
    if contour is not None:
        lower, upper = _contour_box(volume, contour)
    elif model is not None:
        atoms = Atoms.from_structure(model)
        lower, upper = atoms.lower, atoms.upper
    lower = np.asarray(lower, dtype=np.float64) - margin
    upper = np.asarray(upper, dtype=np.float64) + margin
    if lower.shape != (3,) or upper.shape != (3,) or not (lower <= upper).all():
        raise GridError(
            "The corners of a box are three numbers each, (x, y, z) in Å, the lower ones not above "
            f"the upper ones, but with a margin of {margin:g} Å they are {lower} and {upper}."
        )
    # A corner that was computed from a voxel centre must not lose that voxel to rounding.
    first = np.maximum(np.ceil(grid.to_index(lower) - 1e-6), 0).astype(np.int64)
    stop = np.minimum(np.floor(grid.to_index(upper) + 1e-6) + 1, grid.shape).astype(np.int64)
    if not (first < stop).all():
        error = GridError if model is None else MapModelMismatchError
        raise error(
            f"The box to cut out ({box_text(lower, upper)}) holds no voxel of the map "
            f"({grid.describe_box()}); check that both are in the same frame."
        )
    return _cut(volume, first, stop - first)


def pad(volume: Volume, n, *, after=None, value: float = 0.0) -> Volume:
    """Add voxels around a volume.

    Parameters
    ----------
    volume : Volume, LabelVolume or ProbabilityVolume
        What to pad; it is not changed.
    n : int or tuple of int
        Voxels to add before the first one, and after the last one too unless `after` is given:
        one number, or three for (z, y, x).
    after : int or tuple of int, optional
        Voxels to add after the last one, where that differs.
    value : float
        Value of the new voxels. Probabilities are 1 there for the class "background" instead.

    Returns
    -------
    Volume
        Of the class of `volume`; the old voxels stay where they were in space.

    Raises
    ------
    GridError
        If a number is negative or not whole.
    """
    before = _counts(n)
    after = before if after is None else _counts(after)
    grid = volume.grid.pad(before, after)
    inner = tuple(slice(b, b + m) for b, m in zip(before, volume.shape, strict=True))
    old = volume.values
    if isinstance(volume, ProbabilityVolume):
        values = np.zeros((len(old), *grid.shape), dtype=old.dtype)
        if "background" in volume.classes:
            values[volume.classes.index("background")] = 1
    else:
        if isinstance(volume, LabelVolume) and value != int(value):
            raise CryonbError(f"A label is a whole number, but {value!r} was given to pad with.")
        values = np.full(grid.shape, value, dtype=old.dtype)
    values[(..., *inner)] = old
    return volume.replace(values, grid, note=f"padded by {_text(before)} and {_text(after)} voxels")


def _cut(volume: Volume, start, shape) -> Volume:
    box = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
    # A copy, so that the large array can go when nobody else holds it.
    values = volume.values[(..., *box)].copy()
    note = f"cropped to {_text(shape)} voxels from {_text(start)}"
    return volume.replace(values, volume.grid.crop(start, shape), note=note)


def _voxel_box(grid: Grid, start, shape) -> tuple[np.ndarray, np.ndarray]:
    start, shape = (np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in (start, shape))
    whole = all(a.shape == (3,) and (a == np.floor(a)).all() for a in (start, shape))
    if not whole or (start < 0).any() or (shape < 1).any() or (start + shape > grid.shape).any():
        raise GridError(
            f"A box of voxels (z, y, x) within the shape {grid.shape} was expected, but start "
            f"{start.tolist()} and shape {shape.tolist()} were given; pad the map to go beyond it."
        )
    return start.astype(np.int64), shape.astype(np.int64)


def _contour_box(volume: Volume, contour: float) -> tuple[np.ndarray, np.ndarray]:
    """Corners in Å of the box of voxels at or above a contour."""
    if isinstance(volume, LabelVolume | ProbabilityVolume):
        raise CryonbError(
            f"A contour is a density, but a {type(volume).__name__} was given to crop."
        )
    above = volume.values >= contour
    # Which planes hold one, along each axis.
    planes = [above.any(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    if not planes[0].any():
        raise CryonbError(
            f"Voxels at or above the contour {contour:g} were expected, but the largest value is "
            f"{volume.max:g}; lower the contour."
        )
    first = [int(np.flatnonzero(plane)[0]) for plane in planes]
    last = [int(np.flatnonzero(plane)[-1]) for plane in planes]
    return volume.grid.to_points(first), volume.grid.to_points(last)


def _counts(n) -> np.ndarray:
    counts = np.atleast_1d(np.asarray(n, dtype=np.float64))
    if counts.shape not in ((1,), (3,)) or (counts < 0).any() or (counts != np.floor(counts)).any():
        raise GridError(
            f"One or three whole numbers of voxels, none negative, were expected to pad with, but "
            f"{n!r} was given."
        )
    return np.broadcast_to(counts.astype(np.int64), (3,))


def _text(numbers) -> str:
    return " × ".join(str(int(number)) for number in numbers)
