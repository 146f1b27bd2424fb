"""Refinement of positions and B: on maps simulated from a known truth, and on experimental ones.

    python benchmarks/bench_refine.py [--rows FILE] [--only simulated real] [--maps 5925 ...]

Simulated: the map of the model of 5925 (793 atoms), its B as they are, at 3 and 4 Å with white
noise as strong as the signal; the model moved by a smooth random field (waves of about 20 Å), or
each atom at random, with B set to their mean. Å r.m.s. to the truth before and after, of all atoms
and of the backbone.

Real: maps of CRYONB_DATA. The deposited model is refined, and how far it moves is its drift
(`drift`; `drift_local` without the affine map, a scale of the voxels say, that takes the one to the
other best). Then it is moved by the smooth field of 0.5 Å, B set to their mean, and refined
(`rmsd_after` is to the deposited model, `rmsd_between` to what that was refined to). cc are cc_mask
of `cryonb.evaluate.correlation`, which draws the model's map in another way than the refinement;
bonds (Å) and angles (degrees) are r.m.s. differences from the deposited model's.

Measured (Å r.m.s., before to after): at 3 Å smooth 0.3 to 0.21, 0.5 to 0.23, random 0.3 to 0.18
(0.15 when bonds and angles are mended, before the map has a say) and 0.5 to 0.26; at 4 Å smooth
0.5 to 0.27, random 0.3 to 0.20. With the truth's own geometry as reference and weights of 0.03,
0.1, 0.3 and 1, random 0.3 goes to 0.12, 0.15, 0.18 and 0.22 at 3 Å: what noise leaves. Deposited
models at 1.75, 2.6, 3.64, 3.8 and 3.9 Å (20026, 6272, 5925, 5830, 30342): drift 0.05, 0.11, 0.37,
0.15 and 0.14, smooth 0.5 to 0.15, 0.25, 0.48, 0.38 and 0.44.

With --rows, a run that was cut off goes on. CPU seconds are of one thread, for one refinement.
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
from cryonb.fitting.restraints import Restraints

MAPS = {
    "5925": ("5925/5925_from_situs.mrc.gz", "5925/5925_native.pdb", 3.64),
    "6272": ("6272/6272_zone4A.mrc.gz", "6272/3j9s.pdb", 2.6),
    "30342": ("30342/390_emd_30342_A_z4.mrc.gz", "30342/390_7cec_A.cif", 3.9),
    "20026": ("20026/emd20026_prot.mrc.gz", "20026/3ajo_fitted_refined.pdb", 1.75),
    "5185": ("5185/3j06_box.ccp4.gz", "5185/3j06_box_model.pdb", 3.3),
    "5830": ("5830/3j63_A_box.ccp4.gz", "5830/3j63_A_box_model.pdb", 3.8),
    "2566": ("2566/2566_3J6B_9.mrc.gz", "2566/3J6B_9.pdb", 3.2),
}
WAVE, BACKBONE = 20.0, ("N", "CA", "C", "O")


def displaced(position, kind: str, size: float, rng) -> np.ndarray:
    if kind == "random":
        shift = rng.normal(0, 1, position.shape)
    else:
        k = rng.normal(0, 2 * np.pi / WAVE / np.sqrt(3), (50, 3))
        phase, amplitude = rng.uniform(0, 2 * np.pi, 50), rng.normal(0, 1, (50, 3))
        shift = np.cos(position @ k.T + phase) @ amplitude
    return position + shift * size / np.sqrt((shift**2).sum(axis=1).mean())


def moved(model, kind: str, size: float):
    flat = gemmi.FlatStructure(model)
    flat.pos[:] = displaced(np.array(flat.pos), kind, size, np.random.default_rng(0))
    flat.b_iso[:] = np.mean(flat.b_iso)
    return flat.generate_structure()


def position(model) -> np.ndarray:
    return nb.Atoms.from_structure(model).position


def rms(shift) -> float:
    return float(np.sqrt((shift**2).sum(axis=1).mean()))


def refined(model, m):
    begin = time.process_time()
    found = nb.refine(model, m, what=("xyz", "b"), progress=False)
    return found, time.process_time() - begin


def simulated(resolution: float, kind: str, size: float, folder: Path) -> dict:
    truth = nb.open_model(folder / MAPS["5925"][1])
    m = nb.simulate(truth, resolution=resolution, voxel_size=resolution / 3)
    signal = m.values[m.values > 0.2 * m.max].std()
    noise = np.random.default_rng(1).normal(0, signal, m.shape)
    m = m.replace(m.values + noise.astype(np.float32))
    begun = moved(truth, kind, size)
    found, cpu = refined(begun, m)
    atoms = nb.Atoms.from_structure(truth)
    main = np.isin(atoms.name, BACKBONE)
    before, after = (position(model) - atoms.position for model in (begun, found.model))
    springs = Restraints.of_atoms(atoms, typical=False)
    bonds, angles, _ = springs.deviations(position(found.model), atoms.position)
    s = found.summary
    return {
        "resolution": resolution, "kind": kind, "size": size, "rmsd_before": rms(before),
        "rmsd_after": rms(after), "backbone_before": rms(before[main]),
        "backbone_after": rms(after[main]), "cc_before": s["cc_before"], "cc_after": s["cc_after"],
        "bonds": bonds, "angles": angles, "clashes": s["clashes_after"], "weight": s["weight"],
        "cpu_seconds": cpu,
    }  # fmt: skip


def cc_mask(m, model) -> float:
    return float(correlate(m, model, overlaps=False).summary["cc_mask"])


def real(name: str, folder: Path) -> dict:
    path, model_path, resolution = MAPS[name]
    m = nb.open_map(folder / path, resolution=resolution)
    deposited = nb.open_model(folder / model_path)
    begun = moved(deposited, "smooth", 0.5)
    atoms = nb.Atoms.from_structure(deposited)
    main = np.isin(atoms.name, BACKBONE)
    kept, cpu = refined(deposited, m)
    back, _ = refined(begun, m)
    a, b, c, start = atoms.position, *map(position, (kept.model, back.model, begun))
    affine = np.column_stack([a, np.ones(len(a))])
    local = b - affine @ np.linalg.lstsq(affine, b, rcond=None)[0]
    springs = Restraints.of_atoms(atoms, typical=False)
    row = {
        "map": name, "resolution": resolution, "atoms": len(atoms),
        "cc_deposited": cc_mask(m, deposited), "cc_deposited_refined": cc_mask(m, kept.model),
        "drift": rms(b - a), "drift_backbone": rms((b - a)[main]), "drift_local": rms(local),
        "weight_deposited": kept.summary["weight"], "cc_before": cc_mask(m, begun),
        "cc_after": cc_mask(m, back.model), "rmsd_before": rms(start - a),
        "rmsd_after": rms(c - a), "backbone_after": rms((c - a)[main]),
        "rmsd_between": rms(c - b), "weight_displaced": back.summary["weight"],
    }  # fmt: skip
    for which, points in (("deposited", b), ("displaced", start), ("after", c)):
        row[f"bonds_{which}"], row[f"angles_{which}"], _ = springs.deviations(points, a)
        row[f"clashes_{which}"] = springs.clashes(points)
    return row | {"clashes_before": springs.clashes(a), "cpu_seconds": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--only", nargs="+", default=["simulated", "real"])
    parser.add_argument("--maps", nargs="+", default=list(MAPS), choices=list(MAPS))
    arguments = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of maps")
    folder = Path(os.environ["CRYONB_DATA"]) / "maps"
    cases = [
        ("simulated", (resolution, kind, size))
        for resolution in (3.0, 4.0) for kind in ("smooth", "random") for size in (0.3, 0.5, 1.0)
    ] + [("real", (name,)) for name in arguments.maps]  # fmt: skip
    rows = {}
    if arguments.rows is not None and arguments.rows.is_file():
        rows = pd.read_json(arguments.rows, lines=True, dtype={"map": str})
        rows = {row.pop("case"): row for row in rows.to_dict("records")}
    for of, key in cases:
        case = " ".join(map(str, (of, *key)))
        if of not in arguments.only or case in rows:
            continue
        rows[case] = {"of": of} | (simulated if of == "simulated" else real)(*key, folder)
        print(case, pd.Series(rows[case]).to_string(), "", sep="\n", flush=True)
        if arguments.rows:
            table = pd.DataFrame([{"case": name} | row for name, row in rows.items()])
            table.to_json(arguments.rows, orient="records", lines=True)
    table = pd.DataFrame(rows.values())
    for of, part in table.groupby("of", sort=False):
        part = part.drop(columns="of").dropna(axis=1, how="all")
        print(of, part.round(3).T.to_string(header=False), sep="\n")


if __name__ == "__main__":
    main()
