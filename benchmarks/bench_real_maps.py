r"""Predict and judge every real map with a protein model.

    python benchmarks/bench_real_maps.py [--weights unet ...] [--rows OUT] [--csv OUT]

CRYONB_DATA names the folder of maps and models. With --folds FOLDER, each map is predicted by the
network of FOLDER/fold<k>.safetensors that was trained without its protein (`GROUPS` below; the
recipes are in recipes/folds). Each map runs in a process of its own, so that its peak memory is its
own. With --rows, a run that was cut off goes on. The table that comes with the package is that of

    python benchmarks/bench_real_maps.py --coarsest 10 --csv OUT \
        --weights emap2sec emap2sec-dense haruspex unet

of which Emap2sec's windows take half an hour.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import warnings
from itertools import product
from pathlib import Path

import pandas as pd

from cryonb.comparison import Benchmark

# Proteins that are the same, or akin, stay together.
GROUPS = (
    ("6272/6272_zone4A.mrc.gz", "6272/6272_strudel.mrc.gz", "1461/emd_1461.mrc.gz",
     "20026/emd20026_prot.mrc.gz"),
    ("5778/5778_ChainA.mrc.gz", "5778/5778_TM_from_situs.mrc.gz",
     "5778-snippet/emringer_test_map.ccp4.gz", "0093/MAP_m4A.mrc.gz"),
    ("6555/6555_from_situs.mrc.gz", "5925/5925_from_situs.mrc.gz", "5830/3j63_A_box.ccp4.gz",
     "2566/2566_3J6B_9.mrc.gz", "5137/3los_A_box.ccp4.gz"),
    ("30342/390_emd_30342_A_z4.mrc.gz", "6374/6374.mrc.gz", "5185/3j06_box.ccp4.gz",
     "1044/1oed_box.ccp4.gz", "4118/5ly6_box.ccp4.gz"),
)  # fmt: skip


def one(row: dict, method: str) -> dict:
    """Judge one map in this process, whose peak memory is the map's."""
    from cryonb.evaluate.benchmark import judge

    warnings.simplefilter("ignore")
    found = judge(row, method)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found | {"peak_gb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", nargs="+", default=["unet"])
    parser.add_argument("--folds", type=Path)
    parser.add_argument("--coarsest", type=float, default=99.0, help="resolution in Å")
    parser.add_argument("--simulate", type=float, help="Å: maps by molmap of the models instead")
    parser.add_argument("--rows", type=Path, help="file of finished rows")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of maps and models")
    if arguments.one:
        print(json.dumps(one(json.loads(arguments.one), arguments.weights[0]), default=float))
        return
    folder = Path(os.environ["CRYONB_DATA"]) / "maps"
    index = pd.read_csv(folder / "INDEX.csv", dtype={"resolution": str}).dropna(subset=["model"])
    rows, finished = [], {}
    if arguments.rows and arguments.rows.is_file():
        known = [json.loads(line) for line in arguments.rows.read_text().splitlines()]
        finished = {(row["name"], row["method"], row["resolution"]): row for row in known}
    for method, entry in product(arguments.weights, index.itertuples()):
        group = next((k for k, names in enumerate(GROUPS) if entry.map in names), None)
        weights = method
        if arguments.folds and group is not None:
            weights = str(arguments.folds / f"fold{group}.safetensors")
        # Some entries say "~20" or "3.28?".
        resolution = float(entry.resolution.strip("~?"))
        if resolution > arguments.coarsest:
            continue
        case = {"name": entry.map, "resolution": arguments.simulate or resolution,
                "map": None if arguments.simulate else str(folder / entry.map),
                "model": str(folder / entry.model)}  # fmt: skip
        key = (entry.map, method, case["resolution"])
        if key in finished:
            rows.append(finished[key])
            continue
        done = subprocess.run(
            [sys.executable, __file__, "--one", json.dumps(case), "--weights", weights],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            print(f"{entry.map}: failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]) | {"method": method})
        if arguments.rows:
            with arguments.rows.open("a") as file:
                print(json.dumps(rows[-1]), file=file)
    table = pd.DataFrame(rows)
    medians = ["haruspex_precision", "haruspex_recall", "haruspex_f1"]
    segments = ["window_segments_helix", "window_segments_strand"]
    shown = ["name", "resolution", "n_residues", "q3", "f1_helix", "f1_strand", "f1_coil",
             "f1_nucleotide", "haruspex_precision", "haruspex_recall", "window_q3", "seconds",
             "peak_gb"]  # fmt: skip
    for method, part in table.groupby("method", sort=False):
        print(f"\n{method}")
        print(part[shown].round(3).to_string(index=False))
        d = part["resolution"]
        for text, some in (("<= 4 Å", part[d <= 4]), ("> 4 Å", part[(d > 4) & (d < 10)])):
            some = some[some["n_protein"] > 0]
            n = some["n_protein"].sum()
            pooled = (some["q3"] * some["n_protein"]).sum() / max(n, 1)
            print(f"{text}: q3 pooled {pooled:.3f}, mean {some['q3'].mean():.3f}, "
                  f"{len(some)} maps, {n:.0f} residues")  # fmt: skip
            print("    medians", some[medians].median().round(3).to_dict())
            print("    means", some[segments].mean().round(3).to_dict())
    if arguments.csv:
        # Seconds and memory are those of the machine, and of what else it did.
        Benchmark(table.drop(columns=["seconds", "peak_gb"]).round(4)).save(arguments.csv)


if __name__ == "__main__":
    main()
