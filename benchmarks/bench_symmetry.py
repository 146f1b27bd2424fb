"""Point groups of simulated assemblies in random orientations, with noise.

    CRYONB_DATA=… python benchmarks/bench_symmetry.py [--groups C1 C5 D3 ...] [--seeds 2]

One domain, placed beside an axis that points anywhere and turned by each operation of a group; its
map at 5 Å by ChimeraX's recipe, with white noise of 0.3 and of 1 standard deviation of the density.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.process.point_groups import group_rotations
from cryonb.simulate.gaussian import gaussians

GROUPS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C9", "D2", "D3", "D4", "D5", "D6", "D7", "D14",
          "T", "O", "I")  # fmt: skip


def assembly(name: str, seed: int, noise: float, atoms) -> nb.DensityMap:
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=rng).as_matrix()
    rotations = group_rotations(name) if name != "C1" else np.eye(3)[None]
    n = len(rotations)
    beside = atoms.position - atoms.position.mean(axis=0) + [18 + 6 * np.sqrt(n), 5, 14]
    points = np.concatenate([beside @ (turn @ rotation).T for rotation in rotations])
    grid = nb.Grid.around(points, 1.5, 12.0)
    clean = gaussians(points, np.tile(atoms.element, n), grid, resolution=5.0, recipe="molmap")
    deviation = clean.values[clean.values > 0.1 * clean.max].std()
    values = clean.values + rng.normal(0, noise * deviation, clean.shape)
    return nb.DensityMap(values.astype(np.float32), grid, resolution=5.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", nargs="+", default=GROUPS)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of structures")
    file = Path(os.environ["CRYONB_DATA"]) / "structures" / "scope_a" / "d1c75a_.pdb.gz"
    atoms = nb.Atoms.from_structure(nb.open_model(file))
    rows = []
    for name in options.groups:
        for noise in (0.3, 1.0):
            for seed in range(1, options.seeds + 1):
                m = assembly(name, seed, noise, atoms)
                begin = time.process_time()
                found = m.find_symmetry(progress=False, helical=False)
                rows.append(
                    {"group": name, "noise": noise, "seed": seed, "found": found.name,
                     "lowest_cc": round(float(found.score), 3),
                     "cpu_seconds": round(time.process_time() - begin, 2)}
                )  # fmt: skip
                print(*rows[-1].values(), flush=True)
    table = pd.DataFrame(rows)
    table["right"] = table.group == table.found
    print(table.groupby("noise").agg(n=("right", "size"), right=("right", "sum"),
                                     cpu_seconds=("cpu_seconds", "median")))  # fmt: skip


if __name__ == "__main__":
    main()
