"""Cut a box around what matters, with a soft edge, and put it back."""

from __future__ import annotations

import numpy as np

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, GridError
from cryonb.grid import Grid, no_overlap
from cryonb.process.checks import require_density
from cryonb.process.contour import contour_level
from cryonb.process.mask import contour_mask
from cryonb.process.operators import Symmetry
from cryonb.process.resample import resample
from cryonb.volume import Volume

__all__ = ["cut_box", "put_back"]

# Pieces of density smaller than this part of the largest one do not widen the box.
_SPECK = 0.05
# Radius in Å that is kept around the density of a symmetric map's unit.
_AROUND_UNIT = 3.0


def cut_box(
    volume: Volume, *, around="density", cushion: float = 5.0, soft_edge: float = 3.0,
    fast: bool = True,
) -> tuple[Volume, Volume]:  # fmt: skip
    """Cut out the box that holds a model, a mask, the density, or one unit of a symmetric map.

    Parameters
    ----------
    volume : Volume
        A density.
    around : gemmi.Structure, Atoms, Volume, Symmetry or "density"
        A model; a mask, by which the map is also multiplied; what `find_symmetry` gives, for one
        asymmetric unit; or all density above the recommended contour level.
    cushion : float
        Å on every side.
    soft_edge : float
        Å over which the density falls to zero at the faces of the box, and around a unit.
    fast : bool
        Whether to enlarge the box to even sizes whose Fourier transforms are fast.

    Returns
    -------
    box : Volume
        Of the class of `volume`, where it was in space. What the box has beyond the map is zero.
    weights : Volume
        By which the map was multiplied, on the grid of the box.

    Raises
    ------
    CryonbError
        If the map is flat or not finite, `around` is none of these, a length is negative, or
        nothing is in the mask.
    MapModelMismatchError
        If the model is not where the map is.
    """
    require_density(volume)
    if not (cushion >= 0 and soft_edge >= 0):
        raise CryonbError(
            f"A cushion and a soft edge of 0 Å or more were expected, not {cushion} and "
            f"{soft_edge}."
        )
    mask = None
    if isinstance(around, str):
        if around != "density":
            raise CryonbError(
                'A box around a model, a mask, a symmetry or "density" was expected, but '
                f"{around!r} was given."
            )
        lower, upper = _density_corners(volume)
    elif isinstance(around, Symmetry):
        unit = around.unit_of(volume)
        level = contour_level(volume).level
        mask = contour_mask(unit, level, radius=_AROUND_UNIT, soft_edge=soft_edge)
        lower, upper = _corners(mask.values > 0.5, volume.grid)
    elif isinstance(around, Volume):
        same = around.grid.is_close(volume.grid)
        mask = around if same else resample(around, grid=volume.grid)
        if not (np.isfinite(mask.rms) and mask.max > 0):
            raise CryonbError(
                "A mask of finite weights, some above zero, was expected, but the largest is "
                f"{mask.max:g}; make it anew."
            )
        lower, upper = _corners(mask.values > 0.5 * mask.max, volume.grid)
    else:
        atoms = Atoms.from_structure(around, waters=True)
        lower, upper = atoms.lower, atoms.upper
        if not (volume.grid.overlap(lower, upper) > 0).all():
            raise no_overlap(volume.grid, lower, upper)
    grid = _box_grid(volume.grid, lower - cushion, upper + cushion, fast)
    weights = _faces(grid, soft_edge)
    inner, outer = _common(grid, volume.grid)
    values = np.zeros(grid.shape, dtype=np.float32)
    values[inner] = volume.values[outer]
    if mask is not None:
        part = np.zeros(grid.shape, dtype=np.float32)
        part[inner] = mask.values[outer]
        weights = weights * part
    size = " × ".join(str(n) for n in grid.shape)
    box = volume.replace(values * weights, grid, note=f"boxed to {size} voxels")
    return box, Volume._adopt(weights, grid, name="weights")


def put_back(box: Volume, whole: Volume, weights: Volume | None = None) -> Volume:
    """Put a box back into the map that it was cut from.

    Parameters
    ----------
    box : Volume
        From `cut_box`, whatever was done to its values since.
    whole : Volume
        The map; it is not changed.
    weights : Volume, optional
        From `cut_box`: the map fades out as the box fades in. By default the box replaces.

    Returns
    -------
    Volume
        Of the class and on the grid of `whole`. An unchanged box gives back the map.

    Raises
    ------
    GridError
        If the voxels of the box are not voxels of the map, or are nowhere in it.
    """
    if weights is not None and not weights.grid.is_close(box.grid):
        raise GridError(
            f"Weights on the grid of the box ({box.grid.describe_box()}) were expected, but theirs "
            f"is {weights.grid.describe_box()}."
        )
    inner, outer = _common(box.grid, whole.grid)
    values = whole.values.copy()
    kept = 0.0 if weights is None else 1 - weights.values[inner]
    values[outer] = values[outer] * kept + box.values[inner]
    return whole.replace(values, note="a box put back")


def _corners(inside: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Corners (x, y, z) in Å of the box around marked voxels, of which there are some."""
    planes = [inside.any(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    ends = [(int(p.argmax()), len(p) - 1 - int(p[::-1].argmax())) for p in planes]
    return grid.to_points([low for low, _ in ends]), grid.to_points([high for _, high in ends])


def _density_corners(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the density above the contour level, without specks of noise."""
    from scipy.ndimage import label

    pieces, _ = label(volume.values >= contour_level(volume).level)
    size = np.bincount(pieces.ravel())
    size[0] = 0
    return _corners((size >= _SPECK * size.max())[pieces] & (pieces > 0), volume.grid)


def _box_grid(grid: Grid, lower, upper, fast: bool) -> Grid:
    from scipy.fft import next_fast_len

    first = np.floor(grid.to_index(lower) + 1e-6).astype(int)
    last = np.ceil(grid.to_index(upper) - 1e-6).astype(int)
    shape = last - first + 1
    if fast:
        sizes = []
        for n in shape:
            size = next_fast_len(int(n), real=True)
            while size % 2:
                size = next_fast_len(size + 1, real=True)
            sizes.append(size)
        first -= (np.array(sizes) - shape) // 2
        shape = np.array(sizes)
    return grid.crop(first, shape)


def _faces(grid: Grid, soft_edge: float) -> np.ndarray:
    """Weights that fall to zero at the faces of a box, as half a cosine wave."""
    along = []
    for n, voxel in zip(grid.shape, grid.voxel_size[::-1], strict=True):
        # Half a voxel beyond the last centre all is gone.
        distance = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) * voxel
        t = np.clip(distance / max(soft_edge, 1e-6), 0, 1)
        along.append((0.5 - 0.5 * np.cos(np.pi * t)).astype(np.float32))
    z, y, x = along
    return z[:, None, None] * y[:, None] * x


def _common(box: Grid, whole: Grid) -> tuple[tuple, tuple]:
    """Slices of the voxels that two grids share, in either."""
    start = whole.to_index(box.lower)
    first = np.rint(start).astype(int)
    same = np.allclose(box.voxel_size, whole.voxel_size, rtol=1e-5)
    if not same or np.abs(start - first).max() > 0.01:
        raise GridError(
            f"A box of whole voxels of the map was expected, but its voxels of {box.voxel_size} Å "
            f"from {box.origin} are not among the map's of {whole.voxel_size} Å from "
            f"{whole.origin}; resample it first."
        )
    low = np.maximum(first, 0)
    high = np.minimum(first + box.shape, whole.shape)
    if not (low < high).all():
        raise GridError(
            f"A box that meets the map ({whole.describe_box()}) was expected, but it is at "
            f"{box.describe_box()}."
        )
    outer = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inner = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
    return inner, outer
