"""From a map to Cα chains: the shipped backbone network, and threading through its candidates.

    python benchmarks/bench_backbone.py real      [--rows real.csv] [--weights backbone]
    python benchmarks/bench_backbone.py simulated [--rows simulated.csv] [--maps 25]
    python benchmarks/bench_backbone.py curve     [--rows curve.csv]

real: every map of CRYONB_DATA/maps at 4 Å or better that has a protein. No weights saw a real map,
so each is a test. simulated: domains of the test part of `cryonb.train.library.split`, at 2, 2.5,
3, 3.5 and 4 Å in turn, with the conditions of `nb.example` (noise, solvent, falloff).

recall, precision: Cα candidates against the model's Cα atoms, one with one within 2 Å, at the
default threshold. type, state: accuracy and macro-F1 of residue types and of helix, strand and
coil, read at the model's Cα atoms (figures 5 and 6 of the paper show macro-F1). Then `m.trace` with
a sequence a chain, the residues that the model has: matched, identity and rmsd by the rule of
`phenix.chain_comparison` (3 Å), tm after superposition; "free" is `m.trace` without a sequence.
Published for Cryo2Struct, means over other maps: 1.51 Å, 60.4 %, 37.9 %.

curve: F1 of the candidates by threshold, beside that of as many voxels drawn at random within the
density (Giri, Wang & Cheng 2024, figure 7), means over the real maps.

With --rows, rows are kept as they come, and what is there is not done again.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

import cryonb as nb
from cryonb.atoms import KIND_PROTEIN, Atoms
from cryonb.evaluate.peaks import evaluate_peaks, peak_curve
from cryonb.files.model import read_model
from cryonb.grid import Grid
from cryonb.simulate.experiment import Experiment, experimental_map
from cryonb.trace.peaks import Peaks
from cryonb.train.library import split
from cryonb.volume import CLASSES

RESOLUTIONS = (2.0, 2.5, 3.0, 3.5, 4.0)
PUBLISHED = {"rmsd": 1.51, "matched": 60.4, "identity": 37.9}


def real_maps(folder: Path):
    table = pd.read_csv(folder / "maps" / "INDEX.csv", dtype={"resolution": str})
    table = table[table["model"].notna()]
    resolution = table["resolution"].str.strip("~?").astype(float)
    for entry, d in zip(table.itertuples(), resolution, strict=True):
        if d > 4:
            continue
        model = read_model(folder / "maps" / entry.model)
        if not (Atoms.from_structure(model).name == "CA").any():
            continue
        yield entry.map, d, nb.open_map(folder / "maps" / entry.map, resolution=d), model


def simulated_maps(folder: Path, count: int):
    part = split(pd.read_csv(folder / "structures" / "INDEX.csv"))
    names = [name for name in part.index[part == "test"] if name.startswith("scope")]
    names = names[:: max(len(names) // count, 1)][:count]
    for k, name in enumerate(names):
        d = RESOLUTIONS[k % len(RESOLUTIONS)]
        model = read_model(folder / "structures" / name)
        grid = Grid.around(Atoms.from_structure(model).position, 1.0, 14.0)
        decay = 8 * d**2
        conditions = Experiment(
            d, b_overall=decay, b_sharpen=0.7 * decay, noise=0.5, solvent=0.6, weighted=True
        )
        volume = experimental_map(model, grid, experiment=conditions, rng=np.random.default_rng(k))
        yield name, d, nb.DensityMap.from_volume(volume, resolution=d), model


def macro_f1(found, model) -> dict:
    """Residue types and secondary structure, read at the model's Cα atoms."""
    atoms = Atoms.from_structure(model)
    alpha = atoms.select((atoms.name == "CA") & (atoms.kind == KIND_PROTEIN))
    states = nb.secondary_structure(model)
    state = np.array(CLASSES)[states.state]
    keys = [states.residues.chain, states.residues.number, states.residues.icode]
    of = dict(zip(zip(*keys, strict=True), state, strict=True))
    r = alpha.residues
    truth = np.array([of[key] for key in zip(r.chain, r.number, r.icode, strict=True)])
    truth = truth[alpha.residue]
    name = r.name[alpha.residue]
    scores = {}
    for kind, volume, right in (("type", found.residue, name), ("state", found.secondary, truth)):
        answer = volume.sample(alpha.position, order=1)
        known = np.isfinite(answer).all(axis=1) & np.isin(right, volume.classes)
        called = np.array(volume.classes)[answer[known].argmax(axis=1)]
        scores[f"{kind}_accuracy"] = (called == right[known]).mean()
        scores[f"{kind}_macro_f1"] = f1_score(right[known], called, average="macro")
    return scores


def judge(name, d, m, model, weights) -> dict:
    began = time.process_time()
    found = m.predict_backbone(weights=weights, progress=False)
    row = {"map": name, "resolution": d, "predict_s": time.process_time() - began}
    peaks = found.peaks()
    scores = evaluate_peaks(peaks, model, grid=found.heat.grid).summary
    row |= {key: scores[key] for key in ("n_ca", "recall", "precision", "f1")}
    row |= {"ca_rmsd": scores["rmsd"]} | macro_f1(found, model)
    for kind, sequence in (("", nb.open_sequences(model)), ("free_", None)):
        began = time.process_time()
        traced = m.trace(sequence, peaks=peaks, progress=False)
        row[f"{kind}trace_s"] = time.process_time() - began
        if len(traced.model[0]):
            scores = traced.evaluate(model).summary
            keys = ("matched", "rmsd", "identity", "tm", "found_matched")
            row |= {f"{kind}{key}": scores[key] for key in keys}
        row[f"{kind}chains"] = len(traced.model[0])
    return row


def curve(name, d, m, model, weights):
    """Rows by threshold: ours, and as many places drawn at random within the density."""
    found = m.predict_backbone(weights=weights, progress=False)
    grid, heat = found.heat.grid, found.heat["CA"].values
    peaks = found.peaks(threshold=0.05)
    inside = grid.to_points(np.argwhere(heat > 0))
    rng = np.random.default_rng(1)
    for row in peak_curve(peaks, model, grid=grid).to_dict("records"):
        places = inside[rng.choice(len(inside), int(row["n_peaks"]))]
        drawn = Peaks(places, np.ones(len(places)), np.empty((len(places), 0)))
        random = evaluate_peaks(drawn, model, grid=grid).summary
        row |= {"map": name, "resolution": d, "random_f1": random["f1"]}
        names = ("map", "resolution", "threshold", "recall", "precision", "f1", "random_f1")
        yield {key: row[key] for key in names}


def summarise(rows: pd.DataFrame, what: str) -> None:
    if what == "curve":
        mean = rows.groupby("threshold")[["recall", "precision", "f1", "random_f1"]].mean()
        print(mean.round(3).to_string())
        return
    columns = [c for c in rows.columns if c not in ("map", "resolution")]
    print(rows.round(3).to_string(index=False))
    print("mean:  ", rows[columns].mean().round(3).to_dict())
    print("median:", rows[columns].median().round(3).to_dict())
    for key, value in PUBLISHED.items():
        print(f"{key}: {rows[key].mean():.2f}, published {value} on other maps")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["real", "simulated", "curve"])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--weights", default="backbone")
    parser.add_argument("--maps", type=int, default=25, help="simulated ones")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = Path(os.environ["CRYONB_DATA"])
    rows = pd.DataFrame()
    if args.rows and args.rows.is_file():
        rows = pd.read_csv(args.rows)
    done = set(rows.get("map", ()))
    maps = simulated_maps(folder, args.maps) if args.what == "simulated" else real_maps(folder)
    for name, d, m, model in maps:
        if name in done:
            continue
        if args.what == "curve":
            new = list(curve(name, d, m, model, args.weights))
        else:
            new = [judge(name, d, m, model, args.weights)]
        rows = pd.concat([rows, pd.DataFrame(new)], ignore_index=True)
        if args.rows:
            rows.to_csv(args.rows, index=False)
        print(name, {k: round(v, 3) for k, v in new[-1].items() if k != "map"}, flush=True)
    summarise(rows, args.what)


if __name__ == "__main__":
    main()
