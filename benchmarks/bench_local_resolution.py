"""Local resolution: errors against a known truth; speed beside cctbx is in bench_map_tools.py.

    python benchmarks/bench_local_resolution.py [--structure FILE]

Four copies of a protein (by default EMD-20026's chain from the structures of CRYONB_DATA)
with B of 10, 60, 140 and 300 Å² beside one another in white noise. Each copy's own resolution is
where its power within a soft mask around it falls to 0.143 of that and the noise's; the table has
the medians of local resolution at its atoms beside it.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.process.fourier_shells import Shells, transform
from cryonb.process.local_resolution import local_resolution
from cryonb.process.mask import model_mask
from cryonb.simulate.fourier import fourier_map


def truth(structure):
    atoms = Atoms.from_structure(nb.open_model(structure))
    at = atoms.position - atoms.position.mean(axis=0)
    size = np.ptp(at, axis=0)
    step = np.eye(3)[size.argmin()] * (size.min() + 16)
    copies = [replace(atoms, position=at + k * step) for k in range(4)]
    grid = nb.Grid.around(np.concatenate([part.position for part in copies]), 1.0, 10.0)
    maps = [
        fourier_map(replace(part, b_iso=np.full(len(at), 20.0)), grid, resolution=2.0, b_add=b)
        for part, b in zip(copies, (10, 60, 140, 300), strict=True)
    ]
    total = sum(m.values for m in maps)
    shells, rng = Shells(grid), np.random.default_rng(0)
    print("noise  method     d of each copy, in its place | error of the whole (mean, largest)")
    for level in (0.3, 1.0, 3.0):
        noise = level * total.std()
        halves = [nb.Volume(total + rng.normal(0, noise, grid.shape), grid) for _ in range(2)]
        known = []
        for part, m in zip(copies, maps, strict=True):
            mask = model_mask(part, grid, radius=3.0, soft_edge=4.0)
            signal = shells.power(transform(m, mask))
            fsc = signal / (signal + noise**2 * np.square(mask.values, dtype=float).sum())
            low = fsc < 0.143
            known.append(1 / shells.s[low.argmax()] if low.any() else 2.0)
        known = np.array(known)
        print(f"{level:5.1f}  known      {' '.join(f'{d:5.2f}' for d in known)}")
        for method in ("fsc", "bandpass"):
            found = local_resolution(*halves, method=method)
            d = np.array([np.median(found.sample(part.position)) for part in copies])
            off = np.abs(d / known - 1)
            print(
                f"{level:5.1f}  {method:9s}  {' '.join(f'{x:5.2f}' for x in d)} | "
                f"{off.mean():.1%}, {off.max():.1%}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--structure", help="model for the copies")
    options = parser.parse_args()
    data = Path(os.environ["CRYONB_DATA"])
    truth(options.structure or data / "structures" / "pool_protein" / "4oyn_A.pdb.gz")


if __name__ == "__main__":
    main()
