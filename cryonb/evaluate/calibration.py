"""Whether a probability of 0.8 is right in eight cases of ten."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cryonb.errors import CryonbError

__all__ = ["calibration", "calibration_error"]


def calibration(truth, probabilities, *, bins: int = 10) -> pd.DataFrame:
    """Compare how sure a prediction is with how often it is right.

    Parameters
    ----------
    truth : array_like of int, shape (n,)
        True classes, as columns of the probabilities.
    probabilities : array_like, shape (n, classes)
        They need not sum to one; the largest is taken as the confidence.
    bins : int
        Equal ranges of the confidence from 0 to 1.

    Returns
    -------
    DataFrame
        A row a range that is not empty: low, high, confidence (mean), accuracy (share that is
        right), n.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017, section 2.
    """
    truth, probabilities = np.asarray(truth), np.asarray(probabilities, dtype=float)
    if probabilities.ndim != 2 or len(truth) != len(probabilities) or not len(truth):
        raise CryonbError(
            "A true class for each row of probabilities was expected, but there are "
            f"{len(truth)} classes and probabilities of shape {probabilities.shape}."
        )
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    place = np.minimum((sure * bins).astype(int), bins - 1)
    n = np.bincount(place, minlength=bins)
    used = np.flatnonzero(n)
    return pd.DataFrame(
        {
            "low": used / bins,
            "high": (used + 1) / bins,
            "confidence": np.bincount(place, sure, bins)[used] / n[used],
            "accuracy": np.bincount(place, right, bins)[used] / n[used],
            "n": n[used],
        }
    )


def calibration_error(table: pd.DataFrame) -> float:
    r"""Give the expected calibration error of a table of `calibration`.

    :math:`\sum_b n_b / n \; |accuracy_b - confidence_b|` (Guo et al., 2017, equation 3).
    """
    gap = (table["accuracy"] - table["confidence"]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum())
