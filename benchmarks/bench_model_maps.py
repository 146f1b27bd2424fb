"""Model maps: Fourier maps against gemmi's, and maps of shell terms against Fourier maps.

    python benchmarks/bench_model_maps.py --out model_maps.csv           # needs CRYONB_DATA

A row a model (with its own B, and with B = 30 Å² throughout), resolution and reach is printed and
appended to the file; rows that are there already are not computed again, so a run that was stopped
goes on. `cc` and `error` (largest, in parts of the Fourier map's peak) compare the map of shell
terms with the Fourier map on the same grid of a third of the resolution, `gemmi_error` the Fourier
map with gemmi's. Times are in seconds, the map of shell terms against the Fourier map.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

from cryonb import Grid, open_model
from cryonb.atoms import Atoms
from cryonb.simulate.fourier import fourier_map
from cryonb.simulate.shells import shell_map

MODELS = ("30342/390_7cec_A.cif", "5925/5925_native.pdb")


def by_gemmi(structure, grid, resolution):
    """gemmi's densities, cut at the resolution, in a box that repeats itself: (z, y, x)."""
    structure = structure.clone()
    structure.cell = gemmi.UnitCell(*grid.extent, 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    for site in structure[0].all():
        site.atom.pos = gemmi.Position(*(np.array(site.atom.pos.tolist()) - grid.lower))
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min, calculator.rate, calculator.cutoff = resolution, 3, 1e-7
    calculator.set_grid_cell_and_spacegroup(structure)
    calculator.put_model_density_on_grid(structure[0])
    factors = gemmi.transform_map_to_f_phi(calculator.grid, half_l=True).prepare_asu_data(
        dmin=resolution, unblur=calculator.blur
    )
    whole = np.array(factors.get_f_phi_on_grid(list(grid.shape[::-1])).array)
    return (np.fft.fftn(whole).real / structure.cell.volume).T


def rows(path):
    structure = open_model(Path(os.environ["CRYONB_DATA"]) / "maps" / path)
    structure.remove_hydrogens()
    structure.remove_waters()
    for b in ("own", 30.0):
        if b != "own":
            for site in structure[0].all():
                site.atom.b_iso = b
        atoms = Atoms.from_structure(structure)
        if b != "own":
            atoms = replace(atoms, b_iso=np.full(len(atoms), b, np.float32))
        for d in (1.5, 2.0, 3.0, 4.0, 6.0):
            grid = Grid.around(atoms.position, d / 3, 5.0)
            start = time.perf_counter()
            fourier = fourier_map(atoms, grid, resolution=d).values
            fourier_time = time.perf_counter() - start
            around = fourier_map(atoms, grid, resolution=d, periodic=True).values
            theirs = by_gemmi(structure, grid, d)
            theirs += around.mean() - theirs.mean()
            gemmi_error = float(np.abs(around - theirs).max() / theirs.max())
            for reach in (2.0, 3.0, 4.0):
                start = time.perf_counter()
                shells = shell_map(atoms, grid, resolution=d, reach=reach).values
                yield {
                    "model": Path(path).name, "b": str(b), "resolution": d, "reach": reach,
                    "cc": float(np.corrcoef(shells.ravel(), fourier.ravel())[0, 1]),
                    "error": float(np.abs(shells - fourier).max() / fourier.max()),
                    "seconds": time.perf_counter() - start, "fourier_seconds": fourier_time,
                    "gemmi_error": gemmi_error, "n_atoms": len(atoms),
                }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("model_maps.csv"))
    parser.add_argument("--models", nargs="*", default=MODELS)
    options = parser.parse_args()
    done = pd.read_csv(options.out)["model"].tolist() if options.out.exists() else []
    for path in options.models:
        # 30 rows a model; one that was stopped in the middle is done again.
        if done.count(Path(path).name) >= 30:
            continue
        table = []
        for row in rows(path):
            table.append(row)
            print(" ".join(f"{key}={v:.5g}" if isinstance(v, float) else f"{key}={v}"
                           for key, v in row.items()), flush=True)  # fmt: skip
        pd.DataFrame(table).to_csv(
            options.out, mode="a", header=not options.out.exists(), index=False
        )


if __name__ == "__main__":
    main()
