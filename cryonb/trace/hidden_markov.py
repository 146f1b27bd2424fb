"""The hidden Markov model of a chain through Cα positions, and searches for its best path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from cryonb.errors import CryonbError

__all__ = [
    "BACKGROUND",
    "LETTERS",
    "PUBLISHED_JUMP",
    "ChainModel",
    "Path",
    "best_path",
    "check_states",
    "published_path",
    "search",
]

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
#: Beginnings of a jump that are tried, best first, for one that has not used the state.
_JUMP_TRIES = 24
#: Log probabilities this close are equal.
_SAME = 1e-6


@dataclass(frozen=True)
class Path:
    """A path of a chain: states (T,), -1 for a residue without, and its log probability."""

    states: np.ndarray
    log_probability: float


@dataclass(frozen=True)
class Edges:
    """Steps into each state: where from (S, k), and their log weight (S, k), -inf for none."""

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
        Natural logarithm of the emission; the last column, of an unknown residue, is 0.
    spread : float
        Standard deviation of a step in Å.
    jump, missing : float
        Log weight of a step of any length; log cost of a residue without a state.
    bridge : int
        Up to how many residues without a state are bridged by distance.
    """

    positions: np.ndarray
    log_emission: np.ndarray
    spread: float
    jump: float
    missing: float
    bridge: int

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
        return ChainModel(
            self.positions[which], self.log_emission[which], self.spread, self.jump, self.missing,
            self.bridge,
        )  # fmt: skip

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

    def skip(self, codes: np.ndarray) -> np.ndarray:
        """Log cost of each residue being left without a state: (T,)."""
        return self.missing + np.append(np.log(BACKGROUND), 0.0)[codes]

    def log_probability(self, states: np.ndarray, codes: np.ndarray) -> float:
        """Score a path (states (T,), -1 for none), whichever search it came from."""
        skip = self.skip(codes)
        placed = np.flatnonzero(states >= 0)
        total = skip[states < 0].sum() if len(placed) < len(states) else 0.0
        if not len(placed):
            return float(total)
        at = states[placed]
        total += self.log_emission[at, codes[placed]].sum() + self.first(codes[placed[0]])[at[0]]
        gap = np.diff(placed) - 1
        step = self.leave[at[:-1]].copy()
        for missing, (start, end, weight) in enumerate(self.steps):
            known = dict(zip(zip(start.tolist(), end.tolist(), strict=True), weight, strict=True))
            for k in np.flatnonzero(gap == missing):
                step[k] = max(step[k], known.get((at[k], at[k + 1]), -np.inf))
        return float(total + step.sum())


def best_path(model: ChainModel, codes: np.ndarray, *, rounds: int = 6) -> tuple[Path, float]:
    """Search from both ends, and again with prices on the states that paths fight for.

    The best path that may use states again bounds all self-avoiding ones from above. With a price
    on states that it used twice, its score plus all prices still does (a Lagrangian relaxation of
    "at most once"), and both searches are driven away from the conflict.

    Parameters
    ----------
    model : ChainModel
        The model.
    codes : ndarray of int, shape (T,)
        Columns of `LETTERS`; 20 for an unknown residue.
    rounds : int
        Times that prices are set; each costs two searches.

    Returns
    -------
    path : Path
        The best self-avoiding path that was met.
    bound : float
        No self-avoiding path has a higher log probability.
    """
    price = np.zeros(len(model))
    bound, found = np.inf, Path(np.full(len(codes), -1, dtype=np.int64), -np.inf)
    for turn in range(rounds + 1):
        free = search(model, codes, avoid=False, price=price)
        uses = np.bincount(free.states[free.states >= 0], minlength=len(model))
        bound = min(bound, free.log_probability + price @ (1 - uses))
        tried = [free] if uses.max() <= 1 else []
        if uses.max() > 1:
            # From both ends at first, then by turns.
            ends = (False, True) if turn == 0 else (turn % 2 == 0,)
            tried = [search(model, codes, backward=end, price=price) for end in ends]
        found = max([found, *tried], key=lambda path: path.log_probability)
        if bound - found.log_probability < _SAME or np.isinf(found.log_probability):
            break
        excess = np.where((price > 0) | (uses > 1), uses - 1.0, 0.0)
        if not excess.any():
            break
        # Polyak's step.
        price = np.maximum(
            0.0, price + (bound - found.log_probability) / (excess @ excess) * excess
        )
    return found, bound


def search(
    model: ChainModel, codes: np.ndarray, *, backward: bool = False, avoid: bool = True, price=None
) -> Path:
    """Viterbi's search along the chain, in which no path may use a state twice.

    Each state keeps the one best path that ends in it, as the published search does, so the result
    need not be the best self-avoiding path; a state that its best predecessors have used is left
    out of this column alone.

    Parameters
    ----------
    model : ChainModel
        The model.
    codes : ndarray of int, shape (T,)
        Columns of `LETTERS`; 20 for an unknown residue.
    backward : bool
        Search from the last residue to the first; the model, and its score, are the same.
    avoid : bool
        Without, states may be used again: the score is an upper bound, the best of all paths.
    price : ndarray of float64, shape (S,), optional
        What the search pays for each use of a state. The score that is given is free of it.

    Returns
    -------
    Path
        Its log probability is -inf if there is no path.
    """
    price = np.zeros(len(model)) if price is None else price
    trellis = _Trellis(model, codes, backward, avoid, price)
    for time in range(len(codes)):
        trellis.advance(time)
    path = trellis.best()
    paid = price[path.states[path.states >= 0]].sum()
    return Path(path.states, path.log_probability + paid)


class _Trellis:
    """Columns of the search; times count from the end that the search begins at."""

    def __init__(self, model, codes, backward, avoid, price):
        self.model, self.avoid, self.backward, self.price = model, avoid, backward, price
        self.codes = codes[::-1] if backward else codes
        n = len(model)
        self.edges = model.out_of if backward else model.into
        self.values = [np.empty_like(edges.weight) for edges in self.edges]
        nothing = np.zeros(n)
        # A jump costs what the state that it leaves says, along the chain.
        self.leave, self.enter = (nothing, model.leave) if backward else (model.leave, nothing)
        self.skip = model.skip(self.codes)
        self.from_time = np.full((len(codes), n), -1, dtype=np.int32)
        self.from_state = np.full((len(codes), n), -1, dtype=np.int32)
        self.state = np.arange(n)
        self.byte = self.state >> 3
        self.bit = np.left_shift(1, self.state & 7).astype(np.uint8)
        self.width = (n + 7) // 8
        # Score and states used of the last columns, the newest first.
        self.columns = []
        self.before = 0.0
        # Best path that waits in a gap: score, time and state it left, states used.
        self.gap = (-np.inf, -1, -1, np.zeros(self.width, np.uint8))
        self.end = (-np.inf, -1, -1)

    def advance(self, time: int) -> None:
        model, code = self.model, self.codes[time]
        n = len(model)
        best = np.full(n, self.before)
        if not self.backward:
            best += model.first(code)
        used = np.zeros((n, self.width), np.uint8)
        from_time, from_state = self.from_time[time], self.from_state[time]
        if self.columns:
            self._jump(best, used, time)
            skipped = 0.0
            for missing, (score, uses) in enumerate(self.columns):
                self._step(best, used, score + skipped, uses, missing, time)
                skipped += self.skip[time - 1 - missing]
            score, left, state, uses = self.gap
            if score > -np.inf:
                value = score + self.enter
                if self.avoid:
                    value = np.where(uses[self.byte] & self.bit, -np.inf, value)
                better = value > best
                best[better] = value[better]
                from_time[better], from_state[better] = left, state
                used[better] = uses
        if self.avoid:
            used[self.state, self.byte] |= self.bit
        best += model.log_emission[:, code] - self.price
        self._open_gap(time)
        self.before += self.skip[time]
        self.columns = [(best, used), *self.columns[: model.bridge]]
        final = best + model.first(code) if self.backward else best
        state = int(final.argmax())
        # A path that ended before, and leaves this residue out as well, may still be better.
        earlier = (self.end[0] + self.skip[time], *self.end[1:])
        self.end = max((float(final[state]), time, state), earlier, key=lambda end: end[0])

    def _step(self, best, used, score, uses, missing, time):
        edges, value = self.edges[missing], self.values[missing]
        # "clip" reads into the array at once; no index needs it.
        score.take(edges.source, out=value, mode="clip")
        value += edges.weight
        column = value.argmax(axis=1)
        top = value[self.state, column]
        rows = np.flatnonzero(top > best)
        if self.avoid:
            # Few rows need more than their first choice, so the rest are not looked at.
            again = rows[self._taken(uses, edges.source[rows, column[rows]], rows)]
            if len(again):
                rest = value[again]
                rest[self._taken(uses, edges.source[again], again[:, None])] = -np.inf
                column[again] = rest.argmax(axis=1)
                top[again] = rest[np.arange(len(again)), column[again]]
                rows = rows[top[rows] > best[rows]]
        source = edges.source[rows, column[rows]]
        best[rows] = top[rows]
        used[rows] = uses[source]
        self.from_time[time, rows] = time - 1 - missing
        self.from_state[time, rows] = source

    def _taken(self, uses, source, state):
        """Whether the path that ends in `source` has used `state`."""
        place = source * self.width
        place += self.byte[state]
        return (uses.ravel().take(place) & self.bit[state]) != 0

    def _jump(self, best, used, time):
        score, uses = self.columns[0]
        score = score + self.leave
        tries = min(_JUMP_TRIES if self.avoid else 1, len(score))
        top = np.argpartition(-score, tries - 1)[:tries]
        top = top[np.argsort(-score[top], kind="stable")]
        pick = np.zeros(len(best), dtype=np.int64)
        allowed = np.ones(len(best), dtype=bool)
        if self.avoid:
            free = (uses[top][:, self.byte] & self.bit) == 0
            pick = free.argmax(axis=0)
            allowed = free.any(axis=0)
        source = top[pick]
        value = np.where(allowed, score[source] + self.enter, -np.inf)
        better = np.flatnonzero(value > best)
        best[better] = value[better]
        used[better] = uses[source[better]]
        self.from_time[time, better] = time - 1
        self.from_state[time, better] = source[better]

    def _open_gap(self, time):
        score, left, state, uses = self.gap
        if self.columns:
            last, last_uses = self.columns[0]
            opened = last + self.leave
            at = int(opened.argmax())
            if opened[at] > score:
                score, left, state = float(opened[at]), time - 1, at
                uses = last_uses[at].copy()
        self.gap = (score + self.skip[time], left, state, uses)

    def best(self) -> Path:
        states = np.full(len(self.codes), -1, dtype=np.int64)
        value, time, state = self.end
        if self.before > value:
            return Path(states, float(self.before))
        if value > -np.inf:
            while time >= 0:
                states[time] = state
                time, state = self.from_time[time, state], self.from_state[time, state]
        return Path(states[::-1] if self.backward else states, float(value))


def published_path(
    model: ChainModel, codes: np.ndarray, available=None
) -> tuple[np.ndarray, list[int]]:
    """Follow the published search state by state, its abort of the whole trellis included.

    As soon as one state has no predecessor whose path has not used it, the best path so far is
    closed and its states are removed, and the search begins anew at the next residue, with the
    initial probabilities of the chain's first residue.

    Parameters
    ----------
    model : ChainModel
        Its transitions are taken with the published floor.
    codes : ndarray of int, shape (T,)
        Columns of `LETTERS`, none unknown.
    available : ndarray of bool, shape (S,), optional
        Which states may be used; transitions and initial probabilities count all.

    Returns
    -------
    states : ndarray of int64, shape (T,)
        -1 where no state was left.
    begins : list of int
        The residue that each fragment begins at.
    """
    from scipy.spatial.distance import cdist

    # In the order (to, from), so that the search runs along rows.
    transition = _normal(cdist(model.positions, model.positions), _STEP, model.spread)
    transition += _FLOOR
    transition /= transition.sum(axis=0)
    np.log(transition, out=transition)
    rows = np.ones(len(model), bool) if available is None else np.array(available, bool)
    first = model.first(codes[0])
    found = np.full(len(codes), -1, dtype=np.int64)
    begin, begins = 0, []
    while begin < len(codes) and rows.any():
        begins.append(begin)
        at = np.flatnonzero(rows)
        whole = len(at) == len(model)
        part = transition if whole else transition[np.ix_(at, at)]
        path = _published_fragment(part, first[at], model.log_emission[at], codes[begin:])
        path = at[path]
        found[begin : begin + len(path)] = path
        rows[path] = False
        begin += len(path)
    return found, begins


def _published_fragment(transition, first, log_emission, codes) -> np.ndarray:
    """The states of one fragment: as far as every state has a predecessor."""
    n = len(first)
    score = first + log_emission[:, codes[0]]
    used = np.eye(n, dtype=bool)  # (state, end of path)
    back = np.empty((len(codes), n), dtype=np.int32)
    value = np.empty_like(transition)
    rows = np.arange(n)
    last = 0
    for time in range(1, len(codes)):
        np.add(transition, score, out=value)
        value[used] = -np.inf
        source = value.argmax(axis=1)
        top = value[rows, source]
        if np.isneginf(top).any():
            break
        back[time] = source
        score = top + log_emission[:, codes[time]]
        used = used[:, source]
        used[rows, rows] = True
        last = time
    path = [int(score.argmax())]
    for time in range(last, 0, -1):
        path.append(int(back[time, path[-1]]))
    return np.array(path[::-1])


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
    """Steps as a table, a row a target; rows are filled up with impossible steps."""
    order = np.lexsort((source, target))
    source, target, weight = source[order], target[order], weight[order]
    count = np.bincount(target, minlength=n)
    place = np.arange(len(target)) - np.repeat(np.cumsum(count) - count, count)
    width = max(int(count.max(initial=0)), 1)
    sources, weights = np.zeros((n, width), np.int64), np.full((n, width), -np.inf)
    sources[target, place], weights[target, place] = source, weight
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
