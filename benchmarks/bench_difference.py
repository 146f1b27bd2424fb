"""Deleted side chains and ions in difference maps, beside servalcat's, in one run.

    python benchmarks/bench_difference.py --servalcat /path/to/servalcat

From models of real maps every fourth of the large side chains (and all ions) are deleted. A part
counts as found if one of the highest 2 n peaks (n parts are gone) lies within 1.5 Å of one of its
atoms. The peaks of both programs' maps are sought by the same code. The last case has half maps
that were simulated from the model, with which both weight the terms. Needs CRYONB_DATA. The times
are CPU times: of servalcat those of the whole command, of cryonb those of the map and
its peaks.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from reference_programs import ask_servalcat, at_the_origin, write_inputs

from cryonb import Atoms, DensityMap, fourier_map, open_map, open_model
from cryonb.evaluate.difference import difference_peaks

LARGE = ("TRP", "PHE", "TYR", "ARG", "LYS", "MET")
MAIN = ("N", "CA", "C", "O", "CB")
CASES = {
    "6272": ("6272/6272_zone4A.mrc.gz", "6272/3j9s.pdb", 2.6),
    "20026": ("20026/emd20026_prot.mrc.gz", "20026/3ajo_fitted_refined.pdb", 1.75),
    "30342": ("30342/390_emd_30342_A_z4.mrc.gz", "30342/390_7cec_A.cif", 3.9),
}


def delete(model):
    """Take out parts of a model: the rest, and the atoms of each part."""
    cut, parts, number = model.clone(), [], 0
    for chain in cut[0]:
        for place in reversed(range(len(chain))):
            residue = chain[place]
            if len(residue) == 1 and residue.name not in ("HOH", "CA") and residue[0].name != "CA":
                parts.append(np.array([residue[0].pos.tolist()]))
                del chain[place]
            elif residue.name in LARGE:
                number += 1
                side = [row for row, atom in enumerate(residue) if atom.name not in MAIN]
                if number % 4 == 0 and side:
                    parts.append(np.array([residue[row].pos.tolist() for row in side]))
                    for row in reversed(side):
                        del residue[row]
    return cut, parts


def found(volume, parts) -> dict:
    table = difference_peaks(volume, count=2 * len(parts), least=2.0, radius=2.0)
    points = table.loc[table["kind"] == "peak", list("xyz")].to_numpy(float)
    apart = np.array([np.linalg.norm(points[:, None] - p, axis=2).min(axis=1) for p in parts])
    right = np.append((apart < 1.5).any(axis=0), False)
    return {"parts": len(parts), "found": int((apart.min(axis=1) < 1.5).sum()),
            "first false": int(np.argmin(right)) + 1}  # fmt: skip


@dataclass
class Case:
    """A map at the origin with a model of which parts were deleted, and half maps or None."""

    map: DensityMap
    cut: object
    parts: list
    resolution: float
    halves: list | None


def prepared(name: str) -> Case:
    """Make a case: one of `CASES`, or "halves"."""
    path, model_path, resolution = CASES["6272" if name == "halves" else name]
    folder = Path(os.environ["CRYONB_DATA"]) / "maps"
    m = open_map(folder / path, resolution=resolution)
    m, model = at_the_origin(m, open_model(folder / model_path))
    halves = None
    if name == "halves":
        clean = fourier_map(Atoms.from_structure(model), m.grid, resolution=2.6)
        rng = np.random.default_rng(7)
        noise = rng.normal(0, 2.5 * clean.std, (2, *m.shape))
        halves = [DensityMap(clean.values + part, m.grid, resolution=2.6) for part in noise]
        m = halves[0].replace((halves[0].values + halves[1].values) / 2)
    cut, parts = delete(model)
    return Case(m, cut, parts, resolution, halves)


def ask(program: str, case: Case, folder: Path):
    """Let servalcat make the map: the volume, and seconds."""
    write_inputs(folder, m=case.map, model=case.cut, halves=case.halves)
    maps = ["--halfmaps", "half1.mrc", "half2.mrc"] if case.halves else ["--map", "map.mrc"]
    arguments = ["fofc", *maps, "--model", "model.cif", "-d", str(case.resolution), "-r", "5"]
    seconds = ask_servalcat(program, arguments, folder)
    return open_map(next(folder.glob("diffmap*fofc*.mrc"))), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--servalcat", help="the command")
    parser.add_argument("--cases", nargs="+", default=[*CASES, "halves"])
    options = parser.parse_args()
    rows = []
    for name in options.cases:
        case = prepared(name)
        start = time.process_time()
        ours = case.map.difference(case.cut, half_maps=case.halves)
        score = found(ours, case.parts)
        rows.append({"case": name, "program": "cryonb", **score})
        rows[-1]["seconds"] = time.process_time() - start
        if options.servalcat:
            with tempfile.TemporaryDirectory() as folder:
                theirs, seconds = ask(options.servalcat, case, Path(folder))
            rows.append({"case": name, "program": "servalcat", **found(theirs, case.parts)})
            rows[-1]["seconds"] = seconds["cpu"]
            inside = (ours.values != 0) & (theirs.values != 0)
            a, b = ours.values[inside], theirs.values[inside]
            rows[-1]["cc"] = np.corrcoef(a, b)[0, 1]
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
