"""Rigid fitting from random starts: share that comes within 1 Å, and seconds a fit.

    python benchmarks/bench_fit.py [--rows FILE] [--starts 10]

Ten structures of CRYONB_DATA, maps by ChimeraX's recipe at 4 and 8 Å with noise, each model turned
at random and moved by up to 50 Å. With --rows, a run that was cut off goes on.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.fitting.rigid import fit

NAMES = (
    "scope_a/d1jl7a_.pdb.gz", "scope_b/d1euwa_.pdb.gz", "scope_c/d2ob3a_.pdb.gz",
    "scope_d/d1loua_.pdb.gz", "scope_a/d2spca_.pdb.gz", "scope_b/d2dtge2.pdb.gz",
    "scope_c/d1ys1x_.pdb.gz", "scope_d/d1ixma_.pdb.gz", "pool_protein/1exb_E.pdb.gz",
    "pool_nucleic/1dfm.pdb.gz",
)  # fmt: skip
#: Of the noise, as a part of the map's own deviation inside the molecule.
NOISE = 0.3


def noisy_map(model, resolution: float):
    clean = nb.gaussian_map(model, resolution=resolution, voxel_size=resolution / 4)
    inside = clean.values[clean.values > 0.1 * clean.max]
    rng = np.random.default_rng(1)
    values = clean.values + rng.normal(0, NOISE * inside.std(), clean.shape).astype(np.float32)
    return nb.DensityMap(values, clean.grid, resolution=resolution)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--starts", type=int, default=10)
    arguments = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of structures")
    folder = Path(os.environ["CRYONB_DATA"]) / "structures"
    kept = arguments.rows is not None and arguments.rows.is_file()
    rows = pd.read_csv(arguments.rows).to_dict("records") if kept else []
    done = {(row["name"], row["resolution"], row["start"]) for row in rows}
    for start in range(arguments.starts):
        for name in NAMES:
            for resolution in (4.0, 8.0):
                if (name, resolution, start) in done:
                    continue
                model = nb.open_model(folder / name)
                rng = np.random.default_rng((start, int(resolution)))
                turn = Rotation.random(rng=rng).as_matrix().tolist()
                shift = rng.uniform(-50, 50, 3).tolist()
                away = model.clone()
                for one in away:
                    one.transform_pos_and_adp(
                        gemmi.Transform(gemmi.Mat33(turn), gemmi.Vec3(*shift))
                    )
                m = noisy_map(model, resolution)
                begin = time.perf_counter()
                found = fit(away, m, progress=False)
                seconds = time.perf_counter() - begin
                a, b = (nb.Atoms.from_structure(x).position for x in (found.model(), model))
                rows.append(
                    {"name": name, "resolution": resolution, "start": start, "seconds": seconds,
                     "rmsd": float(np.sqrt(((a - b) ** 2).sum(axis=1).mean())),
                     "cc": found.poses["cc"].iloc[0]}
                )  # fmt: skip
                print(f"{name} {resolution:g} Å start {start}: {rows[-1]['rmsd']:.2f} Å, "
                      f"{seconds:.1f} s", flush=True)  # fmt: skip
                if arguments.rows:
                    pd.DataFrame(rows).to_csv(arguments.rows, index=False)
    table = pd.DataFrame(rows)
    table["within"] = table["rmsd"] < 1.0
    print(table.groupby("resolution").agg(
        n=("within", "size"), within_1_A=("within", "mean"), rmsd=("rmsd", "median"),
        seconds=("seconds", "median"),
    ).round(3))  # fmt: skip


if __name__ == "__main__":
    main()
