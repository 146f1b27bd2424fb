"""How sure each residue of a path through the hidden Markov model is of its state."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from cryonb.trace.hidden_markov import ChainModel

__all__ = ["posterior"]

#: A state of the path may be another residue's if that is at most so far along the chain.
_SHIFT = 10


def posterior(model: ChainModel, codes: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Sum over all paths (forward and backward) what share goes through each cell of a path.

    States are not kept from being used twice along a path, which such sums cannot do; instead the
    states of the path given are open to residues within ten of their own alone, so that a shift
    of the sequence by up to ten competes, and so do all unused states.

    The values rank residues, they are no frequencies: since paths that go to and fro between
    states count as well, they are far too low among noise points. In seven simulated cases with
    as many noise points as residues, of which 70 % were placed rightly, the mean was 0.27 where
    right and 0.04 where wrong (area under the ROC curve 0.9).

    Parameters
    ----------
    model : ChainModel
        The model.
    codes : ndarray of int, shape (T,)
        Columns of `LETTERS`; 20 for an unknown residue.
    states : ndarray of int, shape (T,)
        The path, -1 for none.

    Returns
    -------
    ndarray of float64, shape (T,)
        0 where the path has no state.
    """
    n, length = len(model), len(codes)
    placed = np.flatnonzero(states >= 0)
    found = np.zeros(length)
    if not len(placed):
        return found
    owner = np.full(n, -1)
    owner[states[placed]] = placed
    free = owner < 0
    emission = np.exp(model.log_emission)
    skip = np.exp(model.skip(codes))
    leave = np.exp(model.leave)
    # A step counts as the better of its own weight and a jump's, and jumps are counted apart.
    steps = [
        csr_array((np.maximum(np.exp(weight) - leave[start], 0.0), (end, start)), (n, n))
        for start, end, weight in model.steps
    ]

    def emit(time):
        return emission[:, codes[time]] * (free | (np.abs(owner - time) <= _SHIFT))

    # Columns carry a common scale, whose logarithm is kept apart.
    scale, before, gap, ended, columns = 0.0, 1.0, 0.0, 0.0, []
    forward = np.full(length, -np.inf)
    for time in range(length):
        value = before * np.exp(model.first(codes[time]))
        left = leave @ columns[0] if columns else 0.0
        value += left + gap
        skipped = 1.0
        for missing, step in enumerate(steps[: len(columns)]):
            value += skipped * (step @ columns[missing])
            skipped *= skip[time - 1 - missing]
        value *= emit(time)
        gap = (gap + left) * skip[time]
        ended = (ended + (columns[0].sum() if columns else 0.0)) * skip[time]
        before *= skip[time]
        total = value.sum() + gap + before + ended
        columns = [column / total for column in (value, *columns[: model.bridge])]
        gap, before, ended, scale = (
            gap / total,
            before / total,
            ended / total,
            scale + np.log(total),
        )
        if states[time] >= 0:
            forward[time] = _log(columns[0][states[time]]) + scale
    everything = np.log(columns[0].sum() + ended + before) + scale

    scale, gap, ended, columns = 0.0, 0.0, 1.0, []
    for time in range(length - 1, -1, -1):
        value = np.full(n, ended)
        entered = columns[0].sum() if columns else 0.0
        value += leave * (entered + gap)
        skipped = 1.0
        for missing, step in enumerate(steps[: len(columns)]):
            value += skipped * (columns[missing] @ step)
            skipped *= skip[time + 1 + missing]
        if states[time] >= 0:
            at = states[time]
            found[time] = np.exp(forward[time] + _log(value[at]) + scale - everything)
        gap = (gap + entered) * skip[time]
        ended *= skip[time]
        value *= emit(time)
        total = value.sum() + gap + ended
        columns = [column / total for column in (value, *columns[: model.bridge])]
        gap, ended, scale = gap / total, ended / total, scale + np.log(total)
    # Rounding may add up to a hair more than one.
    return np.minimum(found, 1.0)


def _log(value: float) -> float:
    return float(np.log(value)) if value > 0 else -np.inf
