"""Runs of a chain along sequences: the best of them, and those of shuffled sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Run", "best_run", "run_scores"]

#: Log cost of a residue too many or too few in the trace, and of two in a row.
_SHIFTS = (7.0, 9.0)
#: Log cost of an end of the run that is not an end of the fragment.
_CUT = 5.0


@dataclass(frozen=True)
class Run:
    """A fragment's residues and the places in a sequence that they have.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Residues of the fragment, ascending.
    places : ndarray of int64, shape (n,)
        Of the sequence, from 0, ascending.
    score : float
        Sum of log ratios, less the costs of shifts and cuts.
    """

    rows: np.ndarray
    places: np.ndarray
    score: float


def best_run(ratio: np.ndarray, codes: np.ndarray, allowed: np.ndarray) -> Run | None:
    """Find the run of a fragment along a sequence with the highest score.

    Each residue of a run lies one place on from the one before. One or two residues of the
    fragment, or of the sequence, may be stepped over at a cost; and the run may leave ends of the
    fragment out, each at a cost (a local alignment, Smith & Waterman, with cut costs).

    Parameters
    ----------
    ratio : ndarray of float64, shape (n, 21)
        Log ratio of each amino acid's probability to its frequency; the last column, of an unknown
        residue, is 0.
    codes : ndarray of int, shape (m,)
        Columns of `ratio`.
    allowed : ndarray of bool, shape (n, m)
        Which residue of the fragment may have which place.

    Returns
    -------
    Run or None
        None if no residue has a place.
    """
    n, m = allowed.shape
    back = np.full((n, m), -1, dtype=np.int8)
    best, end = -np.inf, None
    for row, value in enumerate(_columns(ratio, codes[None], allowed, back)):
        value = value[0] - (_CUT if row < n - 1 else 0.0)
        place = int(value.argmax())
        if value[place] > best:
            best, end = float(value[place]), (row, place)
    if end is None:
        return None
    (row, place), cells = end, [end]
    while back[row, place] >= 0:
        over, past = _MOVES[back[row, place]][:2]
        row, place = row - over, place - past
        cells.append((row, place))
    rows, places = np.array(cells[::-1]).T
    return Run(rows, places, best)


def run_scores(ratio: np.ndarray, codes: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Scores of the best runs along several sequences, codes (k, m), of one length: (k,)."""
    best = np.full(len(codes), -np.inf)
    for row, value in enumerate(_columns(ratio, codes, allowed)):
        value = value.max(axis=1) - (_CUT if row < len(ratio) - 1 else 0.0)
        np.maximum(best, value, out=best)
    return best


#: Steps to a cell: residues of the fragment, places of the sequence, and the cost.
_MOVES = (
    (1, 1, 0.0), (1, 2, _SHIFTS[0]), (1, 3, _SHIFTS[1]), (2, 1, _SHIFTS[0]), (3, 1, _SHIFTS[1]),
)  # fmt: skip


def _columns(ratio, codes, allowed, back=None):
    """Give, residue by residue, the scores (k, m) of the best runs that end there."""
    before = []
    for row in range(len(ratio)):
        value = np.full(codes.shape, -_CUT if row else 0.0)
        for number, (over, past, cost) in enumerate(_MOVES):
            if over > len(before) or past >= codes.shape[1]:
                continue
            moved = before[over - 1][:, :-past]
            if cost:
                moved = moved - cost
            part = value[:, past:]
            if back is not None:
                back[row, past:][(moved > part)[0]] = number
            np.maximum(part, moved, out=part)
        value += ratio[row][codes]
        value[:, ~allowed[row]] = -np.inf
        before = [value, *before[:2]]
        yield value
