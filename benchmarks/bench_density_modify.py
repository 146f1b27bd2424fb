"""Density modification against a known truth: simulated half maps of proteins.

    python benchmarks/bench_density_modify.py rows.csv [--structures 12] [--levels 1 3 9]

The signal is the Fourier map of a model (B of 20 Å² and 60 Å² of decay; solvent takes 60 % of the
contrast at coarse resolution), sampled at 1.2 Å; the noise is Gaussian, and its power falls by
exp(-20 s²/2). A level is the noise's power over the signal's in the mean of both halves, in the
whole box, at 4 Å. Before is the mean weighted by the half maps' FSC within the mask that was found.
FSC to the truth is taken in the whole box, where noise in the solvent counts, and within 3 Å of
the model (soft edge 4 Å), where it does not. "masked" is the map before, multiplied by the mask
that was found: what no more than masking gains.

A shell falls if its FSC is lower than before by more than three standard errors (of a difference
of atanh FSC, as if both maps' noise were independent, which is generous) or by more than 0.02:
both counts are printed. A row is added to the file for each structure and level, and those that
are there are not computed again. The settings were chosen on 1a8o_A, 1ak4_A and 1dqk_A, which are
left out. Needs CRYONB_DATA.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.fft import irfftn, rfftn

import cryonb as nb
from cryonb.process.filter import spatial_frequency
from cryonb.process.fourier_shells import FourierShells, Shells, shell_correlation
from cryonb.process.mask import model_mask
from cryonb.simulate.fourier import fourier_map

VOXEL, AT = 1.2, 4.0
STRUCTURES = (
    "1auq_B", "1avv_A", "1bdd_A", "1bj1_V", "1bkb_B", "1blu_A", "1bmr_H", "1c2r_A", "1ckl_A",
    "1cyo_A", "1ebo_F", "1fas_A", "1fl0_C", "1fqj_B", "1ak4_D", "1f94_A",
)  # fmt: skip


def simulated(model, level, rng):
    """Truth, two halves and a mask around the model."""
    for site in model[0].all():
        site.atom.b_iso = 20.0
    atoms = nb.Atoms.from_structure(model)
    edge = (atoms.upper - atoms.lower).max() + 24
    n = int(np.ceil(edge / VOXEL / 8) * 8)
    middle = (atoms.upper + atoms.lower) / 2
    grid = nb.Grid((n, n, n), VOXEL, tuple(middle - VOXEL * (n - 1) / 2))
    signal = fourier_map(model, grid, resolution=2 * VOXEL, b_add=60.0, periodic=True)
    s = spatial_frequency(grid.shape, grid.voxel_size)
    terms = rfftn(signal.values) * (1 - 0.6 * np.exp(-250 * s**2 / 4))
    terms[0, 0, 0] = 0
    shells = Shells(grid)
    colour = np.exp(-20 * s**2 / 4)
    near = np.abs(shells.s - 1 / AT).argmin()
    power = 2 * level * shells.power(terms)[near] / shells.power(colour)[near]

    def volume(terms):
        return nb.DensityMap(irfftn(terms, s=grid.shape).astype(np.float32), grid)

    halves = [
        terms + rfftn(rng.standard_normal(grid.shape)) * colour * np.sqrt(power / grid.n_voxels)
        for _ in range(2)
    ]
    around = model_mask(model, grid, radius=3.0, soft_edge=4.0)
    return volume(terms), nb.half_maps(*map(volume, halves)), around


def row_of(model, level, seed) -> dict:
    truth, halves, around = simulated(model, level, np.random.default_rng(seed))
    start = time.process_time()
    made = halves.density_modify(progress=False)
    seconds = time.process_time() - start
    s = spatial_frequency(truth.shape, truth.voxel_size)
    curve = made.curve
    weight = np.maximum(np.interp(s, curve["s"], curve["fsc_before"], right=0.0), 1e-3)
    before = truth.replace(
        irfftn(rfftn(halves.mean.values) * weight, s=truth.shape).astype(np.float32)
    )
    maps = {
        "before": before,
        "masked": before.replace(before.values * made.mask.values),
        "after": made.map,
    }
    row = {"edge": truth.shape[0], "cpu_s": seconds, "estimated_gain": made.gain}
    for where, mask in (("box", None), ("molecule", around)):
        tables = {name: shell_correlation(m, truth, mask=mask) for name, m in maps.items()}
        for name, table in tables.items():
            shells = FourierShells(table, "map and model", "fsc")
            row[f"{where}_{name}"] = shells.resolution(0.5)
        old, new = (tables[name]["fsc"].to_numpy() for name in ("before", "after"))
        free = tables["after"]["n"].to_numpy() * (1 if mask is None else np.mean(mask.values**2))
        error = np.sqrt(1 / np.maximum(free, 1))
        change = np.arctanh(np.clip(new, -0.9999, 0.9999)) - np.arctanh(
            np.clip(old, -0.9999, 0.9999)
        )
        row |= {
            f"{where}_worst": (new - old).min(),
            f"{where}_worst_errors": (change / error).min(),
            f"{where}_fallen": int((change < -3 * error).sum()),
            f"{where}_below_002": int((new - old < -0.02).sum()),
            f"{where}_mean_change": (new - old).mean(),
        }
    found = shell_correlation(made.map, truth, mask=made.mask)["fsc"]
    row["estimate_error"] = float(np.abs(found - curve["fsc_after"])[curve["fsc"] > 0.05].mean())
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=Path, help="table that rows are added to")
    parser.add_argument("--structures", type=int, default=12)
    parser.add_argument("--levels", type=float, nargs="+", default=[1.0, 3.0, 9.0])
    options = parser.parse_args()
    folder = Path(os.environ["CRYONB_DATA"]) / "structures" / "pool_protein"
    done = set()
    if options.rows.exists():
        table = pd.read_csv(options.rows)
        done = set(zip(table["name"], table["level"], strict=True))
    for number, name in enumerate(STRUCTURES[: options.structures]):
        for level in options.levels:
            if (name, level) in done:
                continue
            model = nb.open_model(folder / f"{name}.pdb.gz")
            row = {"name": name, "level": level, **row_of(model, level, number)}
            pd.DataFrame([row]).to_csv(
                options.rows, mode="a", header=not options.rows.exists(), index=False
            )
    table = pd.read_csv(options.rows)
    for where in ("box", "molecule"):
        table[f"{where}_gain"] = table[f"{where}_before"] - table[f"{where}_after"]
        table[f"{where}_over_masked"] = table[f"{where}_masked"] - table[f"{where}_after"]
    pd.set_option("display.width", 200, "display.max_columns", 40)
    print(table.drop(columns="name").groupby("level").mean().round(3).T)
    for where in ("box", "molecule"):
        gain = table[f"{where}_gain"]
        print(
            f"{where}: gain in Å where FSC to the truth is 0.5, mean {gain.mean():.3f}, least "
            f"{gain.min():.3f}, most {gain.max():.3f}; {int((gain > 0).sum())} of {gain.count()} "
            f"gain; shells that fall by 3 errors {table[f'{where}_fallen'].sum()}, by 0.02 "
            f"{table[f'{where}_below_002'].sum()}; worst {table[f'{where}_worst'].min():.3f}"
        )


if __name__ == "__main__":
    main()
