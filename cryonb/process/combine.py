"""Focused maps into one composite map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, ModelError
from cryonb.process.checks import require_density
from cryonb.process.filter import band_filter
from cryonb.process.mask import model_mask
from cryonb.process.resample import resample
from cryonb.volume import Volume

__all__ = ["combine", "superposition"]

# Å around a model where maps are compared with it, and the width of the window in resolutions.
_NEAR, _EDGE, _WINDOW = 3.0, 2.0, 1.5
# A model that is moved by less than this, in Å, stands where the target's does.
_SAME = 0.02
# Of the largest weight; so that no voxel is without a map.
_FLOOR = 1e-6


def combine(
    maps, guides, *, target: int = 0, resolution: float | None = None, window: float | None = None
) -> Volume:
    """Combine focused maps into one, weighted by what each shows best, place by place.

    Parameters
    ----------
    maps : list of Volume
        Two or more, each with its own frame and grid.
    guides : list of gemmi.Structure, or list of Volume
        For each map either a model in the map's frame, or a mask (0 to 1) of where the map is the
        best. Models may cover different parts, as long as each shares three residues with the
        target's: they tell how to move the maps into the target's frame. Masks mean that all maps
        have one frame.
    target : int
        The map whose frame, grid and scale the composite has.
    resolution : float, optional
        Å; of the models' maps. That of the target by default.
    window : float, optional
        Standard deviation in Å of the window in which map and model are compared; 1.5 times the
        resolution by default.

    Returns
    -------
    Volume
        Of the class of the target map.

    Raises
    ------
    CryonbError
        If there are not as many guides as maps, or not all of one kind; or no resolution is known.
    ModelError
        If a model shares no three residues with the target's.

    Notes
    -----
    With models, each map is in every window a times the model's map plus something else of variance
    v; of all sums of the maps that with weights a / v has the highest ratio of signal to noise.
    Weights vary as slowly as the window, so the composite has no seams. Where no model is near, the
    maps have equal weights. With masks, each map is scaled to the target's power in coarse detail
    and weighted by its mask, the target also by what the masks leave.
    """
    maps, guides = list(maps), list(guides)
    if len(maps) < 2 or len(maps) != len(guides):
        raise CryonbError(
            f"Two or more maps and a guide for each were expected, but {len(maps)} maps and "
            f"{len(guides)} guides were given."
        )
    for one in maps:
        require_density(one)
    masks = [isinstance(guide, Volume) for guide in guides]
    if any(masks) != all(masks):
        raise CryonbError("Either models or masks were expected as guides, but both were given.")
    goal = maps[target]
    d = resolution if resolution is not None else getattr(goal, "resolution", None)
    if d is None or not d > 0:
        raise CryonbError(
            f"The resolution of the target map in Å was expected, but it is {d}; give resolution=."
        )
    d = max(float(d), 2 * max(goal.voxel_size))
    if all(masks):
        moved = [_on_grid(one, goal) for one in maps]
        parts = _by_masks(moved, [_on_grid(g, goal) for g in guides], target, goal, d)
    else:
        parts = _by_models(maps, guides, target, d, window or _WINDOW * d)
    total, weight = np.zeros(goal.shape), np.zeros(goal.shape)
    for part in parts:
        total += part.values * part.weight
        weight += part.weight
    values = (total / np.maximum(weight, 1e-30)).astype(np.float32)
    return goal.replace(values, note=f"combined of {len(maps)} maps")


@dataclass(frozen=True)
class _Part:
    """A map in the target's frame and scale, and its weights."""

    values: np.ndarray
    weight: np.ndarray


def superposition(model, onto) -> tuple[np.ndarray, np.ndarray]:
    """Find how to move a model onto another by the atoms that they share.

    Parameters
    ----------
    model, onto : gemmi.Structure or Atoms
        Atoms are the same if chain, residue number and atom name are; main chains count.

    Returns
    -------
    matrix, vector : ndarray
        x of `model` becomes matrix · x + vector.

    Raises
    ------
    ModelError
        If they share fewer than three residues.
    """
    one, two = _main_chain(model), _main_chain(onto)
    shared = [key for key in one if key in two]
    count = len({key[:3] for key in shared})
    if count < 3:
        raise ModelError(
            "Models that share three residues or more (by chain and number) were expected, to move "
            f"one map onto the other, but they share {count}; name their chains alike."
        )
    a = np.array([one[key] for key in shared])
    b = np.array([two[key] for key in shared])
    rotation, _ = Rotation.align_vectors(b - b.mean(axis=0), a - a.mean(axis=0))
    matrix = rotation.as_matrix()
    return matrix, b.mean(axis=0) - matrix @ a.mean(axis=0)


def _main_chain(model) -> dict:
    atoms = Atoms.from_structure(model)
    atoms = atoms.select(atoms.backbone)
    residues, which = atoms.residues, atoms.residue
    columns = (residues.chain[which], residues.number[which], residues.icode[which], atoms.name)
    return dict(zip(zip(*columns, strict=True), atoms.position, strict=True))


def _on_grid(volume: Volume, goal: Volume) -> Volume:
    return volume if volume.grid.is_close(goal.grid) else resample(volume, grid=goal.grid)


def _by_masks(maps, masks, target, goal, d):
    """Give maps at the target's scale, with their masks as weights."""
    coarse = max(3 * d, 10.0)
    low = [band_filter(one, low=coarse).values for one in maps]
    for number, mask in enumerate(masks):
        if not (np.isfinite(mask.rms) and mask.max > 0):
            raise CryonbError(
                "Masks of finite weights, some above zero within the target map, were expected, "
                f"but the largest of mask {number} (counted from 0) is {mask.max:g}; check that it "
                "is in the target's frame."
            )
    masks = [np.clip(mask.values, 0, 1) for mask in masks]
    left = np.clip(1 - sum(masks), 0, 1)
    for number, (one, mask) in enumerate(zip(maps, masks, strict=True)):
        both = masks[target] * mask
        # Masks that do not meet are compared where either is.
        where = both if both.sum() > 0.05 * mask.sum() else np.maximum(masks[target], mask)
        ratio = (where * low[target] ** 2).sum() / max((where * low[number] ** 2).sum(), 1e-30)
        scale = 1.0 if number == target else float(np.sqrt(ratio))
        weight = mask + _FLOOR + (left if number == target else 0)
        yield _Part(one.values * scale, weight)


def _by_models(maps, models, target, d, window):
    """Give maps in the target's frame and scale, with weights of local signal over noise."""
    from cryonb.simulate.fourier import fourier_map

    goal = maps[target]
    steps = window / np.array(goal.voxel_size)[::-1]
    own_scale, parts = 1.0, []
    for number, (one, model) in enumerate(zip(maps, models, strict=True)):
        atoms = Atoms.from_structure(model, waters=True)
        if number == target:
            values = one.values
        else:
            matrix, vector = superposition(model, models[target])
            atoms = atoms.moved_to(atoms.position @ matrix.T + vector)
            values = _moved(one, goal, matrix, vector, atoms)
        image = fourier_map(atoms, goal.grid, resolution=d).values
        near = model_mask(atoms, goal.grid, radius=_NEAR, soft_edge=_EDGE).values
        there = np.isfinite(values)
        values = np.where(there, values, 0)
        near = near * there

        def local(product, near=near):
            return gaussian_filter(near * product, steps, mode="constant", truncate=3)

        count = gaussian_filter(near, steps, mode="constant", truncate=3)
        known = count > 1e-3
        size = np.maximum(count, 1e-3)
        mean, middle = local(values) / size, local(image) / size
        variance = np.maximum(local(image**2) / size - middle**2, 1e-30)
        covariance = local(values * image) / size - mean * middle
        rest = local(values**2) / size - mean**2 - covariance**2 / variance
        scale = float((covariance * count).sum() / (variance * count).sum())
        if not scale > 0:
            raise CryonbError(
                f"A map that shows its model was expected, but map {number} (counted from 0) does "
                "not correlate with it; check that both are in the same frame."
            )
        own_scale = scale if number == target else own_scale
        slope = np.maximum(covariance / variance, 0) / scale
        weight = slope / np.maximum(rest / scale**2, 1e-6 * variance)
        weight = np.where(known, weight, 0)
        parts.append((values / scale, weight, there))
    highest = max(weight.max() for _, weight, _ in parts)
    for values, weight, there in parts:
        yield _Part(values * own_scale, np.maximum(weight, _FLOOR * highest) * there)


def _moved(volume: Volume, goal: Volume, matrix, vector, atoms) -> np.ndarray:
    """Read a map at the voxels of the target's, moved; NaN outside."""
    turn = np.linalg.norm(atoms.position - (atoms.position - vector) @ matrix, axis=1).max()
    if turn < _SAME:
        if volume.grid.is_close(goal.grid):
            return volume.values
        return resample(volume, grid=goal.grid, fill=np.nan).values
    from cryonb.field.spline import SplineField

    field = SplineField(volume)
    points = goal.grid.to_points(np.indices(goal.shape).reshape(3, -1).T)
    return field.value((points - vector) @ matrix).reshape(goal.shape)
