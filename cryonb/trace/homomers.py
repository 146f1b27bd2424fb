"""Copies of a chain that have exchanged their tails, mended."""

from __future__ import annotations

import numpy as np

from cryonb.trace.hidden_markov import ChainModel
from cryonb.trace.steps import bend_ratio, torsion_ratio

__all__ = ["chain_geometry", "exchange_tails"]

#: Exchanges at one residue that are looked at, best first, and their pairs.
_SINGLE, _PAIRED = 40, 20
#: An exchange has to raise the score by this much.
_LEAST = 0.1
_ROUNDS = 10


def exchange_tails(
    model: ChainModel, codes: np.ndarray, paths: list[np.ndarray]
) -> list[np.ndarray]:
    """Exchange tails, or parts, of copies of a chain where that makes better chains of both.

    Copies emit the same residues, so that an exchange changes only the steps at which it happens:
    their log probabilities in the model, plus `chain_geometry`, which the model does not know.

    Parameters
    ----------
    model : ChainModel
        With the states of all copies.
    codes : ndarray of int, shape (T,)
        The sequence that they share.
    paths : list of ndarray of int64, shape (T,)
        States of each copy, -1 for none; no state twice in all of them.

    Returns
    -------
    list of ndarray of int64, shape (T,)
        The same states; of each pair of copies, no exchange at one residue, or of one part between
        two, that was looked at raises the sum of their scores.
    """
    paths = [path.copy() for path in paths]
    scores = [_score(model, codes, path) for path in paths]
    for _ in range(_ROUNDS):
        changed = False
        for i in range(len(paths)):
            for j in range(i + 1, len(paths)):
                best, pair = scores[i] + scores[j] + _LEAST, None
                for one, two in _exchanges(model, paths[i], paths[j]):
                    found = _score(model, codes, one), _score(model, codes, two)
                    if sum(found) > best:
                        best, pair = sum(found), (one, two, found)
                if pair:
                    paths[i], paths[j], (scores[i], scores[j]) = pair
                    changed = True
        if not changed:
            break
    return paths


def chain_geometry(positions: np.ndarray, width: float) -> float:
    """Log ratios to chance of the angles and torsions of a chain's Cα atoms.

    Parameters
    ----------
    positions : ndarray, shape (T, 3)
        In Å; NaN for a residue without, which ends a stretch.
    width : float
        Standard deviation of a step in Å.
    """
    whole = np.isfinite(positions[:, 0])
    x = np.where(whole[:, None], positions, 0.0)
    total = 0.0
    for many, ratio in ((3, _bend), (4, torsion_ratio)):
        rows = np.arange(len(x) - many + 1)
        rows = rows[np.all([whole[rows + k] for k in range(many)], axis=0)] if len(rows) else rows
        if len(rows):
            total += np.log(ratio(*(x[rows + k] for k in range(many)), width)).sum()
    return float(total)


def _bend(a, b, c, width):
    return bend_ratio(b, a, c, width)


def _score(model, codes, path) -> float:
    positions = np.where((path >= 0)[:, None], model.positions[path], np.nan)
    # Over a jump there is no chain.
    step = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    pieces = np.split(positions, np.flatnonzero(step > model.reach) + 1)
    bent = sum(chain_geometry(piece, model.spread) for piece in pieces)
    return model.log_probability(path, codes) + bent


def _exchanges(model, one, two):
    """Pairs of paths with tails, or a part, exchanged, where the steps allow it best."""
    cuts = np.arange(1, len(one))
    worth = _junction(model, one, two, cuts) + _junction(model, two, one, cuts)
    worth -= _junction(model, one, one, cuts) + _junction(model, two, two, cuts)
    order = np.argsort(-worth, kind="stable")
    # As bad as a jump more than there was is no exchange to look at.
    order = order[worth[order] > model.jump / 2]
    cuts = cuts[order]
    for cut in cuts[:_SINGLE]:
        yield _swapped(one, two, cut, len(one))
    few = np.sort(cuts[:_PAIRED])
    for k, begin in enumerate(few):
        for end in few[k + 1 :]:
            yield _swapped(one, two, begin, end)


def _swapped(one, two, begin, end):
    first, second = one.copy(), two.copy()
    first[begin:end], second[begin:end] = two[begin:end], one[begin:end]
    return first, second


def _junction(model, head, tail, cuts) -> np.ndarray:
    """Log weight of the step from the last state of a head to the first of a tail."""
    every = np.arange(len(head))
    last = np.maximum.accumulate(np.where(head >= 0, every, -1))[cuts - 1]
    first = np.minimum.accumulate(np.where(tail >= 0, every, len(head))[::-1])[::-1][cuts]
    found = np.zeros(len(cuts))
    both = (last >= 0) & (first < len(head))
    a, b = last[both], first[both]
    found[both] = model.step_weight(head[a], tail[b], b - a - 1)
    return found
