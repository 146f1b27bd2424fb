"""Recommended contour levels of real maps, against their models.

    python benchmarks/bench_contour.py

For each map of CRYONB_DATA with a model: the level in standard deviations, the part of the model's
backbone atoms above it, and the volume within it over the molecular volume (1.21 Å³ a dalton). The
levels that the authors recommend are not among the data.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from cryonb import Atoms, open_map, open_model
from cryonb.errors import CryonbWarning
from cryonb.process.contour import VOLUME_PER_DALTON, contour_level, molecular_mass


def levels() -> pd.DataFrame:
    """A row a map."""
    warnings.simplefilter("ignore", CryonbWarning)
    folder = Path(os.environ["CRYONB_DATA"]) / "maps"
    index = pd.read_csv(folder / "INDEX.csv").dropna(subset="model")
    rows = []
    for _, row in index.iterrows():
        m = open_map(folder / row["map"])
        model = open_model(folder / row["model"])
        atoms = Atoms.from_structure(model)
        at = m.sample(atoms.position[atoms.backbone])
        found = contour_level(m)
        rows.append(
            {
                "map": row["map"].split(".")[0], "resolution": row["resolution"],
                "level": found.level, "sigma": found.sigma,
                "backbone": np.mean(at[np.isfinite(at)] >= found.level),
                "volume": found.volume / (1000 * VOLUME_PER_DALTON * molecular_mass(model)),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def main():
    table = levels()
    print(table.round(3).to_string(index=False))
    print(table[["sigma", "backbone", "volume"]].median().round(2).to_string())


if __name__ == "__main__":
    main()
