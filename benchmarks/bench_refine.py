"""Refinement on experimental maps: correlation and distance to the deposited model.

    python benchmarks/bench_refine.py [--rows FILE] [--maps 5925 6272 ...] [--weights 1 0.3]

Each deposited model of CRYONB_DATA is moved by a smooth random field of 0.5 Å r.m.s. (waves of
about 20 Å) and its B set to their mean; then xyz and B are refined together. The deposited model
itself is refined the same way: how far it moves (`rmsd_of_deposited`, of which `common_shift` is
one shift of all atoms) is how far map and deposition agree at all, and `rmsd_between` is how far
the two results are apart, `rmsd_before` having been how far the two starts were. The cc are cc_mask
of `cryonb.evaluate.correlation`, which draws the model's map in another way than the refinement.
With --rows, a run that was cut off goes on.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

import cryonb as nb
from cryonb.evaluate.correlation import correlate

MAPS = {
    "5925": ("5925/5925_from_situs.mrc.gz", "5925/5925_native.pdb", 3.64),
    "6272": ("6272/6272_zone4A.mrc.gz", "6272/3j9s.pdb", 2.6),
    "30342": ("30342/390_emd_30342_A_z4.mrc.gz", "30342/390_7cec_A.cif", 3.9),
    "20026": ("20026/emd20026_prot.mrc.gz", "20026/3ajo_fitted_refined.pdb", 1.75),
}
SIZE, WAVE = 0.5, 20.0


def displaced(position, rng) -> np.ndarray:
    k = rng.normal(0, 2 * np.pi / WAVE / np.sqrt(3), (50, 3))
    phase, amplitude = rng.uniform(0, 2 * np.pi, 50), rng.normal(0, 1, (50, 3))
    shift = np.cos(position @ k.T + phase) @ amplitude
    return position + shift * SIZE / np.sqrt((shift**2).sum(axis=1).mean())


def distance(one, other) -> float:
    a, b = (nb.Atoms.from_structure(model).position for model in (one, other))
    return float(np.sqrt(((a - b) ** 2).sum(axis=1).mean()))


def cc_mask(m, model) -> float:
    return float(correlate(m, model, overlaps=False).summary["cc_mask"])


def measured(name: str, weight: float, folder: Path) -> dict:
    path, model_path, resolution = MAPS[name]
    m = nb.open_map(folder / path, resolution=resolution)
    deposited = nb.open_model(folder / model_path)
    flat = gemmi.FlatStructure(deposited)
    flat.pos[:] = displaced(np.array(flat.pos), np.random.default_rng(0))
    flat.b_iso[:] = np.mean(flat.b_iso)
    begun = flat.generate_structure()
    options = {"what": ("xyz", "b"), "weight": weight, "progress": False}
    begin = time.perf_counter(), time.process_time()
    found = nb.refine(begun, m, **options)
    wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
    of_deposited = nb.refine(deposited, m, **options).model
    a, b = (nb.Atoms.from_structure(model).position for model in (of_deposited, deposited))
    return {
        "map": name, "weight": weight, "resolution": resolution,
        "atoms": int(found.summary["n_atoms"]), "cc_deposited": cc_mask(m, deposited),
        "cc_deposited_refined": cc_mask(m, of_deposited), "cc_before": cc_mask(m, begun),
        "cc_after": cc_mask(m, found.model), "rmsd_before": distance(begun, deposited),
        "rmsd_after": distance(found.model, deposited),
        "rmsd_of_deposited": distance(of_deposited, deposited),
        "common_shift": float(np.linalg.norm((a - b).mean(axis=0))),
        "rmsd_between": distance(found.model, of_deposited),
        "bonds": found.summary["bonds"], "angles": found.summary["angles"],
        "iterations": int(found.summary["n_iterations"]), "seconds": wall, "cpu_seconds": cpu,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--maps", nargs="+", default=list(MAPS), choices=list(MAPS))
    parser.add_argument("--weights", nargs="+", type=float, default=[1.0])
    arguments = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of maps")
    folder = Path(os.environ["CRYONB_DATA"]) / "maps"
    kept = arguments.rows is not None and arguments.rows.is_file()
    rows = pd.read_csv(arguments.rows, dtype={"map": str}).to_dict("records") if kept else []
    done = {(row["map"], row["weight"]) for row in rows}
    for weight in arguments.weights:
        for name in arguments.maps:
            if (name, weight) in done:
                continue
            rows.append(measured(name, weight, folder))
            print(pd.Series(rows[-1]).to_string(), flush=True)
            if arguments.rows:
                pd.DataFrame(rows).to_csv(arguments.rows, index=False)
    print(pd.DataFrame(rows).round(3).T.to_string(header=False))


if __name__ == "__main__":
    main()
