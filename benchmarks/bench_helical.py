"""Helices of known twist and rise, turned at random and with noise: what `find_symmetry` says.

    python benchmarks/bench_helical.py [--cases tmv actin ...] [--noise 0 1 2] [--seeds 0 1]

Noise is white, in standard deviations of the density within the helix, before it is cut to the
resolution of the case. Errors are those of twist in degrees, rise in Å, direction of the axis in
degrees and distance of the axis from the true one at the middle of the box in Å. The unit of "tmv"
is that of the map 5185 in CRYONB_DATA; all others are made of the package's own phantoms.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.process.helical import axis_frame, screws
from cryonb.simulate.gaussian import gaussians
from cryonb.simulate.phantom import beta_sheet

#: Twist, rise, order, resolution, voxel size, voxels along an edge.
CASES = {
    "tmv": (22.04, 1.408, 1, 4.5, 1.5, 140),
    "actin": (-166.7, 27.5, 1, 5.0, 1.6, 130),
    "amyloid": (179.4, 2.4, 1, 3.2, 1.05, 120),
    "amyloid-c2": (-1.0, 4.8, 2, 3.2, 1.05, 120),
    "microtubule": (-27.69, 9.46, 1, 8.0, 2.5, 130),
    "dyad": (53.0, 8.0, 1, 5.0, 1.6, 110),
}


def unit(name):
    """Positions (n, 3) in Å and elements of one unit, the helix axis being z."""
    if name == "tmv":
        path = Path(os.environ["CRYONB_DATA"]) / "maps" / "5185" / "3j06_box_model.pdb"
        atoms = nb.Atoms.from_structure(nb.open_model(path))
        middle = atoms.position - atoms.position.mean(axis=0)
        # The loop about residue 100 lines the inner channel.
        loop = np.isin(atoms.residue, np.flatnonzero(atoms.residues.number == 100))
        inward = middle[loop].mean(axis=0) * [1, 1, 0]
        return middle - 60 * inward / np.linalg.norm(inward), atoms.element
    if name.startswith("amyloid"):
        strand = nb.Atoms.from_structure(beta_sheet(2, length=8).structure)
        strand = strand.select(strand.residue < 8)
        # Strands across the axis, their hydrogen bonds along it: a bent ribbon of five.
        flat = (strand.position - strand.position.mean(axis=0))[:, [2, 1, 0]]
        parts = []
        for k, (x, y, turn) in enumerate([(3, 5, 0), (22, 8, 25), (26, 18, 160), (6, 15, 185)]):
            c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
            spin = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
            parts.append(flat @ spin.T + [x + 12, y, 0.3 * k])
        return np.concatenate(parts), np.tile(strand.element, len(parts))
    atoms = nb.Atoms.from_structure(nb.example_model("phantom"))
    middle = atoms.position - atoms.position.mean(axis=0)
    place = {"actin": (18, 4, 0), "microtubule": (105, 0, 0), "dyad": (30, 10, 9)}[name]
    position, element = middle + np.array(place), atoms.element
    if name == "dyad":
        position = np.concatenate([position, position * [1, -1, -1]])
        element = np.tile(element, 2)
    return position, element


def helix(name, *, seed=0, noise=0.0):
    """Make a map of a helix at random: the map, and axis and point of the truth."""
    twist, rise, order, resolution, voxel, n = CASES[name]
    rng = np.random.default_rng(seed)
    grid = nb.Grid((n, n, n), voxel, tuple(rng.uniform(-50, 50, 3)))
    axis = Rotation.random(rng=rng).as_matrix()[2]
    point = grid.to_points((np.array(grid.shape) - 1) / 2) + rng.uniform(-8, 8, 3)
    most = int(np.ceil(n * voxel * np.sqrt(3) / 2 / rise)) + 2
    steps = np.arange(-most, most + 1)
    matrices, vectors = screws(axis, point, twist * steps, rise * steps, order=order)
    position, element = unit(name)
    start = position @ axis_frame(axis) + point
    points = (np.einsum("kij,nj->kni", matrices, start) + vectors[:, None]).reshape(-1, 3)
    every = np.tile(element, len(matrices))
    near = ((points > grid.lower - 10) & (points < grid.upper + 10)).all(axis=1)
    m = gaussians(points[near], every[near], grid, resolution=resolution)
    if noise:
        inside = m.values[m.values > 0.1 * m.max].std()
        rough = rng.normal(0, noise * inside, m.shape).astype(np.float32)
        m = nb.DensityMap(m.values + rough, grid).filter(low=resolution)
    return nb.DensityMap(m.values, grid, resolution=resolution), axis, point


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 1.0, 3.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    rows = []
    for name in options.cases:
        if name == "tmv" and "CRYONB_DATA" not in os.environ:
            print("tmv is left out: CRYONB_DATA names no folder")
            continue
        for noise in options.noise:
            for seed in options.seeds:
                m, axis, point = helix(name, seed=seed, noise=noise)
                start = time.process_time()
                found = m.find_symmetry(progress=False)
                row = {"case": name, "noise": noise, "seed": seed, "found": found.name}
                row |= {"seconds": time.process_time() - start, "score": found.score}
                if found.name.startswith("H"):
                    off = found.centre - point
                    off -= axis * (axis @ off)
                    twist, rise, order = CASES[name][:3]
                    turn = (found.twist - twist + 180 / order) % (360 / order) - 180 / order
                    row |= {"twist": turn, "rise": found.rise - rise}
                    tilt = np.linalg.norm(np.cross(found.axis, axis))
                    row |= {"tilt": np.degrees(np.arcsin(min(tilt, 1))), "off": np.hypot(*off[:2])}
                    row["off"] = float(np.linalg.norm(off))
                rows.append(row)
                print(pd.DataFrame([row]).round(4).to_string(index=False, header=len(rows) == 1))


if __name__ == "__main__":
    main()
