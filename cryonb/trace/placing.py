"""Fragments of chain put on copies of sequences, mutually consistent, the surest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import log_expit

from cryonb.trace.registers import Run, best_run, run_scores
from cryonb.trace.steps import STEP

__all__ = ["Copy", "Placement", "place_fragments"]

#: Fewer residues in a row are not named.
_SHORTEST = 5
#: Å by which positions may be farther apart than a straight chain between them is long.
_SLACK = 2.0
#: Most that the direction seen in density counts, as a logit.
_TURN = 4.0
#: Residues beyond which a chain's ends are no farther apart, on average; Å³ a residue.
_FOLD, _VOLUME = 40, 135.0


@dataclass
class Copy:
    """One copy of a sequence, and what of it has a place.

    Attributes
    ----------
    sequence : int
        Which of the different sequences.
    codes : ndarray of int64, shape (m,)
        Columns of the amino acids; 20 for an unknown residue.
    positions : ndarray of float64, shape (m, 3)
        Cα atoms in Å; NaN where a residue has none.
    """

    sequence: int
    codes: np.ndarray
    positions: np.ndarray = field(default=None)

    def __post_init__(self):
        if self.positions is None:
            self.positions = np.full((len(self.codes), 3), np.nan)

    @property
    def placed(self) -> np.ndarray:
        """Which residues have a position: bool, shape (m,)."""
        return np.isfinite(self.positions[:, 0])

    def allowed(self, points: np.ndarray) -> np.ndarray:
        """Which points (n, 3) the chain may pass at which free residue: bool, shape (n, m)."""
        m, placed = len(self.codes), self.placed
        free = np.tile(~placed, (len(points), 1))
        every = np.arange(m)
        for near in (
            np.maximum.accumulate(np.where(placed, every, -1)),
            np.minimum.accumulate(np.where(placed, every, m)[::-1])[::-1],
        ):
            there = np.flatnonzero((near >= 0) & (near < m) & ~placed)
            if len(there):
                anchor = self.positions[near[there]]
                apart = np.linalg.norm(points[:, None] - anchor, axis=2)
                free[:, there] &= apart <= STEP * np.abs(there - near[there]) + _SLACK
        return free

    def link(self, run: Run, points: np.ndarray, volume: float) -> float:
        """Log ratio of a run's distances from its neighbours in this copy to those by chance."""
        placed = np.flatnonzero(self.placed)
        first, last = run.places[[0, -1]]
        ends = [(near, first, points[0]) for near in placed[placed < first][-1:]]
        ends += [(near, last, points[-1]) for near in placed[placed > last][:1]]
        total = 0.0
        for near, place, point in ends:
            # A random walk, whose ends are normally distributed, until the chain is folded.
            variance = STEP**2 * min(abs(place - near), _FOLD) / 3
            apart = ((self.positions[near] - point) ** 2).sum()
            total += np.log(volume) - 1.5 * np.log(2 * np.pi * variance) - apart / (2 * variance)
        return float(total)


@dataclass(frozen=True)
class Placement:
    """A piece of a fragment, and the run of a sequence that fits it best.

    Attributes
    ----------
    rows : ndarray of int64
        Residues of the piece, in the order in which it is read.
    forward : bool
        False if that is not the order of the model.
    copy : int
        Which copy; -1 for none.
    run : Run or None
        Of rows in `rows` and places of the sequence.
    score, next : float
        Of the run, and of the best one that shares no residue and place with it.
    z : float
        Of the score among those of shuffled sequences.
    p : float
        Probability of such a score by chance, with Gumbel's distribution of their mean and
        deviation.
    """

    rows: np.ndarray
    forward: bool
    copy: int
    run: Run | None
    score: float
    next: float
    z: float
    p: float


def place_fragments(
    ratios, positions, stretch, copies: Sequence[Copy], *, direction=None, chance: float,
    margin: float, shuffles: int, rng: np.random.Generator,
) -> list[Placement]:  # fmt: skip
    """Put fragments on copies of sequences, the surest first.

    Parameters
    ----------
    ratios : sequence of ndarray, shape (n, 20)
        Log ratios of probability to frequency, read forward and, if there is a second, backward;
        both in the model's order.
    positions : ndarray of float64, shape (n, 3)
        Cα atoms in Å.
    stretch : ndarray of int, shape (n,)
        Which fragment a residue is of.
    copies : sequence of Copy
        Changed: they hold in the end what was placed.
    direction : dict, optional
        Logit of each stretch that it goes from N to C.
    chance : float
        Largest p of a run that is placed.
    margin : float
        Least difference of its score to the next best.
    shuffles : int
        Shuffled sequences.
    rng : numpy.random.Generator
        Source of the shuffles.

    Returns
    -------
    list of Placement
        Those that were placed, and what is left of each fragment with the best run that it has and
        without a copy.
    """
    search = _Search(ratios, positions, copies, direction or {}, stretch, shuffles, rng)
    waiting = [np.flatnonzero(stretch == one) for one in np.unique(stretch)]
    known = [search.best(rows) for rows in waiting]
    done = []
    while known:
        sure = [one for one in known if one.p <= chance and one.score - one.next > margin]
        if not sure:
            break
        one = max(sure, key=lambda one: one.z)
        known = [other for other in known if other is not one]
        copy = search.take(one)
        if copy < 0:
            # What was placed since has taken its place.
            known.append(search.best(np.sort(one.rows)))
            continue
        done.append(replace(one, copy=copy))
        kept, every = one.rows[one.run.rows], np.sort(one.rows)
        left = every[every < kept.min()], every[every > kept.max()]
        known += [search.best(rows) for rows in left if len(rows)]
        # With less that is free, chance has less to offer, and what was open may be sure.
        if not any(one.p <= chance for one in known):
            known = [search.best(np.sort(one.rows)) for one in known]
    return done + [replace(one, copy=-1) for one in known]


class _Search:
    """Best runs of pieces in what the copies have left."""

    def __init__(self, ratios, positions, copies, direction, stretch, shuffles, rng):
        n = len(positions)
        # What is not known says nothing.
        self.ratios = [np.append(ratio, np.zeros((n, 1)), axis=1) for ratio in ratios]
        self.positions, self.copies = positions, copies
        self.direction, self.stretch = direction, stretch
        self.volume = _VOLUME * max(sum(len(copy.codes) for copy in copies), 100)
        self.shuffled = {
            copy.sequence: np.array([rng.permutation(copy.codes) for _ in range(shuffles)])
            for copy in copies
        }

    def best(self, rows) -> Placement:
        """Find the run of a piece (rows ascending) with the highest score, and judge it."""
        nothing = Placement(rows, True, -1, None, -np.inf, -np.inf, -np.inf, 1.0)
        if len(rows) < _SHORTEST:
            return nothing
        best, null = None, np.full(1, -np.inf)
        for number, allowed, way in self._ways(rows):
            copy, (ratio, bonus) = self.copies[number], self._read(rows, way)
            run = best_run(ratio, copy.codes, allowed)
            shuffled = run_scores(ratio, self.shuffled[copy.sequence], allowed)
            null = np.maximum(null, shuffled + bonus)
            if run is not None and (best is None or run.score + bonus > best[0]):
                best = (run.score + bonus, run, number, way)
        null = null[np.isfinite(null)]
        if best is None or len(null) < 2:
            return nothing
        score, run, number, way = best
        z = (score - null.mean()) / max(null.std(), 1e-9)
        p = float(-np.expm1(-np.exp(-(np.pi / np.sqrt(6) * z + np.euler_gamma))))
        return Placement(
            _turned(rows, way), way == 0, number, run, score, self._next(rows, best), z, p
        )

    def _next(self, rows, best) -> float:
        """Score of the best run that shares no cell with the best."""
        _, first, number, best_way = best
        highest = -np.inf
        for other, allowed, way in self._ways(rows):
            copy, (ratio, bonus) = self.copies[other], self._read(rows, way)
            if way == best_way and copy.sequence == self.copies[number].sequence:
                allowed[first.rows, first.places] = False
            run = best_run(ratio, copy.codes, allowed)
            if run is not None:
                highest = max(highest, run.score + bonus)
        return highest

    def _ways(self, rows):
        """Copies that differ, what a piece may have of them, and the ways to read it."""
        seen = set()
        for number, copy in enumerate(self.copies):
            allowed = copy.allowed(self.positions[rows])
            key = (copy.sequence, allowed.tobytes())
            if key not in seen and allowed.any():
                seen.add(key)
                for way in range(len(self.ratios)):
                    yield number, _turned(allowed, way).copy(), way

    def _read(self, rows, way):
        """Ratios along a piece, and what its direction in the density says of the way."""
        logit = np.nan_to_num(self.direction.get(int(self.stretch[rows[0]]), 0.0))
        logit = np.clip(-logit if way else logit, -_TURN, _TURN)
        bonus = float(log_expit(logit)) if len(self.ratios) > 1 else 0.0
        return _turned(self.ratios[way][rows], way), bonus

    def take(self, found: Placement) -> int:
        """Give the run to the copy of its sequence that it lies best in; -1 if none has room."""
        run = found.run
        points = self.positions[found.rows[run.rows]]
        sequence = self.copies[found.copy].sequence
        best, worth = -1, -np.inf
        for number, copy in enumerate(self.copies):
            if copy.sequence != sequence:
                continue
            if not copy.allowed(points)[np.arange(len(points)), run.places].all():
                continue
            link = copy.link(run, points, self.volume)
            if link > worth:
                best, worth = number, link
        if best >= 0:
            self.copies[best].positions[run.places] = points
        return best


def _turned(values, way):
    """What is read backwards, from its end."""
    return values[::-1] if way else values
