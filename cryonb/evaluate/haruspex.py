"""The measures of the Haruspex paper (Mostosi et al., Angewandte Chemie 59, 14788, 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cryonb.errors import CryonbError

__all__ = ["ELEMENTS", "ResidueCounts", "level_histogram", "medians", "residue_counts"]

#: What Haruspex predicts; coil is its "unassigned".
ELEMENTS = ("helix", "strand", "nucleotide")


@dataclass(frozen=True)
class ResidueCounts:
    r"""Residues that are right, wrong and missed.

    Attributes
    ----------
    tp : int
        Residues of an element that are predicted as that element.
    fp : int
        Residues predicted as an element that are coil, or another element.
    fn : int
        Residues of an element that are predicted as none.
    """

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float:
        r""":math:`tp / (tp + fp)`; NaN where nothing is predicted."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        r""":math:`tp / (tp + fn)`; NaN where nothing is there."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        r"""Harmonic mean of precision and recall, :math:`2 tp / (2 tp + fp + fn)`."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else np.nan


def residue_counts(truth, predicted, density, *, level: float = 1.0) -> ResidueCounts:
    """Count residues as the paper does.

    Parameters
    ----------
    truth, predicted : array_like of str, shape (n,)
        Classes of the residues.
    density : array_like, shape (n,)
        Their mean backbone density in r.m.s.d. of the map.
    level : float
        Residues with less density, or with none that is known, do not count.

    Returns
    -------
    ResidueCounts

    Notes
    -----
    A residue of one element that is predicted as another counts once, as false positive: it is
    predicted, so it is not missed. The paper's shares, 75.4 + 18.8 + 4.0 = 98.2 % of residues, fit
    this reading (the rest is coil that is predicted as such); its medians of recall and precision
    are over maps, see `medians`.
    """
    truth, predicted, density = (np.asarray(x) for x in (truth, predicted, density))
    with np.errstate(invalid="ignore"):
        seen = density >= level
    truth, predicted = truth[seen], predicted[seen]
    there, called = np.isin(truth, ELEMENTS), np.isin(predicted, ELEMENTS)
    right = called & (truth == predicted)
    return ResidueCounts(
        int(right.sum()), int((called & ~right).sum()), int((there & ~called).sum())
    )


def medians(counts) -> pd.Series:
    """Summarise maps as the paper does: medians over maps.

    Parameters
    ----------
    counts : iterable of ResidueCounts
        One a map.

    Returns
    -------
    Series
        precision, recall, f1 (the harmonic mean of the two medians, which is what the paper's
        87.05 % is), and tp, fp, fn as shares of the residues counted, pooled over maps.

    Raises
    ------
    CryonbError
        If there is no map.
    """
    counts = list(counts)
    if not counts:
        raise CryonbError("Counts of at least one map were expected, but none were given.")
    precision = float(np.nanmedian([entry.precision for entry in counts]))
    recall = float(np.nanmedian([entry.recall for entry in counts]))
    totals = {name: sum(getattr(entry, name) for entry in counts) for name in ("tp", "fp", "fn")}
    every = sum(totals.values())
    return pd.Series(
        {"precision": precision, "recall": recall}
        | {"f1": _ratio(2 * precision * recall, precision + recall)}
        | {name: _ratio(value, every) for name, value in totals.items()}
    )


def level_histogram(truth, predicted, density, *, bins=None) -> pd.DataFrame:
    """Count right, wrong and missed residues by the density of their backbone (figure 2B).

    Parameters
    ----------
    truth, predicted, density
        As in `residue_counts`.
    bins : array_like, optional
        Edges in r.m.s.d.; 0 to 15 by 0.5 by default.

    Returns
    -------
    DataFrame
        Columns level (lower edge), tp, fp, fn.
    """
    bins = np.arange(0, 15.5, 0.5) if bins is None else np.asarray(bins, dtype=float)
    truth, predicted, density = (np.asarray(x) for x in (truth, predicted, density))
    there, called = np.isin(truth, ELEMENTS), np.isin(predicted, ELEMENTS)
    right = called & (truth == predicted)
    parts = {"tp": right, "fp": called & ~right, "fn": there & ~called}
    known = np.isfinite(density)
    return pd.DataFrame(
        {"level": bins[:-1]}
        | {name: np.histogram(density[part & known], bins)[0] for name, part in parts.items()}
    )
