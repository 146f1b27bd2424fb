"""The search for helical symmetry: an axis, then all screws about it at once, then its lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.fft import irfftn, rfftn
from scipy.ndimage import gaussian_filter, label, map_coordinates, spline_filter
from scipy.optimize import least_squares, minimize

from cryonb.grid import Grid
from cryonb.process.blur import blurred
from cryonb.process.cylinder import ScrewMap, screw_maps
from cryonb.process.filter import soft_step, spatial_frequency
from cryonb.process.helical import HelicalSymmetry, axis_frame, screws
from cryonb.process.level import noise_level
from cryonb.process.operators import TRIED, dense_voxels, directions
from cryonb.process.resample import resample
from cryonb.volume import Volume

__all__ = ["find_helix"]

#: Voxels that are compared.
_MANY = 8000
#: Pieces of density below this part of the largest are noise.
_SPECK = 0.05
#: Least correlation of a coarse map along an axis, far from where it starts.
_WORTH = 0.3
#: Density at the ends of the box over that along the axis, for a helix that runs through.
_THROUGH = 0.4
#: Part of the best correlation that the points of a lattice reach.
_SAME = 0.9
#: How far above the noise of the correlations the best lattice has to be.
_SIGNIFICANT = 6.0
#: Rises below it count as none, Å.
_LEAST_RISE = 0.25
_ORDERS = 30


@dataclass
class _Tube:
    """An axis with how far the density reaches: from it, and along it from the point, in Å."""

    axis: np.ndarray
    point: np.ndarray
    radius: float
    low: float
    high: float

    @property
    def length(self) -> float:
        return self.high - self.low

    def moved(self, x) -> _Tube:
        """Tilt (degrees) and shift (Å) across the axis: four numbers."""
        across = axis_frame(self.axis)[:2]
        axis = self.axis + np.radians(x[:2]) @ across
        point = self.point + x[2:4] @ across
        return _Tube(axis / np.linalg.norm(axis), point, self.radius, self.low, self.high)


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
    Candidates for the axis are the principal axes of the density in the box and in the largest ball
    within it (whose ends are not cut aslant), and the axes of the box. About each, the map is
    correlated with itself over all screws (`screw_maps`). The far screws that agree best improve
    the best axis, whatever screws they are: no lattice is needed yet, so that a ribbon that looks
    the same along its whole length at this resolution will do. About the better axis the map with
    equal power in all shells is correlated with itself: its peaks are sharp, and what is smooth
    along the helix has none. Every peak is tried as the generator of a lattice by the mean over its
    multiples, twist and rise being improved as further multiples come in. Multiples of the true
    generator are as good as it is; parts of it are not, since some of their points lie between the
    peaks: the generator is the one of the smallest rise among the best. Axis, point, twist and rise
    are at last refined together by least squares over multiples up to half the length.
    """
    soft = _softened(volume, resolution, max(3 * resolution, 10.0))
    soft, level = _without_specks(soft)
    index, value = dense_voxels(soft, level, 20000)
    if len(index) < 100:
        return None, []
    points = soft.grid.to_points(index)
    tubes = _candidate_tubes(soft, level, points, value, anyway)
    if not tubes:
        return None, []
    wide = max(resolution, 0.2 * min(tube.radius for tube in tubes))
    coarse = _softened(volume, resolution, wide)
    far = [_far_screws(coarse, tube, wide / 3) for tube in tubes]
    best = int(np.argmax([top for top, _ in far]))
    if far[best][0] < _WORTH:
        return None, []
    tube, (_, steps) = tubes[best], far[best]
    inside = points[_within(points, tube)]
    inside = inside[:: max(len(inside) // _MANY, 1)]
    for target in sorted({wide, max(resolution, wide / 2)}, reverse=True):
        judge = _Judge(_softened(volume, resolution, target), inside)
        tube, steps = _refine_free(judge, tube, steps)
    flat = _flattened(volume, resolution)
    spacing = max(resolution / 3, min(volume.voxel_size) / 2)
    maps = _maps(flat, tube, spacing)
    lattice = _lattice(maps[0])
    if lattice is None:
        return None, []
    judge = _Judge(flat, inside)
    before = tube
    tube, lattice = _refine_lattice(judge, tube, lattice)
    # A better axis has sharper peaks: the lattice once more.
    if _moved(before, tube) > 0.3 * resolution:
        maps = _maps(flat, tube, spacing)
        lattice = _lattice(maps[0])
        if lattice is None:
            return None, []
        tube, lattice = _refine_lattice(judge, tube, lattice)
    dyad, height = _find_dyad(maps[1], tube, lattice)
    final = _Judge(_softened(volume, resolution, max(2 * resolution, 8.0)), inside)
    return _result(final, volume.grid, tube, lattice, dyad, height, least)


# ---- where the axis may be -----------------------------------------------------------------------


def _softened(volume: Volume, resolution: float, target: float) -> Volume:
    """Blur to a resolution, on voxels of a third of it where those are coarser."""
    found = blurred(volume, resolution, max(target, resolution))
    return resample(found, target / 3) if target / 3 > max(volume.voxel_size) else found


def _without_specks(soft: Volume) -> tuple[Volume, float]:
    """Set to zero what is below the noise level, or in a small piece; and give the level."""
    level = noise_level(soft.values)
    pieces, _ = label(soft.values > level)
    size = np.bincount(pieces.ravel())
    size[0] = 0
    large = size >= max(_SPECK * size.max(), 1)
    return soft.replace(np.where(large[pieces], soft.values, np.float32(0))), level


def _candidate_tubes(soft: Volume, level: float, points, value, anyway: bool) -> list[_Tube]:
    grid = soft.grid
    middle, half = (grid.lower + grid.upper) / 2, (grid.upper - grid.lower).min() / 2
    ball = np.linalg.norm(points - middle, axis=1) <= half
    axes, starts = [], []
    for which in (ball, np.ones(len(points), dtype=bool)):
        if which.sum() < 100:
            continue
        centre = np.average(points[which], axis=0, weights=value[which])
        spread = np.cov((points[which] - centre).T, aweights=value[which])
        axes += [*np.linalg.eigh(spread)[1].T]
        starts += [centre] * 3
    axes = [_roundest(soft, starts[0], points[ball]), *axes, *np.eye(3)]
    starts = [starts[0], *starts, *[starts[0]] * 3]
    kept = []
    for axis, start in zip(axes, starts, strict=True):
        if any(abs(axis @ other.axis) > np.cos(np.radians(2)) for other in kept):
            continue
        tube = _tube(axis * np.sign(axis[np.abs(axis).argmax()]), start, points, value)
        if anyway or _runs_through(soft, level, tube):
            kept.append(tube)
    return kept


def _tube(axis, point, points, value) -> _Tube:
    away = points - point
    height = away @ axis
    distance = np.linalg.norm(away - height[:, None] * axis, axis=1)
    order = np.argsort(distance)
    mass = np.cumsum(value[order])
    radius = float(distance[order][np.searchsorted(mass, 0.98 * mass[-1])])
    low, high = np.percentile(height, (0.5, 99.5))
    return _Tube(axis, point, radius, float(low), float(high))


def _roundest(soft: Volume, point, points) -> np.ndarray:
    """The axis about which the density, without its details, is the most like a pipe.

    A wide tube in a box that is not much longer has no principal axis along it.
    """
    size = np.sqrt(((points - point) ** 2).sum(axis=1).mean())
    steps = 0.1 * size / np.array(soft.voxel_size)[::-1]
    smooth = soft.replace(gaussian_filter(soft.values, steps, mode="nearest"))
    half = (soft.grid.upper - soft.grid.lower).min() / 2
    ball = point + half * _ball(1000)
    judge = _Judge(smooth, ball[soft.grid.contains(ball)])
    axes = directions(6.0)
    turns = np.array([50.0, 100.0, 150.0])
    cc = []
    for some in np.array_split(axes, 12):
        every = [screws(axis, point, turns, np.zeros(3)) for axis in some]
        matrices, vectors = (np.concatenate(one) for one in zip(*every, strict=True))
        cc.append(judge.correlations(matrices, vectors))
    cc = np.concatenate(cc)
    best = axes[cc.reshape(-1, 3).mean(axis=1).argmax()]
    tube = _Tube(best, point, size, -size, size)
    return _refine_free(judge, tube, np.stack([turns, np.zeros(3)], axis=1))[0].axis


def _ball(n: int) -> np.ndarray:
    """Points at random in a ball of radius 1."""
    points = np.random.default_rng(0).uniform(-1, 1, (2 * n, 3))
    return points[(points**2).sum(axis=1) <= 1]


def _runs_through(soft: Volume, level: float, tube: _Tube) -> bool:
    """Whether the density per voxel near both ends of the box is like that along the axis."""
    corners = np.stack([soft.grid.lower, soft.grid.upper]) - tube.point
    step = max((np.abs(corners[1] - corners[0]) @ np.abs(tube.axis)) / 50, max(soft.voxel_size))
    z, y, x = np.meshgrid(*soft.grid.axes()[::-1], indexing="ij", sparse=True)
    away = [x - tube.point[0], y - tube.point[1], z - tube.point[2]]
    height = sum(a * u for a, u in zip(away, tube.axis, strict=True))
    near = sum(a * a for a in away) - height**2 <= tube.radius**2
    row = np.floor((height[near] - height.min()) / step).astype(int)
    count = np.bincount(row)
    dense = np.bincount(row, np.where(soft.values[near] > level, soft.values[near], 0))
    # A tilted tube leaves the box bit by bit.
    full = count > 0.3 * np.median(count[count > 0])
    profile = (dense / np.maximum(count, 1))[full]
    if len(profile) < 6:
        return False
    edge = max(len(profile) // 12, 1)
    ends = profile[edge : 2 * edge].mean(), profile[-2 * edge : -edge].mean()
    return bool(min(ends) > _THROUGH * np.median(profile))


def _within(points, tube: _Tube) -> np.ndarray:
    away = points - tube.point
    height = away @ tube.axis
    distance = np.linalg.norm(away - height[:, None] * tube.axis, axis=1)
    return (distance <= tube.radius) & (height >= tube.low) & (height <= tube.high)


def _maps(volume: Volume, tube: _Tube, spacing: float):
    return screw_maps(
        volume, tube.axis, tube.point, radius=tube.radius, low=tube.low, high=tube.high,
        spacing=spacing, dyad=True,
    )  # fmt: skip


def _far_screws(coarse: Volume, tube: _Tube, spacing: float) -> tuple[float, np.ndarray]:
    """The best correlation over at least a fifth of the length, and up to four such screws."""
    found, _ = screw_maps(
        coarse, tube.axis, tube.point, radius=tube.radius, low=tube.low, high=tube.high,
        spacing=spacing,
    )  # fmt: skip
    first, last = int(0.2 * tube.length / spacing), int(found.reach / spacing)
    part = found.values[:, first : last + 1]
    if not part.size:
        return 0.0, np.empty((0, 2))
    top, kept = float(part.max()), []
    angle, rise = (k.ravel() for k in np.indices(part.shape))
    for place in np.argsort(-part.ravel())[:5000]:
        if part.ravel()[place] < 0.8 * top or len(kept) == 4:
            break
        step = np.array([angle[place] * found.step[0], (rise[place] + first) * spacing])
        apart = [abs((step[0] - other[0] + 180) % 360 - 180) for other in kept]
        if all(a > 20 for a in apart):
            kept.append(step)
    return top, np.array(kept)


# ---- axis and screws, improved together ----------------------------------------------------------


class _Judge:
    """How a map agrees with itself at some points under operations."""

    def __init__(self, volume: Volume, points: np.ndarray):
        self._grid: Grid = volume.grid
        self._smooth = spline_filter(volume.values, 3, output=np.float32, mode="mirror")
        self._points = points
        self._own = self._values(points)

    def _values(self, points) -> np.ndarray:
        return map_coordinates(
            self._smooth, self._grid.to_index(points).T, order=3, prefilter=False,
            mode="constant", cval=np.nan, output=np.float32,
        )  # fmt: skip

    def residuals(self, matrices, vectors) -> np.ndarray:
        """Differences of normalised values, shape (n, points): their squares sum to 2 (1 - cc)."""
        moved = np.einsum("kij,nj->kni", matrices, self._points) + vectors[:, None]
        found = self._values(moved.reshape(-1, 3)).reshape(len(matrices), -1)
        there = np.isfinite(found) & np.isfinite(self._own)
        return _normalised(found, there) - _normalised(
            np.broadcast_to(self._own, found.shape), there
        )

    def correlations(self, matrices, vectors) -> np.ndarray:
        """Pearson's correlation under each operation."""
        return 1 - (self.residuals(matrices, vectors) ** 2).sum(axis=1) / 2


def _normalised(values, there) -> np.ndarray:
    values = np.where(there, values, 0).astype(np.float64)
    mean = values.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    values = np.where(there, values - mean[:, None], 0)
    return values / np.maximum(np.linalg.norm(values, axis=1), 1e-12)[:, None]


def _refine_free(judge: _Judge, tube: _Tube, steps) -> tuple[_Tube, np.ndarray]:
    """Improve an axis and some screws about it, each with a twist and a rise of its own."""
    scale = np.r_[_scale(tube), np.tile([np.degrees(1 / tube.radius), 1.0], len(steps))]

    def residuals(x):
        x = x * scale
        at = tube.moved(x)
        twist, rise = (steps + x[4:].reshape(-1, 2)).T
        return judge.residuals(*screws(at.axis, at.point, twist, rise)).ravel()

    x = _least_squares(residuals, len(scale)) * scale
    return tube.moved(x), steps + x[4:].reshape(-1, 2)


def _scale(tube: _Tube) -> np.ndarray:
    """Tilts and shifts that move the ends by 1 Å."""
    return np.array([np.degrees(2 / tube.length)] * 2 + [1.0] * 2)


def _least_squares(residuals, n: int) -> np.ndarray:
    # A tenth of an Å is far above rounding and far below the resolution.
    return least_squares(
        residuals, np.zeros(n), diff_step=1e-3, x_scale=1.0, ftol=1e-7, xtol=1e-4, max_nfev=15,
        jac=lambda x: _jacobian(residuals, x),
    ).x  # fmt: skip


def _jacobian(residuals, x, step: float = 0.05) -> np.ndarray:
    rows = [residuals(x + e) - residuals(x - e) for e in np.eye(len(x)) * step]
    return np.stack(rows, axis=1) / (2 * step)


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
    steps, value = found.peaks(300)
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


def _multiples(tube: _Tube, lattice: _Lattice, part: float, most: int) -> np.ndarray:
    """Some multiples, the nearest and the farthest that leave a part of the length."""
    last = max(int(part * tube.length / lattice.rise), 1)
    return np.unique(np.rint(np.geomspace(1, last, most)).astype(int))


def _refine_lattice(judge: _Judge, tube: _Tube, lattice: _Lattice) -> tuple[_Tube, _Lattice]:
    """Improve axis, twist and rise together, over nearer and then farther multiples."""
    for part in (0.25, 0.5):
        k = _multiples(tube, lattice, part, 6)
        scale = np.r_[_scale(tube), np.degrees(1 / tube.radius) / k[-1], 1.0 / k[-1]]

        def residuals(x, k=k, scale=scale, tube=tube, lattice=lattice):
            x = x * scale
            at = tube.moved(x)
            twist, rise = k * (lattice.twist + x[4]), k * (lattice.rise + x[5])
            every = screws(at.axis, at.point, twist, rise, order=lattice.order)
            return judge.residuals(*every).ravel()

        x = _least_squares(residuals, 6) * scale
        tube = tube.moved(x)
        lattice = _Lattice(lattice.twist + x[4], lattice.rise + x[5], lattice.order, lattice.mean)
    return tube, lattice


def _moved(before: _Tube, after: _Tube) -> float:
    """How far the ends of the axis have moved, Å."""
    ends = [
        tube.point + tube.axis * np.array([[tube.low], [tube.high]]) for tube in (before, after)
    ]
    return float(np.linalg.norm(ends[0] - ends[1], axis=1).max())


def _find_dyad(half_turns: ScrewMap, tube: _Tube, lattice: _Lattice):
    """Direction and height of a two-fold axis across, or None where there is none as good."""
    top = half_turns.values.max()
    if top < _SAME**2 * lattice.mean:
        return None, 0.0
    angle, height = np.unravel_index(half_turns.values.argmax(), half_turns.values.shape)
    fit = minimize(
        lambda x: -half_turns.at(*x), [angle * half_turns.step[0], height * half_turns.step[1]],
        method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6},
    )  # fmt: skip
    turn = np.radians(fit.x[0] / 2)
    frame = axis_frame(tube.axis)
    return np.array([np.cos(turn), np.sin(turn), 0]) @ frame, tube.low + fit.x[1] / 2


def _result(judge: _Judge, grid, tube: _Tube, lattice: _Lattice, dyad, height: float, least):
    k = _multiples(tube, lattice, 0.6, 16)
    twist, rise = np.r_[0, k * lattice.twist], np.r_[0, k * lattice.rise]
    every = screws(tube.axis, tube.point, twist, rise, order=lattice.order)
    cc = judge.correlations(*every)[1:]
    middle = tube.point + (tube.low + tube.high) / 2 * tube.axis
    if dyad is not None:
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
