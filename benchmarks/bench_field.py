"""Time and error of the spline field against what scipy offers, in one run on one thread.

    python benchmarks/bench_field.py
    python benchmarks/bench_field.py --size 256 --points 500000

Value and gradient together. scipy has no derivative in `map_coordinates`, so there are three ways:
* "4 maps": the value's map and three maps of central differences (`numpy.gradient`), each read by
  `map_coordinates` (cubic, filtered beforehand). The least that can be done; its gradient is not
  the spline's.
* "7 points": `map_coordinates` at the point and at six points around it. The spline's gradient, to
  the error of the difference.
* "NdBSpline": scipy's class for splines with derivatives, one call for the value and three for the
  gradient. Exact (fewer points: it is slow).
Filtering is in none of the times; it is given apart. "random": points anywhere; "lattice": points
in the order of a lattice, as seeds of a density graph are.
"""

import argparse
import os
import statistics
import time

import numpy as np
import torch
from scipy.interpolate import NdBSpline
from scipy.ndimage import map_coordinates, spline_filter

from cryonb.field import SplineField
from cryonb.grid import Grid
from cryonb.volume import Volume


def timed(function, repeats):
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), result


def four_maps(volume):
    steps = volume.voxel_size[::-1]
    arrays = [volume.values, *np.gradient(volume.values, *steps)[::-1]]
    filtered = [spline_filter(a, 3, output=np.float32, mode="mirror") for a in arrays]

    def read(points):
        index = volume.grid.to_index(points).T
        found = [
            map_coordinates(a, index, np.float32, order=3, mode="mirror", prefilter=False)
            for a in filtered
        ]
        return found[0], np.stack(found[1:], axis=1)

    return read


def seven_points(volume, step=1e-3):
    filtered = spline_filter(volume.values, 3, output=np.float64, mode="mirror")

    def at(points):
        index = volume.grid.to_index(points).T
        return map_coordinates(filtered, index, order=3, mode="mirror", prefilter=False)

    def read(points):
        slopes = [(at(points + d) - at(points - d)) / (2 * step) for d in step * np.eye(3)]
        return at(points), np.stack(slopes, axis=1)

    return read


def nd_bspline(volume):
    filtered = np.pad(
        spline_filter(volume.values, 3, output=np.float64, mode="mirror"), 1, mode="reflect"
    )
    spline = NdBSpline(tuple(np.arange(n + 4.0) - 3 for n in filtered.shape), filtered, 3)

    def read(points):
        index = volume.grid.to_index(points)
        orders = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
        slopes = [spline(index, nu=o) / s for o, s in zip(orders, volume.voxel_size, strict=True)]
        return spline(index), np.stack(slopes, axis=1)

    return read


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=200, help="edge of the map in voxels")
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of ours; scipy has one")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rng = np.random.default_rng(1)
    grid = Grid((args.size,) * 3, 1.0)
    volume = Volume(rng.normal(size=grid.shape).astype(np.float32), grid)
    inner = grid.upper - 4
    edge = round(args.points ** (1 / 3))
    axis = np.linspace(0, 0.5 * (edge - 1), edge) + 4.1
    kinds = {
        "random": rng.uniform(4, inner, (args.points, 3)),
        "lattice": np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3),
    }
    begin = time.perf_counter()
    ours = SplineField(volume)
    print(
        f"{args.size}³ voxels, {os.cpu_count()} cores, {args.threads} thread(s); "
        f"filtering {time.perf_counter() - begin:.2f} s"
    )
    for kind, points in kinds.items():
        fast, (value, gradient) = timed(lambda p=points: ours.evaluate(p), args.repeats)
        print(f"\n{kind}: {len(points)} points")
        print(f"{'':14}  µs/point   ratio  value error  gradient error")
        print(f"{'SplineField':14} {fast / len(points) * 1e6:9.2f}")
        whole, _ = timed(lambda p=points: ours.evaluate(p, derivatives=2), args.repeats)
        print(f"{'  and hessian':14} {whole / len(points) * 1e6:9.2f}")
        for name, make, share in (
            ("4 maps", four_maps, 1), ("7 points", seven_points, 1), ("NdBSpline", nd_bspline, 20)
        ):  # fmt: skip
            read, some = make(volume), points[::share]
            slow, (other, slope) = timed(lambda r=read, p=some: r(p), max(args.repeats // 2, 1))
            per_point = slow / len(some) * 1e6
            print(
                f"{name:14} {per_point:9.2f} {per_point * len(points) / fast / 1e6:7.1f} "
                f"{np.abs(other - value[::share]).max():12.1e} "
                f"{np.abs(slope - gradient[::share]).max():15.1e}"
            )


if __name__ == "__main__":
    main()
