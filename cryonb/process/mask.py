"""Keep the density near a model or within a contour, with a soft edge."""

from __future__ import annotations

import numpy as np

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, MapModelMismatchError
from cryonb.grid import Grid
from cryonb.process.checks import require_density
from cryonb.process.contour import contour_level
from cryonb.volume import Volume

__all__ = ["contour_mask", "mask", "model_mask"]

_MODEL_RADIUS = 4.0
_CONTOUR_RADIUS = 0.0
# Parts of a mask that hold less than this share of what the largest holds are scraps.
_SCRAP = 0.02
# Voxels whose distances are held at a time.
_CHUNK = 2_000_000


def mask(
    volume: Volume,
    *,
    model=None,
    contour: float | None = None,
    radius: float | None = None,
    soft_edge: float = 3.0,
) -> Volume:
    """Set density to zero away from a model, outside a contour, or away from what is molecule.

    Parameters
    ----------
    volume : Volume
        The density; it is not changed.
    model : gemmi.Structure or Atoms, optional
        Keep what is near its atoms (hydrogens and waters do not count).
    contour : float, optional
        Keep what is near voxels at or above this density. Without a model and a contour, it is the
        map's own contour level or, where it has none, the recommended one
        (`cryonb.process.contour.contour_level`), and what is left apart and small is dropped.
    radius : float, optional
        Full density is kept up to this distance in Å: from an atom (4 by default), or from a
        voxel within the contour (0 by default, 4 where no contour was given).
    soft_edge : float
        Width in Å over which density falls to zero, as half a cosine wave; 0 for a hard edge.

    Returns
    -------
    Volume
        Of the class of `volume`, on the same grid. `model_mask` and `contour_mask` give the
        weights themselves.

    Raises
    ------
    CryonbError
        If both model and contour are given, a distance is negative, no voxel reaches the contour,
        or the map is flat.
    MapModelMismatchError
        If no voxel of the map is within reach of the model.
    """
    if model is not None and contour is not None:
        raise CryonbError("Either a model or a contour was expected, but both were given.")
    alone = model is None and contour is None
    require_density(volume, flat=not alone)
    if alone:
        radius = _MODEL_RADIUS if radius is None else radius
        contour = getattr(volume, "contour", None)
        contour = contour_level(volume).level if contour is None else contour
        weights = contour_mask(volume, contour, radius=radius, soft_edge=soft_edge)
        weights = _without_scraps(weights, volume.values >= contour)
        what = f"around the molecule, contour {contour:.4g}"
    elif model is not None:
        radius = _MODEL_RADIUS if radius is None else radius
        weights = model_mask(model, volume.grid, radius=radius, soft_edge=soft_edge)
        what = "around a model"
    else:
        radius = _CONTOUR_RADIUS if radius is None else radius
        weights = contour_mask(volume, contour, radius=radius, soft_edge=soft_edge)
        what = f"at contour {contour:g}"
    note = f"masked {what} (radius {radius:g} Å, soft edge {soft_edge:g} Å)"
    return volume.replace(volume.values * weights.values, note=note)


def _without_scraps(weights: Volume, core: np.ndarray) -> Volume:
    """Drop the parts of a mask that hold far fewer voxels of the core than the largest."""
    from scipy.ndimage import label

    parts, count = label(weights.values > 0)
    size = np.bincount(parts[core], minlength=count + 1)
    kept = size >= _SCRAP * size.max()
    return weights.replace(np.where(kept[parts], weights.values, np.float32(0)))


def model_mask(
    model, grid: Grid, *, radius: float = _MODEL_RADIUS, soft_edge: float = 3.0
) -> Volume:
    """Make soft spheres around the atoms of a model.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model, without hydrogens and waters unless given as `Atoms`.
    grid : Grid
        Where to evaluate the mask.
    radius, soft_edge : float
        Weights are 1 up to `radius` from the nearest atom and 0 from `radius + soft_edge` on, Å.

    Returns
    -------
    Volume
        Weights from 0 to 1. Distances are exact, from voxel centre to atom position.

    Raises
    ------
    MapModelMismatchError
        If no voxel is within reach of an atom.
    """
    from scipy.spatial import cKDTree

    _check(radius, soft_edge)
    atoms = Atoms.from_structure(model)
    reach = radius + soft_edge
    weights = np.zeros(grid.shape, dtype=np.float32)
    tree = cKDTree(atoms.position)
    for index in _voxels_near(atoms.position, grid, reach):
        points = grid.to_points(index)
        distance, _ = tree.query(points, distance_upper_bound=reach + 1e-6, workers=-1)
        weights[tuple(index.T)] = _falloff(distance, radius, soft_edge)
    if not weights.any():
        raise MapModelMismatchError(
            f"A model within reach of the map was expected, but no voxel of the map "
            f"({grid.describe_box()}) is within {reach:g} Å of an atom; check that both are in "
            "the same frame."
        )
    return Volume._adopt(weights, grid, name="mask")


def contour_mask(
    volume: Volume, contour: float, *, radius: float = _CONTOUR_RADIUS, soft_edge: float = 3.0
) -> Volume:
    """Make a soft mask of the voxels at or above a contour.

    Parameters
    ----------
    volume : Volume
        The density.
    contour : float
        Density at or above which a voxel is in the mask.
    radius, soft_edge : float
        Weights are 1 up to `radius` from the nearest such voxel and 0 from `radius + soft_edge`
        on, Å.

    Returns
    -------
    Volume
        Weights from 0 to 1.

    Raises
    ------
    CryonbError
        If no voxel reaches the contour.
    """
    from scipy.ndimage import distance_transform_edt

    _check(radius, soft_edge)
    core = volume.values >= contour
    if not core.any():
        raise CryonbError(
            f"Voxels at or above the contour {contour:g} were expected, but the largest value is "
            f"{volume.max:g}; lower the contour."
        )
    reach = radius + soft_edge
    weights = np.zeros(volume.shape, dtype=np.float32)
    spacing = volume.voxel_size[::-1]
    # A slab at a time, with what lies within reach on either side: the transform is exact up to
    # there, and its large work arrays stay small.
    halo = int(np.ceil(reach / spacing[0]))
    thick = max(1, _CHUNK // (volume.shape[1] * volume.shape[2]))
    for first in range(0, volume.shape[0], thick):
        low, high = max(first - halo, 0), first + thick + halo
        part = core[low:high]
        if not part.any():
            continue
        distance = distance_transform_edt(~part, sampling=spacing)
        own = distance[first - low : first - low + thick]
        weights[first : first + thick] = _falloff(own, radius, soft_edge)
    return Volume._adopt(weights, volume.grid, name="mask")


def _check(radius: float, soft_edge: float) -> None:
    for name, value in (("radius", radius), ("soft edge", soft_edge)):
        if not (np.isfinite(value) and value >= 0):
            raise CryonbError(f"The {name} of a mask is 0 Å or more, but {value!r} was given.")


def _falloff(distance: np.ndarray, radius: float, soft_edge: float) -> np.ndarray:
    """Weight at each distance: 1, half a cosine wave, 0."""
    if soft_edge == 0:
        return (distance <= radius).astype(np.float32)
    t = np.clip((distance - radius) / soft_edge, 0.0, 1.0)
    return (0.5 + 0.5 * np.cos(np.pi * t)).astype(np.float32)


def _voxels_near(positions: np.ndarray, grid: Grid, reach: float):
    """Yield indices (n, 3) that hold all voxels within reach of a position, and few others.

    These are the positions' voxels, widened to boxes of the reach.
    """
    from scipy.ndimage import maximum_filter1d

    steps = np.ceil(reach / np.array(grid.voxel_size[::-1]) + 0.5).astype(np.int64)
    index = np.rint(grid.to_index(positions)).astype(np.int64)
    # Atoms outside the map may reach in.
    index = index[((index >= -steps) & (index < grid.shape + steps)).all(axis=1)]
    if not len(index):
        return
    low = index.min(axis=0) - steps
    marks = np.zeros(index.max(axis=0) + steps + 1 - low, dtype=np.uint8)
    marks[tuple((index - low).T)] = 1
    for axis, step in enumerate(steps):
        marks = maximum_filter1d(marks, 2 * int(step) + 1, axis=axis, mode="constant")
    start = np.maximum(low, 0)
    stop = np.minimum(low + marks.shape, grid.shape)
    marks = marks[tuple(slice(a, b) for a, b in zip(start - low, stop - low, strict=True))]
    flat = np.flatnonzero(marks)
    for first in range(0, len(flat), _CHUNK):
        part = np.unravel_index(flat[first : first + _CHUNK], marks.shape)
        yield np.stack(part, axis=-1) + start
