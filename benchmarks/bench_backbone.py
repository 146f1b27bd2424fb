"""From a map to Cα chains: the shipped backbone network, and threading through its candidates.

    python benchmarks/bench_backbone.py real      [--rows real.csv] [--weights backbone]
    python benchmarks/bench_backbone.py simulated [--rows simulated.csv] [--maps 25]
    python benchmarks/bench_backbone.py curve     [--rows curve.csv]
    python benchmarks/bench_backbone.py names     [--rows names.csv] [--maps 25]

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

names: fragments that `m.trace` gives without a sequence, every other one turned around, then
`nb.name_fragments` with the sequences of the model, for both kinds of maps (simulated ones from 2.5
Å on). A residue is right if it has the number, in its sequence, of the nearest true Cα, within 3 Å;
a piece is wrong if half of its named residues or fewer are. on_truth are residues within 3 Å.

With --rows, rows are kept as they come, and what is there is not done again.
"""

import argparse
import os
import time
import warnings
from itertools import chain
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from sklearn.metrics import f1_score

import cryonb as nb
from cryonb.atoms import KIND_PROTEIN, Atoms
from cryonb.evaluate.peaks import evaluate_peaks, peak_curve
from cryonb.files.model import read_model
from cryonb.grid import Grid
from cryonb.simulate.experiment import Experiment, experimental_map
from cryonb.trace.peaks import Peaks
from cryonb.trace.residue_frames import read_frames
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


def test_domains(folder: Path, count: int, resolutions):
    """Domains of the test part, evenly drawn, each with a resolution in turn and a grid."""
    part = split(pd.read_csv(folder / "structures" / "INDEX.csv"))
    names = [name for name in part.index[part == "test"] if name.startswith("scope")]
    names = names[:: max(len(names) // count, 1)][:count]
    for k, name in enumerate(names):
        model = read_model(folder / "structures" / name)
        grid = Grid.around(Atoms.from_structure(model).position, 1.0, 14.0)
        yield k, name, resolutions[k % len(resolutions)], model, grid


def simulated_maps(folder: Path, count: int):
    for k, name, d, model, grid in test_domains(folder, count, RESOLUTIONS):
        decay = 8 * d**2
        conditions = Experiment(
            d, b_overall=decay, b_sharpen=0.7 * decay, noise=0.5, solvent=0.6, weighted=True
        )
        volume = experimental_map(model, grid, experiment=conditions, rng=np.random.default_rng(k))
        yield name, d, nb.DensityMap.from_volume(volume, resolution=d), model


def macro_f1(found, model) -> dict:
    """Residue types and secondary structure, read at the model's Cα atoms."""
    alpha = model_ca(model)
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
        traced = m.trace(sequence, peaks=peaks, prediction=found, progress=False)
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


def turned(model):
    """The model with every other chain the other way round, and chains of residues from 1 on."""
    made = gemmi.Structure()
    made.add_model(gemmi.Model(1))
    for number, one in enumerate(model[0]):
        new = gemmi.Chain(one.name)
        for k, residue in enumerate(list(one)[:: -1 if number % 2 else 1], start=1):
            residue = residue.clone()
            residue.seqid = gemmi.SeqId(k, " ")
            new.add_residue(residue)
        made[0].add_chain(new)
    made.setup_entities()
    return made


def names(name, d, m, model, weights) -> dict:
    """Fragments traced without a sequence, and how many of their names are right."""
    found = m.predict_backbone(weights=weights, progress=False)
    traced = m.trace(prediction=found, progress=False)
    sequences = nb.open_sequences(model)
    began = time.process_time()
    fragments = turned(traced.model)
    named = nb.name_fragments(fragments, m, sequences, emission=traced.peaks)
    row = {"map": name, "resolution": d, "names_s": time.process_time() - began}
    points, where = [], []
    copy = 0
    for one in model[0]:
        alpha = [a for a in (r.find_atom("CA", "*", gemmi.Element("C")) for r in one) if a]
        points += [atom.pos.tolist() for atom in alpha]
        where += [(sequences[copy], k) for k in range(len(alpha))] if alpha else []
        copy += bool(alpha)
    apart, near = cKDTree(points).query(read_frames(fragments).position)
    table = named.residues
    given = table.place >= 0
    right = np.array([
        on and (sequences[one], place) == where[k]
        for on, one, place, k in zip(
            given & (apart <= 3), table.sequence, table.place, near, strict=True
        )
    ])  # fmt: skip
    pieces = table[given].assign(right=right[given]).groupby("fragment").right.mean()
    return row | {
        "residues": len(model_ca(model)), "traced": len(table), "on_truth": (apart <= 3).sum(),
        "fragments": len(traced.model[0]), "named": given.sum(), "right": right.sum(),
        "pieces_named": len(pieces), "pieces_wrong": (pieces <= 0.5).sum(),
        "fragments_named": (table.assign(given=given).groupby("chain").given.mean() > 0.5).sum(),
        "wrong": (given & ~right & (apart <= 3)).sum(),
    }  # fmt: skip


def model_ca(model):
    atoms = Atoms.from_structure(model)
    return atoms.select((atoms.name == "CA") & (atoms.kind == KIND_PROTEIN))


def summarise(rows: pd.DataFrame, what: str) -> None:
    if what == "curve":
        mean = rows.groupby("threshold")[["recall", "precision", "f1", "random_f1"]].mean()
        print(mean.round(3).to_string())
        return
    if what == "names":
        print(rows.round(3).to_string(index=False))
        kind = np.where(rows["map"].str.startswith("scope"), "simulated", "measured")
        for name, part in rows.groupby(kind):
            t = part.sum(numeric_only=True)
            print(
                f"{name}, {len(part)} maps: {t.named / t.traced:.1%} of {t.traced:.0f} traced "
                f"residues named, {t.right / t.named:.1%} of these right ({t.wrong:.0f} on the "
                f"truth have a wrong name); {t.pieces_named:.0f} pieces named, "
                f"{t.pieces_wrong:.0f} wrong; {t.fragments_named:.0f} of {t.fragments:.0f} "
                f"fragments named for the most part; {t.names_s:.0f} s"
            )
        return
    columns = [c for c in rows.columns if c not in ("map", "resolution")]
    print(rows.round(3).to_string(index=False))
    print("mean:  ", rows[columns].mean().round(3).to_dict())
    print("median:", rows[columns].median().round(3).to_dict())
    for key, value in PUBLISHED.items():
        print(f"{key}: {rows[key].mean():.2f}, published {value} on other maps")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["real", "simulated", "curve", "names"])
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
    simulated = simulated_maps(folder, args.maps)
    if args.what == "names":
        maps = chain((one for one in simulated if one[1] >= 2.5), real_maps(folder))
    else:
        maps = simulated if args.what == "simulated" else real_maps(folder)
    judges = {"real": judge, "simulated": judge, "names": names}
    for name, d, m, model in maps:
        if name in done:
            continue
        if args.what == "curve":
            new = list(curve(name, d, m, model, args.weights))
        else:
            new = [judges[args.what](name, d, m, model, args.weights)]
        rows = pd.concat([rows, pd.DataFrame(new)], ignore_index=True)
        if args.rows:
            rows.to_csv(args.rows, index=False)
        print(name, {k: round(v, 3) for k, v in new[-1].items() if k != "map"}, flush=True)
    summarise(rows, args.what)


if __name__ == "__main__":
    main()
