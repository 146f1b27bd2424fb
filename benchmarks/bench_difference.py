"""Deleted side chains and ions in difference maps, beside servalcat's, in one run.

    python benchmarks/bench_difference.py --servalcat /path/to/servalcat

From models of real maps every fourth of the large side chains (and all ions) are deleted. A part
counts as found if one of the highest 2 n peaks (n parts are gone) lies within 1.5 Å of one of its
atoms. The peaks of both programs' maps are sought by the same code. The last case has half maps
that were simulated from the model, with which both weight the terms. Needs CRYONB_DATA. The times
are CPU times: of servalcat those of its whole process, of cryonb those of the map and its peaks.
"""

import argparse
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cryonb import Atoms, DensityMap, Grid, fourier_map, open_map, open_model
from cryonb.evaluate.difference import difference_peaks
from cryonb.files.model import write_model

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


def servalcat(program, m, cut, resolution, halves, folder):
    """Let servalcat make the map: the volume, and CPU seconds."""
    write_model(cut, folder / "cut.cif")
    maps = ["--map", str(m.save(folder / "map.mrc"))]
    if halves:
        names = [str(half.save(folder / f"half{n}.mrc")) for n, half in enumerate(halves, 1)]
        maps = ["--halfmaps", *names]
    command = [program, "fofc", *maps, "--model", "cut.cif", "-d", str(resolution), "-r", "5"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return open_map(next(folder.glob("diffmap*fofc*.mrc"))), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--servalcat", help="the command")
    parser.add_argument("--cases", nargs="+", default=[*CASES, "halves"])
    options = parser.parse_args()
    rows = []
    for case in options.cases:
        path, model_path, resolution = CASES["6272" if case == "halves" else case]
        folder = Path(os.environ["CRYONB_DATA"]) / "maps"
        m = open_map(folder / path, resolution=resolution)
        model = open_model(folder / model_path)
        # servalcat expects maps at the origin.
        shift = np.array(m.origin)
        for site in model[0].all():
            site.atom.pos -= type(site.atom.pos)(*shift)
        m = m.replace(grid=Grid(m.shape, m.voxel_size))
        halves = None
        if case == "halves":
            clean = fourier_map(Atoms.from_structure(model), m.grid, resolution=2.6)
            rng = np.random.default_rng(7)
            noise = rng.normal(0, 2.5 * clean.std, (2, *m.shape))
            halves = [DensityMap(clean.values + part, m.grid, resolution=2.6) for part in noise]
            m = halves[0].replace((halves[0].values + halves[1].values) / 2)
        cut, parts = delete(model)
        start = time.process_time()
        ours = m.difference(cut, half_maps=halves)
        score = found(ours, parts)
        rows.append({"case": case, "program": "cryonb", **score})
        rows[-1]["seconds"] = time.process_time() - start
        if options.servalcat:
            with tempfile.TemporaryDirectory() as name:
                theirs, seconds = servalcat(
                    options.servalcat, m, cut, resolution, halves, Path(name)
                )
                rows.append({"case": case, "program": "servalcat", **found(theirs, parts)})
                rows[-1]["seconds"] = seconds
                inside = (ours.values != 0) & (theirs.values != 0)
                a, b = ours.values[inside], theirs.values[inside]
                rows[-1]["cc"] = np.corrcoef(a, b)[0, 1]
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
