"""The hidden Markov model of a chain through Cα positions: states, transitions, emissions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from cryonb.errors import CryonbError

__all__ = ["BACKGROUND", "LETTERS", "PUBLISHED_JUMP", "ChainModel", "Edges", "check_states"]

#: One-letter codes in the order of the columns: by three-letter code, as published.
LETTERS = "ARNDCQEGHILKMFPSTWYV"
#: Frequencies of the amino acids in that order, as published.
BACKGROUND = np.array([
    .079439, .049778, .044339, .053502, .022626, .039375, .056278, .072177, .018826, .061080,
    .097999, .053315, .021704, .045350, .041744, .064167, .058656, .012496, .035984, .071164,
])  # fmt: skip
#: Distance of neighbouring Cα atoms and its standard deviation in Å, as published.
_STEP, _STEP_SD = 3.8047179727719045, 0.03622304
_FLOOR = 1e-20
#: Natural logarithm of the weight, beside the normal density, of a step of any length.
PUBLISHED_JUMP = float(np.log(_FLOOR))
#: Distance over one and over two residues left out: mean and standard deviation in Å, measured
#: on the Cα traces of 180 structures (29,000 pairs each).
_BRIDGES = ((5.99, 0.63), (7.36, 2.04))
#: Densities so far below the floor, by this factor, count as none.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Edges:
    """Steps into each state: where from (k, S), and their log weight (k, S), -inf for none."""

    source: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class ChainModel:
    """States, transitions and emissions.

    Attributes
    ----------
    positions : ndarray of float64, shape (S, 3)
        In Å.
    log_emission : ndarray of float64, shape (S, 21)
        Natural logarithm of the emission; the last column, of an unknown residue, is 0. A model of
        one sequence may have a column a residue instead (`cryonb.trace.features`).
    spread : float
        Standard deviation of a step in Å.
    jump, missing : float
        Log weight of a step of any length; log cost of a residue without a state.
    bridge : int
        Up to how many residues without a state are bridged by distance.
    log_background : ndarray of float64, shape (21,)
        Logarithm of the frequency of what a column stands for.
    """

    positions: np.ndarray
    log_emission: np.ndarray
    spread: float
    jump: float
    missing: float
    bridge: int
    log_background: np.ndarray = field(default_factory=lambda: np.append(np.log(BACKGROUND), 0.0))

    @classmethod
    def of(
        cls, positions, emissions, *, spread_scale=10.0, jump=PUBLISHED_JUMP, missing=-np.inf,
        bridge=0,
    ) -> ChainModel:  # fmt: skip
        """Build the model: emissions are mixed with the background as published."""
        found = np.asarray(emissions, dtype=np.float64) + _FLOOR
        found /= found.sum(axis=1, keepdims=True)
        mixed = np.sqrt(found * BACKGROUND)
        mixed /= mixed.sum(axis=1, keepdims=True)
        unknown = np.zeros((len(mixed), 1))
        return cls(
            np.asarray(positions, dtype=np.float64), np.hstack([np.log(mixed), unknown]),
            _STEP_SD * spread_scale, float(jump), float(missing), int(bridge),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.positions)

    def select(self, which) -> ChainModel:
        """Take some of the states: transitions are normalised over what is left."""
        return replace(self, positions=self.positions[which], log_emission=self.log_emission[which])

    @cached_property
    def _near(self):
        """Pairs (from, to) within reach, their densities, and the log of the rows' sums."""
        start, end, apart = _pairs(self.positions, _STEP + 13 * self.spread)
        density = _normal(apart, _STEP, self.spread)
        own = _normal(0.0, _STEP, self.spread)
        floor = np.exp(self.jump)
        total = np.bincount(start, density, len(self)) + own + len(self) * floor
        kept = density > floor * _NEGLIGIBLE
        return start[kept], end[kept], density[kept], np.log(total)

    @property
    def reach(self) -> float:
        """Length of a step, in Å, beyond which its density is below one part in 10⁴ of the peak."""
        return _STEP + 4.3 * self.spread

    @cached_property
    def leave(self) -> np.ndarray:
        """Log probability of a jump from each state to any one state."""
        return self.jump - self._near[3]

    @cached_property
    def steps(self) -> list[tuple]:
        """From, to and log weight of steps without, with one, ... residues left out."""
        start, end, density, log_total = self._near
        found = [(start, end, np.log(density + np.exp(self.jump)) - log_total[start])]
        for mean, deviation in _BRIDGES[: self.bridge]:
            deviation = np.hypot(deviation, self.spread)
            start, end, apart = _pairs(self.positions, mean + 2 * deviation)
            density = _normal(apart, mean, deviation)
            # A lone candidate is not certain to be the right one.
            total = np.maximum(
                np.bincount(start, density, len(self)), _normal(mean, mean, deviation)
            )
            weight = np.log(np.maximum(density, _FLOOR)) - np.log(total)[start]
            kept = apart > mean - 2 * deviation
            found.append((start[kept], end[kept], weight[kept]))
        return found

    @cached_property
    def into(self) -> list[Edges]:
        """Steps by the state that they end in."""
        return [_padded(start, end, weight, len(self)) for start, end, weight in self.steps]

    @cached_property
    def out_of(self) -> list[Edges]:
        """Steps by the state that they begin in."""
        return [_padded(end, start, weight, len(self)) for start, end, weight in self.steps]

    def first(self, code: int) -> np.ndarray:
        """Log probability of each state to be a chain's first, of the residue `code`."""
        return self.log_emission[:, code] - self._emitted[code]

    @cached_property
    def _emitted(self) -> np.ndarray:
        return np.logaddexp.reduce(self.log_emission, axis=0)

    def published_transition(self) -> np.ndarray:
        """Log probabilities of all steps, with the published floor: (to, from), (S, S)."""
        from scipy.spatial.distance import cdist

        # In this order the search runs along rows.
        weight = _normal(cdist(self.positions, self.positions), _STEP, self.spread)
        weight += _FLOOR
        weight /= weight.sum(axis=0)
        return np.log(weight, out=weight)

    def skip(self, codes: np.ndarray) -> np.ndarray:
        """Log cost of each residue being left without a state: (T,)."""
        return self.missing + self.log_background[codes]

    def log_probability(self, states: np.ndarray, codes: np.ndarray) -> float:
        """Score a path (states (T,), -1 for none), whichever search it came from."""
        skip = self.skip(codes)
        placed = np.flatnonzero(states >= 0)
        total = skip[states < 0].sum() if len(placed) < len(states) else 0.0
        if not len(placed):
            return float(total)
        at = states[placed]
        total += self.log_emission[at, codes[placed]].sum() + self.first(codes[placed[0]])[at[0]]
        return float(total + self.step_weight(at[:-1], at[1:], np.diff(placed) - 1).sum())

    def step_weight(self, start, end, gap) -> np.ndarray:
        """Log weight of steps between states (n,) with `gap` (n,) residues left out between."""
        weight = self.leave[start].copy()
        for missing, (key, known) in enumerate(self._keys):
            which = np.flatnonzero(gap == missing)
            if len(which) and len(key):
                wanted = start[which] * len(self) + end[which]
                row = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
                found = np.where(key[row] == wanted, known[row], -np.inf)
                weight[which] = np.maximum(weight[which], found)
        return weight

    @cached_property
    def _keys(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Steps by one number for their states, in order, and their weights."""
        found = []
        for start, end, weight in self.steps:
            key = start.astype(np.int64) * len(self) + end
            order = np.argsort(key)
            found.append((key[order], weight[order]))
        return found


def _pairs(positions, reach):
    """Pairs of different points within reach, both ways: from, to, distance."""
    pairs = cKDTree(positions).query_pairs(reach, output_type="ndarray")
    start = np.concatenate([pairs[:, 0], pairs[:, 1]])
    end = np.concatenate([pairs[:, 1], pairs[:, 0]])
    return start, end, np.linalg.norm(positions[start] - positions[end], axis=1)


def _normal(value, mean, deviation):
    found = np.subtract(value, mean)
    found /= deviation
    found *= found
    found *= -0.5
    found = np.exp(found)
    found /= deviation * np.sqrt(2 * np.pi)
    return found


def _padded(source, target, weight, n) -> Edges:
    """Steps as a table, a column a target; columns are filled up with impossible steps."""
    order = np.lexsort((source, target))
    source, target, weight = source[order], target[order], weight[order]
    count = np.bincount(target, minlength=n)
    place = np.arange(len(target)) - np.repeat(np.cumsum(count) - count, count)
    width = max(int(count.max(initial=0)), 1)
    sources, weights = np.zeros((width, n), np.int64), np.full((width, n), -np.inf)
    sources[place, target], weights[place, target] = source, weight
    return Edges(sources, weights)


def check_states(positions, emissions) -> tuple[np.ndarray, np.ndarray]:
    """Read positions (S, 3) and emissions (S, 20), or say what is wrong."""
    positions = np.asarray(positions, dtype=np.float64)
    emissions = np.asarray(emissions, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions):
        raise CryonbError(
            f"Positions of shape (S, 3) with S of at least 1 were expected, "
            f"but {positions.shape} was given."
        )
    if emissions.shape != (len(positions), 20):
        raise CryonbError(
            f"Emissions of shape {(len(positions), 20)}, a row a position, were expected, "
            f"but {emissions.shape} was given."
        )
    if not np.isfinite(positions).all() or not np.isfinite(emissions).all():
        raise CryonbError("Finite positions and emissions were expected, but some are not.")
    if emissions.min() < 0:
        raise CryonbError(
            f"Probabilities of at least 0 were expected, but the emissions go down to "
            f"{emissions.min():.3g}; give probabilities, not logits."
        )
    return positions, emissions
