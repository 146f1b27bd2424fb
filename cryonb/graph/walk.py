"""Peaks by the published walk: small steps uphill from many seeds, then clusters."""

from __future__ import annotations

import numpy as np

from cryonb.field.protocol import Field

__all__ = ["CLUSTER_RADIUS", "STEP", "climb", "cluster_centres", "seed_points"]

#: Length of a step uphill, in Å (Ranno & Si, Algorithm 1).
STEP = 0.05
#: Ends of walks that are at most so far apart, in Å, are one cluster (Ranno & Si).
CLUSTER_RADIUS = 0.2

# Sections of the seeds' lattice that are read at once.
_SECTIONS = 16


def seed_points(field: Field, *, spacing: float, threshold: float) -> np.ndarray:
    """Give the points of a lattice over the whole map that have at least a density.

    Parameters
    ----------
    field : Field
        The map.
    spacing : float
        Of the lattice, in Å; it begins at the centre of the first voxel.
    threshold : float
        In units of the map.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        (x, y, z) in Å.
    """
    lattice = field.grid.with_voxel_size(spacing)
    _, rows, columns = lattice.shape
    found = [np.empty((0, 3))]
    for first in range(0, lattice.shape[0], _SECTIONS):
        count = min(_SECTIONS, lattice.shape[0] - first)
        slab = lattice.crop((first, 0, 0), (count, rows, columns))
        index = np.argwhere(field.on_grid(slab) >= threshold)
        found.append(slab.to_points(index))
    return np.concatenate(found)


def climb(field: Field, points: np.ndarray, *, step: float = STEP) -> tuple[np.ndarray, np.ndarray]:
    """Walk points uphill along the gradient in steps of one length, until the density falls.

    Parameters
    ----------
    field : Field
        The map.
    points : ndarray, shape (n, 3)
        Where to begin, (x, y, z) in Å.
    step : float
        In Å.

    Returns
    -------
    ends : ndarray of float64, shape (m, 3)
        The highest point of each walk. Walks that leave the map are dropped, so m <= n.
    density : ndarray of float32, shape (m,)
        At the ends.

    References
    ----------
    Ranno & Si, BMC Bioinformatics 23, 397 (2022), Algorithm 1.
    """
    best = np.array(points, dtype=np.float64)
    density = np.full(len(best), -np.inf, dtype=np.float32)
    kept = np.ones(len(best), dtype=bool)
    here, active = best.copy(), np.arange(len(best))
    while len(active):
        value, gradient = field.evaluate(here)
        left = np.isnan(value)
        kept[active[left]] = False
        higher = value > density[active]  # NaN is not
        active, here = active[higher], here[higher]
        best[active], density[active] = here, value[higher]
        slope = gradient[higher].astype(np.float64)
        length = np.linalg.norm(slope, axis=1)
        # Where the slope is zero the walk has arrived.
        moving = length > 0
        active = active[moving]
        here = here[moving] + step * slope[moving] / length[moving, None]
    return best[kept], density[kept]


def cluster_centres(points: np.ndarray, *, radius: float = CLUSTER_RADIUS) -> np.ndarray:
    """Give the centroids of clusters of points: DBSCAN with no least number of neighbours.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        (x, y, z) in Å.
    radius : float
        Neighbours are at most so far apart, in Å.

    Returns
    -------
    ndarray of float64, shape (clusters, 3)
    """
    from sklearn.cluster import DBSCAN

    if not len(points):
        return np.empty((0, 3))
    labels = DBSCAN(eps=radius, min_samples=1).fit(points).labels_
    count = np.bincount(labels)
    sums = [np.bincount(labels, column) for column in points.T]
    return np.stack(sums, axis=1) / count[:, None]
