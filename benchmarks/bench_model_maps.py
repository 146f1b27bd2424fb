"""Model maps: Fourier maps against gemmi's, and maps of shell terms against Fourier maps.

    python benchmarks/bench_model_maps.py --out model_maps.csv       # needs CRYONB_DATA
    python benchmarks/bench_model_maps.py --cctbx /path/to/python    # of an env. with cctbx-base

A row a model, B (its own, or one throughout), resolution and reach ("whole": nothing is left out)
is printed and appended to the file; rows that are there already are not computed again, so a run
that was stopped goes on. `off` (1 - correlation) and `error` (largest, in parts of the Fourier
map's peak) compare the map of shell terms with the Fourier map on the same grid of a third of the
resolution; `wrap` and `wrap_error` do so with the Fourier map in a box padded by 12 resolutions
and that in its usual box: what comes in at the opposite face, in both. `gemmi_error` compares the
Fourier map with gemmi's. Seconds are of the processor. At the end stand the errors by resolution
and B, and the times for boxes 4 times as large as the model, and of cctbx's kernel.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

from cryonb import Grid, open_model
from cryonb.atoms import Atoms
from cryonb.files.model import write_model
from cryonb.simulate.fourier import fourier_map, gaussian_sum
from cryonb.simulate.scattering import electron_coefficients
from cryonb.simulate.shells import shell_map

MODELS = ("30342/390_7cec_A.cif", "5925/5925_native.pdb")
RESOLUTIONS = (1.5, 2.0, 3.0, 4.0, 6.0)
BS = (10.0, 30.0, 100.0)


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


def timed(function, *arguments, **options):
    start = time.process_time()
    found = function(*arguments, **options)
    return found.values, time.process_time() - start


def compared(found, expected):
    return (
        float(1 - np.corrcoef(found.ravel(), expected.ravel())[0, 1]),
        float(np.abs(found - expected).max() / expected.max()),
    )


def opened(path):
    structure = open_model(Path(os.environ["CRYONB_DATA"]) / "maps" / path)
    structure.remove_hydrogens()
    structure.remove_waters()
    return structure


def rows(path):
    structure = opened(path)
    for b in ("own", *BS):
        if b != "own":
            for site in structure[0].all():
                site.atom.b_iso = b
        atoms = Atoms.from_structure(structure)
        if b != "own":
            atoms = replace(atoms, b_iso=np.full(len(atoms), b, np.float32))
        f, width = electron_coefficients(atoms.element)
        f, width = f * atoms.occupancy[:, None], width + atoms.b_iso[:, None]
        for d in RESOLUTIONS:
            grid = Grid.around(atoms.position, d / 3, 5.0)
            fourier, fourier_time = timed(fourier_map, atoms, grid, resolution=d)
            around = fourier_map(atoms, grid, resolution=d, periodic=True).values
            theirs = by_gemmi(structure, grid, d)
            theirs += around.mean() - theirs.mean()
            gemmi_error = float(np.abs(around - theirs).max() / theirs.max())
            alone = gaussian_sum(atoms.position, f, width, grid, s_max=1 / d, reach=12 * d).values
            wrap, wrap_error = compared(fourier, alone)
            for reach in (None, 2.0, 3.0):
                shells, seconds = timed(shell_map, atoms, grid, resolution=d, reach=reach)
                off, error = compared(shells, fourier)
                yield {
                    "model": Path(path).name, "b": str(b), "resolution": d,
                    "reach": "whole" if reach is None else str(reach), "off": off, "error": error,
                    "seconds": seconds, "fourier_seconds": fourier_time, "wrap": wrap,
                    "wrap_error": wrap_error, "gemmi_error": gemmi_error, "n_atoms": len(atoms),
                }  # fmt: skip


def larger_boxes(path, d=3.0):
    """Time and errors where the box has 4 times the model's volume, and 4 times its edges."""
    atoms = Atoms.from_structure(opened(path))
    model = Grid.around(atoms.position, d / 3, 5.0)
    for name, factor in (("model", 1), ("4 x volume", 4 ** (1 / 3)), ("4 x edges", 4)):
        grid = model.pad([int(n * (factor - 1) / 2) for n in model.shape])
        fourier, fourier_time = timed(fourier_map, atoms, grid, resolution=d)
        shells, seconds = timed(shell_map, atoms, grid, resolution=d)
        off, error = compared(shells, fourier)
        print(
            f"box {name} {grid.shape}: shells {seconds:.2f} s, Fourier {fourier_time:.2f} s, "
            f"1 - cc {off:.1e}, error {error:.4f}"
        )


CCTBX = """
import json, math, sys, time
import numpy as np
import boost_adaptbx.boost.python as bp
from cctbx import crystal
from cctbx.array_family import flex
from cctbx.maptbx.bcr import qmap
from iotbx.data_manager import DataManager
ext = bp.import_ext("cctbx_maptbx_bcr_bcr_ext")
path, n, edges, d = sys.argv[1], *(json.loads(part) for part in sys.argv[2:5])
symmetry = crystal.symmetry(unit_cell=(*edges, 90, 90, 90), space_group_symbol="P1")
hierarchy = DataManager().get_model(path).get_hierarchy()
atoms = hierarchy.extract_xray_structure(crystal_symmetry=symmetry)
atoms.convert_to_isotropic()
atoms = atoms.select(flex.size_t([k for k, s in enumerate(atoms.scattering_types())
                                  if s.strip() in ("C", "H", "N", "O", "S")]))
tables = {}
def scatterer(s):
    element = s.scattering_type.strip().upper()
    if element not in tables:
        table = qmap.load_table(element, "electron")
        tables[element] = table[min(table, key=lambda key: abs(float(key) - d))]
    R, B, C = (np.array(tables[element][key]) for key in "RBC")
    k = R < 2.5 * d
    R, B, C = R[k], B[k], C[k]
    return ext.bcr_scatterer(scatterer=s, radius=2 * d, resolution=d, mu=flex.double(R),
        kappa=flex.double(C), nu=flex.double(B / (8 * math.pi**2)), musq=flex.double(R * R),
        kappi=flex.double(C / math.pi**1.5))
listed = [scatterer(s) for s in atoms.scatterers()]
kernel = ext.vrm(Ncrs=n, Scrs=[0, 0, 0], Nxyz=n, unit_cell=atoms.unit_cell(), bcr_scatterers=listed,
                 use_exp_table=False)
start = time.process_time()
found = kernel.compute(compute_gradients=False).as_numpy_array().transpose(2, 1, 0)
seconds = time.process_time() - start
np.save(sys.argv[5], found)
print(json.dumps([seconds, len(listed)]))
"""


def by_cctbx(python, path):
    """Compare with the images of cctbx's own kernel, which it cuts off at 2 resolutions."""
    structure = opened(path)
    model = Atoms.from_structure(structure)
    for d in (3.0, 4.0):
        grid = Grid.around(model.position, d / 3, 5.0)
        shift = grid.lower
        with tempfile.TemporaryDirectory() as folder:
            moved = structure.clone()
            for site in moved[0].all():
                site.atom.pos = gemmi.Position(*(np.array(site.atom.pos.tolist()) - shift))
            file, out = write_model(moved, Path(folder) / "m.cif"), Path(folder) / "map.npy"
            run = subprocess.run(
                [python, "-c", CCTBX, str(file), json.dumps(grid.shape[::-1]),
                 json.dumps(grid.extent.tolist()), str(d), str(out)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            theirs = np.load(out).transpose(2, 1, 0)
        seconds, count = json.loads(run.stdout.splitlines()[-1])
        fourier = fourier_map(model, grid, resolution=d).values
        for reach in (None, 2.0):
            ours, mine = timed(shell_map, model, grid, resolution=d, reach=reach)
            off, error = compared(ours, fourier)
            print(
                f"{d} Å, shells ({'whole' if reach is None else f'reach {reach}'}) {mine:.2f} s, "
                f"1 - cc {off:.1e}, error {error:.4f}"
            )
        off, error = compared(theirs - theirs.mean() + fourier.mean(), fourier)
        print(
            f"{d} Å, cctbx ({count} of {len(model)} atoms) {seconds:.2f} s, 1 - cc {off:.1e}, "
            f"error {error:.4f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("model_maps.csv"))
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--cctbx", help="python of an environment with cctbx-base")
    options = parser.parse_args()
    done = pd.read_csv(options.out)["model"].tolist() if options.out.exists() else []
    count = (1 + len(BS)) * len(RESOLUTIONS) * 3
    for path in options.models:
        # One that was stopped in the middle is done again.
        if done.count(Path(path).name) >= count:
            continue
        table = []
        for row in rows(path):
            table.append(row)
            print(" ".join(f"{key}={v:.5g}" if isinstance(v, float) else f"{key}={v}"
                           for key, v in row.items()), flush=True)  # fmt: skip
        pd.DataFrame(table).to_csv(
            options.out, mode="a", header=not options.out.exists(), index=False
        )
    table = pd.read_csv(options.out, dtype={"b": str, "reach": str})
    for reach, part in table.groupby("reach", sort=False):
        for column in ("off", "error"):
            print(f"\nreach {reach}: {column}, the largest of the models")
            print(part.pivot_table(column, "resolution", "b", "max").to_string(
                float_format=lambda value: f"{value:.1e}"))  # fmt: skip
    print()
    larger_boxes(options.models[0])
    if options.cctbx:
        by_cctbx(options.cctbx, options.models[0])


if __name__ == "__main__":
    main()
