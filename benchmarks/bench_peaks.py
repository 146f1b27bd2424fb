"""Cα candidates: time and accuracy of the ways to find them, on heat maps with known atoms.

    python benchmarks/bench_peaks.py [--edge 128]

Gaussians of 0.8 Å on self-avoiding chains of points 3.8 Å apart, whose heights vary and whose
values carry noise of 3 %. Beside `find_ca`: the Newton search of the density graph on a spline,
and the published clustering, vectorised and as the plain loop that the published program runs.
"""

import argparse
import math
import time

import numpy as np
from scipy.ndimage import gaussian_filter

from cryonb.field import field
from cryonb.graph.match import first_of_groups, match_points
from cryonb.graph.peaks import find_peaks
from cryonb.grid import Grid
from cryonb.trace.peaks import cluster_published, find_ca
from cryonb.train.backbone import heat_maps
from cryonb.volume import ProbabilityVolume, Volume


def scattered(rng, edge):
    """Points at least 3.5 Å apart, about as dense as Cα atoms in a protein."""
    points = rng.uniform(6, edge - 6, (edge**3 // 60, 3))
    return points[first_of_groups(points, radius=3.5)[0]]


def plain_loop(points, radius):
    left, groups = list(range(len(points))), []
    rows = points.tolist()
    while left:
        seed = rows[left[0]]
        near, rest = [], []
        for k in left:
            (near if math.dist(rows[k], seed) <= radius else rest).append(k)
        groups.append(near)
        left = rest
    return groups


def timed(function):
    begin = time.perf_counter()
    return function(), time.perf_counter() - begin


def report(name, seconds, found, truth, base):
    pairs, apart = match_points(truth, found, radius=2.0)
    right = (pairs >= 0).sum()
    error = np.sqrt(np.nanmean(apart**2))
    print(
        f"{name:28s} {seconds:8.2f} s  {seconds / base:7.2f} x  recall {right / len(truth):.3f}  "
        f"precision {right / max(len(found), 1):.3f}  error {error:.3f} Å"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--edge", type=int, default=128)
    edge = parser.parse_args().edge
    rng = np.random.default_rng(1)
    truth = scattered(rng, edge)
    grid = Grid((edge,) * 3)
    heat = heat_maps(truth[:, ::-1], np.zeros(len(truth), int), grid.shape)[0]
    height = gaussian_filter(rng.normal(size=heat.shape), 6)
    heat *= 0.75 + 0.2 * np.clip(height / height.std() / 2, -1, 1)
    heat = np.clip(heat + 0.03 * rng.normal(size=heat.shape), 0, 1).astype(np.float32)
    volume = Volume(heat, grid)
    print(f"{edge}³ voxels, {len(truth)} atoms")
    base = None
    for refine in ("parabola", "centroid", "none"):
        found, seconds = timed(lambda refine=refine: find_ca(volume, refine=refine))
        base = base or seconds
        report(f"find_ca, {refine}", seconds, found.position, truth, base)
    (found, _), seconds = timed(lambda: find_peaks(field(volume), threshold=0.3, radius=1.0))
    report("Newton on a spline", seconds, found, truth, base)
    rest = (1 - heat) / 3
    atom = ProbabilityVolume(
        np.stack([rest, heat, rest, rest]), grid, classes=("background", "CA", "N", "C")
    )
    amino = ProbabilityVolume(np.stack([1 - heat, heat]), grid, classes=("background", "GLY"))
    found, seconds = timed(lambda: cluster_published(atom, amino))
    report("published, vectorised", seconds, found.position, truth, base)
    which = (heat > 0.4) & (heat > (1 - heat) / 3) & (heat > 1 - heat)
    # The plain loop takes the square of their number.
    points = grid.to_points(np.argwhere(which.T)[:20000, ::-1])
    (_, group), fast = timed(lambda: first_of_groups(points, radius=2.0))
    groups, slow = timed(lambda: plain_loop(points, 2.0))
    assert group.max() + 1 == len(groups)
    print(
        f"clustering of {len(points)} voxels alone: {fast:.2f} s, plain loop {slow:.2f} s, "
        f"ratio {slow / fast:.0f}"
    )


if __name__ == "__main__":
    main()
