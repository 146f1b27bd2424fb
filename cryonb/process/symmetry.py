"""Symmetry of a map, found about any axis and centre."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from tqdm.auto import tqdm

from cryonb.errors import CryonbError
from cryonb.process.blur import softened
from cryonb.process.helical_search import find_helix
from cryonb.process.level import noise_level
from cryonb.process.operators import TRIED, Symmetry, dense_voxels, directions
from cryonb.process.point_groups import axes_of, group_rotations
from cryonb.volume import Volume

__all__ = ["find_symmetry"]

#: Degrees between the axes that are tried.
_STEP = 3.0
#: Voxels that are compared while scanning, and at the end.
_FEW, _MANY = 1200, 4000
#: Axes of one order that are looked at closely.
_AXES = 6
#: Correlation on the coarse map above which an axis is worth it.
_WORTH = 0.6


def find_symmetry(
    volume: Volume, *, resolution: float | None = None, contour: float | None = None,
    least: float = 0.75, orders=range(2, 15), helical: bool | None = None, progress: bool = True,
) -> Symmetry:  # fmt: skip
    """Find the point group of a map, or its helical symmetry, about any axes and centre.

    Parameters
    ----------
    volume : Volume
        A map of a whole assembly.
    resolution : float, optional
        Å; that which a `DensityMap` knows by default, else twice the voxel size.
    contour : float, optional
        What is below it counts as empty; estimated from the noise by default.
    least : float
        Correlation that every operation of an accepted group must reach.
    orders : iterable of int
        Orders of axes that are tried.
    helical : bool, optional
        Whether to look for a helix first. By default where the density goes on from one face of the
        box to another; with True also where it ends within the box, with False never. Where there
        is none, the point group is looked for.
    progress : bool
        Show a bar.

    Returns
    -------
    Symmetry
        C1 if there is none; a `cryonb.process.helical.HelicalSymmetry` of a helix.

    Raises
    ------
    CryonbError
        If nothing in the map is above the contour level.

    Notes
    -----
    Axes through the middle of the density are tried in all directions on a blurred map; the best of
    each order are refined together with the centre. Groups are then put together from axes that
    stand at the right angles to each other, refined as wholes, and compared on a finer map: the
    accepted group has the highest lowest correlation times the root of its number of operations,
    which is cctbx's score; there, axes are tried along those of the box only. Of the helix:
    `cryonb.process.helical_search.find_helix`.
    """
    level = noise_level(volume.values) if contour is None else contour
    if not volume.max > level:
        raise CryonbError(
            f"Density above a contour level of {level:g} was expected, but the largest is "
            f"{volume.max:g}; give a lower contour=."
        )
    known = resolution or getattr(volume, "resolution", None) or 2 * max(volume.voxel_size)
    helix, screws = None, []
    if helical is not False:
        helix, screws = find_helix(volume, known, least=least, anyway=bool(helical))
    if helix is not None:
        return helix
    emptied = volume.replace(np.where(volume.values > level, volume.values, 0))
    index, value = dense_voxels(emptied, level, 20000)
    points = volume.grid.to_points(index)
    centre = (points * value[:, None]).sum(axis=0) / value.sum()
    reach = np.sqrt(((points - centre) ** 2).sum(axis=1).mean())
    coarse = _Self(softened(emptied, known, max(known, reach / 4)), _FEW)
    fine = _Self(softened(emptied, known, max(1.5 * known, 6.0)), _MANY)
    axes = _find_axes(coarse, centre, sorted({int(n) for n in orders}), progress)
    groups = []
    for name, rotation in _candidate_groups(axes, least):
        start = group_rotations(name)
        turn, middle = _refine_group(coarse, start, rotation, centre)
        turn, middle = _refine_group(fine, start, turn, middle)
        rotations = turn @ start @ turn.T
        cc = fine.correlations(rotations[1:], middle)
        groups.append((name, rotations, middle, float(cc.min()), float(cc.mean())))
    rows = [(name, low, mean, *axes_of(r)[0][0]) for name, r, _, low, mean in groups]
    tried = pd.DataFrame(screws + rows, columns=TRIED)
    good = [group for group in groups if group[3] >= least]
    if not good:
        return Symmetry("C1", np.eye(3)[None], centre, 1.0, tried)
    name, rotations, middle, low, _ = max(good, key=lambda g: g[3] * np.sqrt(len(g[1])))
    return Symmetry(name, rotations, middle, low, tried)


class _Self:
    """How a map agrees with itself under rotations."""

    def __init__(self, volume: Volume, most: int):
        self._values = volume.values
        self._grid = volume.grid
        index, value = dense_voxels(volume, noise_level(volume.values), most)
        self._points = volume.grid.to_points(index)
        value = value - value.mean()
        self._value = value / max(np.linalg.norm(value), 1e-12)

    def correlations(self, rotations: np.ndarray, centre) -> np.ndarray:
        """Correlate the map at its dense voxels with itself where rotations bring them."""
        away = self._points - centre
        moved = np.einsum("kij,nj->kni", rotations, away) + centre
        place = self._grid.to_index(moved.reshape(-1, 3)).T
        found = map_coordinates(self._values, place, order=1, mode="constant", output=np.float32)
        found = found.reshape(len(rotations), -1).astype(np.float64)
        found -= found.mean(axis=1, keepdims=True)
        return found @ self._value / np.maximum(np.linalg.norm(found, axis=1), 1e-12)


def _turns(axes: np.ndarray, order: int) -> np.ndarray:
    return Rotation.from_rotvec(axes * (2 * np.pi / order)).as_matrix()


def _find_axes(coarse: _Self, centre, orders, progress) -> list[tuple[int, np.ndarray, float]]:
    """Order, direction and correlation of the best axes."""
    tilts = directions(_STEP)
    found = []
    for order in tqdm(orders, desc="axes", disable=not progress):
        cc = np.concatenate(
            [coarse.correlations(_turns(part, order), centre)
             for part in np.array_split(tilts, max(len(tilts) // 200, 1))]
        )  # fmt: skip
        kept = []
        for row in np.argsort(-cc):
            if cc[row] < _WORTH * 0.7 or len(kept) == _AXES:
                break
            if all(abs(tilts[row] @ other) < np.cos(np.radians(12)) for other in kept):
                kept.append(tilts[row])
        better = []
        for axis in kept:
            axis, middle = _refine_axis(coarse, axis, order, centre)
            # A small turn changes little in any map: the others must agree as well.
            every = Rotation.from_rotvec(np.outer(np.arange(1, order), axis) * 2 * np.pi / order)
            value = coarse.correlations(every.as_matrix(), middle).min()
            new = all(abs(axis @ other) < np.cos(np.radians(4)) for _, other, _ in better)
            if value >= _WORTH and new:
                better.append((order, axis, value))
        found += better
    return found


def _refine_axis(judge: _Self, axis, order, centre) -> tuple[np.ndarray, np.ndarray]:
    """Improve an axis and its place, by the correlation of its first turn."""
    across = np.linalg.svd(axis[None])[2][1:]

    def split(x):
        tilted = axis + np.radians(x[:2]) @ across
        return tilted / np.linalg.norm(tilted), centre + x[2:] @ across

    def loss(x):
        tilted, middle = split(x)
        return -judge.correlations(_turns(tilted[None], order), middle)[0]

    simplex = np.vstack([np.zeros(4), np.diag([2.0, 2.0, 2.0, 2.0])])
    options = {"initial_simplex": simplex, "xatol": 0.05, "fatol": 1e-4, "maxiter": 120}
    best = minimize(loss, np.zeros(4), method="Nelder-Mead", options=options)
    return split(best.x)


def _refine_group(judge: _Self, group, rotation, centre) -> tuple[np.ndarray, np.ndarray]:
    """Improve the orientation and the centre of a group, by the mean correlation."""

    def split(x):
        return Rotation.from_rotvec(np.radians(x[:3])).as_matrix() @ rotation, centre + x[3:]

    # A few operations generate the rest.
    some = group[1:][:: max((len(group) - 1) // 6, 1)]

    def loss(x):
        turn, middle = split(x)
        return -judge.correlations(turn @ some @ turn.T, middle).mean()

    simplex = np.vstack([np.zeros(6), np.diag([1.0] * 6)])
    options = {"initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-5, "maxiter": 400}
    best = minimize(loss, np.zeros(6), method="Nelder-Mead", options=options)
    return split(best.x)


def _candidate_groups(axes, least: float):
    """Groups that axes could belong to, and the rotation from their standard frame."""
    z = np.array([0.0, 0.0, 1.0])
    for order, axis, _ in axes:
        yield f"C{order}", Rotation.align_vectors([axis], [z])[0].as_matrix()
    pairs = {}
    for (a, first, x), (b, second, y) in combinations(axes, 2):
        high, low = sorted([(a, first, x), (b, second, y)], key=lambda one: -one[0])
        angle = np.degrees(np.arccos(min(abs(high[1] @ low[1]), 1.0)))
        if angle < 8:
            continue
        if low[0] == 2 and angle > 80:
            pairs.setdefault(f"D{high[0]}", []).append((x + y, high[1], low[1]))
        for name in "TOI":
            match = _matching_pair(name, high[0], low[0], angle)
            if match is not None:
                pairs.setdefault(name, []).append((x + y, (high[1], match[0]), (low[1], match[1])))
    for name, found in pairs.items():
        # The two best starts of each.
        for _, first, second in sorted(found, key=lambda one: -one[0])[:2]:
            if name[0] == "D":
                wanted, standard = (first, second), (z, np.array([1.0, 0.0, 0.0]))
            else:
                wanted, standard = zip(first, second, strict=True)
            yield name, _aligned(wanted, standard)


def _aligned(wanted, standard) -> np.ndarray:
    """Rotation that brings two standard axes to two found ones, either of whose ends may be up."""
    ends = [(1, 1), (1, -1)]
    fits = [
        Rotation.align_vectors([wanted[0], sign * np.asarray(wanted[1])], standard)
        for _, sign in ends
    ]
    return min(fits, key=lambda one: one[1])[0].as_matrix()


def _matching_pair(name: str, a: int, b: int, angle: float):
    """Two axes of a standard group with these orders at this angle, if there are."""
    axis, order = axes_of(group_rotations(name))
    if max(a, b) < 3 or not {a, b} <= set(order.tolist()):
        return None
    for i in np.flatnonzero(order == a):
        for j in np.flatnonzero(order == b):
            between = np.degrees(np.arccos(np.clip(abs(axis[i] @ axis[j]), 0, 1)))
            if i != j and abs(between - angle) < 6:
                return axis[i], axis[j]
    return None
