r"""The figures that the shipped network is measured by, beside published ones and our targets.

    python benchmarks/bench_accuracy.py --rows rows.jsonl [--weights unet] [--folds FOLDER]
    python benchmarks/bench_accuracy.py --rows rows.jsonl --part validation   # to choose by
    python benchmarks/bench_accuracy.py --calibrate FOLDER [--weights unet]   # makes the folds

CRYONB_DATA names the folder of maps and structures.

* simulated: maps by ChimeraX's molmap, on 1 Å voxels, of the SCOPe domains of the split's part
  (`cryonb.train.library.split`) at 5, 6, 8 and 10 Å;
* measured: the maps of CRYONB_DATA with a protein model, to 7 Å; with --folds each by the network
  that was made without its protein (`GROUPS` of bench_real_maps.py), FOLDER/fold<k>.safetensors:
  what `cryonb train recipes/folds/fold<k>.toml` makes, or --calibrate, which gives the network
  temperatures by the maps of the other groups;
* complexes: structures with nucleic acids that were not trained on, by molmap at 3 to 6 Å;
* cost: processor seconds of `predict_sse` by a million voxels of 1 Å over all maps of this run, and
  of a map of 200³ a third of which is molecule.

All residues of a class are pooled. Rows that are in the file already are not computed again, so
each network, each set of folds and each number of --rotations takes a file of its own.
"""

import argparse
import json
import os
import shutil
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from bench_predict_speed import ball_of_atoms
from bench_real_maps import GROUPS

import cryonb as nb
from cryonb.evaluate.calibration import calibration, calibration_error
from cryonb.evaluate.haruspex import residue_counts
from cryonb.networks.weights import load_network
from cryonb.train.calibrate import fit_tempering, read_residues
from cryonb.train.library import split
from cryonb.volume import CLASSES

#: 28 residues of a map that is here whole are no map of their own.
SNIPPETS = {"5778-snippet/emringer_test_map.ccp4.gz"}
STATES = ("helix", "strand", "coil")
#: kind, limits of the resolution, figure, published, target.
TARGETS = (
    ("simulated", (6, 6), "q3", "0.831 (Emap2sec)", ">= 0.92"),
    ("simulated", (10, 10), "q3", "0.798 (Emap2sec)", ">= 0.86"),
    ("measured", (0, 4), "haruspex_f1", "0.8705 (Haruspex)", ">= 0.88"),
    ("measured", (0, 4), "q3", "", ">= 0.82"),
    ("measured", (4.3, 7), "q3", "0.644 to 0.72 (Emap2sec)", ">= 0.75"),
    ("simulated", (5, 10), "strand_recall", "0.84 (Emap2sec)", ">= 0.88"),
    ("complexes", (3, 6), "nucleotide_f1", "", ">= 0.95"),
    ("measured", (0, 7), "calibration_error", "", "<= 0.03"),
    ("simulated", (5, 10), "calibration_error", "", "<= 0.03"),
)


def cases(part: str, folds: Path | None, weights: str):
    folder = Path(os.environ["CRYONB_DATA"])
    index = pd.read_csv(folder / "structures" / "INDEX.csv")
    parts = split(index).to_numpy()
    domains = index["file"][(parts == part) & index["scope_class"].notna().to_numpy()]
    for d in (5.0, 6.0, 8.0, 10.0):
        for name in domains:
            yield {"kind": "simulated", "name": name, "resolution": d, "weights": weights,
                   "model": folder / "structures" / name, "map": None}  # fmt: skip
    # The split holds nucleic acids back for validation alone; nothing was chosen by their F1.
    nucleic = index["file"].str.startswith("pool_nucleic/").to_numpy()
    for k, name in enumerate(index["file"][(parts == "validation") & nucleic]):
        yield {"kind": "complexes", "name": name, "resolution": 3.0 + k % 4, "weights": weights,
               "model": folder / "structures" / name, "map": None}  # fmt: skip
    maps = pd.read_csv(folder / "maps" / "INDEX.csv", dtype={"resolution": str})
    for entry in maps.dropna(subset=["model"]).itertuples():
        d = float(entry.resolution.strip("~?"))
        group = next((k for k, names in enumerate(GROUPS) if entry.map in names), None)
        if d > 7 or group is None or entry.map in SNIPPETS:
            continue
        own = str(folds / f"fold{group}.safetensors") if folds else weights
        path = folder / "maps" / entry.map
        yield {"kind": "measured", "name": entry.map, "resolution": d, "weights": own,
               "model": folder / "maps" / entry.model, "map": path}  # fmt: skip


def calibrated_folds(weights: str, target: Path) -> None:
    """Write the same weights once a group, with temperatures by the maps of the other groups."""
    shipped = Path(nb.__file__).parent / "weights" / f"{weights}.safetensors"
    file = Path(weights) if weights.endswith(".safetensors") else shipped
    network = load_network(file)
    network.description.pop("tempering", None)
    folder = Path(os.environ["CRYONB_DATA"]) / "maps"
    index = pd.read_csv(folder / "INDEX.csv")
    target.mkdir(parents=True, exist_ok=True)
    read = [
        read_residues(network, folder, index[index["map"].isin(set(names) - SNIPPETS)])
        for names in GROUPS
    ]
    for k in range(len(GROUPS)):
        others, first = [], 0
        for found, owner, truth, weight in read[:k] + read[k + 1 :]:
            others.append((found, owner + first, truth, weight))
            first += len(truth)
        columns = [np.concatenate(column) for column in zip(*others, strict=True)]
        about = network.description | {"tempering": fit_tempering(*columns)}
        print(f"without group {k}:", about["tempering"])
        (target / f"fold{k}.json").write_text(json.dumps(about, indent=2))
        shutil.copyfile(file, target / f"fold{k}.safetensors")


def opened(case: dict):
    """Give the map, simulated if the case has none, and the model."""
    model = nb.open_model(case["model"])
    if case["map"]:
        m = nb.open_map(case["map"], resolution=case["resolution"])
    else:
        simulated = nb.gaussian_map(model, resolution=case["resolution"], voxel_size=1.0)
        m = nb.DensityMap(simulated.values, simulated.grid, resolution=case["resolution"])
    return m, model


def judged(case: dict, rotations: int = 1) -> dict:
    m, model = opened(case)
    begin = time.process_time()
    found = m.predict_sse(method=case["weights"], rotations=rotations, on="network", progress=False)
    seconds = time.process_time() - begin
    residues = found.evaluate(model, density=m).residues
    probabilities = residues[list(CLASSES)].to_numpy()
    truth = residues["truth"].map(CLASSES.index).to_numpy()
    counts = residue_counts(residues["truth"], residues["predicted"], residues["density"])
    table = pd.crosstab(residues["truth"], residues["predicted"])
    return {
        "seconds": seconds, "voxels": int(np.prod(m.shape) * np.prod(m.voxel_size)),
        "confusion": {f"{t}>{p}": int(table.loc[t, p]) for t in table.index for p in table.columns},
        "haruspex": [counts.precision, counts.recall, counts.f1],
        "calibration": calibration(truth, probabilities, bins=15).to_dict("list"),
    }  # fmt: skip


def figure(rows: list[dict], name: str) -> float:
    total = pd.Series(dtype=float)
    for row in rows:
        total = total.add(pd.Series(row["confusion"], dtype=float), fill_value=0)

    def count(truth, found=CLASSES):
        return sum(total.get(f"{t}>{p}", 0) for t in truth for p in found)

    if name == "q3":
        return sum(count([s], [s]) for s in STATES) / count(STATES)
    if name == "strand_recall":
        return count(["strand"], ["strand"]) / count(["strand"])
    if name == "nucleotide_f1":
        both = count(["nucleotide"], ["nucleotide"])
        return 2 * both / (count(["nucleotide"]) + count(CLASSES, ["nucleotide"]))
    if name == "haruspex_f1":
        # The published 0.87 is of the medians of precision and recall.
        precision, recall, _ = np.nanmedian([row["haruspex"] for row in rows], axis=0)
        return 2 * precision * recall / (precision + recall)
    bins = pd.concat([pd.DataFrame(row["calibration"]) for row in rows])
    for key in ("confidence", "accuracy"):
        bins[key] *= bins["n"]
    bins = bins.groupby("low")[["confidence", "accuracy", "n"]].sum()
    for key in ("confidence", "accuracy"):
        bins[key] /= bins["n"]
    return calibration_error(bins)


def cost(weights: str, rotations: int) -> float:
    values = ball_of_atoms(200, 1.0, 0.33, np.random.default_rng(0))
    m = nb.DensityMap(values, nb.Grid(values.shape, 1.0))
    begin = time.process_time()
    m.predict_sse(method=weights, rotations=rotations, progress=False)
    return (time.process_time() - begin) / 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER")
    parser.add_argument("--weights", default="unet")
    parser.add_argument("--folds", type=Path)
    parser.add_argument("--rotations", type=int, default=1)
    parser.add_argument("--part", choices=["test", "validation"], default="test")
    parser.add_argument("--only", nargs="+", default=["simulated", "measured", "complexes"])
    options = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of maps and structures")
    warnings.simplefilter("ignore")
    if options.calibrate:
        calibrated_folds(options.weights, options.calibrate)
        return
    if not options.rows:
        sys.exit("--rows must name the file that keeps what is computed")
    rows = {}
    if options.rows.is_file():
        known = (json.loads(line) for line in options.rows.read_text().splitlines())
        rows = {(row["kind"], row["name"], row["resolution"], row["weights"]): row for row in known}
    wanted = []
    for case in cases(options.part, options.folds, options.weights):
        if case["kind"] not in options.only:
            continue
        key = tuple(case[name] for name in ("kind", "name", "resolution", "weights"))
        if key not in rows:
            rows[key] = dict(zip(("kind", "name", "resolution", "weights"), key, strict=True))
            rows[key] |= judged(case, options.rotations)
            with options.rows.open("a") as file:
                print(json.dumps(rows[key], default=float), file=file)
        wanted.append(rows[key])
    table = []
    for kind, (low, high), name, published, target in TARGETS:
        some = [r for r in wanted if r["kind"] == kind and low <= r["resolution"] <= high]
        if some:
            table.append(
                {"maps": f"{kind}, {low:g} to {high:g} Å", "n": len(some), "figure": name,
                 "published": published, "target": target, "here": round(figure(some, name), 4)}
            )  # fmt: skip
    print(pd.DataFrame(table).to_string(index=False))
    seconds, voxels = (sum(row[key] for row in wanted) for key in ("seconds", "voxels"))
    print(f"CPU seconds a million voxels: {1e6 * seconds / voxels:.2f} over these maps, "
          f"{cost(options.weights, options.rotations):.2f} for 200³ a third of which is molecule "
          "(Haruspex: 20; target <= 0.5)")  # fmt: skip


if __name__ == "__main__":
    main()
