"""Where the axis of a helix may be, and how well a map agrees with itself under screws about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter, label, map_coordinates, spline_filter
from scipy.optimize import least_squares

from cryonb.grid import Grid
from cryonb.process.blur import softened
from cryonb.process.cylinder import screw_maps
from cryonb.process.helical import axis_frame, screws
from cryonb.process.level import noise_level
from cryonb.process.operators import dense_voxels, directions
from cryonb.volume import Volume

__all__ = ["Agreement", "Tube", "find_tube", "least_squares_of", "unit_moves",
           "without_specks"]  # fmt: skip

#: Points at which maps are compared at last; at first a quarter of them.
_MANY = 24000
#: Pieces of density below this part of the largest are noise.
_SPECK = 0.05
#: Least correlation of a coarse map along an axis, far from where it starts.
_WORTH = 0.3
#: Part of an edge of the box below which nothing runs through, and of the densest plane's density
#: below which a plane is empty.
_SPAN, _FAINT = 0.6, 0.1
#: Density at the ends of the box over that along the axis, for a helix that runs through.
_THROUGH = 0.4


@dataclass
class Tube:
    """An axis with how far the density reaches: from it, and along it from the point, in Å."""

    axis: np.ndarray
    point: np.ndarray
    radius: float
    low: float
    high: float

    @property
    def length(self) -> float:
        """From end to end, Å."""
        return self.high - self.low

    def coordinates(self, points) -> tuple[np.ndarray, np.ndarray]:
        """Give height along the axis and distance from it of points (n, 3), in Å."""
        away = points - self.point
        height = away @ self.axis
        return height, np.linalg.norm(away - height[:, None] * self.axis, axis=1)

    def moved(self, x) -> Tube:
        """Tilt (degrees) and shift (Å) across the axis: four numbers."""
        across = axis_frame(self.axis)[:2]
        axis = self.axis + np.radians(x[:2]) @ across
        point = self.point + x[2:4] @ across
        return Tube(axis / np.linalg.norm(axis), point, self.radius, self.low, self.high)


def find_tube(
    volume: Volume, resolution: float, *, anyway: bool = False
) -> tuple[Tube | None, np.ndarray]:
    """Find the axis along which a map agrees best with itself.

    Parameters
    ----------
    volume : Volume
        A density.
    resolution : float
        Å.
    anyway : bool
        Whether to look also where the density does not run through the box.

    Returns
    -------
    tube : Tube or None
        None if no density runs through the box, or does not agree with itself farther on.
    points : ndarray, shape (n, 3)
        All over the density in it, (x, y, z) in Å, in random order.

    Notes
    -----
    Candidates are the axis about which the blurred density is the most like a pipe, the principal
    axes of the density in the box and in the largest ball within it (whose ends are not cut
    aslant), and the axes of the box. About each, the map is correlated with itself over all screws
    (`screw_maps`). The far screws that agree best improve the best axis, whatever screws they are:
    no lattice is needed yet, so that a ribbon that looks the same along its whole length at this
    resolution will do.
    """
    nothing = None, np.empty((0, 3))
    if not anyway and not _spans(volume):
        return nothing
    soft = softened(volume, resolution, max(3 * resolution, 10.0))
    soft, level = without_specks(soft)
    index, value = dense_voxels(soft, level, 20000)
    if len(index) < 100:
        return nothing
    points = soft.grid.to_points(index)
    tubes = _candidate_tubes(soft, level, points, value, anyway)
    if not tubes:
        return nothing
    wide = max(resolution, 0.2 * min(tube.radius for tube in tubes))
    coarse = softened(volume, resolution, wide)
    far = [_far_screws(coarse, tube, wide / 3) for tube in tubes]
    best = int(np.argmax([top for top, _ in far]))
    if far[best][0] < _WORTH:
        return nothing
    tube, (_, steps) = tubes[best], far[best]
    inside = _filled(points[_within(points, tube)], soft.voxel_size)
    for target in (2 * wide, 2 * wide, wide, max(resolution, wide / 2)):
        judge = Agreement(softened(volume, resolution, target), inside[::4])
        tube, steps = _refine_free(judge, tube, steps)
        # About a better axis other screws may be the best.
        fresh = _far_screws(coarse, tube, wide / 3)[1] if target >= wide else ()
        steps = fresh if len(fresh) else steps
    return tube, inside


def _spans(volume: Volume) -> bool:
    """Whether some density is so far apart as that of a helix which runs through: a quick look."""
    # Some hundred planes along an edge tell as much as all of them.
    some = volume.values[tuple(slice(None, None, max(n // 100, 1)) for n in volume.shape)]
    dense = np.where(some > noise_level(some), some, 0)
    # Squares, by which what noise there is above the level counts less.
    np.square(dense, out=dense)
    for axis, n in enumerate(some.shape):
        profile = dense.sum(axis=tuple({0, 1, 2} - {axis}))
        planes = np.flatnonzero(profile > _FAINT * profile.max())
        if len(planes) and planes[-1] - planes[0] + 1 > _SPAN * n:
            return True
    return False


def _filled(points: np.ndarray, voxel_size) -> np.ndarray:
    """Points all over the voxels around some points, in random order."""
    rng = np.random.default_rng(0)
    which = rng.permutation(np.resize(np.arange(len(points)), _MANY))
    return points[which] + rng.uniform(-0.5, 0.5, (_MANY, 3)) * voxel_size


def without_specks(soft: Volume) -> tuple[Volume, float]:
    """Set to zero what is below the noise level, or in a small piece; and give the level."""
    level = noise_level(soft.values)
    pieces, _ = label(soft.values > level)
    size = np.bincount(pieces.ravel())
    size[0] = 0
    large = size >= max(_SPECK * size.max(), 1)
    return soft.replace(np.where(large[pieces], soft.values, np.float32(0))), level


def _candidate_tubes(soft: Volume, level: float, points, value, anyway: bool) -> list[Tube]:
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


def _tube(axis, point, points, value) -> Tube:
    height, distance = Tube(axis, point, 0.0, 0.0, 0.0).coordinates(points)
    order = np.argsort(distance)
    mass = np.cumsum(value[order])
    radius = float(distance[order][np.searchsorted(mass, 0.98 * mass[-1])])
    low, high = np.percentile(height, (0.5, 99.5))
    return Tube(axis, point, radius, float(low), float(high))


def _roundest(soft: Volume, point, points) -> np.ndarray:
    """The axis about which the density, without its details, is the most like a pipe.

    A wide tube in a box that is not much longer has no principal axis along it.
    """
    size = np.sqrt(((points - point) ** 2).sum(axis=1).mean())
    steps = 0.1 * size / np.array(soft.voxel_size)[::-1]
    smooth = soft.replace(gaussian_filter(soft.values, steps, mode="nearest"))
    half = (soft.grid.upper - soft.grid.lower).min() / 2
    ball = point + half * _ball(1000)
    judge = Agreement(smooth, ball[soft.grid.contains(ball)])
    axes = directions(6.0)
    turns = np.array([50.0, 100.0, 150.0])
    cc = []
    for some in np.array_split(axes, 12):
        every = [screws(axis, point, turns, np.zeros(3)) for axis in some]
        matrices, vectors = (np.concatenate(one) for one in zip(*every, strict=True))
        cc.append(judge.correlations(matrices, vectors))
    cc = np.concatenate(cc)
    best = axes[cc.reshape(-1, 3).mean(axis=1).argmax()]
    tube = Tube(best, point, size, -size, size)

    def residuals(x):
        at = tube.moved(x * unit_moves(tube))
        return judge.residuals(*screws(at.axis, at.point, turns, np.zeros(3))).ravel()

    return tube.moved(least_squares_of(residuals, 4) * unit_moves(tube)).axis


def _ball(n: int) -> np.ndarray:
    """Points at random in a ball of radius 1."""
    points = np.random.default_rng(0).uniform(-1, 1, (2 * n, 3))
    return points[(points**2).sum(axis=1) <= 1]


def _runs_through(soft: Volume, level: float, tube: Tube) -> bool:
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


def _within(points, tube: Tube) -> np.ndarray:
    height, distance = tube.coordinates(points)
    return (distance <= tube.radius) & (height >= tube.low) & (height <= tube.high)


def _far_screws(coarse: Volume, tube: Tube, spacing: float) -> tuple[float, np.ndarray]:
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


class Agreement:
    """How a map agrees with itself at some points under operations.

    Parameters
    ----------
    volume : Volume
        The map.
    points : ndarray, shape (n, 3)
        (x, y, z) in Å.
    tube : Tube, optional
        Images beyond its ends do not count; there the helix may have ended.
    """

    def __init__(self, volume: Volume, points: np.ndarray, tube: Tube | None = None):
        self._tube = tube
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
        if self._tube is not None:
            height = (moved - self._tube.point) @ self._tube.axis
            there &= (height >= self._tube.low) & (height <= self._tube.high)
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


def _refine_free(judge: Agreement, tube: Tube, steps) -> tuple[Tube, np.ndarray]:
    """Improve an axis and some screws about it, each with a twist and a rise of its own."""
    scale = np.r_[unit_moves(tube), np.tile([np.degrees(1 / tube.radius), 1.0], len(steps))]

    def residuals(x):
        x = x * scale
        at = tube.moved(x)
        twist, rise = (steps + x[4:].reshape(-1, 2)).T
        return judge.residuals(*screws(at.axis, at.point, twist, rise)).ravel()

    x = least_squares_of(residuals, len(scale)) * scale
    return tube.moved(x), steps + x[4:].reshape(-1, 2)


def unit_moves(tube: Tube) -> np.ndarray:
    """Tilts and shifts that move the ends by 1 Å."""
    return np.array([np.degrees(2 / tube.length)] * 2 + [1.0] * 2)


def least_squares_of(residuals, n: int) -> np.ndarray:
    """Minimise the squares of a function of n numbers, each about 1 Å, from zeros: shape (n,)."""
    jacobian = partial(_jacobian, residuals)
    fit = least_squares(residuals, np.zeros(n), jac=jacobian, ftol=1e-5, xtol=1e-4, max_nfev=10)
    return fit.x


def _jacobian(residuals, x, step: float = 0.05) -> np.ndarray:
    # A tenth of an Å from end to end is far above rounding and far below the resolution.
    rows = [residuals(x + e) - residuals(x - e) for e in np.eye(len(x)) * step]
    return np.stack(rows, axis=1) / (2 * step)
