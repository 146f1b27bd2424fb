"""Density graphs: Newton's method against the published walk, and both against models.

    CRYONB_DATA=... python benchmarks/bench_density_graph.py --out rows.csv
    CRYONB_DATA=... python benchmarks/bench_density_graph.py --out prune.csv --prune
    python benchmarks/bench_density_graph.py --out rows.csv --summary
    CRYONB_DATA=... python benchmarks/bench_density_graph.py --out rows.csv --crowd 200

Maps: sums of Gaussians (molmap's width, spacing a third of the resolution, all atoms but hydrogens
and waters) of --structures domains at 1.2 to 1.6 Å, and some at 2.5 and 3.5 Å, without noise; and
the real maps of CRYONB_DATA/maps of 4 Å or better that have a model. Every map is done by

* paper: walk and clusters as published
* newton: the default
* chain: newton with passes, above 0.6 of the molecule's typical density
* heat (real maps): newton on the heat of Cα atoms, `m.predict_backbone().density_graph()`; seconds
  with the network

on one spline field. Seconds are of the processor, on one thread each, the field apart.

Agreement, in rows of "newton": the share of the paper's nodes with a node of ours within 0.05 Å
(paper_found), and the same of those that are at a peak, that is, from which Newton's method ends
within 0.05 Å (peaks_found); how many those are (paper_at_peak); the share of our nodes with one of
the paper's (ours_found).

--prune: on the same real maps and the coarser simulated ones, what each measure of a peak buys:
nodes above 0.3 of the typical density, those with the least of the measure left out until 2, 5 or
10 % of the Cα atoms that had a node have none.

--crowd: elapsed seconds of spline and graph of a box of so many voxels of 1 Å, full of copies of a
domain at 3 Å, on all cores; nothing is written.

Rows are appended to --out as they come; what is there is not done again.
"""

import argparse
import importlib
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_interpolation import density
from scipy.spatial import cKDTree

from cryonb.atoms import Atoms
from cryonb.density_map import DensityMap
from cryonb.errors import CryonbWarning
from cryonb.evaluate.graph import evaluate_graph
from cryonb.field import SplineField
from cryonb.files.model import read_model
from cryonb.files.mrc import read_map
from cryonb.graph import density_graph
from cryonb.graph.peaks import refine_peaks
from cryonb.graph.prune import MEASURES, measure_nodes
from cryonb.grid import Grid
from cryonb.simulate.gaussian import gaussian_map, sigma_of
from cryonb.volume import Volume

ATOMIC = (1.2, 1.3, 1.4, 1.5, 1.6)
COARSE = (2.5, 3.5)
SAME = 0.05
SETTINGS = {
    "paper": {"method": "paper"},
    "newton": {},
    "chain": {"passes": True, "threshold": "molecule"},
}


def simulated(folder, count, resolutions):
    table = pd.read_csv(folder / "structures" / "INDEX.csv")
    table = table[table["n_residues"].between(80, 250) & (table["n_nucleotides"] == 0)]
    table = table[table["file"].str.startswith("scope_")]
    table = table.sample(frac=1.0, random_state=11).drop_duplicates("cluster_id").head(count)
    for k, file in enumerate(table["file"]):
        yield f"{file}", resolutions[k % len(resolutions)]


def simulate(path, resolution):
    atoms = Atoms.from_structure(read_model(path))
    grid = Grid.around(atoms.position, resolution / 3, 3 * resolution)
    return Volume(density(atoms, grid, sigma_of(resolution)), grid), atoms


def real(folder):
    table = pd.read_csv(folder / "maps" / "INDEX.csv")
    # The smallest first.
    sizes = table["shape_xyz"].str.split("x", expand=True).astype(int).prod(axis=1)
    table = table.loc[sizes.sort_values(kind="stable").index]
    resolution = pd.to_numeric(table["resolution"], errors="coerce")
    for row in table[(resolution <= 4) & table["model"].notna()].itertuples():
        yield row.map, row.model, float(row.resolution)


def maps(folder, args):
    """Kind, name, resolution, and what reads volume and model."""
    chosen = [("atomic", *pair) for pair in simulated(folder, args.structures, ATOMIC)]
    chosen += [("coarse", *pair) for pair in simulated(folder, args.coarse, COARSE)]
    for kind, file, resolution in chosen:
        path = folder / "structures" / file
        yield kind, file, resolution, lambda p=path, r=resolution: simulate(p, r)
    for name, model, resolution in real(folder):
        paths = folder / "maps" / name, folder / "maps" / model
        yield "real", name, resolution, lambda p=paths: (read_map(p[0]), read_model(p[1]))


def within(points, others):
    """Share of points with one of the others within 0.05 Å."""
    if not len(points) or not len(others):
        return np.nan
    return float((cKDTree(others).query(points)[0] <= SAME).mean())


def compare(kind, name, resolution, volume, model):
    began = time.process_time()
    field = SplineField(volume)
    made = time.process_time() - began
    graphs = {}
    for setting, options in SETTINGS.items():
        began = time.process_time()
        graph = graphs[setting] = density_graph(field, resolution=resolution, **options)
        row = {
            "kind": kind, "name": name, "resolution": resolution, "voxels": volume.grid.n_voxels,
            "setting": setting, "seconds": time.process_time() - began, "field_seconds": made,
        }  # fmt: skip
        if setting == "newton":
            paper = graphs["paper"].points
            peaks, _ = refine_peaks(field, paper)
            at_peak = cKDTree(peaks).query(paper)[0] <= SAME
            row |= {
                "paper_found": within(paper, graph.points),
                "paper_at_peak": float(at_peak.mean()),
                "peaks_found": within(paper[at_peak], graph.points),
                "ours_found": within(graph.points, paper),
            }
        yield row | evaluate_graph(graph, model).summary.to_dict()
    if kind == "real":
        began = time.process_time()
        m = DensityMap.from_volume(volume, resolution=resolution)
        graph = m.predict_backbone(progress=False).density_graph()
        row = {
            "kind": kind, "name": name, "resolution": resolution, "voxels": volume.grid.n_voxels,
            "setting": "heat", "seconds": time.process_time() - began, "field_seconds": 0.0,
        }  # fmt: skip
        yield row | evaluate_graph(graph, model).summary.to_dict()


def prune(kind, name, resolution, volume, model):
    field = SplineField(volume)
    for passes in (False, True):
        threshold = 0.3 * field.statistics.scale
        graph = density_graph(field, resolution=resolution, threshold=threshold, passes=passes)
        graph = measure_nodes(graph, field)
        whole = evaluate_graph(graph, model).summary
        if not whole["ca_sensitivity"] > 0:
            continue
        about = {"kind": kind, "name": name, "resolution": resolution, "passes": passes}
        yield about | {"measure": "none", "loss": 0.0, "kept": 1.0} | whole.to_dict()
        for measure in MEASURES:
            values = graph.nodes[measure].to_numpy(dtype=float)
            steps = np.unique(np.quantile(values, np.linspace(0, 0.95, 60)))
            scores = [evaluate_graph(graph.select(values >= v), model).summary for v in steps]
            sensitivity = np.array([s["ca_sensitivity"] for s in scores])
            for loss in (0.02, 0.05, 0.1):
                # The last step before more than the loss is lost.
                enough = sensitivity >= (1 - loss) * whole["ca_sensitivity"]
                last = int(np.flatnonzero(np.cumprod(enough))[-1])
                row = {"measure": measure, "loss": loss, "least": steps[last],
                       "kept": scores[last]["n_nodes"] / len(graph)}  # fmt: skip
                yield about | row | scores[last].to_dict()


def crowd(folder, size):
    """Print how long the graph of a large, full map takes."""
    atoms = Atoms.from_structure(read_model(folder / "structures/scope_a/d1jl7a_.pdb.gz"))
    home = atoms.position - atoms.position.mean(axis=0)
    grid = Grid((size,) * 3, 1.0, (-size / 2,) * 3)
    steps = np.arange(-size * 0.3, size * 0.3 + 1, 40.0)
    places = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    copies = (atoms.moved_to(home + place) for place in places)
    values = sum(gaussian_map(copy, grid, resolution=3.0).values for copy in copies)
    m = DensityMap(values, grid, resolution=3.0)
    for options in ({}, {"passes": True, "threshold": "molecule"}):
        began = time.perf_counter()
        graph = m.density_graph(**options)
        seconds = time.perf_counter() - began
        print(f"{size}³, {len(places)} copies, {options or 'default'}: {len(graph)} nodes, "
              f"{seconds:.1f} s")  # fmt: skip


def summarise(path):
    table = pd.read_csv(path)
    if "measure" in table:
        columns = ["kept", "ca_sensitivity", "ca_specificity", "ca_rmsd"]
        groups = ["kind", "passes", "loss", "measure"]
        print(table.groupby(groups)[columns].mean().round(3).to_string())
        return
    columns = ["ca_sensitivity", "ca_specificity", "ca_rmsd", "ca_covered",
               "atom_sensitivity", "atom_specificity", "atom_rmsd", "seconds"]  # fmt: skip
    for kind, part in table.groupby("kind"):
        print(f"\n{kind}: {part['name'].nunique()} maps")
        print(part.groupby("setting")[columns].mean().round(4).to_string())
        times = part.pivot_table(index="name", columns="setting", values="seconds")
        ratio = times["paper"] / times["newton"]
        print(
            f"paper / newton: median {ratio.median():.1f}, least {ratio.min():.1f}, most "
            f"{ratio.max():.1f}; all maps {times['paper'].sum() / times['newton'].sum():.1f}"
        )
        ours = part[part["setting"] == "newton"]
        weights = dict.fromkeys(("ours_found",), ours["n_nodes"])
        other = part[part["setting"] == "paper"].set_index("name")["n_nodes"]
        count = other.loc[ours["name"]].to_numpy()
        weights |= {"paper_found": count, "paper_at_peak": count}
        weights["peaks_found"] = count * ours["paper_at_peak"].to_numpy()
        told = {c: float(np.average(ours[c], weights=w)) for c, w in weights.items()}
        print("of all nodes: " + ", ".join(f"{c} {v:.4f}" for c, v in told.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="table of rows, appended to")
    parser.add_argument("--structures", type=int, default=15, help="at 1.2 to 1.6 Å")
    parser.add_argument("--coarse", type=int, default=6, help="at 2.5 and 3.5 Å")
    parser.add_argument("--only", choices=["atomic", "coarse", "real"], default=None)
    parser.add_argument("--prune", action="store_true", help="measure pruning instead")
    parser.add_argument("--summary", action="store_true", help="only print the table so far")
    parser.add_argument("--crowd", type=int, default=0, help="edge of a large map instead")
    args = parser.parse_args()
    warnings.simplefilter("ignore", CryonbWarning)
    if args.crowd:
        crowd(Path(os.environ["CRYONB_DATA"]), args.crowd)
        return
    torch.set_num_threads(1)
    # What is imported on first use is not what is timed.
    importlib.import_module("sklearn.cluster")

    if not args.summary:
        folder = Path(os.environ["CRYONB_DATA"])
        done = set()
        if args.out.exists():
            seen = pd.read_csv(args.out)
            done = set(zip(seen["kind"], seen["name"], strict=True))
        for kind, name, resolution, read in maps(folder, args):
            if (kind, name) in done or (args.only or kind) != kind:
                continue
            if args.prune and kind == "atomic":
                continue
            work = prune if args.prune else compare
            rows = pd.DataFrame(list(work(kind, name, resolution, *read())))
            if args.out.exists():
                rows = pd.concat([pd.read_csv(args.out), rows])
            rows.to_csv(args.out, index=False)
            print(f"{kind}: {name} at {resolution} Å", flush=True)
    summarise(args.out)


if __name__ == "__main__":
    main()
