"""Local resolution: speed against cctbx in one run, and errors against a known truth.

    python benchmarks/bench_local_resolution.py [--cctbx /path/to/python] [--structure FILE]

Speed: half maps of CRYONB_DATA's 6272 with noise, one side blurred (tests/reference/half_maps.py),
at 2.8 Å; cctbx (python of an environment with cctbx-base) is left out unless it is named. Reading
files and importing do not count. CPU times tell what a busy machine hides.

Truth: four copies of a protein (by default EMD-20026's chain from the structures of CRYONB_DATA)
with B of 10, 60, 140 and 300 Å² beside one another in white noise. Each copy's own resolution is
where its power within a soft mask around it falls to 0.143 of that and the noise's; the table has
the medians of local resolution at its atoms beside it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.process.fourier_shells import Shells, transform
from cryonb.process.local_resolution import local_resolution
from cryonb.process.mask import model_mask
from cryonb.simulate.fourier import fourier_map

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reference"))
from half_maps import uneven_halves

RESOLUTION = 2.8
CCTBX = """
import json, sys, time
from iotbx.data_manager import DataManager
from iotbx.map_model_manager import map_model_manager
m = DataManager()
a, b = (m.get_real_map(path) for path in sys.argv[1:3])
both = map_model_manager(map_manager_1=a, map_manager_2=b)
both.set_resolution(float(sys.argv[3]))
t, c = time.perf_counter(), time.process_time()
both.local_resolution_map()
print(json.dumps([time.perf_counter() - t, time.process_time() - c]))
"""


def speed(data, cctbx, repeats):
    first, second, voxel = uneven_halves(data)
    grid = nb.Grid(first.shape, voxel)
    halves = nb.half_maps(nb.Volume(first, grid), nb.Volume(second, grid))
    print(f"{grid.shape} voxels, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    ours = {}
    for method in ("fsc", "bandpass"):
        times = []
        for _ in range(repeats):
            start, used = time.perf_counter(), time.process_time()
            local_resolution(*halves, method=method, resolution=RESOLUTION)
            times.append((time.perf_counter() - start, time.process_time() - used))
        ours[method] = [min(part) for part in zip(*times, strict=True)]
        wall, cpu = ours[method]
        print(f"cryonb {method:8s} {wall:6.2f} s, CPU {cpu:6.2f} s")
    if not cctbx:
        return
    with tempfile.TemporaryDirectory() as name:
        paths = [str(half.save(Path(name) / f"{k}.mrc")) for k, half in enumerate(halves)]
        command = [cctbx, "-c", CCTBX, *paths, str(RESOLUTION)]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
    wall, cpu = json.loads(run.stdout.splitlines()[-1])
    print(f"cctbx           {wall:6.2f} s, CPU {cpu:6.2f} s")
    for method, (mine, my_cpu) in ours.items():
        print(f"{method}: {wall / mine:.1f} times as fast (CPU {cpu / my_cpu:.1f} times)")


def truth(structure):
    atoms = Atoms.from_structure(nb.open_model(structure))
    at = atoms.position - atoms.position.mean(axis=0)
    size = np.ptp(at, axis=0)
    step = np.eye(3)[size.argmin()] * (size.min() + 16)
    copies = [replace(atoms, position=at + k * step) for k in range(4)]
    grid = nb.Grid.around(np.concatenate([part.position for part in copies]), 1.0, 10.0)
    maps = [
        fourier_map(replace(part, b_iso=np.full(len(at), 20.0)), grid, resolution=2.0, b_add=b)
        for part, b in zip(copies, (10, 60, 140, 300), strict=True)
    ]
    total = sum(m.values for m in maps)
    shells, rng = Shells(grid), np.random.default_rng(0)
    print("noise  method     d of each copy, in its place | error of the whole (mean, largest)")
    for level in (0.3, 1.0, 3.0):
        noise = level * total.std()
        halves = [nb.Volume(total + rng.normal(0, noise, grid.shape), grid) for _ in range(2)]
        known = []
        for part, m in zip(copies, maps, strict=True):
            mask = model_mask(part, grid, radius=3.0, soft_edge=4.0)
            signal = shells.power(transform(m, mask))
            fsc = signal / (signal + noise**2 * np.square(mask.values, dtype=float).sum())
            low = fsc < 0.143
            known.append(1 / shells.s[low.argmax()] if low.any() else 2.0)
        known = np.array(known)
        print(f"{level:5.1f}  known      {' '.join(f'{d:5.2f}' for d in known)}")
        for method in ("fsc", "bandpass"):
            found = local_resolution(*halves, method=method)
            d = np.array([np.median(found.sample(part.position)) for part in copies])
            off = np.abs(d / known - 1)
            print(
                f"{level:5.1f}  {method:9s}  {' '.join(f'{x:5.2f}' for x in d)} | "
                f"{off.mean():.1%}, {off.max():.1%}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cctbx", help="python of an environment with cctbx-base")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--structure", help="model for the copies")
    options = parser.parse_args()
    data = Path(os.environ["CRYONB_DATA"])
    speed(data, options.cctbx, options.repeats)
    truth(options.structure or data / "structures" / "pool_protein" / "4oyn_A.pdb.gz")


if __name__ == "__main__":
    main()
