"""The search for helical symmetry: an axis, then all screws about it at once, then its lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.fft import irfftn, rfftn
from scipy.optimize import minimize

from cryonb.process.blur import softened
from cryonb.process.cylinder import ScrewMap, screw_maps
from cryonb.process.filter import soft_step, spatial_frequency
from cryonb.process.helical import HelicalSymmetry, axis_frame, screws
from cryonb.process.helical_axis import (
    Agreement,
    Tube,
    find_tube,
    least_squares_of,
    unit_moves,
)
from cryonb.process.operators import TRIED
from cryonb.volume import Volume

__all__ = ["find_helix"]

#: Part of the best correlation that the points of a lattice reach.
_SAME = 0.9
#: How far above the noise of the correlations the best lattice has to be.
_SIGNIFICANT = 6.0
#: Rises below it count as none, Å.
_LEAST_RISE = 0.25
_ORDERS = 30


def find_helix(
    volume: Volume, resolution: float, *, least: float, anyway: bool = False
) -> tuple[HelicalSymmetry | None, list[tuple]]:
    """Find the finest screw about any axis.

    Parameters
    ----------
    volume : Volume
        A density.
    resolution : float
        Å.
    least : float
        Correlation that every operation has to reach on a map of twice the resolution, or 8 Å.
    anyway : bool
        Whether to look also where the density does not run through the box.

    Returns
    -------
    helix : HelicalSymmetry or None
    tried : list of tuple
        Name, lowest and mean correlation, x, y, z of the axis, if a screw was looked at closely.

    Notes
    -----
    The axis comes from `find_tube`. About it the map with equal power in all shells is correlated
    with itself: its peaks are sharp, and what is smooth along the helix has none. Every peak is
    tried as the generator of a lattice by the mean over its multiples, twist and rise being
    improved as further multiples come in. Multiples of the true generator are as good as it is;
    parts of it are not, since some of their points lie between the peaks: the generator is the one
    of the smallest rise among the best. Axis, point, twist and rise are at last refined together by
    least squares over multiples up to half the length.
    """
    tube, inside = find_tube(volume, resolution, anyway=anyway)
    if tube is None:
        return None, []
    flat = _flattened(volume, resolution)
    judge = Agreement(flat, inside[::4], tube)
    spacing = max(resolution / 3, min(volume.voxel_size) / 2)
    # A better axis has sharper peaks: if it moved, the lattice is sought once more.
    for _ in range(2):
        seen = tube
        screws_of, half_turns = screw_maps(
            flat, seen.axis, seen.point, radius=seen.radius, low=seen.low, high=seen.high,
            spacing=spacing, dyad=True,
        )  # fmt: skip
        lattice = _lattice(screws_of)
        if lattice is None:
            return None, []
        tube, lattice = _refine_lattice(judge, seen, lattice)
        if _moved(seen, tube) < 0.3 * resolution:
            break
    dyad, height = _find_dyad(half_turns, seen, lattice)
    # Equal power favours what is fine and noisy; the map as it is has the least error.
    tube, lattice = _refine_lattice(Agreement(volume, inside, tube), tube, lattice, parts=(0.5,))
    final = Agreement(softened(volume, resolution, max(2 * resolution, 8.0)), inside[::4], tube)
    return _result(final, volume.grid, tube, lattice, dyad, height, least)


# ---- the lattice of the peaks --------------------------------------------------------------------


@dataclass
class _Lattice:
    """Twist in degrees, rise in Å, order of the axis, and the mean correlation over the points."""

    twist: float
    rise: float
    order: int
    mean: float


def _lattice(found: ScrewMap) -> _Lattice | None:
    """The finest generator of the peaks, with the order of the axis."""
    first = _generator(found, 1)
    if first is None:
        return None
    order = _axial_order(found, first.mean)
    return first if order == 1 else _generator(found.folded(order), order)


def _generator(found: ScrewMap, order: int) -> _Lattice | None:
    # At no rise there are turns, of which those of an n-fold axis are higher than all screws.
    steps, value = found.peaks(300, beyond=_LEAST_RISE)
    if not len(steps):
        return None
    candidates = []
    for step, top in zip(steps, value, strict=True):
        if top < 0.5 * value[0]:
            break
        candidates += _followed(found, step)
    if not candidates:
        return None
    twist, rise, mean = np.array(candidates).T
    best = mean.max()
    if best < _SIGNIFICANT * found.noise:
        return None
    good = np.flatnonzero(mean >= _SAME * best)
    finest = rise[good].min()
    # Of one rise the best, by its mean.
    same = good[rise[good] < finest + 0.05]
    row = same[mean[same].argmax()]
    part = 360 / order
    turn = -((-twist[row] + part / 2) % part - part / 2)
    return _Lattice(float(turn), float(rise[row]), order, float(mean[row]))


def _followed(found: ScrewMap, step) -> list[tuple]:
    """Improve twist and rise as further and further multiples come in; nothing if they fail."""
    at = np.array(step, dtype=np.float64)
    most = 1
    while True:
        k = np.arange(1, most + 1)

        def loss(x, k=k):
            return -found.at(k * x[0], k * x[1]).mean()

        simplex = at + np.array([[0, 0], [found.step[0], 0], [0, found.step[1]]]) / most
        fit = minimize(loss, at, method="Nelder-Mead",
                       options={"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-5,
                                "maxiter": 60})  # fmt: skip
        at = fit.x
        if at[1] < _LEAST_RISE:
            return []
        last = int(found.reach / at[1] + 1e-6)
        if last < 2:
            return []
        if most >= last:
            return [(*at, -fit.fun)]
        most = min(2 * most, last)


def _axial_order(found: ScrewMap, level: float) -> int:
    """The largest n whose turns all agree with the map as well as its screws do."""
    beside = 1.5 * found.step[1]
    for order in range(_ORDERS, 1, -1):
        turn = 360 / order * np.arange(1, order)
        here = found.at(turn, 0.0)
        if here.mean() < _SAME**2 * level or here.min() < 0.6 * level:
            continue
        if (here > np.maximum(found.at(turn, beside), found.at(turn, -beside))).all():
            return order
    return 1


def _flattened(volume: Volume, resolution: float) -> Volume:
    """Give all shells of a map the same power up to the resolution, and nothing beyond."""
    s = spatial_frequency(volume.shape, volume.voxel_size)
    terms = rfftn(volume.values - np.float32(volume.mean), workers=-1)
    width = 1 / max(volume.grid.extent)
    shell = np.minimum(s / width, 2**15).astype(np.int16)
    power = np.bincount(shell.ravel(), (np.abs(terms) ** 2).ravel())
    power /= np.maximum(np.bincount(shell.ravel()), 1)
    amplitude = np.sqrt(np.maximum(power, 1e-6 * power.max()))
    terms *= (1 / amplitude).astype(np.float32)[shell]
    terms *= soft_step(s, 1 / resolution, 0.1 / resolution)
    return volume.replace(irfftn(terms, s=volume.shape, workers=-1).astype(np.float32))


# ---- the result ----------------------------------------------------------------------------------


def _multiples(tube: Tube, lattice: _Lattice, part: float, most: int) -> np.ndarray:
    """Some multiples, the nearest and the farthest that leave a part of the length."""
    last = max(int(part * tube.length / lattice.rise), 1)
    return np.unique(np.rint(np.geomspace(1, last, most)).astype(int))


def _refine_lattice(
    judge: Agreement, tube: Tube, lattice: _Lattice, *, parts=(0.25, 0.5)
) -> tuple[Tube, _Lattice]:
    """Improve axis, twist and rise together, over nearer and then farther multiples."""
    for part in parts:
        k = _multiples(tube, lattice, part, 6)
        scale = np.r_[unit_moves(tube), np.degrees(1 / tube.radius) / k[-1], 1.0 / k[-1]]

        def residuals(x, k=k, scale=scale, tube=tube, lattice=lattice):
            x = x * scale
            at = tube.moved(x)
            twist, rise = k * (lattice.twist + x[4]), k * (lattice.rise + x[5])
            every = screws(at.axis, at.point, twist, rise, order=lattice.order)
            return judge.residuals(*every).ravel()

        x = least_squares_of(residuals, 6) * scale
        tube = tube.moved(x)
        twist, rise = float(lattice.twist + x[4]), float(lattice.rise + x[5])
        lattice = _Lattice(twist, rise, lattice.order, lattice.mean)
    return tube, lattice


def _moved(before: Tube, after: Tube) -> float:
    """How far the ends of the axis have moved, Å."""
    ends = [
        tube.point + tube.axis * np.array([[tube.low], [tube.high]]) for tube in (before, after)
    ]
    return float(np.linalg.norm(ends[0] - ends[1], axis=1).max())


def _find_dyad(half_turns: ScrewMap, tube: Tube, lattice: _Lattice):
    """Direction and height of a two-fold axis across, or None where there is none as good."""
    top = half_turns.values.max()
    if top < _SAME**2 * lattice.mean:
        return None, 0.0
    angle, height = np.unravel_index(half_turns.values.argmax(), half_turns.values.shape)
    fit = minimize(
        lambda x: -half_turns.at(*x), [angle * half_turns.step[0], height * half_turns.step[1]],
        method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6},
    )  # fmt: skip
    # Of all these axes, half a screw apart, the one in the middle.
    steps = np.rint((tube.length - fit.x[1]) / lattice.rise)
    turn = np.radians(fit.x[0] + steps * lattice.twist) / 2
    height = tube.low + (fit.x[1] + steps * lattice.rise) / 2
    return np.array([np.cos(turn), np.sin(turn), 0]) @ axis_frame(tube.axis), height


def _result(judge: Agreement, grid, tube: Tube, lattice: _Lattice, dyad, height: float, least):
    k = _multiples(tube, lattice, 0.6, 16)
    twist, rise = np.r_[0, k * lattice.twist], np.r_[0, k * lattice.rise]
    every = screws(tube.axis, tube.point, twist, rise, order=lattice.order)
    cc = judge.correlations(*every)[1:]
    middle = tube.point + (tube.low + tube.high) / 2 * tube.axis
    if dyad is not None:
        # The axis has become better since.
        dyad = dyad - tube.axis * (tube.axis @ dyad)
        dyad /= np.linalg.norm(dyad)
        crossing = tube.point + height * tube.axis
        turned = screws(tube.axis, crossing, twist, rise, order=lattice.order, dyad=dyad)
        across = judge.correlations(*(one[len(cc) + 1 :] for one in turned))
        if across.min() >= least:
            cc, middle = np.r_[cc, across], crossing
        else:
            dyad = None
    name = (
        f"H {lattice.twist:.2f}° {lattice.rise:.3f} Å {'C' if dyad is None else 'D'}{lattice.order}"
    )
    row = (name, float(cc.min()), float(cc.mean()), *tube.axis)
    if cc.min() < least:
        return None, [row]
    made = HelicalSymmetry(
        name, np.eye(3)[None], middle, float(cc.min()), pd.DataFrame([row], columns=TRIED),
        twist=lattice.twist, rise=lattice.rise, order=lattice.order, axis=tube.axis, dyad=dyad,
        grid=grid,
    )  # fmt: skip
    return made.filling(grid), [row]
