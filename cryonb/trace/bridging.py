"""Fragments of chain joined over residues that have no candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import expit, log_ndtr

from cryonb.trace.frames import frames
from cryonb.trace.steps import (
    FARTHEST,
    NEAREST,
    STEP,
    bend_ratio,
    chance_density,
    closing_circle,
    directions,
    line_logit,
    map_level,
    torsion_ratio,
)

__all__ = ["Fragments", "bridge_fragments"]

#: Weight of an end without a join beside missing^gap of those with one: last residues of chains,
#: longer gaps, fragments gone wrong. Set so that probabilities are not far too high (bench_trace).
_ALONE = 0.1
#: Most Å between residues with one and with two between them.
_REACH = {0: FARTHEST, 1: 7.7, 2: 10.8}
#: Points on the circle of a residue that is placed between two, and of the first of two residues on
#: its sphere.
_CIRCLE, _SPHERE = 16, 80
#: Å between a residue and others that are no neighbours: where as many are nearer as farther than
#: chance says, and the standard deviation.
_ROOM, _ROOM_SD = 4.3, 0.4
#: Heat of N and C on a step, and of Cα at a residue, that tells as much for as against; logits a
#: unit; most logits.
_BOND_HEAT, _ALPHA_HEAT, _HEAT_MOST = (0.3, 6.0), (0.1, 6.0), 2.0
#: Most that the directions of two fragments say for or against, as the logit of one.
_SURE = 4.0
_SWEEPS, _DAMPING, _STILL = 200, 0.5, 1e-6


@dataclass(frozen=True)
class Fragments:
    """Paths through positions, with the probability of each step.

    Attributes
    ----------
    paths : list of ndarray of int64
        Rows of `positions`, two or more each.
    steps : list of ndarray of float64
        One fewer than the path has rows.
    positions : ndarray of float64, shape (n + m, 3)
        In Å: n candidates, then m that were placed.
    """

    paths: list[np.ndarray]
    steps: list[np.ndarray]
    positions: np.ndarray


def bridge_fragments(
    fragments: Fragments, direction, *, width: float, missing: float, least: float, most: int,
    false: float, volume=None, heat=None,
) -> Fragments:  # fmt: skip
    """Join fragments over residues without a candidate, which are placed.

    Parameters
    ----------
    fragments : Fragments
        Of candidates alone.
    direction : ndarray of float64, shape (fragments,)
        Logits that they go from N to C; NaN where nothing is known.
    width : float
        Standard deviation of the length of a step in Å.
    missing, least, false : float
        Probability that a residue has no candidate; least probability of a join; share of
        candidates that are no Cα atoms.
    most : int
        Residues, up to two, that are placed in a join.
    volume, heat
        As for `cryonb.trace.chains.trace_chains`.

    Notes
    -----
    A join of two ends weighs the integral, over the places that missing residues may have, of
    steps of 3.8 Å, the angles at all residues and what map or heat maps say; over the density of
    ends by chance. The last candidate of a fragment may be a false one, so joins from the one
    before it are tried as well. Each end has one join or none: the probabilities of all joins come
    from belief propagation on that graph, and joins are taken, the most probable first.
    """
    if len(fragments.paths) < 2:
        return fragments
    ends = _Ends.of(fragments)
    model = _Joins(fragments, ends, width, missing, false, volume, heat)
    joins = model.all(most, np.nan_to_num(direction))
    if not len(joins.one):
        return fragments
    alone = missing ** (most + 1) + _ALONE
    probability, best = _matching(joins, 2 * len(fragments.paths), alone)
    return _joined(fragments, ends, joins, probability, best, least)


@dataclass(frozen=True)
class _Ends:
    """Ends of fragments: fragment k has ends 2k (its first row) and 2k + 1 (its last).

    `row` is the candidate that a join begins at, `inner` the next one within; `cut` whether the
    outermost candidate is left out; `log` what that costs.
    """

    end: np.ndarray
    row: np.ndarray
    inner: np.ndarray
    cut: np.ndarray
    log: np.ndarray

    @classmethod
    def of(cls, fragments: Fragments) -> _Ends:
        found = []
        for k, (path, steps) in enumerate(zip(fragments.paths, fragments.steps, strict=True)):
            for end, rows, step in ((2 * k, path, steps[0]), (2 * k + 1, path[::-1], steps[-1])):
                found.append((end, rows[0], rows[1], False, 0.0))
                if len(rows) > 2:
                    odds = min(np.log1p(-min(step, 1 - 1e-6)) - np.log(step), 0.0)
                    found.append((end, rows[1], rows[2], True, odds))
        return cls(*(np.array(column) for column in zip(*found, strict=True)))


@dataclass(frozen=True)
class _JoinTable:
    """Joins of variants `one` and `two` of ends, by `places` (n, gap, 3)."""

    one: np.ndarray
    two: np.ndarray
    ends: np.ndarray
    log: np.ndarray
    places: list[np.ndarray]


class _Joins:
    """Weights of joins."""

    def __init__(self, fragments, ends, width, missing, false, volume, heat):
        self.fragments, self.ends, self.missing = fragments, ends, missing
        self.position, self.width, self.false = fragments.positions, width, false
        self.volume, self.heat = volume, heat
        self.level = None if volume is None else map_level(volume, self.position)
        self.used = np.concatenate(fragments.paths)
        self.tree = cKDTree(self.position[self.used])
        #: Ends among candidates.
        self.share = max(2 * len(fragments.paths) / len(self.position), 2 * missing)

    def all(self, most: int, direction) -> _JoinTable:
        ends = self.ends
        place = self.position[ends.row]
        reach = _REACH[most] + 2 * self.width
        pairs = cKDTree(place).query_pairs(reach, output_type="ndarray")
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        pairs = pairs[ends.end[pairs[:, 0]] // 2 != ends.end[pairs[:, 1]] // 2]
        # Which end is called the first shall not depend on the order of candidates.
        inner = self.position[ends.inner]
        line = place[pairs[:, 1]] - place[pairs[:, 0]]
        turn = ((place - inner)[pairs[:, 0]] * line).sum(axis=1)
        turn += ((place - inner)[pairs[:, 1]] * line).sum(axis=1)
        pairs[turn > 0] = pairs[turn > 0][:, ::-1]
        length = np.linalg.norm(line, axis=1)
        along = direction[ends.end // 2] * np.where(ends.end % 2, 1, -1)
        found = []
        for gap in range(most + 1):
            least = NEAREST if gap == 0 else 3.6
            which = np.flatnonzero((length > least) & (length < _REACH[gap] + 2 * self.width))
            if not len(which):
                continue
            one, two = pairs[which].T
            log, places = (self._touching, self._over_one, self._over_two)[gap](one, two)
            log = log + gap * np.log(self.missing) + np.log(1 - self.missing)
            log -= np.log(chance_density(length[which], self.width, self.false) * self.share)
            log += ends.log[one] + ends.log[two]
            # One fragment goes to the join and the other from it.
            a, b = (np.clip(along[k], -_SURE, _SURE) for k in (one, two))
            log += np.log(2) + np.log(expit(a) * expit(-b) + expit(-a) * expit(b))
            kept = log > -12
            found.append((one[kept], two[kept], log[kept], list(places[kept])))
        if not found:
            none = np.empty(0, np.int64)
            return _JoinTable(none, none, np.empty((0, 2), np.int64), np.empty(0), [])
        one, two, log = (np.concatenate([part[k] for part in found]) for k in range(3))
        places = [place for part in found for place in part[3]]
        return _JoinTable(one, two, np.stack([ends.end[one], ends.end[two]], axis=1), log, places)

    def _touching(self, one, two):
        """No residue between."""
        (a1, a), (b1, b) = self._corner(one), self._corner(two)
        length = np.linalg.norm(a - b, axis=1)
        sd = np.hypot(self.width, 0.1)
        log = -(((length - STEP) / sd) ** 2) / 2 - np.log(sd * np.sqrt(2 * np.pi))
        log -= np.log(4 * np.pi * length**2)
        log += np.log(bend_ratio(a, a1, b, self.width) * bend_ratio(b, a, b1, self.width))
        log += np.log(torsion_ratio(a1, a, b, b1, self.width))
        return log + self._seen(np.stack([a, b], axis=1)), np.empty((len(one), 0, 3))

    def _over_one(self, one, two):
        """One residue between, somewhere on a circle."""
        (a1, a), (b1, b) = self._corner(one), self._corner(two)
        middle, closing = closing_circle(a, b, a1, _CIRCLE, self.width)
        a, a1, b, b1 = (x[:, None] for x in (a, a1, b, b1))
        weight = bend_ratio(a, a1, middle, self.width) * bend_ratio(middle, a, b, self.width)
        weight *= bend_ratio(b, middle, b1, self.width) * closing[:, None]
        weight *= torsion_ratio(a1, a, middle, b, self.width)
        weight *= torsion_ratio(a, middle, b, b1, self.width)
        pair, turn, log = _worth(weight, 7)
        chain = np.stack([a[pair, 0], middle[pair, turn], b[pair, 0]], axis=1)
        log += self._seen(chain) + self._room(chain, one[pair], two[pair])
        return _averaged(log - np.log(_CIRCLE), pair, chain, len(one))

    def _over_two(self, one, two):
        """Two residues between: the first on a sphere, the second on a circle."""
        (a1, a), (b1, b) = self._corner(one), self._corner(two)
        first = a[:, None] + STEP * directions(_SPHERE) @ frames(a1, a, b)
        begin = bend_ratio(a[:, None], a1[:, None], first, self.width)
        apart = np.linalg.norm(first - b[:, None], axis=-1)
        pair, way = np.nonzero((begin > 0.05) & (apart < 2 * STEP + self.width) & (apart > 3.6))
        m1 = first[pair, way]
        m2, closing = closing_circle(m1, b[pair], a[pair], _CIRCLE, self.width)
        m1, at, end, beyond = (x[:, None] for x in (m1, a[pair], b[pair], b1[pair]))
        weight = (begin[pair, way] * closing)[:, None] * bend_ratio(m1, at, m2, self.width)
        weight *= bend_ratio(m2, m1, end, self.width) * bend_ratio(end, m2, beyond, self.width)
        weight *= torsion_ratio(a1[pair][:, None], at, m1, m2, self.width)
        weight *= torsion_ratio(at, m1, m2, end, self.width)
        weight *= torsion_ratio(m1, m2, end, beyond, self.width)
        line, turn, log = _worth(weight, np.inf)
        pair = pair[line]
        # Only what matters beside the best of its join.
        best = np.full(len(one), -np.inf)
        np.maximum.at(best, pair, log)
        kept = log > best[pair] - 5
        line, turn, pair, log = line[kept], turn[kept], pair[kept], log[kept]
        chain = np.stack([a[pair], m1[line, 0], m2[line, turn], b[pair]], axis=1)
        log += self._seen(chain) + self._room(chain, one[pair], two[pair])
        return _averaged(log - np.log(_CIRCLE * _SPHERE), pair, chain, len(one))

    def _corner(self, which):
        return self.position[self.ends.inner[which]], self.position[self.ends.row[which]]

    def _room(self, chain, one, two) -> np.ndarray:
        """Log of how free the placed residues of chains (n, 2 + gap, 3) are of other residues."""
        placed = chain[:, 1:-1]
        apart, near = self.tree.query(placed, k=min(6, len(self.used)), distance_upper_bound=5.5)
        rows = np.append(self.used, -1)[near.reshape(len(placed), placed.shape[1], -1)]
        apart = apart.reshape(rows.shape)
        own = np.zeros(rows.shape, dtype=bool)
        for which in (one, two):
            end = self.ends.end[which]
            for rows_of in (self.ends.row[which], self.ends.inner[which], self._outermost[end]):
                own |= rows == rows_of[:, None, None]
        soft = np.hypot(_ROOM_SD, self.width)
        found = np.where(own | (rows < 0), 0.0, log_ndtr((apart - _ROOM) / soft))
        return np.maximum(found, -4.0).sum(axis=(1, 2))

    @property
    def _outermost(self):
        return np.array([row for path in self.fragments.paths for row in (path[0], path[-1])])

    def _seen(self, chain) -> np.ndarray:
        """Logits of chains (n, 2 + gap, 3) by map and heat maps."""
        log = np.zeros(len(chain))
        first, last = chain[:, :-1], chain[:, 1:]
        if self.volume is not None:
            log += line_logit(self.volume, self.level, first, last, points=3).sum(axis=1)
        if self.heat is not None:
            log += _heat_logit(self.heat, chain)
        return log


def _heat_logit(heat, chain) -> np.ndarray:
    """Logits by the heat of N and C between residues, either way, and of Cα at those placed."""
    first, last = chain[:, :-1], chain[:, 1:]
    early, late = first + 0.38 * (last - first), first + 0.62 * (last - first)

    def read(name, points):
        return np.nan_to_num(heat[name].sample(points.reshape(-1, 3))).reshape(points.shape[:-1])

    even, slope = _BOND_HEAT
    ways = [
        np.clip(slope * ((read("C", c) + read("N", n)) / 2 - even), -_HEAT_MOST, _HEAT_MOST)
        for c, n in ((early, late), (late, early))
    ]
    log = np.logaddexp(*(way.sum(axis=1) for way in ways)) - np.log(2)
    if chain.shape[1] > 2:
        even, slope = _ALPHA_HEAT
        alpha = slope * (read("CA", chain[:, 1:-1]) - even)
        log += np.clip(alpha, -_HEAT_MOST, _HEAT_MOST).sum(axis=1)
    return log


def _worth(weight, below: float):
    """Rows, columns and logs of weights (n, k), but for those far below the best of the row."""
    log = np.log(weight + 1e-30)
    row, column = np.nonzero(log > np.maximum(log.max(axis=1, keepdims=True) - below, -30))
    return row, column, log[row, column]


def _averaged(log, pair, chain, n: int):
    """Log of the sum of the choices of each of n joins, and the residues placed by the best."""
    order = np.lexsort((-log, pair))
    which, first = np.unique(pair[order], return_index=True)
    top = np.full(n, -np.inf)
    top[which] = log[order[first]]
    places = np.zeros((n, chain.shape[1] - 2, 3))
    places[which] = chain[order[first], 1:-1]
    found = np.full(n, -np.inf)
    total = np.bincount(pair, np.exp(log - top[pair]), n)
    found[which] = top[which] + np.log(total[which])
    return found, places


def _matching(joins: _JoinTable, n: int, alone: float):
    """Probability of two ends to be joined, and the row of the best join, a row a pair of ends."""
    ends = np.sort(joins.ends, axis=1)
    key, of = np.unique(ends[:, 0] * n + ends[:, 1], return_inverse=True)
    weight = np.bincount(of, np.exp(np.clip(joins.log, -30, 30)))
    order = np.lexsort((joins.log, of))
    best = order[np.append(np.flatnonzero(np.diff(of[order])), len(order) - 1)]
    pairs = np.stack([key // n, key % n], axis=1)
    at = np.concatenate([pairs[:, 0], pairs[:, 1]])
    other = np.roll(np.arange(len(at)), len(pairs))
    twice = np.tile(weight, 2)
    # What an end says of itself to another: the inverse of all that it could do without that one.
    message = np.full(len(at), 1 / alone)
    for _ in range(_SWEEPS):
        inward = twice * message[other]
        total = np.bincount(at, inward, n)[at]
        found = 1 / (alone + np.maximum(total - inward, 0))
        change = np.abs(np.log(found / message)).max()
        message = message**_DAMPING * found ** (1 - _DAMPING)
        if change < _STILL:
            break
    odds = weight * message[: len(pairs)] * message[len(pairs) :]
    return odds / (1 + odds), best


def _joined(fragments, ends, joins, probability, best, least) -> Fragments:
    """Take joins, the most probable first, that close no ring."""
    from networkx.utils import UnionFind

    paths = [path.copy() for path in fragments.paths]
    steps = [step.copy() for step in fragments.steps]
    union = UnionFind(range(len(paths)))
    # Of each end: what it is joined to, the rows between, the probability.
    taken: dict[int, tuple] = {}
    cut = [[0, 0] for _ in paths]
    placed = []
    count = len(fragments.positions)
    for k in np.argsort(-probability, kind="stable"):
        if probability[k] < least:
            break
        join = best[k]
        one, two = joins.one[join], joins.two[join]
        a, b = int(ends.end[one]), int(ends.end[two])
        trims = [(a, int(ends.cut[one])), (b, int(ends.cut[two]))]
        if a in taken or b in taken or union[a // 2] == union[b // 2]:
            continue
        if any(len(paths[e // 2]) - sum(cut[e // 2]) - trim < 2 for e, trim in trims):
            continue
        for end, trim in trims:
            cut[end // 2][end % 2] = trim
        union.union(a // 2, b // 2)
        rows = list(range(count, count + len(joins.places[join])))
        count += len(rows)
        placed.extend(joins.places[join])
        taken[a] = (b, rows, probability[k])
        taken[b] = (a, rows[::-1], probability[k])
    for k, (front, back) in enumerate(cut):
        paths[k] = paths[k][front : len(paths[k]) - back]
        steps[k] = steps[k][front : len(steps[k]) - back]
    positions = np.vstack([fragments.positions, np.reshape(placed, (-1, 3))])
    return Fragments(*_walked(paths, steps, taken), positions)


def _walked(paths, steps, taken):
    """Paths and steps of joined fragments, each from an end that has no join."""
    found, of_steps, seen = [], [], set()
    for first in range(2 * len(paths)):
        if first in taken or first // 2 in seen:
            continue
        path, step, end = [], [], first
        while True:
            k, turn = end // 2, -1 if end % 2 else 1
            seen.add(k)
            path.extend(paths[k][::turn].tolist())
            step.extend(steps[k][::turn].tolist())
            if end ^ 1 not in taken:
                break
            end, rows, value = taken[end ^ 1]
            path.extend(rows)
            step.extend([float(value)] * (len(rows) + 1))
        found.append(np.array(path, dtype=np.int64))
        of_steps.append(np.array(step))
    return found, of_steps
