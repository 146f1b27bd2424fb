"""What is known of steps of a Cα chain: their length, angles, torsions and density."""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr

from cryonb.errors import CryonbError
from cryonb.trace.frames import dihedral, frames

__all__ = [
    "FARTHEST", "NEAREST", "STEP", "bend_ratio", "chance_density", "closing_circle", "directions",
    "line_logit", "map_level", "torsion_ratio",
]  # fmt: skip

#: Å between neighbours in a chain: mean, and the window that is looked at.
STEP, NEAREST, FARTHEST = 3.8, 2.8, 4.6
#: Ratio of the density of Cα-Cα-Cα angles to that of chance, at the middles of bins of 10° from 75°
#: on: of true positions, and of positions that are 0.5 Å (r.m.s.) off. 60 training structures.
_ANGLE = np.arange(75, 180, 10)
_RATIO = np.array([
    [0.01, 1.51, 3.82, 1.24, 1.96, 2.00, 1.49, 0.78, 0.07, 0.01, 0.01],
    [0.60, 1.89, 2.36, 1.93, 1.86, 1.75, 1.38, 0.80, 0.44, 0.08, 0.10],
])  # fmt: skip
#: Standard deviation of distances at the second row.
_RATIO_SPREAD = 0.41
#: Likewise of torsions about the middle one of three steps, in bins of 20° from -180°
#: on, in hundredths; a row each for a mean of its two angles below 100°, to 115°, and above.
_TORSION = np.array([
    [
        [21, 20, 26, 33, 10, 6, 12, 4, 2, 6, 100, 1260, 182, 37, 25, 21, 19, 16],
        [168, 189, 192, 155, 86, 24, 15, 19, 48, 91, 136, 71, 64, 114, 119, 110, 83, 118],
        [447, 321, 196, 168, 107, 55, 27, 17, 28, 33, 31, 22, 19, 17, 21, 31, 62, 197],
    ],
    [
        [44, 27, 43, 37, 12, 5, 11, 6, 5, 16, 234, 876, 319, 46, 36, 28, 31, 25],
        [200, 204, 165, 146, 88, 19, 18, 26, 38, 81, 169, 147, 76, 82, 86, 75, 72, 108],
        [352, 296, 214, 162, 106, 56, 37, 24, 35, 31, 33, 24, 25, 31, 34, 47, 77, 215],
    ],
]) / 100  # fmt: skip
#: Cα atoms per Å³, other than neighbours in the chain, at distances where they are free to be, and
#: the distance in Å, with its standard deviation, below which they are not.
_CROWD, _SHELL, _SHELL_SD = 0.0065, 4.85, 0.4
#: Least density along a step, in parts of the median at candidates, that tells as much for as
#: against it; logits a unit; most logits. Simulated at 2.5 to 3.5 Å: 95 of 100 true steps have 0.74
#: or more, of 100 others 0.6 or less.
_EVEN, _SLOPE, _MOST = 0.62, 10.0, 4.0


def bend_ratio(middle, one, two, width: float) -> np.ndarray:
    """Ratio of the density of the angle at `middle` between `one` and `two` to that of chance.

    Parameters
    ----------
    middle, one, two : ndarray, shape (..., 3)
        In Å.
    width : float
        Standard deviation of the length of a step in Å.
    """
    angle = _angle(middle, one, two)
    part = min(width / _RATIO_SPREAD, 1.0)
    ratio = _RATIO[0] * (1 - part) + _RATIO[1] * part
    return np.where(angle < 65, 0.01, np.interp(angle, _ANGLE, ratio))


def _angle(middle, one, two):
    a, b = one - middle, two - middle
    size = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = (a * b).sum(axis=-1) / np.maximum(size, 1e-9)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def torsion_ratio(a, b, c, d, width: float) -> np.ndarray:
    """Ratio of the density of the torsion a-b-c-d of a chain (..., 3) to that of chance."""
    angle = (_angle(b, a, c) + _angle(c, b, d)) / 2
    turn = np.degrees(dihedral(a, b, c, d))
    part = min(width / _RATIO_SPREAD, 1.0)
    ratio = _TORSION[0] * (1 - part) + _TORSION[1] * part
    bins = np.clip(((turn + 180) // 20).astype(int), 0, 17)
    return ratio[np.digitize(angle, (100, 115)), bins]


def chance_density(length, width: float, false: float) -> np.ndarray:
    """Candidates per Å³ at distances in Å from one that are no neighbours of it in its chain.

    Parameters
    ----------
    length : ndarray
        Distances.
    width : float
        Standard deviation of the length of a step in Å.
    false : float
        Share of candidates that are no Cα atoms, which keep no distance.
    """
    return _CROWD * (np.exp(log_ndtr((length - _SHELL) / np.hypot(_SHELL_SD, width))) + false)


def map_level(volume, positions) -> float:
    """Median density at candidates.

    Raises
    ------
    CryonbError
        If it is not above zero.
    """
    level = float(np.median(np.nan_to_num(volume.sample(positions))))
    if not level > 0:
        raise CryonbError(
            "A map with positive density at the candidates was expected, but its median there is "
            f"{level:.3g}; check that map and candidates are in one frame."
        )
    return level


def line_logit(volume, level: float, first, last, *, points: int = 7) -> np.ndarray:
    """Logits of steps by the least density between their ends (..., 3), which do not count."""
    part = np.linspace(0, 1, points + 2)[1:-1, None]
    line = first[..., None, :] * (1 - part) + last[..., None, :] * part
    values = np.nan_to_num(volume.sample(line.reshape(-1, 3))).reshape(line.shape[:-1])
    return np.clip(_SLOPE * (values.min(axis=-1) / level - _EVEN), -_MOST, _MOST)


def closing_circle(a, b, beside, count: int, width: float):
    """Points that are one step from both a and b (n, 3): (n, count, 3), and their density.

    The first point lies away from `beside`. The density, per Å³, is that of the end of two freely
    jointed steps from a at b.
    """
    apart = np.maximum(np.linalg.norm(a - b, axis=-1), 1e-6)
    axes = frames(beside, a, b)
    radius = np.sqrt(np.maximum(STEP**2 - (apart / 2) ** 2, 0.0))
    turn = 2 * np.pi / count * np.arange(count)
    flat = np.stack([-np.cos(turn), np.sin(turn)], axis=1)
    points = ((a + b) / 2)[:, None] + radius[:, None, None] * (flat @ axes[:, 1:])
    inside = np.exp(log_ndtr((2 * STEP - apart) / max(width, 0.1)))
    return points, inside / (8 * np.pi * STEP**2 * apart)


def directions(count: int) -> np.ndarray:
    """Unit vectors (count, 3) spread evenly (a Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    x, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - x**2)
    return np.stack([x, flat * np.cos(turn), flat * np.sin(turn)], axis=1)
