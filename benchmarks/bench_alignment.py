"""Sequences threaded through simulated Cα positions: the published search beside ours.

    python benchmarks/bench_alignment.py --cases 200 --rows alignment.csv   # quality, resumes
    python benchmarks/bench_alignment.py --speed                            # time and memory
    python benchmarks/bench_alignment.py --speed --full                     # published at full size

A case is the Cα trace of a real chain (60 to 300 residues) with errors of 0.4 Å, without a share of
its residues and a few loops, noise points around it (no closer than 2 Å to another point) and
blurred emissions. Two comparisons a case. "log" are log probabilities of the published model on a
case where nothing is missing, which the published search is made for: the path of the published
search (its jumps counted), ours in the same model, the bound that no path exceeds, the true one.
"right" are shares of residues at their true position, and of placed residues that are, with
residues missing, by default options. Needs CRYONB_DATA.
"""

import argparse
import os
import time
import tracemalloc
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

from cryonb import Atoms, open_model
from cryonb.atoms import KIND_PROTEIN
from cryonb.trace.alignment import align
from cryonb.trace.hidden_markov import LETTERS, PUBLISHED_JUMP, ChainModel

#: Options under which ours searches the published model.
SAME = {"missing": None, "jump": PUBLISHED_JUMP}


def trace(path):
    """Cα positions and residue codes of a chain; None where one is unknown."""
    atoms = Atoms.from_structure(open_model(path))
    atoms = atoms.select((atoms.name == "CA") & (atoms.kind == KIND_PROTEIN))
    names = gemmi.one_letter_code(list(atoms.residues.name[atoms.residue]))
    codes = np.array([LETTERS.find(letter.upper()) for letter in names])
    return None if (codes < 0).any() else (atoms.position, codes)


def simulate(points, codes, rng, *, recall, noise, sure, loops):
    """Positions, emissions and each residue's true state."""
    n = len(points)
    kept = rng.random(n) < recall
    for begin in rng.integers(n, size=loops):
        kept[begin : begin + rng.integers(4, 16)] = False
    found = points[kept] + rng.normal(0, 0.4 / np.sqrt(3), (kept.sum(), 3))
    for _ in range(int(noise * n)):
        point = points[rng.integers(n)] + rng.normal(0, 3, 3)
        if np.linalg.norm(found - point, axis=1).min() > 2:
            found = np.vstack([found, point])
    logits = rng.normal(0, 1, (len(found), 20))
    logits[np.arange(kept.sum()), codes[kept]] += sure
    emissions = np.exp(logits)
    order = rng.permutation(len(found))
    true = np.full(n, -1)
    true[kept] = np.argsort(order)[: kept.sum()]
    return found[order], emissions[order] / emissions[order].sum(1, keepdims=True), true


def timed(*args, **options):
    begin = time.process_time()
    found = align(*args, **options)
    return found, time.process_time() - begin


def shares(found, true):
    right = (found.states == true) & (true >= 0)
    return right.sum() / (true >= 0).sum(), right.sum() / max((found.states >= 0).sum(), 1)


def one_case(files, seed) -> dict:
    rng = np.random.default_rng(seed)
    while True:
        path = files[rng.integers(len(files))]
        chain = trace(path)
        if chain and 60 <= len(chain[1]) <= 300:
            break
    points, codes = chain
    kind = {"noise": rng.choice([0.3, 1.0, 1.5]), "sure": rng.choice([1.2, 2.1, 3.0])}
    row = {"seed": seed, "file": path.name, "residues": len(codes)} | kind
    positions, emissions, true = simulate(points, codes, rng, recall=1.0, loops=0, **kind)
    published, row["published_s"] = timed(positions, emissions, codes, method="published")
    same, row["same_s"] = timed(positions, emissions, codes, **SAME)
    model = ChainModel.of(positions, emissions)
    row |= {
        "states": len(positions), "log_published": published.log_probability,
        "log_same": same.log_probability, "log_bound": same.bound,
        "log_true": model.log_probability(true, codes),
        "right_published": shares(published, true)[0], "right_same": shares(same, true)[0],
    }  # fmt: skip
    recall, loops = rng.choice([0.8, 0.9, 0.95]), int(rng.integers(0, 4))
    positions, emissions, true = simulate(points, codes, rng, recall=recall, loops=loops, **kind)
    found, row["default_s"] = timed(positions, emissions, codes)
    row |= {"recall": recall, "loops": loops}
    row["gaps_right"], row["gaps_precise"] = shares(found, true)
    right = ((found.states == true) & (true >= 0))[found.states >= 0]
    confidence = found.confidence[found.states >= 0]
    for name, which in (("right", right), ("wrong", ~right)):
        row[f"confidence_{name}"] = confidence[which].mean() if which.any() else np.nan
    # Where it runs out of states, the last residues have none.
    other = align(positions, emissions, codes, method="published")
    row["gaps_right_published"], row["gaps_precise_published"] = shares(other, true)
    return row


def quality(folder, cases, table):
    files = sorted((folder / "structures" / "pool_protein").glob("*.gz"))
    done = set(pd.read_csv(table).seed) if table.exists() else set()
    for seed in range(cases):
        if seed not in done:
            row = pd.DataFrame([one_case(files, seed)])
            row.to_csv(table, mode="a", header=not table.exists(), index=False)
    rows = pd.read_csv(table)
    better = rows.log_same - rows.log_published
    print(f"{len(rows)} cases, {rows.residues.median():.0f} residues in the middle")
    print(
        f"log probability: ours higher in {(better > 1e-6).sum()}, equal in "
        f"{(better.abs() <= 1e-6).sum()}, lower in {(better < -1e-6).sum()}; by "
        f"{better.mean():.1f} on average ({better.min():.1f} to {better.max():.1f}); "
        f"proven best in {(rows.log_bound - rows.log_same < 1e-4).sum()}, at least the truth's in "
        f"{(rows.log_same >= rows.log_true - 1e-6).sum()}"
    )
    print(rows.groupby(["sure", "noise"])[[
        "right_published", "right_same", "gaps_right", "gaps_precise", "gaps_right_published",
        "gaps_precise_published", "confidence_right", "confidence_wrong",
    ]].mean().round(3).to_string())  # fmt: skip
    print(f"CPU time, published / ours: {rows.published_s.sum() / rows.same_s.sum():.2f}")


def big_case(folder, states, residues, rng):
    """Chains beside each other, taken as one, with as much noise as makes up the number."""
    points, codes = [], []
    for k, path in enumerate(sorted((folder / "structures" / "pool_protein").glob("*.gz"))):
        chain = trace(path)
        if chain:
            points.append(chain[0] - chain[0].mean(axis=0) + (60.0 * k, 0, 0))
            codes.append(chain[1])
        if sum(map(len, codes)) >= residues:
            break
    points, codes = np.vstack(points)[:residues], np.concatenate(codes)[:residues]
    positions, emissions, true = simulate(
        points, codes, rng, recall=1.0, noise=4 * (states / residues - 1), sure=2.1, loops=0
    )
    rows = np.union1d(true, rng.permutation(len(positions)))
    spare = np.setdiff1d(rows, true)[: states - residues]
    rows = np.sort(np.concatenate([true, spare]))
    return positions[rows], emissions[rows], codes


def speed(folder, full):
    for states, residues in ((500, 250), (2000, 1000)):
        case = big_case(folder, states, residues, np.random.default_rng(1))
        print(f"{len(case[0])} states, {len(case[2])} residues")
        runs = {"default": {}, "same model, no prices": SAME | {"rounds": 0}}
        if full or states == 500:
            runs["published"] = {"method": "published"}
        for name, options in runs.items():
            begin = time.perf_counter()
            found, seconds = timed(*case, **options)
            wall = time.perf_counter() - begin
            tracemalloc.start()
            align(*case, **options)
            peak = tracemalloc.get_traced_memory()[1] / 2**20
            tracemalloc.stop()
            print(
                f"  {name:22s} {seconds:7.2f} s CPU {wall:7.2f} s {peak:6.0f} MB "
                f"log probability {found.log_probability:.1f}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--rows", type=Path, default=Path("alignment.csv"))
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    folder = Path(os.environ["CRYONB_DATA"])
    if options.speed:
        speed(folder, options.full)
    else:
        quality(folder, options.cases, options.rows)


if __name__ == "__main__":
    main()
