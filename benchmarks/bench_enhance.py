"""Enhanced maps against what they should be: held-out simulated maps, and measured ones.

    python benchmarks/bench_enhance.py simulated [--rows FILE] [--weights enhance] [--maps 28]
    python benchmarks/bench_enhance.py measured  [--rows FILE] [--weights enhance]
    python benchmarks/bench_enhance.py networks  [--rows FILE] [--weights enhance]
    python benchmarks/bench_enhance.py belt      [--weights enhance]
    python benchmarks/bench_enhance.py cost      [--edge 128]

CRYONB_DATA names the folder of maps and models. Each map is judged as it is, after `m.sharpen()`
and after `m.enhance()`, in one run. No weights saw a measured map, so each is a test.

simulated: domains of the test part of `cryonb.train.library.split`, at 2.5 to 7 Å in turn, with the
conditions of bench_backbone.py and noise of 0.5 and 2 times the signal at the limit; every other
one unmasked. cc_clean and fsc_clean: with the map that EMReady's formula gives (correlation over
the box; Å where the FSC of the whole boxes falls to 0.5). far: share of the voxels at or above the
contour level that `contour_level` recommends which are farther than 4 Å from every atom. bound is
the formula's map itself, judged as the others: what a faultless enhancement would have.

measured: maps of CRYONB_DATA/maps with a model, to 4.5 Å; most were cut out around the model.
cc_mask, cc_box, cc_peaks, fsc_model (Å at 0.5, within a soft mask around the model), fsc_box (the
same without a mask) and Q as `m.evaluate` gives them. EMReady's paper and CryoTEN's tables: means
over 150 other maps, most of them unmasked.

networks: what other networks make of the measured maps: q3 of `m.predict_sse()`, and ca_f1, the F1
of Cα candidates within 2 Å by `m.predict_backbone()`. Neither learned from enhanced maps.

belt: the unmasked simulated maps to 4 Å with a smooth belt, as detergent makes, 5 to 14 Å from the
atoms; mean density in the belt over that within 1.5 Å of atoms, before and after. Right is 0.

cost: CPU seconds and peak memory of this process for a cube of 1 Å voxels full of noise.

With --rows, rows are kept as they come, and what is there is not done again.
"""

import argparse
import os
import resource
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from bench_backbone import test_domains
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.evaluate.correlation import correlate
from cryonb.evaluate.fourier_shell import map_model_fsc
from cryonb.evaluate.peaks import evaluate_peaks
from cryonb.evaluate.qscore import qscore
from cryonb.files.model import read_model
from cryonb.grid import Grid
from cryonb.process.contour import contour_level
from cryonb.process.fourier_shells import FourierShells, shell_correlation
from cryonb.simulate.experiment import Experiment, experimental_map

RESOLUTIONS = (2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0)
KINDS = ("as it is", "sharpened", "enhanced", "bound")
PUBLISHED = pd.DataFrame(
    {"cc_box": [0.723, 0.863, 0.851, 0.631], "cc_mask": [0.787, 0.793, 0.768, 0.610],
     "cc_peaks": [0.644, 0.773, 0.748, 0.573], "fsc_model": [6.38, 3.16, 3.73, 4.71],
     "q": [0.538, 0.593, 0.543, 0.425]},
    index=["deposited", "EMReady", "CryoTEN", "DeepEMhancer"],
)  # fmt: skip


def far_share(m, model) -> float:
    """Share of the density that a contour shows which is not near the model."""
    shown = np.argwhere(m.values >= contour_level(m).level)
    atoms = cKDTree(Atoms.from_structure(model).position)
    away, _ = atoms.query(m.grid.to_points(shown))
    return float((away > 4).mean())


def scores(m, model) -> dict:
    """What `m.evaluate` says, and what it does not need here left out."""
    found = correlate(m, model, overlaps=False).summary
    fsc = map_model_fsc(m, model)
    return {key: found[key] for key in ("cc_mask", "cc_box", "cc_peaks")} | {
        "fsc_model": fsc.resolution(0.5), "fsc_box": fsc.resolution(0.5, curve="fsc"),
        "q": qscore(m, model).summary["q_mean"], "far": far_share(m, model),
    }  # fmt: skip


def readings(m, model) -> dict:
    """What the networks of secondary structure and of backbone atoms read."""
    options = {"device": "cpu", "progress": False}
    if not (Atoms.from_structure(model).name == "CA").any():
        return {"q3": np.nan, "ca_f1": np.nan}
    found = m.predict_backbone(**options)
    peaks = evaluate_peaks(found.peaks(), model, grid=found.heat.grid).summary
    return {"q3": m.predict_sse(**options).evaluate(model).summary["q3"], "ca_f1": peaks["f1"]}


def against(m, clean) -> dict:
    """Agreement with the clean map over the whole box."""
    table = FourierShells(shell_correlation(m, clean), "two maps", "fsc")
    return {
        "cc_clean": np.corrcoef(m.values.ravel(), clean.values.ravel())[0, 1],
        "fsc_clean": table.resolution(0.5),
    }


def made(kind, m, clean, weights):
    """Make one kind of map, with what it cost."""
    if kind != "enhanced":
        return {"as it is": lambda: m, "sharpened": m.sharpen, "bound": lambda: clean}[kind](), {}
    start = time.process_time()
    enhanced = m.enhance(weights=weights, device="cpu", progress=False)
    return enhanced, {"cpu_s": time.process_time() - start, "voxels": m.grid.n_voxels}


def simulated_maps(folder: Path, count: int):
    for k, name, d, model, grid in test_domains(folder, count, RESOLUTIONS):
        decay, masked = 8 * d**2, bool(k % 2)
        conditions = Experiment(
            d, b_overall=decay, b_sharpen=0.7 * decay, noise=(0.5, 2.0)[k // 2 % 2], solvent=0.6,
            weighted=True, mask="zone" if masked else "none", mask_edge=2.0,
        )  # fmt: skip
        volume = experimental_map(model, grid, experiment=conditions, rng=np.random.default_rng(k))
        m = nb.DensityMap.from_volume(volume, resolution=d)
        clean = nb.simulate(model, resolution=d, method="emready", grid=grid)
        yield f"{name} {'masked' if masked else 'whole'}", m, model, clean


def measured_maps(folder: Path):
    table = pd.read_csv(folder / "maps" / "INDEX.csv", dtype={"resolution": str})
    table = table[table["model"].notna()]
    resolution = table["resolution"].str.strip("~?").astype(float)
    for entry, d in zip(table.itertuples(), resolution, strict=True):
        if d <= 4.5:
            m = nb.open_map(folder / "maps" / entry.map, resolution=d)
            yield entry.map, m, read_model(folder / "maps" / entry.model), None


def judge(maps, options):
    rows = []
    if options.rows and options.rows.is_file():
        rows = pd.read_csv(options.rows).to_dict("records")
    done = {(row["name"], row["kind"]) for row in rows}
    for name, m, model, clean in maps:
        for kind in options.kinds:
            if (name, kind) in done or (kind == "bound" and clean is None):
                continue
            other, cost = made(kind, m, clean, options.weights)
            found = readings if options.part == "networks" else scores
            row = {"name": name, "d": m.resolution, "kind": kind} | found(other, model) | cost
            rows.append(row | (against(other, clean) if clean is not None else {}))
            if options.rows:
                pd.DataFrame(rows).to_csv(options.rows, index=False)
    return pd.DataFrame(rows)


def belts(options, folder):
    """What becomes of a smooth belt around the middle of a molecule."""
    for name, m, model, _ in simulated_maps(folder, options.maps):
        if not name.endswith("whole") or m.resolution > 4:
            continue
        position = Atoms.from_structure(model).position
        points = m.grid.to_points(np.stack(np.indices(m.shape), axis=-1).reshape(-1, 3))
        away = cKDTree(position).query(points)[0].reshape(m.shape)
        height = np.abs(points[:, 2].reshape(m.shape) - position[:, 2].mean())
        belt = gaussian_filter(((away > 5) & (away < 14) & (height < 12)).astype(np.float32), 2)
        atoms, inside = away < 1.5, belt > 0.8
        for level in (0.0, 0.3, 0.6):
            with_belt = m.replace(m.values + belt * (level * m.values[atoms].mean()))
            made = with_belt.enhance(weights=options.weights, device="cpu", progress=False)
            before, after = (x.values[inside].mean() / x.values[atoms].mean()
                             for x in (with_belt, made))  # fmt: skip
            yield {"name": name, "d": m.resolution, "level": level, "before": before,
                   "after": after}  # fmt: skip


def show(table, columns):
    wide = table.pivot(index=["d", "name"], columns="kind", values=columns)
    order = [kind for kind in KINDS if kind in set(table["kind"])]
    for column in columns:
        part = wide[column][order]
        print(f"\n{column}\n{part.reset_index().round(3).to_string(index=False)}")
    # In small boxes a crossing of the FSC jumps between shells that are far apart.
    for what in ("mean", "median"):
        print(f"\n{what}s")
        print(table.groupby("kind")[columns].agg(what).loc[order].round(3).to_string())
    for low, high in ((0, 3.0), (3.0, 4.5), (4.5, 9)):
        some = table[(table["d"] > low) & (table["d"] <= high)]
        if len(some):
            print(f"means from {low} to {high} Å, {some['name'].nunique()} maps")
            print(some.groupby("kind")[columns].mean().loc[order].round(3).to_string())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["simulated", "measured", "networks", "belt", "cost"])
    parser.add_argument("--rows", type=Path, help="file of finished rows")
    parser.add_argument("--weights", default="enhance")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--maps", type=int, default=28)
    parser.add_argument("--edge", type=int, default=128)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.part == "cost":
        rng = np.random.default_rng(0)
        values = rng.standard_normal((options.edge,) * 3, dtype=np.float32)
        m = nb.DensityMap(values, Grid(values.shape, 1.0))
        start = time.process_time()
        m.enhance(weights=options.weights, device="cpu", progress=False)
        seconds = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{seconds / m.grid.n_voxels * 1e6:.1f} CPU s per million voxels, peak {peak:.2f} GB")
        return
    folder = Path(os.environ["CRYONB_DATA"])
    if options.part == "belt":
        table = pd.DataFrame(belts(options, folder))
        print(table.round(3).to_string(index=False))
        print(table.groupby("level")[["before", "after"]].mean().round(3).to_string())
        return
    columns = ["cc_mask", "cc_box", "cc_peaks", "fsc_model", "fsc_box", "q", "far"]
    if options.part == "simulated":
        maps = simulated_maps(folder, options.maps)
        columns = ["cc_clean", "fsc_clean", *columns]
    else:
        maps = measured_maps(folder)
        columns = ["q3", "ca_f1"] if options.part == "networks" else columns
    table = judge(maps, options)
    show(table, columns)
    if options.part == "simulated":
        whole = table["name"].str.endswith("whole")
        print("\nfar, unmasked maps alone")
        print(table[whole].groupby("kind")["far"].agg(["mean", "max"]).round(4).to_string())
    elif options.part == "measured":
        print(f"\npublished, of other maps\n{PUBLISHED.to_string()}")
    if "cpu_s" in table:
        cost = (1e6 * table["cpu_s"] / table["voxels"]).median()
        print(f"\n{cost:.1f} CPU s per million voxels of the map, median")


if __name__ == "__main__":
    main()
