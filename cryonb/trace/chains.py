"""Chains traced through Cα candidates without a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import expit

from cryonb.errors import CryonbError
from cryonb.trace.alignment import ChainAlignment, ca_structure
from cryonb.trace.bridging import Fragments, bridge_fragments
from cryonb.trace.peaks import Peaks
from cryonb.trace.steps import (
    FARTHEST,
    NEAREST,
    STEP,
    bend_ratio,
    chance_density,
    line_logit,
    map_level,
)
from cryonb.volume import Volume

__all__ = ["ChainTrace", "trace_chains"]

#: Share and distance of cis peptides.
_CIS, _CIS_STEP = 0.003, 2.95
_ROUNDS, _SWEEPS, _DAMPING, _STILL = 4, 80, 0.5, 1e-4


@dataclass(frozen=True, repr=False)
class ChainTrace:
    """Fragments of chain through candidates.

    Attributes
    ----------
    paths : tuple of ndarray of int64
        Rows of the candidates, in order, the longest fragment first.
    steps : tuple of ndarray of float64
        Probability of each step: one fewer than the path has rows.
    direction : ndarray of float64, shape (number of paths,)
        Logits that a path goes from N to C. NaN where nothing told: then the order says nothing.
    positions : ndarray of float64, shape (n + m, 3)
        All n candidates, in Å, then m residues that had none and were placed.
    bridged : ndarray of bool, shape (n + m,)
        Which rows are of those.
    spread : float
        Standard deviation in Å of the length of a step, as found or given.
    """

    paths: tuple[np.ndarray, ...]
    steps: tuple[np.ndarray, ...]
    direction: np.ndarray
    positions: np.ndarray
    bridged: np.ndarray
    spread: float

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def scores(self) -> np.ndarray:
        """Expected number of right steps of each path."""
        return np.array([steps.sum() for steps in self.steps])

    def structure(self):
        """Make a model of Cα atoms, a chain a path, of residues UNK: a gemmi.Structure.

        B is the probability of the steps to a residue, on average, from 0 to 100.
        """
        chains = []
        for path, steps in zip(self.paths, self.steps, strict=True):
            beside = np.append(steps[:1], steps), np.append(steps, steps[-1:])
            chains.append(
                ChainAlignment(
                    "X" * len(path), path, self.positions[path], np.mean(beside, axis=0),
                    np.array([[0, len(path) - 1]]), np.nan, np.nan, np.nan, "traced",
                )
            )  # fmt: skip
        return ca_structure(chains)

    def __repr__(self) -> str:
        longest = len(self.paths[0]) if self.paths else 0
        placed = sum(int(self.bridged[path].sum()) for path in self.paths)
        more = f" and {placed} residues without one" if placed else ""
        return (
            f"<ChainTrace: {sum(map(len, self.paths)) - placed} of {(~self.bridged).sum()} "
            f"candidates{more} in {len(self)} fragments, the longest of {longest}>"
        )


def trace_chains(
    peaks, *, volume: Volume | None = None, resolution: float | None = None, heat=None,
    spread: float | None = None, missing: float = 0.1, least: float = 0.5, shortest: int = 3,
    bridge: int = 2,
) -> ChainTrace:  # fmt: skip
    """Trace chains through Cα candidates whose sequence is not known.

    A candidate is nothing, or has up to two neighbours in a chain. What is known of pairs (their
    distance, the map's least density between them) and of triples (the angle) is put together for
    all candidates at once by belief propagation, which gives each step a probability; steps are
    taken, the most probable first, where they neither branch nor close a ring.

    Parameters
    ----------
    peaks : Peaks or array-like, shape (n, 3)
        Candidates; scores count as probabilities of being a Cα atom. Positions in Å alone have 0.9.
    volume : Volume, optional
        The map, for the density between candidates and for the direction of chains.
    resolution : float, optional
        Of the map in Å, without which it does not tell directions; that which a `DensityMap` knows
        by default.
    heat : ProbabilityVolume, optional
        Heat maps with the classes CA, N and C, which help to place missing residues and to tell
        directions.
    spread : float, optional
        Standard deviation in Å of the length of a step; found from the candidates by default.
    missing : float
        Probability that the next residue of a chain has no candidate.
    least : float
        Least probability of a step that is taken.
    shortest : int
        Shorter paths are left out.
    bridge : {0, 1, 2}
        Up to how many residues without a candidate are placed between two fragments.

    Returns
    -------
    ChainTrace
        With `.paths`, `.steps`, `.direction` and `.structure()`.

    Raises
    ------
    CryonbError
        If positions are no (n, 3), a probability is none, or the map is empty at the candidates.

    Notes
    -----
    Where residues have no candidate, fragments are joined by `cryonb.trace.bridging`, which places
    up to `bridge` residues between two of them where the density is (`.bridged`). A third of the
    joins that positions alone suggest are wrong; give the map. Cα positions alone do not tell N
    from C.

    References
    ----------
    The sum-product rule on a graph with loops: Kschischang, Frey & Loeliger, IEEE Transactions on
    Information Theory 47, 498 (2001).
    """
    positions, score = _candidates(peaks)
    for name, value in (("missing", missing), ("least", least)):
        if not 0 < value < 1:
            raise CryonbError(f"A {name} between 0 and 1 was expected, but {value!r} was given.")
    if bridge not in (0, 1, 2):
        raise CryonbError(f"A bridge of 0, 1 or 2 residues was expected, but {bridge!r} was asked.")
    if not len(positions):
        return ChainTrace((), (), np.empty(0), positions, np.empty(0, bool), np.nan)
    pairs = cKDTree(positions).query_pairs(FARTHEST, output_type="ndarray")
    length = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    pairs, length = pairs[length >= NEAREST], length[length >= NEAREST]
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs, length = pairs[order], length[order]
    seen = _between(volume, positions, pairs)
    graph = _Graph(positions, pairs)
    width = 0.35 if spread is None else float(spread)
    for _ in range(_ROUNDS if spread is None else 1):
        weight = _length_logit(length, width, score) + seen
        probability = graph.beliefs(weight, width, score, missing)
        if spread is None and probability.sum() > 1:
            square = (probability * (length - STEP) ** 2).sum() / probability.sum()
            width = float(np.clip(np.sqrt(square), 0.05, 0.7))
    found = Fragments(*_walk(len(positions), pairs, probability, least), positions)
    if bridge:
        direction = _directions(positions, found.paths, volume, resolution, heat)
        found = bridge_fragments(
            found, direction, width=width, missing=missing, least=least, most=bridge,
            false=1 - score.mean(), volume=volume, heat=heat,
        )  # fmt: skip
    kept = [k for k, path in enumerate(found.paths) if len(path) >= shortest]
    kept.sort(key=lambda k: (-len(found.paths[k]), found.paths[k].min()))
    paths, steps = ([parts[k] for k in kept] for parts in (found.paths, found.steps))
    direction = _directions(found.positions, paths, volume, resolution, heat)
    turn = direction < 0
    paths = tuple(p[::-1] if t else p for p, t in zip(paths, turn, strict=True))
    steps = tuple(s[::-1] if t else s for s, t in zip(steps, turn, strict=True))
    bridged = np.arange(len(found.positions)) >= len(positions)
    return ChainTrace(paths, steps, np.abs(direction), found.positions, bridged, width)


def _candidates(peaks):
    if isinstance(peaks, Peaks):
        positions, score = peaks.position, np.asarray(peaks.score, dtype=np.float64)
    else:
        positions = np.asarray(peaks, dtype=np.float64)
        score = np.full(len(positions) if positions.ndim else 0, 0.9)
    if positions.ndim != 2 or positions.shape[1] != 3 or not np.isfinite(positions).all():
        raise CryonbError(
            f"Finite positions of shape (n, 3) in Å were expected, but {positions.shape} was given."
        )
    return positions, np.clip(score, 0.05, 0.98)


def _length_logit(length, width, score):
    """How much better a step explains the length of a pair than chance does."""

    def normal(mean, sd):
        return np.exp(-(((length - mean) / sd) ** 2) / 2) / (sd * np.sqrt(2 * np.pi))

    step = (1 - _CIS) * normal(STEP, width) + _CIS * normal(_CIS_STEP, np.hypot(width, 0.1))
    crowd = chance_density(length, width, 1 - score.mean())
    return np.log(step + 1e-9) - np.log(4 * np.pi * length**2 * crowd)


def _between(volume, positions, pairs):
    """Logits of steps by the least density on the line between their ends."""
    if volume is None or not len(pairs):
        return np.zeros(len(pairs))
    level = map_level(volume, positions)
    return line_logit(volume, level, positions[pairs[:, 0]], positions[pairs[:, 1]])


class _Graph:
    """Candidates and pairs; every pair counts twice, once seen from each of its ends."""

    def __init__(self, positions, pairs):
        self.n, self.pairs = len(positions), pairs
        self.at = np.concatenate([pairs[:, 0], pairs[:, 1]])
        self.to = np.concatenate([pairs[:, 1], pairs[:, 0]])
        edges = len(self.at)
        self.other = np.roll(np.arange(edges), len(pairs))
        # All ordered pairs of edges of one candidate.
        order = np.argsort(self.at, kind="stable")
        count = np.bincount(self.at, minlength=self.n)
        start = np.cumsum(count) - count
        size = count[self.at[order]]
        one = np.repeat(order, size)
        inner = np.arange(len(one)) - np.repeat(np.cumsum(size) - size, size)
        two = order[np.repeat(start[self.at[order]], size) + inner]
        self.one, self.two = one[one != two], two[one != two]
        self.corners = (
            positions[self.at[self.one]], positions[self.to[self.one]], positions[self.to[self.two]]
        )  # fmt: skip

    def beliefs(self, weight, width, score, missing) -> np.ndarray:
        """Probability of every pair to be a step."""
        bend = bend_ratio(*self.corners, width)
        edges, weight = len(self.at), np.tile(weight, 2)
        # Each of the two neighbours of a residue may be missing.
        there, score = 1 - missing, score[self.at]
        none, single, double = (
            1 - score + score * missing**2, score * missing * there, score * there**2
        )  # fmt: skip
        message = np.zeros(edges)
        for _ in range(_SWEEPS):
            inward = np.exp(np.clip(weight + message[self.other], -30, 20))
            total = np.bincount(self.at, inward, self.n)[self.at]
            beside = np.bincount(self.one, bend * inward[self.two], edges)
            both = np.bincount(self.at, inward * beside, self.n)[self.at] / 2
            # Without this edge, and with it.
            out = none + single * np.maximum(total - inward, 0)
            out += double * np.maximum(both - inward * beside, 0)
            found = np.log(single + double * beside) - np.log(out)
            change = np.abs(found - message).max(initial=0)
            message = _DAMPING * message + (1 - _DAMPING) * found
            if change < _STILL:
                break
        return expit(weight + message + message[self.other])[: len(self.pairs)]


def _walk(n, pairs, probability, least):
    """Take steps, the most probable first, that neither branch nor close a ring: paths."""
    import networkx as nx
    from networkx.utils import UnionFind

    graph, fragments = nx.Graph(), UnionFind(range(n))
    degree = np.zeros(n, dtype=int)
    order = np.argsort(-probability, kind="stable")
    for edge in order[probability[order] >= least]:
        i, j = pairs[edge].tolist()
        if degree[i] < 2 and degree[j] < 2 and fragments[i] != fragments[j]:
            fragments.union(i, j)
            degree[[i, j]] += 1
            graph.add_edge(i, j, probability=float(probability[edge]))
    found = []
    for nodes in nx.connected_components(graph):
        begin = min(node for node in nodes if degree[node] == 1)
        path = np.array(list(nx.dfs_preorder_nodes(graph, begin)), dtype=np.int64)
        steps = [graph.edges[pair]["probability"] for pair in pairwise(path.tolist())]
        found.append((path, np.array(steps)))
    return [path for path, _ in found], [steps for _, steps in found]


def _directions(positions, paths, volume, resolution, heat) -> np.ndarray:
    """Logits that paths go from N to C, by map and heat maps; NaN where nothing tells."""
    found = np.full((2, len(paths)), np.nan)
    if heat is not None:
        found[0] = [_heat_direction(positions[path], heat) for path in paths]
    resolution = getattr(volume, "resolution", None) if resolution is None else resolution
    if volume is not None and resolution is not None:
        from cryonb.trace.residue_types import direction_logit

        found[1] = [direction_logit(positions[path], volume, resolution) for path in paths]
    return np.where(np.isnan(found).all(axis=0), np.nan, np.nansum(found, axis=0))


def _heat_direction(points, heat) -> float:
    """Logit by heat: C lies at 0.38 of a step along the chain, N at 0.62, where C is backwards."""
    first, last = points[:-1], points[1:]
    early, late = first + 0.38 * (last - first), first + 0.62 * (last - first)
    n, c = heat["N"], heat["C"]
    forward = np.nan_to_num(c.sample(early) + n.sample(late))
    backward = np.nan_to_num(c.sample(late) + n.sample(early))
    return float(4.0 * (forward - backward).sum())
