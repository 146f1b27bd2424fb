"""Chains traced without a sequence, residue types from density, registers, directions.

    python benchmarks/bench_trace.py [chains]  [--domains 60] [--rows chains.csv]
    python benchmarks/bench_trace.py gaps      [--domains 60] [--rows gaps.csv]
    python benchmarks/bench_trace.py sequence  [--domains 12] [--rows sequence.csv]
    python benchmarks/bench_trace.py real      [--rows real.csv]

With --rows, rows go to a file, so that a run that was cut off goes on; a summary is printed at the
end. Domains are those of the test part of `cryonb.train.library.split`, which the classifiers have
not seen, and maps are Fourier maps at the structure's own B. Needs CRYONB_DATA.

chains: candidates are true Cα atoms, moved by a Gaussian error of some r.m.s. length, without some,
with false ones (within about 5 Å of the chain, no closer than 2 Å to another candidate), all of
score 0.9. "right" is the share of traced steps between true neighbours, "found" the share of steps
between neighbours that are both there, "covered" the share of residues on a right step, "directed"
the share of residues on paths whose direction is right, of those on paths of right steps mostly.

gaps: candidates with errors of 0.4 Å, 7 % false ones and a share missing, traced with bridges (of
--bridge residues at most) and without, by positions alone, with a map at 3 Å, or with that and
noisy heat maps made from the model, where a missing Cα has a hump of 0 to 0.25 (N and C: 0.4 to 1).
"complete" is the share of residues with a candidate on a right step, or placed within 2 Å; "breaks"
counts fragments in excess of the truth's stretches, a hundred residues; "wrong" is the share of all
steps and joins that are wrong, "bridges wrong" that of joins over missing residues; "off" is the
r.m.s. distance in Å of placed residues from the truth where the join is right.

sequence, real: residue types by the true backbone, or Cα atoms, then stretches of 10, 20 and 40
residues in the whole sequence (a stretch every 10 residues): share right, z right and wrong.
"""

import argparse
import os
import time
from itertools import pairwise
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from cryonb import Atoms, Grid, ProbabilityVolume, open_map, open_model
from cryonb.networks.backbone import HEAT
from cryonb.simulate.fourier import fourier_map
from cryonb.trace.chains import trace_chains
from cryonb.trace.residue_frames import read_frames
from cryonb.trace.sequence import sequence_from_map
from cryonb.train.backbone import heat_maps
from cryonb.train.library import split

CASES = {
    "exact": (0.0, 0.0, 0.0),
    "error 0.5 Å": (0.5, 0.0, 0.0),
    "10 % missing": (0.0, 0.1, 0.0),
    "20 % false": (0.0, 0.0, 0.2),
    "all": (0.5, 0.1, 0.2),
}
REAL = {
    "20026": ("20026/emd20026_prot.mrc.gz", "20026/3ajo_fitted_refined.pdb", 1.75),
    "6272": ("6272/6272_zone4A.mrc.gz", "6272/3j9s.pdb", 2.6),
    "30342": ("30342/390_emd_30342_A_z4.mrc.gz", "30342/390_7cec_A.cif", 3.9),
}


def domains(folder, count):
    part = split(pd.read_csv(folder / "INDEX.csv"))
    names = [name for name in part.index[part == "test"] if name.startswith("scope")]
    step = max(len(names) // count, 1)
    return names[::step][:count]


def candidates(points, rng, error, missing, false):
    """Positions, and the residue of each, -1 for a false one."""
    kept = rng.random(len(points)) >= missing
    found = points[kept] + rng.normal(0, error / np.sqrt(3), (kept.sum(), 3))
    residue = np.flatnonzero(kept)
    for _ in range(round(false * len(found))):
        while True:
            point = points[rng.integers(len(points))] + rng.normal(0, 3, 3)
            if np.linalg.norm(found - point, axis=1).min() > 2:
                break
        found, residue = np.vstack([found, point]), np.append(residue, -1)
    order = rng.permutation(len(found))
    return found[order], residue[order]


def judge(trace, residue, stretch):
    right = steps = turned = known = 0
    on = set()
    for path in trace.paths:
        at = residue[path]
        change = np.diff(at)
        good = (np.abs(change) == 1) & (at[1:] >= 0) & (at[:-1] >= 0)
        good &= stretch[at[1:]] == stretch[at[:-1]]
        right, steps = right + good.sum(), steps + len(good)
        on |= set(at[1:][good]) | set(at[:-1][good])
        known += len(path)
        turned += len(path) * (change[good].sum() > 0)
    there = np.isin(np.arange(len(stretch)), residue)
    possible = (there[1:] & there[:-1] & (stretch[1:] == stretch[:-1])).sum()
    lengths = [len(path) for path in trace.paths]
    return {
        "steps": steps, "right": right, "possible": possible, "covered": len(on),
        "residues": len(stretch), "mean_length": np.mean(lengths) if lengths else 0,
        "longest": max(lengths, default=0), "traced": known, "directed": turned,
    }  # fmt: skip


def chain_rows(folder, arguments, done):
    for number, name in enumerate(domains(folder, arguments.domains)):
        atoms = Atoms.from_structure(open_model(folder / name))
        frames = read_frames(atoms, backbone=False)
        maps = {0.0: None} | {
            d: fourier_map(atoms, resolution=d, voxel_size=1.0, margin=6.0)
            for d in (3.0, 4.0)
            if (name, "all", d) not in done
        }
        for case, how in CASES.items():
            for d in (0.0, 3.0, 4.0) if case == "all" else (0.0,):
                if (name, case, d) in done:
                    continue
                rng = np.random.default_rng((number, list(CASES).index(case)))
                points, residue = candidates(frames.position, rng, *how)
                begin = time.perf_counter()
                found = trace_chains(points, volume=maps[d], resolution=d or None)
                row = {"file": name, "case": case, "map": d}
                row |= judge(found, residue, frames.stretch)
                yield row | {"spread": found.spread, "seconds": time.perf_counter() - begin}


GAPS = {"5 %": 0.05, "10 %": 0.10, "15 %": 0.15}


def heat_of(atoms, missing, rng):
    """Noisy heat maps of a model, low where Cα atoms of residues are missing."""
    kind = np.array([HEAT.index(name) if name in HEAT else -1 for name in atoms.name])
    grid = Grid.around(atoms.position, 1.0, 5.0)
    at, of = kind >= 0, kind[kind >= 0]
    index = grid.to_index(atoms.position[at] + rng.normal(0, 0.23, (at.sum(), 3)))
    height = rng.uniform(0.4, 1.0, at.sum())
    lost = (of == 0) & np.isin(atoms.residue[at], missing)
    height[lost] = rng.uniform(0, 0.25, lost.sum())
    values = np.zeros((len(HEAT), *grid.shape), np.float32)
    # In ten classes of height, of which each voxel takes the highest.
    level = np.ceil(height * 10) / 10
    for one in np.unique(level):
        part = heat_maps(index[level == one], of[level == one], grid.shape)
        values = np.maximum(values, np.float32(one) * part)
    noise = gaussian_filter(rng.normal(size=values.shape), (0, 1, 1, 1))
    return ProbabilityVolume(
        np.clip(values + 0.05 * noise / noise.std(), 0, 1).astype(np.float32), grid, classes=HEAT
    )


def judge_gaps(trace, residue, frames):
    """Count residues, steps and joins; residue is the true one of each candidate, -1 for none."""
    stretch, n = frames.stretch, len(frames)
    at = np.append(residue, np.full(len(trace.positions) - len(residue), -1))
    on, square = set(), []
    steps = wrong = joins = joins_wrong = placed = 0
    for path in trace.paths:
        real = np.flatnonzero(~trace.bridged[path])
        for i, j in pairwise(real.tolist()):
            a, b = at[path[i]], at[path[j]]
            right = a >= 0 and b >= 0 and abs(b - a) == j - i and stretch[a] == stretch[b]
            steps, wrong = steps + 1, wrong + (not right)
            if right:
                on |= {a, b}
            if j - i > 1:
                joins, joins_wrong = joins + 1, joins_wrong + (not right)
                placed += j - i - 1
            if right and j - i > 1:
                between = np.arange(1, j - i) * np.sign(b - a) + a
                off = np.linalg.norm(
                    trace.positions[path[i + 1 : j]] - frames.position[between], axis=1
                )
                square.extend(off**2)
                on |= set(between[off < 2].tolist())
    true = len(np.unique(stretch))
    return {
        "residues": n, "complete": len(on), "fragments": len(trace.paths), "true": true,
        "traced": sum(map(len, trace.paths)), "steps": steps, "wrong": wrong, "joins": joins,
        "joins_wrong": joins_wrong, "placed": placed, "square": sum(square), "right": len(square),
    }  # fmt: skip


def gap_rows(folder, arguments, done):
    for number, name in enumerate(domains(folder, arguments.domains)):
        atoms = Atoms.from_structure(open_model(folder / name))
        frames = read_frames(atoms, backbone=False)
        volume = None
        for case, missing in GAPS.items():
            if (name, case, "heat") in done:
                continue
            rng = np.random.default_rng((number, list(GAPS).index(case)))
            points, residue = candidates(frames.position, rng, 0.4, missing, 0.07)
            lost = frames.row[np.setdiff1d(np.arange(len(frames)), residue)]
            if volume is None:
                volume = fourier_map(atoms, resolution=3.0, voxel_size=1.0, margin=6.0)
            heat = heat_of(atoms, lost, rng)
            kinds = {"none": {}, "3 Å": {"volume": volume, "resolution": 3.0}}
            kinds["heat"] = {"volume": volume, "heat": heat}
            for kind, options in kinds.items():
                for bridge in dict.fromkeys((0, arguments.bridge)):
                    begin = time.process_time()
                    found = trace_chains(points, bridge=bridge, **options)
                    seconds = time.process_time() - begin
                    row = {"file": name, "case": case, "map": kind, "bridge": bridge}
                    yield row | judge_gaps(found, residue, frames) | {"seconds": seconds}


def gap_summary(rows):
    sums = rows.groupby(["map", "case", "bridge"], sort=False).sum(numeric_only=True)
    return pd.DataFrame({
        "complete": sums.complete / sums.residues,
        "breaks": 100 * (sums.fragments - sums.true) / sums.residues,
        "mean length": sums.traced / sums.fragments, "wrong": sums.wrong / sums.steps,
        "bridges": sums.joins, "bridges wrong": sums.joins_wrong / sums.joins,
        "off": np.sqrt(sums.square / sums.right), "CPU s": sums.seconds,
    }).sort_index()  # fmt: skip


def chain_summary(rows):
    sums = rows.groupby(["case", "map"], sort=False).sum(numeric_only=True)
    return pd.DataFrame({
        "right": sums.right / sums.steps, "found": sums.right / sums.possible,
        "covered": sums.covered / sums.residues, "directed": sums.directed / sums.traced,
    }).join(rows.groupby(["case", "map"])[["mean_length", "longest", "spread"]].mean())  # fmt: skip


def register_rows(atoms, volume, resolution, **keys):
    alpha = atoms.select(atoms.name == "CA")
    for frame, model in (("N, CA, C", atoms), ("CA", alpha)):
        found = sequence_from_map(model, volume, resolution=resolution)
        names = np.where(found.residues.name == "MSE", "MET", found.residues.name)
        ranks = found.residues[["best", "second", "third"]].to_numpy() == names[:, None]
        letters = gemmi.one_letter_code(list(names)).upper()
        row = {
            **keys, "resolution": resolution, "frame": frame, "residues": len(names),
            "top1": ranks[:, 0].mean(), "top3": ranks.any(axis=1).mean(),
        }  # fmt: skip
        for long in (10, 20, 40):
            right, z = [], []
            for begin in range(0, len(names) - long + 1, 10):
                cut = slice(begin, begin + long)
                if found.residues.stretch[cut].nunique() > 1:
                    continue
                part = alpha.select(np.isin(alpha.residue, np.unique(alpha.residue)[cut]))
                placed = sequence_from_map(
                    part, None, letters, emission=found.probability[cut], shuffles=100
                ).placements.iloc[0]
                right.append(placed.start == begin)
                z.append(placed.z)
            right, z = np.array(right, dtype=bool), np.array(z)
            row |= {
                f"n{long}": len(z), f"right{long}": right.sum(), f"z_right{long}": z[right].sum(),
                f"z_wrong{long}": z[~right].sum(), f"sure{long}": (z >= 4).sum(),
                f"sure_right{long}": (right & (z >= 4)).sum(),
            }  # fmt: skip
        yield row


def sequence_rows(folder, arguments, done):
    for name in domains(folder, arguments.domains):
        atoms = Atoms.from_structure(open_model(folder / name))
        for d in (2.0, 2.5, 3.0, 3.5, 4.0):
            if (name, d) not in done:
                volume = fourier_map(atoms, resolution=d, voxel_size=min(1.0, d / 2.5), margin=8.0)
                yield from register_rows(atoms, volume, d, file=name)


def real_rows(folder, arguments, done):
    for name, (density, model, d) in REAL.items():
        if (name, d) not in done:
            atoms = Atoms.from_structure(open_model(folder / model))
            yield from register_rows(atoms, open_map(folder / density), d, file=name)


def register_summary(rows, by):
    sums = rows.groupby([by, "frame"], sort=False).sum(numeric_only=True)
    out = rows.groupby([by, "frame"], sort=False)[["top1", "top3"]].mean()
    for long in (10, 20, 40):
        n, right = sums[f"n{long}"], sums[f"right{long}"]
        out[f"right{long}"] = right / n
        out[f"z_right{long}"] = sums[f"z_right{long}"] / right
        out[f"z_wrong{long}"] = sums[f"z_wrong{long}"] / (n - right)
        out[f"sure{long}"] = sums[f"sure{long}"] / n
        out[f"true_if_sure{long}"] = sums[f"sure_right{long}"] / sums[f"sure{long}"]
    return out


def main():
    parser = argparse.ArgumentParser()
    make = {
        "chains": chain_rows, "gaps": gap_rows, "sequence": sequence_rows, "real": real_rows,
    }  # fmt: skip
    parser.add_argument("what", nargs="?", choices=list(make), default="chains")
    parser.add_argument("--domains", type=int, default=12)
    parser.add_argument("--rows", type=Path, help="file of rows, by which a run goes on")
    parser.add_argument("--bridge", type=int, default=2, help="residues placed in gaps, at most")
    arguments = parser.parse_args()
    path = arguments.rows
    data = Path(os.environ["CRYONB_DATA"])
    by_case = arguments.what in ("chains", "gaps")
    keys = ["file", "case", "map"] if by_case else ["file", "resolution"]
    # The numbers of entries are to stay text.
    rows = [pd.read_csv(path, dtype={"file": str})] if path and path.exists() else []
    done = set(rows[0][keys].itertuples(index=False, name=None)) if rows else set()
    folder = data / ("maps" if arguments.what == "real" else "structures")
    for row in make[arguments.what](folder, arguments, done):
        rows.append(pd.DataFrame([row]))
        if path:
            rows[-1].to_csv(path, mode="a", header=not path.exists(), index=False)
    rows = pd.concat(rows, ignore_index=True)
    if arguments.what == "chains":
        table = chain_summary(rows)
    elif arguments.what == "gaps":
        table = gap_summary(rows)
    else:
        table = register_summary(rows, "file" if arguments.what == "real" else "resolution")
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
