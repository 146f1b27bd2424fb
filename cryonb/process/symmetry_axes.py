"""The axes about which a map may be symmetric, and how well it agrees with itself under turns."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from tqdm.auto import tqdm

from cryonb.process.helical import axis_frame
from cryonb.process.level import noise_level
from cryonb.process.operators import dense_voxels, directions
from cryonb.volume import Volume

__all__ = ["SelfAgreement", "find_axes", "improved"]

#: Degrees between the axes that are tried, and voxels that are compared in this scan.
_STEP, _SCANNED = 3.0, 500
#: Axes of one order that are looked at closely: an icosahedron has fifteen of order two.
_AXES = 20
#: Correlation on the coarse map above which an axis is worth it; before it is refined, a part.
_WORTH, _ROUGH = 0.6, 0.42
#: Degrees between axes that count as two, before and after they are refined.
_APART, _DISTINCT = 12.0, 4.0


class SelfAgreement:
    """How a map agrees with itself at some of its dense voxels, when these are turned.

    Parameters
    ----------
    volume : Volume
        The map; what is around it counts as empty.
    most : int
        Voxels that are compared.
    """

    def __init__(self, volume: Volume, most: int):
        # A rim of zeros, so that a place outside is that of the nearest voxel.
        self._values = np.pad(volume.values, 1)
        self._grid = volume.grid.pad(1)
        index, value = dense_voxels(volume, noise_level(volume.values), most)
        self._points = volume.grid.to_points(index)
        self._own = _normalised(value[None].astype(np.float32))[0]
        #: Root mean square distance of the voxels from their middle, Å.
        self.reach = float(np.sqrt(self._points.var(axis=0).sum()))

    @property
    def voxel(self) -> float:
        """The largest edge of a voxel, Å."""
        return max(self._grid.voxel_size)

    def residuals(self, rotations, centres) -> np.ndarray:
        """Differences of normalised values: their squares sum to 2 (1 - correlation).

        Parameters
        ----------
        rotations : ndarray, shape (k, 3, 3)
        centres : ndarray, shape (3,) or (k, 3)
            What stays in place, Å.

        Returns
        -------
        ndarray of float32, shape (k, voxels)
        """
        place = self._places(rotations, centres)
        found = map_coordinates(
            self._values, place.reshape(3, -1), order=1, mode="nearest", output=np.float32
        )
        return _normalised(found.reshape(place.shape[1:])) - self._own

    def correlations(self, rotations, centres) -> np.ndarray:
        """Correlate the map with itself under each rotation: shape (k,)."""
        return 1 - np.square(self.residuals(rotations, centres)).sum(axis=1, dtype=float) / 2

    def rough_correlations(self, rotations, centre) -> np.ndarray:
        """The same by the nearest voxels, at a third of the cost."""
        place = np.rint(self._places(rotations, centre)).astype(np.int32)
        for axis, n in enumerate(self._values.shape):
            np.clip(place[axis], 0, n - 1, out=place[axis])
        z, y, x = place
        _, height, width = self._values.shape
        return _normalised(self._values.ravel()[(z * height + y) * width + x]) @ self._own

    def _places(self, rotations, centres) -> np.ndarray:
        """Indices (3, k, voxels), float32, of where rotations bring the voxels."""
        grid = self._grid
        centres = np.broadcast_to(centres, (len(rotations), 3))
        # One affine transformation from points to indices (z, y, x).
        middle = self._points.mean(axis=0)
        to_index = np.diag(1 / np.array(grid.voxel_size))[::-1]
        matrices = to_index @ rotations
        moved = np.einsum("kij,kj->ki", rotations, middle - centres) + centres
        vectors = grid.to_index(moved)
        away = (self._points - middle).T.astype(np.float32)
        place = np.matmul(matrices.astype(np.float32), away)
        place += vectors.astype(np.float32)[:, :, None]
        return place.transpose(1, 0, 2)


def _normalised(values: np.ndarray) -> np.ndarray:
    values = values - values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def improved(residuals, start: np.ndarray, step: float, rounds: int = 5) -> np.ndarray:
    """Minimise the squares of many functions at once, by damped Gauss-Newton steps.

    Parameters
    ----------
    residuals : callable
        Takes parameters (k, m), gives residuals (k, n).
    start : ndarray, shape (k, m)
        Parameters, of like effect.
    step : float
        For the derivatives.
    rounds : int
        Steps at most.

    Returns
    -------
    ndarray, shape (k, m)
    """
    x = np.array(start, dtype=np.float64)
    k, m = x.shape
    damping = np.full(k, 1e-2)
    now = residuals(x)
    loss = np.square(now).sum(axis=1, dtype=float)
    for _ in range(rounds):
        slope = [residuals(x + e) - residuals(x - e) for e in np.eye(m) * step]
        slope = np.stack(slope, axis=1) / (2 * step)
        square = slope @ slope.transpose(0, 2, 1)
        size = np.trace(square, axis1=1, axis2=2) / m
        # Some parameters may have no effect: a shift along an axis.
        ridge = (damping * size + 1e-12)[:, None, None] * np.eye(m)
        move = -np.linalg.solve(square + ridge, slope @ now[..., None])[..., 0]
        tried = residuals(x + move)
        after = np.square(tried).sum(axis=1, dtype=float)
        better = after < loss
        x[better] += move[better]
        gained = np.where(better, loss - after, 0)
        now[better], loss[better] = tried[better], after[better]
        damping = np.where(better, damping / 5, damping * 10)
        if gained.max(initial=0) < 1e-4 and better.any():
            break
    return x


def find_axes(coarse: SelfAgreement, scanned: Volume, centre, orders, progress: bool):
    """Find the best axes through a centre.

    Parameters
    ----------
    coarse : SelfAgreement
        The blurred map.
    scanned : Volume
        The same, on finer voxels.
    centre : ndarray, shape (3,)
        Å; axes may pass it at a distance.
    orders : iterable of int
        That are looked for.
    progress : bool
        Show a bar.

    Returns
    -------
    list of tuple
        Order, direction, and lowest correlation over the turns.

    Notes
    -----
    An axis of order n is one of each prime that divides n, too: all directions are tried for primes
    alone, and the other orders at what was found for their largest prime.
    """
    judge = SelfAgreement(scanned, _SCANNED)
    tilts = directions(_STEP)
    prime = {n: _largest_prime(n) for n in orders}
    found = []
    for p in tqdm(sorted(set(prime.values())), desc="axes", disable=not progress):
        cc = np.concatenate(
            [judge.rough_correlations(_turns(part, p), centre)
             for part in np.array_split(tilts, max(len(tilts) // 200, 1))]
        )  # fmt: skip
        rows = np.argsort(-cc)
        rows = rows[cc[rows] >= _ROUGH]
        axes = tilts[rows[_distinct(tilts[rows], _APART, _AXES)]]
        if not len(axes):
            continue
        axes, middles = _refined(coarse, axes, np.tile(centre, (len(axes), 1)), p)
        for n in sorted(n for n in prime if prime[n] == p):
            here = _lowest(coarse, axes, middles, n) >= _ROUGH
            if n == p:
                found += _agreeing(coarse, axes[here], middles[here], n)
            elif here.any():
                found += _agreeing(coarse, *_refined(coarse, axes[here], middles[here], n), n)
    return found


def _largest_prime(n: int) -> int:
    return max(p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p)))


def _turns(axes: np.ndarray, order: int) -> np.ndarray:
    return Rotation.from_rotvec(axes * (2 * np.pi / order)).as_matrix()


def _distinct(axes: np.ndarray, apart: float, most: int) -> list[int]:
    """Rows of axes of which each is so many degrees from all before it."""
    kept: list[int] = []
    limit = np.cos(np.radians(apart))
    for row, axis in enumerate(axes):
        if len(kept) == most:
            break
        if not kept or np.abs(axes[kept] @ axis).max() < limit:
            kept.append(row)
    return kept


def _refined(judge: SelfAgreement, axes, centres, order: int):
    """Improve axes and their places, by the correlation of the first turn."""
    across = np.stack([axis_frame(axis)[:2] for axis in axes])

    def split(x):
        tilted = axes + np.einsum("km,kmi->ki", x[:, :2] / judge.reach, across)
        tilted /= np.linalg.norm(tilted, axis=1, keepdims=True)
        return tilted, centres + np.einsum("km,kmi->ki", x[:, 2:], across)

    def residuals(x):
        tilted, middles = split(x)
        return judge.residuals(_turns(tilted, order), middles)

    return split(improved(residuals, np.zeros((len(axes), 4)), judge.voxel / 4))


def _lowest(judge: SelfAgreement, axes, middles, order: int) -> np.ndarray:
    """The lowest correlation over the turns about each axis: shape (k,).

    A small turn changes little in any map: the others must agree as well. Turns back need not be
    looked at.
    """
    turns = np.arange(1, order // 2 + 1) * (2 * np.pi / order)
    every = Rotation.from_rotvec((turns[:, None, None] * axes).reshape(-1, 3)).as_matrix()
    cc = judge.correlations(every, np.tile(middles, (len(turns), 1)))
    return cc.reshape(len(turns), -1).min(axis=0)


def _agreeing(judge: SelfAgreement, axes, middles, order: int) -> list[tuple]:
    """Order, direction and lowest correlation of axes that agree, the best first."""
    if not len(axes):
        return []
    lowest = _lowest(judge, axes, middles, order)
    rows = np.argsort(-lowest)
    rows = rows[lowest[rows] >= _WORTH]
    rows = rows[_distinct(axes[rows], _DISTINCT, len(rows))]
    return [(order, axes[row], float(lowest[row])) for row in rows]
