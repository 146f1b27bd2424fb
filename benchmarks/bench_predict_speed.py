"""Seconds and peak memory of predicting secondary structure from a map file.

    python benchmarks/bench_predict_speed.py                       # 200³ voxels at 1 Å
    python benchmarks/bench_predict_speed.py --edge 300 --fill 0.2
    python benchmarks/bench_predict_speed.py --map emd_30342.map.gz

Each prediction runs in a process of its own, so that the peak is that of a user's session:
`cryonb.open_map(path).predict_sse()`. The map, unless one is given, has protein-like density
(0.05 atoms per Å³ in a ball, seen at about 4 Å) in noise; `--fill` is the ball's share of the box,
since empty parts of a map are skipped. By default one map in which a molecule takes a third of the
box and one that is full to its corners, at 1.06 Å, so that resampling to 1 Å is included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHILD = """
import json, pathlib, resource, sys, time

def peak():
    # On Linux the figure of getrusage starts at that of the parent, so the own one is read.
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    top = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return top / 2**30 if sys.platform == "darwin" else top / 2**20

begin = time.perf_counter()
import cryonb
density = cryonb.open_map(sys.argv[1])
opened = time.perf_counter()
kwargs = json.loads(sys.argv[2])
probabilities = density.predict_sse(**kwargs)
done = time.perf_counter()
share = {name: float((probabilities[name].values > 0.5).mean()) for name in probabilities.classes}
print(json.dumps({
    "open": opened - begin, "predict": done - opened, "peak": peak(),
    "shape": probabilities.shape, "share": share,
}))
"""


def ball_of_atoms(n: int, voxel: float, fill: float, rng):
    """Density of atoms placed at random in a ball, with noise: float32, (n, n, n)."""
    from scipy.ndimage import gaussian_filter

    edge = n * voxel
    # Beyond pi / 6 the ball would leave the box, so corners are filled by a larger, cut ball.
    radius = np.inf if fill >= 1 else edge * (3 * fill / (4 * np.pi)) ** (1 / 3)
    position = rng.uniform(0, n, (int(0.05 * edge**3), 3))
    inside = np.linalg.norm(position - n / 2, axis=1) * voxel <= radius
    index = np.ravel_multi_index(tuple(position[inside].astype(int).T), (n, n, n))
    density = np.bincount(index, minlength=n**3).reshape(n, n, n).astype(np.float32)
    density = gaussian_filter(density, 1.4 / voxel)
    noise = gaussian_filter(rng.standard_normal((n, n, n), dtype=np.float32), 1.2 / voxel)
    return density + 0.1 * density.std() / noise.std() * noise


def measure(path: Path, kwargs: dict, threads: int | None) -> dict:
    environment = dict(os.environ)
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), json.dumps(kwargs)],
        capture_output=True,
        text=True,
        env=environment,
    )
    if run.returncode:
        raise SystemExit(f"the prediction failed:\n{run.stderr[-3000:]}")
    return json.loads(run.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--map", type=Path, help="a map file to predict instead")
    parser.add_argument("--edge", type=float, default=200.0, help="edge of the box in Å")
    parser.add_argument("--voxel", type=float, default=1.06, help="voxel size of the file in Å")
    parser.add_argument("--fill", type=float, nargs="+", default=[1 / 3, 1.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="processor threads (default: all)")
    parser.add_argument("--method", help="network (default: cryonb's own)")
    args = parser.parse_args()
    kwargs = {"method": args.method} if args.method else {}

    with tempfile.TemporaryDirectory() as folder:
        if args.map:
            cases = [(args.map.name, args.map)]
        else:
            from cryonb.files.mrc import write_map
            from cryonb.grid import Grid
            from cryonb.volume import Volume

            n = int(np.ceil((args.edge - 1) / args.voxel)) + 1
            cases = []
            for fill in args.fill:
                values = ball_of_atoms(n, args.voxel, fill, np.random.default_rng(7))
                path = Path(folder) / f"ball_{fill:.2f}.mrc"
                write_map(Volume(values, Grid((n, n, n), args.voxel)), path)
                cases.append((f"{n}³ of {args.voxel} Å, {100 * fill:.0f} % filled", path))
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        print(f"{os.cpu_count()} cores, load before the first run {load:.1f}")
        print(f"{'map':34} import+open s  predict s (median, best)  peak GB")
        for name, path in cases:
            runs = [measure(path, kwargs, args.threads) for _ in range(args.repeats)]
            seconds = [run["predict"] for run in runs]
            print(
                f"{name:34} {np.median([run['open'] for run in runs]):13.2f} "
                f"{np.median(seconds):13.2f} {min(seconds):11.2f} "
                f"{max(run['peak'] for run in runs):8.2f}"
            )


if __name__ == "__main__":
    main()
