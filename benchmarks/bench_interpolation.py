"""The interpolation test of Ranno & Si (2022), Figure 2, on other structures.

    CRYONB_DATA=... python benchmarks/bench_interpolation.py --out rows.csv
    CRYONB_DATA=... python benchmarks/bench_interpolation.py --out rows.csv --siren 40 --device cuda
    python benchmarks/bench_interpolation.py --out rows.csv --summary

The protocol: the C, N and O atoms of a structure, a Gaussian of sigma 0.225 d on each (molmap),
sampled at a spacing of d / 3 (the map that is interpolated) and of 0.2 Å (the control), from the
same corner; both scaled by the coarse map's least and greatest value; the mean absolute difference
over the control's voxels that are not zero. molmap cuts a Gaussian at 5 sigma; here they are not
cut, and a voxel counts as zero where its density is below that of one carbon at 5 sigma.

Per structure: trilinear, cubic and quintic spline, Gaussians, the seconds each took; beyond the
paper also the error over the mean of the control and the mean angle between the gradients
(weighted by the true gradient's length). --siren N fits sine networks (published stopping rule)
to a box of 24 voxels in the middle of the first N structures, and gives all methods' errors
within that box alone, as rows "... in the box"; --box 0 takes whole maps, which wants a GPU.

Rows are appended to --out as they come; what is there is not done again.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cryonb.atoms import Atoms
from cryonb.field import SplineField, field
from cryonb.files.model import read_model
from cryonb.grid import Grid
from cryonb.process import resample
from cryonb.volume import Volume

SIGMA = 0.225
RESOLUTIONS = np.round(np.linspace(1.2, 4.0, 15), 2)
CONTROL = 0.2
ATOMS = 128  # Gaussians that are added at once


def density(atoms, grid, sigma):
    """Sum of Gaussians, weighted by atomic number, at voxel centres."""
    total = np.zeros(grid.shape, dtype=np.float32)
    flat = total.reshape(grid.shape[0], -1)
    for first in range(0, len(atoms), ATOMS):
        part = slice(first, first + ATOMS)
        rows = []
        for axis, centres in enumerate(grid.axes()):
            away = centres - atoms.position[part, axis, None]
            rows.append(np.exp(-(away**2) / (2 * sigma**2)).astype(np.float32))
        x, y, z = rows
        z = z * atoms.element[part, None].astype(np.float32)
        plane = np.einsum("ny,nx->nyx", y, x).reshape(len(x), -1)
        flat += z.T @ plane
    return total


def structures(folder, count):
    """Chains of 60 to 160 residues, as many of each kind, in a fixed order; a resolution each."""
    table = pd.read_csv(folder / "INDEX.csv")
    table = table[table["n_residues"].between(60, 160) & (table["n_nucleotides"] == 0)]
    table = table[table["file"].str.startswith(("scope_", "pool_protein"))]
    table = table.sample(frac=1.0, random_state=7).drop_duplicates("cluster_id").head(count)
    files = table["file"].tolist()
    return [(file, float(RESOLUTIONS[k % len(RESOLUTIONS)])) for k, file in enumerate(files)]


class Trilinear:
    """The baseline."""

    def __init__(self, volume):
        self.volume = volume

    def value(self, points):
        return self.volume.sample(points, order=1)

    def gradient(self, points, step=1e-3):
        sides = [(self.value(points + s) - self.value(points - s)) for s in step * np.eye(3)]
        return np.stack(sides, axis=1) / (2 * step)

    def on_grid(self, grid):
        return resample(self.volume, grid=grid, method="linear").values


def angle_error(made, points, atoms, sigma):
    """Mean angle in degrees between gradient and truth, weighted by the truth's length."""
    found = made.gradient(points).astype(np.float64)
    true = np.zeros_like(found)
    for first in range(0, len(points), 500):
        part = slice(first, first + 500)
        away = points[part, None] - atoms.position
        weight = atoms.element * np.exp(-(away**2).sum(axis=2) / (2 * sigma**2))
        true[part] = -(weight[:, :, None] * away).sum(axis=1) / sigma**2
    length = np.linalg.norm(true, axis=1)
    cosine = (found * true).sum(axis=1) / np.maximum(np.linalg.norm(found, axis=1) * length, 1e-30)
    known = np.isfinite(cosine)
    angle = np.degrees(np.arccos(np.clip(cosine[known], -1, 1)))
    return float(np.average(angle, weights=length[known]))


def fields(coarse, which, resolution):
    """Each method: name, and what makes it."""
    makers = {
        "trilinear": lambda: Trilinear(coarse),
        "cubic": lambda: SplineField(coarse),
        "quintic": lambda: SplineField(coarse, degree=5),
        "gaussians": lambda: field(
            coarse, method="gaussians", resolution=resolution, progress=False
        ),
    }
    return {name: makers[name] for name in which}


def score(made, seconds, control, grid, atoms, sigma, low, high):
    least = 6 * np.exp(-12.5)
    counts = control >= least
    began = time.perf_counter()
    found = made.on_grid(grid)
    read = time.perf_counter() - began
    counts &= np.isfinite(found)
    difference = np.abs(found[counts] - control[counts])
    rng = np.random.default_rng(3)
    index = np.argwhere(counts)
    points = grid.to_points(index[rng.integers(0, len(index), 4000)])
    return {
        "mae": float(difference.mean(dtype=np.float64)) / (high - low),
        "mae_over_mean": float(
            difference.mean(dtype=np.float64) / control[counts].mean(dtype=np.float64)
        ),
        "angle": angle_error(made, points, atoms, sigma),
        "seconds": seconds,
        "read_seconds": read,
        "voxels": int(counts.sum()),
    }


def middle_box(volume, edge):
    """The box of `edge` voxels about the molecule's middle."""
    index = np.argwhere(volume.values > 0.2 * volume.values.max()).mean(axis=0)
    size = np.minimum(edge, volume.shape)
    start = np.clip(np.round(index - size / 2).astype(int), 0, np.array(volume.shape) - size)
    part = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    return Volume(volume.values[part], volume.grid.crop(start, size))


def one(file, resolution, args, folder, siren):
    every = Atoms.from_structure(read_model(folder / file))
    atoms = every.select(np.isin(every.element, [6, 7, 8]))
    sigma = SIGMA * resolution
    corner = atoms.lower - 3 * resolution
    extent = atoms.upper + 3 * resolution - corner
    step = resolution / 3
    grids = [
        Grid(tuple(np.floor(extent[::-1] / s).astype(int) + 1), s, tuple(corner))
        for s in (step, CONTROL)
    ]
    coarse = Volume(density(atoms, grids[0], sigma), grids[0])
    low, high = coarse.min, coarse.max
    about = {"file": file, "resolution": resolution, "atoms": len(atoms), "shape": coarse.shape}
    control = density(atoms, grids[1], sigma)
    for name, make in fields(coarse, args.methods, resolution).items():
        began = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - began
        yield (
            about
            | {"method": name}
            | score(made, seconds, control, grids[1], atoms, sigma, low, high)
        )
    if not siren:
        return
    box = middle_box(coarse, args.box) if args.box else coarse
    # The control's voxels from the box's first centre to its last.
    inner = grids[1].with_voxel_size(CONTROL)
    first = np.ceil(inner.to_index(box.grid.lower) - 1e-6).astype(int)
    last = np.floor(inner.to_index(box.grid.upper) + 1e-6).astype(int)
    last = np.minimum(last, np.array(inner.shape) - 1)
    part = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    inner = inner.crop(first, last - first + 1)
    makers = fields(coarse, args.methods, resolution)
    makers["siren"] = lambda: field(
        box, method="siren", device=args.device, epochs=args.epochs, progress=args.progress
    )
    for name, make in makers.items():
        began = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - began
        row = score(made, seconds, control[part], inner, atoms, sigma, low, high)
        if name == "siren":
            row |= {"loss": float(made.losses.mean()), "epochs": int(made.epochs.max())}
        yield about | {"method": f"{name} in the box"} | row


def summarise(path):
    table = pd.read_csv(path)
    columns = ["mae", "mae_over_mean", "angle", "seconds", "read_seconds"]
    print(table.groupby("method")[columns].mean().round(4).to_string())
    print(table.groupby("method")["file"].nunique().rename("structures").to_string())
    whole = table[~table["method"].str.endswith("box")]
    print("\nmean absolute error by resolution")
    print(
        whole.pivot_table(index="resolution", columns="method", values="mae").round(4).to_string()
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="table of rows, appended to")
    parser.add_argument("--count", type=int, default=45, help="structures")
    parser.add_argument("--methods", nargs="+",
                        default=["trilinear", "cubic", "quintic", "gaussians"])  # fmt: skip
    parser.add_argument("--siren", type=int, default=0, help="structures with sine networks")
    parser.add_argument("--box", type=int, default=24, help="voxels a side; 0: the whole map")
    parser.add_argument("--epochs", type=int, default=600, help="most epochs of a network")
    parser.add_argument("--device", default=None)
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--summary", action="store_true", help="only print the table so far")
    args = parser.parse_args()
    if not args.summary:
        folder = Path(os.environ["CRYONB_DATA"]) / "structures"
        done = set()
        if args.out.exists():
            seen = pd.read_csv(args.out)
            done = set(zip(seen["file"], seen["method"].str.endswith("box"), strict=True))
        for k, (file, resolution) in enumerate(structures(folder, args.count)):
            siren = k < args.siren
            if (file, siren) in done or (not siren and (file, True) in done):
                continue
            rows = pd.DataFrame(list(one(file, resolution, args, folder, siren)))
            # A structure's rows go in together, so that none is ever half done.
            if args.out.exists():
                rows = pd.concat([pd.read_csv(args.out), rows])
            rows.drop_duplicates(["file", "method"], keep="last").to_csv(args.out, index=False)
            print(f"{k + 1}: {file} at {resolution} Å", flush=True)
    summarise(args.out)


if __name__ == "__main__":
    main()
