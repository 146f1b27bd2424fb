"""Build the data set of all maps with models and of simulated ones, twice, and compare.

    python benchmarks/bench_dataset.py OUT                     # all pairs and 50 simulated
    python benchmarks/bench_dataset.py OUT --maps 3 --simulated 4 --workers 2
    python benchmarks/bench_dataset.py OUT --dask              # and on a LocalCluster of two

The first build is killed once half of its entries are there, and gone on with; the second runs
through. Both lie under OUT, and both are gone on with if this command was ended. Then: entries an
hour, whether all hashes agree, the checks, and the two conventions of labels side by side (share of
Cα voxels that differ, and how well each gives the Cα atoms back). Needs CRYONB_DATA.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

import cryonb as nb
from cryonb.dataset.build import read_manifest
from cryonb.dataset.check import round_trip
from cryonb.files.model import read_model
from cryonb.files.mrc import read_map
from cryonb.grid import Grid
from cryonb.label.cryo2struct import alpha_carbons, cryo2struct_labels

DATA = Path(os.environ.get("CRYONB_DATA", "."))
# Å of simulated maps, in turn.
RESOLUTIONS = (2.0, 2.5, 3.0, 3.5, 4.0)
PAPER = 7600


def table(maps: int | None, simulated: int) -> pd.DataFrame:
    """The smallest pairs of map and model, and chains drawn at random."""
    index = pd.read_csv(DATA / "maps" / "INDEX.csv").dropna(subset="model")
    # A hairpin of RNA alone has nothing to label.
    index = index[~index["nucleic"].str.contains("RNA only")]
    index["resolution"] = index["resolution"].str.extract(r"([\d.]+)", expand=False).astype(float)
    size = index["shape_xyz"].str.split("x").map(lambda n: np.prod([int(k) for k in n]))
    index = index.iloc[np.argsort(size.to_numpy(), kind="stable")][:maps]
    real = pd.DataFrame(
        {
            "id": [Path(name).name.split(".")[0] for name in index["map"]],
            "map": [DATA / "maps" / name for name in index["map"]],
            "model": [DATA / "maps" / name for name in index["model"]],
            "resolution": index["resolution"].to_numpy(),
        }
    )
    chains = pd.read_csv(DATA / "structures" / "INDEX.csv")
    chains = chains[chains["file"].str.startswith("pool_protein")]
    chains = chains.sample(simulated, random_state=1)
    made = pd.DataFrame(
        {
            "id": ["simulated_" + Path(name).name.split(".")[0] for name in chains["file"]],
            "model": [DATA / "structures" / name for name in chains["file"]],
            "resolution": [RESOLUTIONS[k % len(RESOLUTIONS)] for k in range(simulated)],
        }
    )
    return pd.concat([real, made], ignore_index=True)


def finished(folder: Path) -> int:
    return len(list(folder.glob("*/entry.json")))


def build_and_kill(command, folder: Path, half: int) -> None:
    """Start a build, and kill it when half of the entries are there."""
    with subprocess.Popen(command) as process:
        while process.poll() is None and finished(folder) < half:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            print(f"killed with {finished(folder)} entries built", flush=True)


def conventions(entries: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in entries.dropna(subset="map").itertuples():
        structure = read_model(row.model)
        grid = read_map(row.map).grid.with_voxel_size(1.0)
        # As a file has it, single precision
        grid = Grid(grid.shape, 1.0, tuple(float(str(np.float32(x))) for x in grid.origin))
        one, two = (
            cryo2struct_labels(structure, grid, convention=c)["atom_ca"].values
            for c in ("corrected", "published")
        )
        found = {"id": row.id, "n_ca": len(alpha_carbons(structure))}
        found["corrected_voxels"], found["published_voxels"] = int(one.sum()), int(two.sum())
        # Of the voxels that either labels, those that the other does not.
        found["differ"] = (one != two).sum() / (one | two).sum()
        for name, values in (("corrected", one), ("published", two)):
            trip = round_trip(values, grid, alpha_carbons(structure, convention=name))
            for key in ("within_half", "distance_median", "in_voxel", "same_integers"):
                found[f"{name}_{key}"] = trip[key]
        rows.append(found)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--maps", type=int, help="how many pairs, the smallest first")
    parser.add_argument("--simulated", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dask", action="store_true", help="also on a cluster of two processes")
    parser.add_argument("--build", help=argparse.SUPPRESS)
    options = parser.parse_args()
    entries = table(options.maps, options.simulated)
    if options.build:
        nb.build_dataset(entries, options.out / options.build, workers=options.workers)
        return
    print(f"{len(entries)} entries, {entries['map'].notna().sum()} of them measured", flush=True)
    killed, whole = options.out / "killed", options.out / "whole"
    if not (killed / "manifest.csv").is_file():
        command = [sys.executable, *sys.argv, "--build", "killed"]
        build_and_kill(command, killed, len(entries) // 2)
    nb.build_dataset(entries, killed, workers=options.workers)
    before = finished(whole)
    begin, cpu = time.perf_counter(), time.process_time()
    table_whole = nb.build_dataset(entries, whole, workers=options.workers)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    done = finished(whole) - before
    voxels = table_whole[["shape_z", "shape_y", "shape_x"]].prod(axis=1).sum()
    if done:
        each = seconds / done
        print(
            f"{done} entries in {seconds:.0f} s: {3600 / each:.0f} an hour with "
            f"{options.workers} processes; {PAPER} would need {PAPER * each / 3600:.0f} h"
        )
        if options.workers == 1 and not before:
            print(f"processor time: {cpu:.0f} s, {1e6 * cpu / voxels:.2f} s a million voxels")
    print(f"{voxels / 1e6:.1f} million voxels; failed: {(table_whole['error'] != '').sum()}")
    folders = {"killed": killed, "whole": whole}
    if options.dask:
        from dask.distributed import Client, LocalCluster

        folders["dask"] = options.out / "dask"
        with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
            nb.build_dataset(entries, folders["dask"], client)
    tables = {name: (folder / "manifest.csv").read_bytes() for name, folder in folders.items()}
    print("manifests, hashes of every file included, are equal:", len(set(tables.values())) == 1)
    checks = nb.validate_dataset(whole)
    print(f"sound: {checks['ok'].sum()} of {len(checks)}")
    print(checks["problems"][checks["problems"] != ""].to_string())
    columns = ["id", "error", "resolution", "cc_mask", "q_mean", "q_expected", "explained",
               "atom_inclusion"]  # fmt: skip
    print(read_manifest(whole)[columns].round(3).to_string(index=False))
    compared = conventions(entries)
    compared.to_csv(options.out / "conventions.csv", index=False)
    print(compared.round(3).T.to_string())


if __name__ == "__main__":
    main()
