"""Speed of Q-scores against a search tree for each point, and against cctbx, in one run.

    python benchmarks/bench_qscore.py                            # needs CRYONB_DATA
    python benchmarks/bench_qscore.py --cctbx /path/to/python    # of an environment with cctbx-base

"tree" is the same rule of points with one query of a k-d tree for every point and one list of
densities for every atom, as the known implementations have it; its scores must be the same. Wall
time is the least of a few runs; CPU time tells what a busy machine hides.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from cryonb import open_map, open_model
from cryonb.atoms import Atoms
from cryonb.evaluate.qscore import atom_q, spiral
from cryonb.files.model import write_model

CCTBX = """
import json, sys, time
from iotbx.data_manager import DataManager
from iotbx.map_model_manager import map_model_manager
from cctbx.maptbx import qscore
m = DataManager()
both = map_model_manager(map_manager=m.get_real_map(sys.argv[1]), model=m.get_model(sys.argv[2]),
                         ignore_symmetry_conflicts=True)
t = time.perf_counter()
qscore.calc_qscore(both, shells=[0.1 * k for k in range(1, 21)], n_probes=32)
print(json.dumps(time.perf_counter() - t))
"""


def by_tree(volume, position, sigma=0.6):
    tree = cKDTree(position)
    density = [[value] * 8 for value in volume.sample(position)]
    height = [[1.0] * 8 for _ in position]
    for radius in np.arange(1, 21) * 0.1:
        left = np.arange(len(position))
        for attempt in range(50):
            points = position[left, None] + radius * spiral(8 + 2 * attempt)
            near, _ = tree.query(points, distance_upper_bound=0.9 * radius)
            free = ~np.isfinite(near)
            enough = free.sum(axis=1) >= 8
            values = volume.sample(points[enough].reshape(-1, 3)).reshape(free[enough].shape)
            for atom, kept, value in zip(left[enough], free[enough], values, strict=True):
                density[atom].extend(value[kept])
                height[atom].extend([np.exp(-0.5 * (radius / sigma) ** 2)] * int(kept.sum()))
            left = left[~enough]
            if not len(left):
                break
    return np.array([np.corrcoef(*pair)[0, 1] for pair in zip(density, height, strict=True)])


def timed(work, repeats):
    wall, cpu = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        result = work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return min(wall), min(cpu), result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cctbx", help="python of an environment with cctbx-base")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    folder = Path(os.environ["CRYONB_DATA"]) / "maps" / "30342"
    volume = open_map(folder / "390_emd_30342_A_z4.mrc.gz")
    model = open_model(folder / "390_7cec_A.cif")
    position = Atoms.from_structure(model).position
    n = len(position)
    print(f"{n} atoms, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    tree_wall, tree_cpu, expected = timed(lambda: by_tree(volume, position), 1)
    print(f"tree:   {n / tree_wall / 1e3:7.2f} atoms/ms ({n / tree_cpu / 1e3:.2f} a CPU ms)")
    for workers in (1, os.cpu_count()):
        run = partial(atom_q, volume, position, workers=workers)
        wall, cpu, q = timed(run, options.repeats)
        print(
            f"cryonb: {n / wall / 1e3:7.2f} atoms/ms ({n / cpu / 1e3:.2f} a CPU ms) with {workers} "
            f"threads, {tree_wall / wall:.0f} × tree (CPU: {tree_cpu / cpu:.0f} ×); "
            f"largest difference {np.abs(q - expected).max():.1e}"
        )
    if options.cctbx:
        wall, cpu, _ = timed(lambda: atom_q(volume, position, method="cctbx"), options.repeats)
        with tempfile.TemporaryDirectory() as name:
            moved = volume.replace(grid=type(volume.grid)(volume.shape, volume.voxel_size))
            files = moved.save(Path(name) / "map.mrc"), Path(name) / "model.cif"
            shifted = model.clone()
            for site in shifted[0].all():
                site.atom.pos -= type(site.atom.pos)(*volume.origin)
            write_model(shifted, files[1])
            run = subprocess.run(
                [options.cctbx, "-c", CCTBX, *map(str, files)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        theirs = json.loads(run.stdout.splitlines()[-1])
        print(f"cctbx's rule: cryonb {wall:.2f} s, cctbx {theirs:.2f} s: {theirs / wall:.0f} ×")


if __name__ == "__main__":
    main()
