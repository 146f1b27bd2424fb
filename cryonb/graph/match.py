"""Points paired with points, one with one; points that others stand for."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError

__all__ = ["first_of_groups", "match_points"]


def match_points(
    targets: np.ndarray, points: np.ndarray, *, radius: float, method: str = "greedy"
) -> tuple[np.ndarray, np.ndarray]:
    """Pair targets with points, one with one, no farther apart than a radius.

    Parameters
    ----------
    targets : ndarray, shape (n, 3)
        (x, y, z) in Å.
    points : ndarray, shape (m, 3)
        (x, y, z) in Å.
    radius : float
        In Å.
    method : {"greedy", "optimal"}
        "greedy": the closest pair first, then the closest of what is left, and so on.
        "optimal": as many pairs as there can be and, of those, the least sum of squares
        (assignment problem).

    Returns
    -------
    point : ndarray of int, shape (n,)
        Row of each target's point, -1 for none.
    distance : ndarray of float64, shape (n,)
        In Å, NaN for none.
    """
    if method not in ("greedy", "optimal"):
        raise CryonbError(
            f"A matching of greedy or optimal was expected, but {method!r} was asked."
        )
    found = np.full(len(targets), -1, dtype=np.int64)
    apart = np.full(len(targets), np.nan)
    row, column, length = _pairs(targets, points, radius)
    if not len(row):
        return found, apart
    chosen = (_greedy if method == "greedy" else _optimal)(row, column, length, radius)
    found[row[chosen]] = column[chosen]
    apart[row[chosen]] = length[chosen]
    return found, apart


def _pairs(targets, points, radius):
    """All pairs within the radius: rows of targets, rows of points, distances."""
    from scipy.spatial import cKDTree

    if not len(targets) or not len(points):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    found = cKDTree(targets).sparse_distance_matrix(
        cKDTree(points), radius, output_type="coo_matrix"
    )
    return found.row.astype(np.int64), found.col.astype(np.int64), found.data


def _greedy(row, column, length, radius) -> np.ndarray:
    """Take the pairs that are each other's nearest, drop what they use, and again."""
    order = np.argsort(length, kind="stable")
    chosen = [np.empty(0, dtype=np.int64)]
    while len(order):
        # The first of each row and of each column, in the order of distance.
        first_row = np.zeros(len(order), dtype=bool)
        first_row[np.unique(row[order], return_index=True)[1]] = True
        first_column = np.zeros(len(order), dtype=bool)
        first_column[np.unique(column[order], return_index=True)[1]] = True
        taken = order[first_row & first_column]
        chosen.append(taken)
        free = ~np.isin(row[order], row[taken]) & ~np.isin(column[order], column[taken])
        order = order[free]
    return np.concatenate(chosen)


def _optimal(row, column, length, radius) -> np.ndarray:
    """Solve the assignment with a dear stand-in for each target, so that a solution exists."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    targets, row_of = np.unique(row, return_inverse=True)
    points, column_of = np.unique(column, return_inverse=True)
    n, m = len(targets), len(points)
    # No set of pairs costs as much as one stand-in more.
    dear = (n + 1) * (radius**2 + 1.0)
    # Ones are added, since a sparse array does not tell a distance of zero from no pair.
    cost = np.concatenate([length**2 + 1.0, np.full(n, dear)])
    rows = np.concatenate([row_of, np.arange(n)])
    columns = np.concatenate([column_of, m + np.arange(n)])
    matched_row, matched = min_weight_full_bipartite_matching(
        csr_array((cost, (rows, columns)), (n, m + n))
    )
    real = matched < m
    number = csr_array((np.arange(1, len(row) + 1), (row_of, column_of)), (n, m))
    return np.asarray(number[matched_row[real], matched[real]]).ravel() - 1


def first_of_groups(points: np.ndarray, *, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Go through points in their order: each that no earlier one stands for stands for itself.

    Non-maximum suppression where the points are sorted by falling score, and the greedy clustering
    of Cryo2Struct where they are in the order of its file.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        (x, y, z) in Å, the most important first.
    radius : float
        A point stands for those within this distance (inclusive), in Å.

    Returns
    -------
    seeds : ndarray of int, shape (m,)
        Rows of the points that stand for others, rising.
    group : ndarray of int, shape (n,)
        For each point, the place in `seeds` of the first that stands for it.
    """
    from scipy.spatial import cKDTree

    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    n = len(points)
    if not n:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    # The tree rounds differently, so the pairs near the limit are decided anew.
    pairs = cKDTree(points).query_pairs(radius * (1 + 1e-6) + 1e-9, output_type="ndarray")
    apart = points[pairs[:, 0]] - points[pairs[:, 1]]
    square = apart[:, 0] ** 2 + apart[:, 1] ** 2 + apart[:, 2] ** 2
    pairs = pairs[np.sqrt(square) <= radius]
    open_, chosen = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    left = pairs
    while open_.any():
        # What no earlier open point is near to is a seed, whatever else is decided later.
        waits = np.zeros(n, dtype=bool)
        waits[left[:, 1]] = True
        new = open_ & ~waits
        chosen |= new
        open_ &= waits
        open_[left[new[left[:, 0]], 1]] = False
        left = left[open_[left[:, 0]] & open_[left[:, 1]]]
    seeds = np.flatnonzero(chosen)
    owner = np.where(chosen, np.arange(n), n)
    of_seed = pairs[chosen[pairs[:, 0]]]
    np.minimum.at(owner, of_seed[:, 1], of_seed[:, 0])
    return seeds, np.searchsorted(seeds, owner)
