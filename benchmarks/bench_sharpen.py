"""Automatic sharpening: gain against a known truth.

    python benchmarks/bench_sharpen.py

Simulated maps of proteins with a decay and noise; the correlation with the map of the model itself
at the same resolution, before and after. Speed and choice beside cctbx: bench_map_tools.py.
"""

import os
from pathlib import Path

import numpy as np

import cryonb as nb
from cryonb.simulate.fourier import fourier_map

STRUCTURES = ("4oyn_A", "1a28_B", "1a8o_A")


def against_truth(data):
    rng = np.random.default_rng(3)
    print(
        "model  d (Å)  added B  noise | correlation with the model's map: before, surface, halves"
    )
    for name in STRUCTURES:
        model = nb.open_model(data / "structures" / "pool_protein" / f"{name}.pdb.gz")
        for d, b, noise in ((3.0, 100.0, 0.3), (4.0, 200.0, 0.3), (3.0, 100.0, 1.0)):
            # Atoms at rest but for 20 Å²: what is left when the decay is taken away.
            for site in model[0].all():
                site.atom.b_iso = 20.0
            truth = fourier_map(model, resolution=d)
            dull = fourier_map(model, truth.grid, resolution=d, b_add=b)
            level = noise * dull.std
            halves = nb.half_maps(
                *(dull.replace(dull.values + rng.normal(0, level, dull.shape)) for _ in range(2))
            )
            mean = halves.mean
            maps = (mean, mean.sharpen(resolution=d), halves.sharpen())
            found = [np.corrcoef(m.values.ravel(), truth.values.ravel())[0, 1] for m in maps]
            print(f"{name}  {d:.1f}  {b:6.0f}  {noise:5.1f} | "
                  + "  ".join(f"{x:.3f}" for x in found), flush=True)  # fmt: skip


if __name__ == "__main__":
    against_truth(Path(os.environ["CRYONB_DATA"]))
