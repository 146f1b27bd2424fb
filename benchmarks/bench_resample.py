"""Time and error of resampling against scipy.ndimage.zoom, in one run.

    python benchmarks/bench_resample.py                  # 256³ voxels of 1.06 Å to 1 Å
    python benchmarks/bench_resample.py --size 200 --voxel 0.8 --target 1.3

The map is a sum of Gaussians, known without error on both grids. `zoom` is judged twice: taken
at its word (voxel / target as the factor, and the result read as having the target's spacing, the
way published programs use it) and at the points where it really puts its voxels (it fits the
corner centres of both grids on each other, so its spacing is not the one asked for).
"""

import argparse
import os
import resource
import statistics
import time

import numpy as np
from scipy.ndimage import zoom

from cryonb.grid import Grid
from cryonb.process import resample
from cryonb.volume import Volume


def simulate(shape, spacing, atoms):
    """Sum of isotropic Gaussians on a grid with its origin at zero: float64, (z, y, x)."""
    centres, heights, sigma = atoms
    rows = [
        np.exp(-((np.arange(n) * spacing - c[:, None]) ** 2) / (2 * sigma**2)).T
        for n, c in zip(shape, centres.T, strict=True)
    ]
    plane = np.einsum("yn,xn->nyx", rows[1], rows[2]).reshape(len(heights), -1)
    return ((rows[0] * heights) @ plane).reshape(shape)


def errors(values, truth):
    """Root mean square and largest difference, in parts of the truth's own r.m.s. and maximum."""
    difference = values.astype(np.float64) - truth
    rms = np.sqrt(np.mean(difference**2)) / np.sqrt(np.mean(truth**2))
    return rms, np.abs(difference).max() / truth.max()


def timed(function, repeats):
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), min(seconds), result


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=256, help="edge of the map in voxels")
    parser.add_argument("--voxel", type=float, default=1.06, help="its voxel size in Å")
    parser.add_argument("--target", type=float, default=1.0, help="new voxel size in Å")
    parser.add_argument("--atoms", type=int, default=300)
    parser.add_argument("--sigma", type=float, default=1.2, help="of the Gaussians, in Å")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    rng = np.random.default_rng(1)
    shape = (args.size,) * 3
    box = args.size * args.voxel
    atoms = (
        rng.uniform(0.1 * box, 0.9 * box, (args.atoms, 3)),
        rng.uniform(0.5, 2.0, args.atoms),
        args.sigma,
    )
    values = simulate(shape, args.voxel, atoms).astype(np.float32)
    volume = Volume(values, Grid(shape, args.voxel))
    target = volume.grid.with_voxel_size(args.target)
    truth = simulate(target.shape, args.target, atoms)
    print(
        f"{args.size}³ voxels of {args.voxel} Å to {target.shape[0]}³ of {args.target} Å, "
        f"{args.atoms} Gaussians of sigma {args.sigma} Å, {os.cpu_count()} cores"
    )
    print(f"{'':34}  median s   best s  rms error  max error")

    def show(name, median, best, rms, largest):
        print(f"{name:34} {median:9.3f} {best:8.3f} {rms:10.2e} {largest:10.2e}")

    ours = {}
    for method in ("cubic", "linear", "fourier"):
        median, best, out = timed(lambda m=method: resample(volume, args.target, method=m),
                                  args.repeats)  # fmt: skip
        ours[method] = (median, *errors(out.values, truth))
        show(f"cryonb {method}", median, best, *ours[method][1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    factor = args.voxel / args.target
    for method, order in (("cubic", 3), ("linear", 1)):
        median, best, zoomed = timed(lambda k=order: zoom(values, factor, order=k), 2)
        common = tuple(slice(0, min(a, b)) for a, b in zip(zoomed.shape, target.shape, strict=True))
        word = errors(zoomed[common], truth[common])
        spacing = args.voxel * (args.size - 1) / (zoomed.shape[0] - 1)
        true_points = errors(zoomed, simulate(zoomed.shape, spacing, atoms))
        show(f"zoom order {order}, taken at its word", median, best, *word)
        show(f"zoom order {order}, at its real {spacing:.5f} Å", median, best, *true_points)
        seconds, rms, _ = ours[method]
        print(
            f"  -> cryonb {method} is {median / seconds:.1f} times faster, "
            f"its rms error {word[0] / rms:.1f} times smaller than zoom's at its word, "
            f"{true_points[0] / rms:.2f} times at its real points"
        )
    print(f"peak memory up to the end of cryonb's part: {peak:.2f} GB (simulation included)")


if __name__ == "__main__":
    main()
