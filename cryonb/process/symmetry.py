"""Symmetry of a map, found about any axis and centre."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.process.blur import blurred, softened
from cryonb.process.checks import require_density
from cryonb.process.helical_axis import without_specks
from cryonb.process.helical_search import find_helix
from cryonb.process.level import noise_level
from cryonb.process.operators import TRIED, Symmetry, dense_voxels
from cryonb.process.point_groups import axes_of, group_rotations
from cryonb.process.resample import resample
from cryonb.process.symmetry_axes import SelfAgreement, find_axes, improved
from cryonb.volume import Volume

__all__ = ["find_symmetry"]

#: Voxels that are compared on the coarse map, and on the fine one.
_FEW, _MANY = 800, 4000
#: A group whose operations agree less than this part of `least` on the coarse map is given up.
_HOPELESS = 0.8
#: Axes fit in several ways if what is left differs by no more than this (about 6°).
_TIE = 0.1
#: What point groups and helices must reach.
_LEAST, _LEAST_HELIX = 0.8, 0.75
#: Operations of a group that decide where it stands: some generate the rest.
_GENERATING = 6


def find_symmetry(
    volume: Volume, *, resolution: float | None = None, contour: float | None = None,
    least: float | None = None, orders=range(2, 15), helical: bool | None = None,
    progress: bool = True,
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
    least : float, optional
        Correlation that every operation of an accepted symmetry must reach: by default 0.8 of a
        point group, 0.75 of a helix. With noise as strong as the density, groups that are not there
        reach 0.76, and those that are 0.85 and more (`benchmarks/bench_symmetry.py`); on measured
        maps symmetries have more than 0.95.
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
        If the map is flat or not finite, or nothing in it is above the contour level.

    Notes
    -----
    Density that is gone from a blurred map, as specks of noise are, does not count. Axes through
    the middle of the rest are tried in all directions on a blurred map; the best of
    each order are refined together with the centre. Groups are then put together from axes that
    stand at the right angles to each other, refined as wholes, and compared on a finer map: the
    accepted group has the highest lowest correlation times the root of its number of operations,
    which is cctbx's score; there, axes are tried along those of the box only. Of the helix:
    `cryonb.process.helical_search.find_helix`.
    """
    require_density(volume)
    level = noise_level(volume.values) if contour is None else contour
    if not volume.max > level:
        raise CryonbError(
            f"Density above a contour level of {level:g} was expected, but the largest is "
            f"{volume.max:g}; give a lower contour=."
        )
    known = resolution or getattr(volume, "resolution", None) or 2 * max(volume.voxel_size)
    helix, screws = None, []
    if helical is not False:
        helix, screws = find_helix(
            volume, known, least=_LEAST_HELIX if least is None else least, anyway=bool(helical)
        )
    if helix is not None:
        return helix
    least = _LEAST if least is None else least
    dense = _dense_part(volume, level, known)
    index, value = dense_voxels(dense, level, 20000)
    points = dense.grid.to_points(index)
    centre = (points * value[:, None]).sum(axis=0) / value.sum()
    reach = np.sqrt(((points - centre) ** 2).sum(axis=1).mean())
    blurred = softened(dense, known, max(known, reach / 4))
    coarse = SelfAgreement(blurred, _FEW)
    # The scan takes the nearest voxels, which are to be smaller for that.
    scanned = resample(blurred, coarse.voxel / 2)
    axes = find_axes(coarse, scanned, centre, sorted({int(n) for n in orders}), progress)
    groups = list(_candidate_groups(axes, least))
    good, tried = _compared(dense, known, coarse, groups, centre, least)
    tried = pd.DataFrame(screws + tried, columns=TRIED)
    if not good:
        return Symmetry("C1", np.eye(3)[None], centre, 1.0, tried)
    name, rotations, middle, low = max(good, key=_score)
    return Symmetry(name, rotations, middle, low, tried)


def _score(group) -> float:
    """Lowest correlation times the root of the number of operations."""
    return group[3] * np.sqrt(len(group[1]))


def _dense_part(volume: Volume, level: float, known: float) -> Volume:
    """The box of the molecule's densities above a level, with the rest set to zero.

    Specks of noise all over a box would have the symmetry of the box. Blurred, they are gone.
    """
    above = volume.values > level
    molecule = above & _molecule(volume, known)
    above = molecule if molecule.any() else above
    first, last = [], []
    for axis, n in enumerate(volume.shape):
        planes = np.flatnonzero(above.any(axis=tuple({0, 1, 2} - {axis})))
        steps = int(np.ceil(known / volume.voxel_size[2 - axis]))
        first.append(max(planes[0] - steps, 0))
        last.append(min(planes[-1] + steps + 1, n))
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    values = np.where(above[box], volume.values[box], np.float32(0))
    return Volume(values, volume.grid.crop(first, values.shape))


def _molecule(volume: Volume, known: float) -> np.ndarray:
    """Which voxels have density around them in a blurred map, on blocks of a few voxels."""
    target = max(3 * known, 10.0)
    k = max(int(target / 3 / max(volume.voxel_size)), 1)
    blocks = np.pad(volume.values, [(0, -n % k) for n in volume.shape])
    z, y, x = (n // k for n in blocks.shape)
    blocks = blocks.reshape(z, k, y, k, x, k).mean(axis=(1, 3, 5))
    grid = Grid(blocks.shape, tuple(k * step for step in volume.voxel_size))
    soft, _ = without_specks(blurred(Volume(blocks, grid), known, target))
    found = soft.values > 0
    for axis, n in enumerate(volume.shape):
        found = np.repeat(found, k, axis=axis).take(range(n), axis=axis) if k > 1 else found
    return found


def _compared(dense: Volume, known: float, coarse, groups, centre, least: float):
    """Compare groups on the coarse and then on a finer map, the most promising ones first.

    Gives those that agree, and a row of each that was looked at for the table.
    """
    started = []
    for name, turn in groups:
        standard = group_rotations(name)
        rotations = turn @ standard @ turn.T
        low = float(coarse.correlations(_some(rotations), centre).min())
        started.append((name, rotations, centre, low))
    good, rows, fine = [], [], None
    for name, rotations, middle, _ in sorted(started, key=_score, reverse=True):
        # The best that a group can reach is a correlation of one.
        bound = np.sqrt(len(rotations))
        if any(_score(other) >= bound or _same(other, rotations) for other in good):
            continue
        rotations, middle = _refined_group(coarse, rotations, middle)
        cc = coarse.correlations(rotations[1:], middle)
        if cc.min() >= _HOPELESS * least:
            if fine is None:
                fine = SelfAgreement(softened(dense, known, max(1.5 * known, 6.0)), _MANY)
            rotations, middle = _refined_group(fine, rotations, middle)
            cc = fine.correlations(rotations[1:], middle)
            if cc.min() >= least:
                good.append((name, rotations, middle, float(cc.min())))
        rows.append((name, float(cc.min()), float(cc.mean()), *axes_of(rotations)[0][0]))
    return good, rows


def _same(group, rotations) -> bool:
    """Whether these are, within a degree or so, the rotations of the group."""
    if len(group[1]) != len(rotations):
        return False
    apart = np.abs(group[1][:, None] - rotations[None]).max(axis=(2, 3))
    return bool(apart.min(axis=1).max() < 0.02)


def _some(rotations: np.ndarray) -> np.ndarray:
    """Some operations of a group, which generate the rest."""
    return rotations[1:][:: max((len(rotations) - 1) // _GENERATING, 1)]


def _refined_group(judge: SelfAgreement, group, centre) -> tuple[np.ndarray, np.ndarray]:
    """Improve the orientation and the centre of a group, by the mean correlation."""
    some = _some(group)

    def split(x):
        turn = Rotation.from_rotvec(x[:, :3] / judge.reach).as_matrix()[:, None]
        return turn, turn.swapaxes(2, 3), centre + x[:, 3:]

    def residuals(x):
        turn, back, middle = split(x)
        every = (turn @ some @ back).reshape(-1, 3, 3)
        return judge.residuals(every, np.repeat(middle, len(some), axis=0)).reshape(len(x), -1)

    turn, back, middle = split(improved(residuals, np.zeros((1, 6)), judge.voxel / 4))
    return (turn @ group @ back)[0], middle[0]


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
            turns = _aligned(wanted, standard)
            # Of a dihedral group all are the same.
            for turn in turns[:1] if name[0] == "D" else turns:
                yield name, turn


def _aligned(wanted, standard) -> list[np.ndarray]:
    """Rotations that bring two standard axes to two found ones, either of whose ends may be up.

    Two ways at least fit, and four where the axes are perpendicular. A cubic group may be right in
    one of them alone.
    """
    ends = product((1, -1), (1, -1))
    fits = [
        Rotation.align_vectors([a * np.asarray(wanted[0]), b * np.asarray(wanted[1])], standard)
        for a, b in ends
    ]
    least = min(rest for _, rest in fits)
    return [turn.as_matrix() for turn, rest in fits if rest < least + _TIE]


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
