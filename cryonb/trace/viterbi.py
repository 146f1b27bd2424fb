"""Searches for the best path of a chain through states, none of which is used twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryonb.trace.hidden_markov import ChainModel

__all__ = ["Path", "best_path", "published_path", "search"]

#: Beginnings of a jump that are tried, best first, for one that has not used the state.
_JUMP_TRIES = 24
#: Log probabilities this close are equal.
_SAME = 1e-6


@dataclass(frozen=True)
class Path:
    """A path of a chain: states (T,), -1 for a residue without, and its log probability."""

    states: np.ndarray
    log_probability: float


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
        Times that prices are set; each costs three searches.

    Returns
    -------
    path : Path
        The best self-avoiding path that was met.
    bound : float
        No self-avoiding path has a higher log probability.
    """
    price = np.zeros(len(model))
    bound, found = np.inf, Path(np.full(len(codes), -1, dtype=np.int64), -np.inf)
    for _ in range(rounds + 1):
        free = search(model, codes, avoid=False, price=price)
        uses = np.bincount(free.states[free.states >= 0], minlength=len(model))
        bound = min(bound, free.log_probability + price @ (1 - uses))
        tried = [free] if uses.max() <= 1 else []
        if uses.max() > 1:
            # By turns, a sequence and its reverse would be searched with different prices.
            tried = [search(model, codes, backward=end, price=price) for end in (False, True)]
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
        best = np.full(len(model), self.before)
        if not self.backward:
            best += model.first(code)
        from_time, from_state = self.from_time[time], self.from_state[time]
        kept = None
        if self.columns:
            self._jump(best, time)
            skipped = 0.0
            for missing, (score, uses) in enumerate(self.columns):
                self._step(best, score + skipped, uses, missing, time)
                skipped += self.skip[time - 1 - missing]
            score, left, state, uses = self.gap
            if score > -np.inf:
                value = score + self.enter
                if self.avoid:
                    value = np.where(uses[self.byte] & self.bit, -np.inf, value)
                kept = value > best
                best[kept] = value[kept]
                from_time[kept], from_state[kept] = left, state
        used = self._uses(time, kept) if self.avoid else None
        best += model.log_emission[:, code] - self.price
        self._open_gap(time)
        self.before += self.skip[time]
        self.columns = [(best, used), *self.columns[: model.bridge]]
        final = best + model.first(code) if self.backward else best
        state = int(final.argmax())
        # A path that ended before, and leaves this residue out as well, may still be better.
        earlier = (self.end[0] + self.skip[time], *self.end[1:])
        self.end = max((float(final[state]), time, state), earlier, key=lambda end: end[0])

    def _uses(self, time, from_gap):
        """States that the paths to each state have used: those of the path before, and itself."""
        used = np.zeros((len(self.state), self.width), np.uint8)
        for missing, (_, uses) in enumerate(self.columns):
            rows = np.flatnonzero(self.from_time[time] == time - 1 - missing)
            used[rows] = uses.take(self.from_state[time, rows], axis=0)
        if from_gap is not None:
            used[from_gap] = self.gap[3]
        used[self.state, self.byte] |= self.bit
        return used

    def _step(self, best, score, uses, missing, time):
        edges, value = self.edges[missing], self.values[missing]
        # "clip" reads into the array at once; no index needs it.
        score.take(edges.source, out=value, mode="clip")
        value += edges.weight
        top = value.max(axis=0)
        rows = np.flatnonzero(top > best)
        column = value[:, rows].argmax(axis=0)
        source, top = edges.source[column, rows], top[rows]
        if self.avoid:
            # Few rows need more than their first choice, so the rest are not looked at.
            again = np.flatnonzero(self._taken(uses, source, rows))
            if len(again):
                here = rows[again]
                rest = value[:, here]
                rest[self._taken(uses, edges.source[:, here], here)] = -np.inf
                column = rest.argmax(axis=0)
                top[again] = rest[column, np.arange(len(again))]
                source[again] = edges.source[column, here]
                still = top > best[rows]
                rows, source, top = rows[still], source[still], top[still]
        best[rows] = top
        self.from_time[time, rows] = time - 1 - missing
        self.from_state[time, rows] = source

    def _taken(self, uses, source, state):
        """Whether the path that ends in `source` has used `state`."""
        place = source * self.width
        place += self.byte[state]
        return (uses.ravel().take(place) & self.bit[state]) != 0

    def _jump(self, best, time):
        score, uses = self.columns[0]
        score = score + self.leave
        tries = min(_JUMP_TRIES if self.avoid else 1, len(score))
        top = np.argpartition(-score, tries - 1)[:tries]
        top = top[np.argsort(-score[top], kind="stable")]
        source = np.full(len(best), top[0])
        value = score[top[0]] + self.enter
        if self.avoid:
            # States of the best path take the first of the next best that has not used them.
            rows = np.flatnonzero(uses[top[0]].take(self.byte) & self.bit)
            free = (uses[top][:, self.byte[rows]] & self.bit[rows]) == 0
            source[rows] = top[free.argmax(axis=0)]
            other = score[source[rows]] + self.enter[rows]
            value[rows] = np.where(free.any(axis=0), other, -np.inf)
        better = np.flatnonzero(value > best)
        best[better] = value[better]
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
                uses = last_uses[at].copy() if self.avoid else uses
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
    transition = model.published_transition()
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
