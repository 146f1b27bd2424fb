"""What Gaussians, as they were fitted and made narrower, do to the peaks of a density graph.

    CRYONB_DATA=... python benchmarks/bench_deconvolution.py --out rows.csv
    python benchmarks/bench_deconvolution.py --out rows.csv --summary

Chains of 60 to 160 residues, simulated (molmap) at 2, 3 and 4 Å on voxels of a third of that, and
the maps of experiments at 4 Å or better: a density graph (threshold "molecule"; with passes on the
maps of experiments) of the cubic spline, of the field of Gaussians, and of Gaussians of 0.8 and
0.6 of their width. Nodes against atoms within 1 Å and against Cα within 3 Å, one to one.

Rows are appended to --out as they come; what is there is not done again.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import pandas as pd
from bench_interpolation import structures

import cryonb as nb
from cryonb.errors import CryonbWarning

WANTED = ["atom_sensitivity", "atom_specificity", "atom_rmsd", "ca_sensitivity", "ca_specificity",
          "ca_rmsd"]  # fmt: skip


def cases(folder, count):
    """Name, resolution, and what opens the map and its model."""
    for file, _ in structures(folder / "structures", count):
        for d in (2.0, 3.0, 4.0):
            yield file, d, None, folder / "structures" / file
    index = pd.read_csv(folder / "maps" / "INDEX.csv", dtype={"resolution": str})
    for entry in index.dropna(subset=["model"]).itertuples():
        d = float(entry.resolution.strip("~?"))
        if d <= 4:
            yield entry.map, d, folder / "maps" / entry.map, folder / "maps" / entry.model


def rows(name, d, path, model_path):
    model = nb.open_model(model_path)
    if path is None:
        made = nb.gaussian_map(model, resolution=d, voxel_size=d / 3)
        m = nb.DensityMap.from_volume(made, resolution=d)
    else:
        m = nb.open_map(path, resolution=d)
    begin = time.process_time()
    gaussians = m.field(method="gaussians", progress=False)
    seconds = time.process_time() - begin
    fields = {
        "cubic": m.field(),
        "gaussians": gaussians,
        "0.8 of the width": gaussians.deconvolved(0.8),
        "0.6 of the width": gaussians.deconvolved(0.6),
    }
    for method, field in fields.items():
        graph = m.density_graph(field=field, threshold="molecule", passes=path is not None)
        summary = graph.evaluate(model).summary
        about = {"file": name, "kind": "simulated" if path is None else "experiment",
                 "resolution": d, "method": method, "cpu_seconds": seconds,
                 "unexplained": gaussians.unexplained}  # fmt: skip
        yield about | {key: summary[key] for key in WANTED} | {"nodes": len(graph)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="table of rows, appended to")
    parser.add_argument("--count", type=int, default=8, help="simulated structures")
    parser.add_argument("--summary", action="store_true", help="only print the table so far")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", CryonbWarning)
    if not arguments.summary:
        done = set()
        if arguments.out.exists():
            seen = pd.read_csv(arguments.out)
            done = set(zip(seen["file"], seen["resolution"], strict=True))
        for name, d, path, model in cases(Path(os.environ["CRYONB_DATA"]), arguments.count):
            if (name, d) in done:
                continue
            found = pd.DataFrame(list(rows(name, d, path, model)))
            if arguments.out.exists():
                found = pd.concat([pd.read_csv(arguments.out), found])
            found.to_csv(arguments.out, index=False)
            print(f"{name} at {d:g} Å", flush=True)
    table = pd.read_csv(arguments.out)
    table["resolution"] = table["resolution"].where(table["kind"] == "simulated", 4.0)
    groups = table.groupby(["kind", "resolution", "method"])
    print(groups[[*WANTED, "cpu_seconds", "unexplained"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
