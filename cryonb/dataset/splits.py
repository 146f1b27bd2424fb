"""Training, validation and test: which entry goes where."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from cryonb.errors import CryonbError

__all__ = ["RESOLUTIONS", "SPLITS", "split_entries"]

SPLITS = ("train", "validation", "test")
#: Limits of the ranges of resolution in Å, as in the paper's table, and beyond.
RESOLUTIONS = (0.0, 2.0, 3.0, 4.0, 6.0, 10.0, np.inf)


def split_entries(
    table: pd.DataFrame, *, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
) -> pd.DataFrame:
    """Split entries in three ways.

    Parameters
    ----------
    table : pandas.DataFrame
        A row an entry: id, resolution (Å) and cluster.
    fractions : tuple of float
        Parts for training, validation and test; they sum to 1.
    seed : int
        Another number gives another choice.

    Returns
    -------
    pandas.DataFrame
        Columns, on the index of `table`, with a name of `SPLITS` each:

        * split_resolution: in each range of resolution the same parts, so that all three are as
          well resolved.
        * split_id: by a hash of the id alone: an entry stays where it is as others are added.
        * split_cluster: whole clusters, the largest first, each to the part that lacks most. What
          is tested then has no relative in training; parts are met as nearly as clusters allow.

    Raises
    ------
    CryonbError
        If the fractions do not sum to 1.
    """
    parts = np.array(fractions, dtype=float)
    if parts.shape != (3,) or (parts < 0).any() or abs(parts.sum() - 1) > 1e-6:
        raise CryonbError(
            "Three parts for training, validation and test that sum to 1 were expected, but "
            f"{fractions} was given."
        )
    draw = np.array([_draw(f"{seed} {name}") for name in table["id"]])
    bins = np.digitize(table["resolution"].to_numpy(dtype=float), RESOLUTIONS[1:-1], right=True)
    found = {
        "split_resolution": _in_bins(bins, draw, parts),
        "split_id": np.searchsorted(np.cumsum(parts)[:2], draw, side="right"),
        "split_cluster": _by_cluster(table["cluster"].to_numpy(), seed, parts),
    }
    names = np.array(SPLITS, dtype=object)
    return pd.DataFrame({key: names[value] for key, value in found.items()}, index=table.index)


def _draw(text: str) -> float:
    """Give a number from 0 to 1 that a text always has, on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _in_bins(bins, draw, parts) -> np.ndarray:
    """Deal entries out in the order of their range, each to the part that is furthest behind."""
    found = np.zeros(len(bins), dtype=int)
    counts = np.zeros(3)
    for number, row in enumerate(np.lexsort((draw, bins)), start=1):
        found[row] = np.argmax(np.where(parts > 0, parts * number - counts, -np.inf))
        counts[found[row]] += 1
    return found


def _by_cluster(cluster, seed: int, parts) -> np.ndarray:
    names, which, sizes = np.unique(cluster, return_inverse=True, return_counts=True)
    draw = np.array([_draw(f"{seed} cluster {name}") for name in names])
    goal = parts * len(cluster)
    place = np.zeros(len(names), dtype=int)
    for one in np.lexsort((draw, -sizes)):
        place[one] = np.argmax(np.where(parts > 0, goal, -np.inf))
        goal[place[one]] -= sizes[one]
    return place[which]
