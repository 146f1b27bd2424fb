"""How far simulated training maps are from measured ones, statistic by statistic.

    python benchmarks/bench_realism.py [--rows FILE] [--crops 6] [--draws 40] [--recipe FILE]

Measured: crops of 64 voxels of 1 Å, around random atoms, of the maps of CRYONB_DATA with a protein
model. Simulated: crops of the same models, measured as `cryonb.train.samples` does, at the map's
resolution, with the belts and the fading of the recipe. Each crop gives a row of statistics;
densities are parts of `density_scale`. Printed are, for each statistic, the medians of both, where
the measured crops of a map lie among its simulated ones (mean over maps of the quantile; 0.5 is the
middle), and how far from the middle they lie on the average over maps (0: as expected of the same
distribution, half; 1: always beyond). At the end, how well a forest of trees that has seen the
other maps tells measured crops from simulated ones (area under the curve; 0.5: not at all), and
what it looks at.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_real_maps import GROUPS
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from cryonb.atoms import PROTEIN_BACKBONE, ROLES
from cryonb.files.mrc import read_map
from cryonb.process.level import density_scale
from cryonb.process.resample import resample
from cryonb.simulate.experiment import Experiment, observe
from cryonb.simulate.structure_factors import frequencies, structure_factors
from cryonb.train.kinds import UNetRecipe
from cryonb.train.library import build_library
from cryonb.train.recipe import Recipe
from cryonb.train.samples import Scenes

BOX = 64
NOT_STATISTICS = ("map", "real", "resolution")


def statistics(density: np.ndarray, atoms: dict, resolution: float, coefficients) -> dict:
    """Describe one crop; positions of the atoms are (z, y, x) in Å from its first voxel."""
    density = density / (density_scale(density) or 1.0)
    position = atoms["position"]
    inside = ((position > 1) & (position < BOX - 2)).all(axis=1)
    position, role, acid = position[inside], atoms["role"][inside], atoms["acid"][inside]
    at = map_coordinates(density, position.T, order=1)
    alpha, main = role == ROLES.index("CA"), np.isin(role, PROTEIN_BACKBONE)
    oxygen = role == ROLES.index("O")
    size = (1.0,) * 3
    s = torch.sqrt(frequencies((BOX,) * 3, size, torch.device("cpu")))
    power = torch.fft.rfftn(torch.from_numpy(np.ascontiguousarray(density))).abs().square()

    def level(coarse, fine):
        shell = (s > 1 / coarse) & (s <= 1 / fine)
        return float(torch.log(power[shell].mean() + 1e-9))

    d = resolution
    a, b = coefficients
    near = ((atoms["position"] > -8) & (atoms["position"] < BOX + 8)).all(axis=1)
    some = atoms["element"][near]
    clean = structure_factors(
        torch.from_numpy(np.ascontiguousarray(atoms["position"][near], dtype=np.float32)),
        torch.from_numpy(a[some].astype(np.float32)),
        torch.from_numpy((b[some] + 20).astype(np.float32)), (BOX,) * 3, size, widths=10,
    )[0]  # fmt: skip
    clean = observe(clean, (BOX,) * 3, size, Experiment(d), np.random.default_rng(0)).numpy()
    voxels = np.stack(np.meshgrid(*(np.arange(BOX),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    away, _ = cKDTree(atoms["position"][near]).query(voxels, distance_upper_bound=12)
    flat, kept = density.ravel(), density.ravel() != 0
    close, halo, far = away < 2, (away > 3.5) & (away < 6) & kept, (away > 8) & kept
    local = cKDTree(position[alpha]).query_ball_point(position[alpha], 8)
    mean = np.array([at[alpha][group].mean() for group in local])
    found = {
        "zeros": (~kept).mean(),
        "slope_low": level(20, 10) - level(8, 5),
        "slope_high": level(6, 5) - level(max(d * 1.25, 2.2), max(d, 2.0)) if d < 4.4 else np.nan,
        "beyond": level(d * 1.25, d) - level(d * 0.85, max(d * 0.7, 1.7)) if d > 2.4 else np.nan,
        "at_alpha": at[alpha].mean(),
        "spread_alpha": at[alpha].std() / at[alpha].mean(),
        "spread_local": mean.std() / mean.mean(),
        "weak_alpha": (at[alpha] < 0.3 * np.median(at[alpha])).mean(),
        "oxygen_to_alpha": at[oxygen].mean() / at[alpha].mean(),
        "side_to_main": at[~main].mean() / at[main].mean(),
        "acid_to_side": at[acid].mean() / at[~main].mean() if acid.sum() > 10 else np.nan,
        "halo": flat[halo].mean() if halo.sum() > 100 else np.nan,
        "far_mean": flat[far].mean() if far.sum() > 1000 else np.nan,
        "far_deviation": flat[far].std() if far.sum() > 1000 else np.nan,
        "cc": np.corrcoef(flat[away < 3], clean.ravel()[away < 3])[0, 1],
        "skewness": pd.Series(flat[close]).skew(),
        "peak": np.quantile(flat, 0.9999),
    }
    return {key: float(value) for key, value in found.items()}


def measured(volume, atoms, count: int, rng):
    """Give crops of a measured map around random backbone atoms."""
    index = volume.grid.to_index(atoms["position"])
    marks = np.flatnonzero(atoms["label"] != 255)
    padded = np.pad(volume.values, BOX)
    for _ in range(count):
        centre = index[rng.choice(marks)] + rng.normal(0, 6, 3)
        start = np.rint(centre - BOX / 2).astype(int)
        take = tuple(slice(k + BOX, k + 2 * BOX) for k in start)
        if all(k + BOX >= 0 and k + 2 * BOX <= n for k, n in zip(start, padded.shape, strict=True)):
            yield padded[take], atoms | {"position": index - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--crops", type=int, default=6, help="of a measured map")
    parser.add_argument("--draws", type=int, default=40, help="simulated crops a map")
    parser.add_argument("--recipe", help="whose shares of belts, weak side chains, ... to take")
    options = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of maps and models")
    warnings.simplefilter("ignore")
    recipe = Recipe.read(options.recipe) if options.recipe else UNetRecipe()
    shares = {key: getattr(recipe, key) for key in ("belts", "faded", "overstated")}
    folder = Path(os.environ["CRYONB_DATA"]) / "maps"
    index = pd.read_csv(folder / "INDEX.csv", dtype={"resolution": str}).dropna(subset=["model"])
    if options.rows and options.rows.is_file():
        rows = pd.read_csv(options.rows)
    else:
        found = []
        for entry in index.itertuples():
            d = float(entry.resolution.strip("~?"))
            if not any(entry.map in names for names in GROUPS):
                continue
            library = build_library(folder, [entry.model], progress=False)
            atoms = library.part(0)
            rng = np.random.default_rng(1)
            volume = resample(read_map(folder / entry.map), 1.0)
            about = {"map": entry.map, "resolution": d}
            for density, part in measured(volume, atoms, options.crops, rng):
                try:
                    row = statistics(density, part, d, library.coefficients)
                except ValueError:
                    continue
                found.append(about | {"real": True} | row)
            scenes = Scenes(
                library, [1.0], seed=1, edge=BOX - 16, measured=4, finest=d, coarsest=d, **shares
            )
            for number in range(-(-options.draws // 4)):
                for _, density, part, _ in scenes.measurements(number):
                    try:
                        row = statistics(density, part, d, library.coefficients)
                    except ValueError:
                        continue
                    found.append(about | {"real": False} | row)
            print(entry.map, len(found), flush=True)
        rows = pd.DataFrame(found)
        if options.rows:
            rows.to_csv(options.rows, index=False)
    names = [name for name in rows.columns if name not in NOT_STATISTICS]
    table = []
    for name in names:
        place = []
        for _, part in rows.groupby("map"):
            real, made = part[part.real][name].dropna(), part[~part.real][name].dropna()
            if len(real) and len(made) > 5:
                place.append((made.to_numpy()[None] < real.to_numpy()[:, None]).mean())
        real, made = rows[rows.real][name], rows[~rows.real][name]
        off = np.abs(np.array(place) - 0.5) * 2
        table.append(
            {"statistic": name, "measured": real.median(), "simulated": made.median(),
             "maps": len(place), "quantile": np.mean(place), "off": off.mean(),
             "beyond 0.9": (off > 0.8).mean()}
        )  # fmt: skip
    print(pd.DataFrame(table).sort_values("off", ascending=False).round(3).to_string(index=False))
    told(rows, names)


def told(rows: pd.DataFrame, names) -> None:
    """Print how well a forest tells measured crops of maps that it has not seen."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    x = rows[["resolution", *names]].fillna(-9).to_numpy()
    y, weight = rows["real"].to_numpy(), np.zeros(len(names) + 1)
    area = []
    for group in GROUPS:
        left = rows["map"].isin(group).to_numpy()
        forest = RandomForestClassifier(300, class_weight="balanced", random_state=0)
        forest.fit(x[~left], y[~left])
        area.append(roc_auc_score(y[left], forest.predict_proba(x[left])[:, 1]))
        weight += forest.feature_importances_ / len(GROUPS)
    print(
        "area under the curve, group by group:", np.round(area, 3), "mean", np.mean(area).round(3)
    )
    print(pd.Series(weight, ["resolution", *names]).sort_values(ascending=False).round(3).to_dict())


if __name__ == "__main__":
    main()
