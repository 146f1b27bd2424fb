"""Automatic sharpening: speed and choice against cctbx in one run, and gain against a known truth.

    python benchmarks/bench_sharpen.py [--cctbx /path/to/python]

Speed and choice: maps of CRYONB_DATA; cctbx's auto_sharpen with its defaults (python of an
environment with cctbx-base and mrcfile) is left out unless it is named, and runs by
tests/reference/cctbx_sharpen.py. Truth: simulated maps of proteins with a decay and noise; the
correlation with the map of the model itself at the same resolution, before and after.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import cryonb as nb
from cryonb.process.sharpen import sharpening
from cryonb.simulate.fourier import fourier_map

MAPS = (("6272/6272_zone4A.mrc.gz", 2.6), ("30342/390_emd_30342_A_z4.mrc.gz", 3.9))
CCTBX = """
import json, sys, tempfile
from pathlib import Path
import cctbx_sharpen
with tempfile.TemporaryDirectory() as name:
    found = cctbx_sharpen.ask(sys.argv[1], float(sys.argv[2]), Path(name))
print("\\n" + json.dumps(found))
"""
STRUCTURES = ("4oyn_A", "1a28_B", "1a8o_A")


def against_cctbx(data, cctbx):
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, d in MAPS:
        m = nb.open_map(data / "maps" / name, resolution=d)
        start, used = time.perf_counter(), time.process_time()
        made = sharpening(m)
        wall, cpu = time.perf_counter() - start, time.process_time() - used
        print(f"{name} at {d} Å: cryonb takes {made.b_sharpen:.0f} Å² of {made.b_before:.0f} in "
              f"{wall:.1f} s (CPU {cpu:.1f} s)")  # fmt: skip
        if not cctbx:
            continue
        reference = Path(__file__).parents[1] / "tests" / "reference"
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(
                [cctbx, "-c", CCTBX, str(data / "maps" / name), str(d)], check=True, cwd=folder,
                capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(reference)},
            )  # fmt: skip
        theirs = json.loads(run.stdout.splitlines()[-1])
        print(
            f"    cctbx takes {theirs['b_sharpen']:.0f} Å² of {theirs['b_before']:.0f} in "
            f"{theirs['seconds']:.1f} s (CPU {theirs['cpu']:.1f} s): cryonb is "
            f"{theirs['seconds'] / wall:.1f} times as fast (CPU {theirs['cpu'] / cpu:.1f} times)"
        )


def against_truth(data):
    rng = np.random.default_rng(3)
    print(
        "model  d (Å)  added B  noise | correlation with the model's map: before, surface, halves"
    )
    for name in STRUCTURES:
        model = nb.open_model(data / "structures" / "pool_protein" / f"{name}.pdb.gz")
        for d, b, noise in ((3.0, 100.0, 0.3), (4.0, 200.0, 0.3), (3.0, 100.0, 1.0)):
            # Atoms at rest but for 20 Å²: what is left when the decay is taken away.
            for site in model[0].all():
                site.atom.b_iso = 20.0
            truth = fourier_map(model, resolution=d)
            dull = fourier_map(model, truth.grid, resolution=d, b_add=b)
            level = noise * dull.std
            halves = nb.half_maps(
                *(dull.replace(dull.values + rng.normal(0, level, dull.shape)) for _ in range(2))
            )
            mean = halves.mean
            maps = (mean, mean.sharpen(resolution=d), halves.sharpen())
            found = [np.corrcoef(m.values.ravel(), truth.values.ravel())[0, 1] for m in maps]
            print(f"{name}  {d:.1f}  {b:6.0f}  {noise:5.1f} | "
                  + "  ".join(f"{x:.3f}" for x in found), flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cctbx", help="python of an environment with cctbx-base")
    options = parser.parse_args()
    data = Path(os.environ["CRYONB_DATA"])
    against_cctbx(data, options.cctbx)
    against_truth(data)


if __name__ == "__main__":
    main()
