"""Predict and judge every real map with a protein model.

    python benchmarks/bench_real_maps.py [--weights unet] [--folds FOLDER] [--csv OUT]

CRYONB_DATA names the folder of maps and models. With --folds, each map is predicted by the network
of FOLDER/fold<k>.safetensors that was trained without its protein (`GROUPS` below; the recipes are
in recipes/folds). Each map runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pandas as pd

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


def one(folder: Path, row: dict, weights: str) -> dict:
    """Predict one map and judge it: a row of the table."""
    import cryonb as nb

    warnings.simplefilter("ignore")
    begin = time.perf_counter()
    m = nb.open_map(folder / row["map"])
    sse = m.predict_sse(method=weights, progress=False)
    seconds = time.perf_counter() - begin
    evaluation = sse.evaluate(nb.open_model(folder / row["model"]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    residues = evaluation.residues
    return dict(evaluation.summary) | {
        "map": row["map"],
        "resolution": row["resolution"],
        "seconds": seconds,
        "peak_gb": peak,
        "n_protein": int(residues["truth"].isin(["helix", "strand", "coil"]).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", default="unet")
    parser.add_argument("--folds", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of maps and models")
    folder = Path(os.environ["CRYONB_DATA"]) / "maps"
    index = pd.read_csv(folder / "INDEX.csv", dtype={"resolution": str}).dropna(subset=["model"])
    if arguments.one:
        row = index[index["map"] == arguments.one].iloc[0].to_dict()
        print(json.dumps(one(folder, row, arguments.weights), default=float))
        return
    rows = []
    for name in index["map"]:
        group = next((k for k, names in enumerate(GROUPS) if name in names), None)
        weights = arguments.weights
        if arguments.folds and group is not None:
            weights = str(arguments.folds / f"fold{group}.safetensors")
        done = subprocess.run(
            [sys.executable, __file__, "--one", name, "--weights", weights],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            print(f"{name}: failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]) | {"fold": group})
    table = pd.DataFrame(rows)
    shown = ["map", "resolution", "n_residues", "q3", "f1_helix", "f1_strand", "f1_coil",
             "f1_nucleotide", "haruspex_precision", "haruspex_recall", "seconds",
             "peak_gb"]  # fmt: skip
    print(table[shown].round(3).to_string(index=False))
    d = pd.to_numeric(table["resolution"].str.strip("~?"), errors="coerce")
    for text, part in (("<= 4 Å", table[d <= 4]), ("> 4 Å", table[(d > 4) & (d < 10)])):
        part = part[part["n_protein"] > 0]
        pooled = (part["q3"] * part["n_protein"]).sum() / max(part["n_protein"].sum(), 1)
        print(f"{text}: q3 pooled {pooled:.3f}, mean {part['q3'].mean():.3f}, {len(part)} maps, "
              f"{part['n_protein'].sum()} residues")  # fmt: skip
    if arguments.csv:
        table.round(4).to_csv(arguments.csv, index=False)


if __name__ == "__main__":
    main()
