"""The voxels near each residue, every one once: sorted keys, a block of residues at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from cryonb.grid import Grid
from cryonb.process.spheres import voxels_within

__all__ = ["blocks_of", "distinct", "distinct_keys"]

# Pairs of atom and voxel of which the distinct ones are sought together.
_PAIRS = 8_000_000


def blocks_of(group, radius: float, grid: Grid, n: int):
    """Yield ranges (first, stop) of groups whose atoms reach a bounded number of voxels."""
    each = 4.19 * radius**3 / grid.voxel_volume + 1
    done = np.cumsum(np.bincount(group, minlength=n)) * each // _PAIRS
    edges = [0, *(np.flatnonzero(np.diff(done) > 0) + 1), n]
    for first, stop in pairwise(edges):
        if stop > first:
            yield first, stop


def distinct_keys(grid: Grid, position, owner, radius: float, stride: int = 1) -> np.ndarray:
    """Sorted distinct keys owner + stride × voxel of the voxels near each position."""
    most = int(owner.max(initial=0)) + stride * grid.n_voxels
    # Numbers of 32 bits sort twice as fast.
    kind = np.int32 if most < 2**31 else np.int64
    owner = owner.astype(kind)
    keys = [np.empty(0, dtype=kind)]
    for point, voxel in voxels_within(grid, position, radius):
        keys.append(owner[point] + (stride * voxel).astype(kind))
    return distinct(np.concatenate(keys))


def distinct(keys: np.ndarray) -> np.ndarray:
    """Sort and drop repeated values; numpy's unique hashes, which takes ten times as long here."""
    keys = np.sort(keys)
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    return keys[first]
