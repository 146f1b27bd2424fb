"""Training of the classifiers of residue types and chain directions, on simulated maps.

    python -m cryonb.trace.residue_training FOLDER WORK

FOLDER holds structures and their INDEX.csv. Rows of density go to WORK, a file a map, so that a run
that was cut off goes on; then the classifiers are fitted to them and written beside this module,
with residue_types.json and a manifest of the maps. The test part of `cryonb.train.library.split` is
not read.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from tqdm.auto import tqdm

from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.files.atomic import written_beside
from cryonb.files.model import read_model
from cryonb.grid import Grid
from cryonb.simulate.experiment import Experiment, experimental_map
from cryonb.trace.known import REAL_MAPS
from cryonb.trace.residue_frames import half_ball, read_frames, side_lattice
from cryonb.trace.residue_types import FILE, features

__all__ = ["MANIFEST", "draw_experiment", "fit", "make_rows", "planned"]

#: The maps that the stored classifiers were made from.
MANIFEST = FILE.with_name("residue_types_manifest.csv")
#: Resolutions in Å, and most residues of a structure.
_FINEST, _COARSEST, _LONGEST = 1.7, 4.4, 350
#: Å: errors of Cα positions, of whole backbones and of traces.
_JITTER = {True: 0.12, False: 0.25}
_SEED = 7
_HIDDEN, _EPOCHS, _DECAY = 128, 16, 3e-3


def draw_experiment(rng: np.random.Generator) -> Experiment:
    """Draw the conditions of a map; one in five is a plain Fourier map."""
    drawn = Experiment.draw(rng, finest=_FINEST, coarsest=_COARSEST)
    if rng.random() < 0.2:
        return Experiment(resolution=drawn.resolution, edge=0.02)
    mask = "zone" if drawn.mask == "zone" else "none"
    return replace(drawn, gaussian=False, mask=mask, mask_radius=max(drawn.mask_radius, 3.5))


def make_rows(model, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Simulate a map of a model, and read the density around its residues.

    Returns
    -------
    dict
        resolution; backbone and trace (n, m): density at the two lattices; direction (n, h): what a
        half turn changes; type (n,): places in `AMINO_ACIDS`, -1 for none; and the rows (n,) within
        each kind.
    """
    atoms = loosen(Atoms.from_structure(model), rng)
    experiment = draw_experiment(rng)
    voxel = float(rng.uniform(0.6, min(1.25, experiment.resolution / 2.1)))
    grid = Grid.around(atoms.position, voxel, 9.0)
    volume = experimental_map(atoms, grid, experiment=experiment, rng=rng)
    rows = {"resolution": np.float32(experiment.resolution)}
    for backbone in (True, False):
        # A residue moves as a whole, by an error that its neighbours do not share.
        error = rng.normal(0, _JITTER[backbone], (len(atoms.residues), 3))
        moved = atoms.moved_to(atoms.position + error[atoms.residue])
        frames = read_frames(moved, backbone=backbone)
        known = frames.known
        key = "backbone" if backbone else "trace"
        rows[key] = frames.read(volume, side_lattice(backbone))[known].astype(np.float16)
        rows[f"{key}_type"] = residue_types(frames.names)[known]
        if not backbone:
            turned = frames.reversed().read(volume, half_ball())
            rows["direction"] = (frames.read(volume, half_ball()) - turned)[known].astype("f2")
    return rows


def loosen(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Make side chains as loose as maps from electrons show them: B grows outwards, acids fade."""
    if rng.random() < 0.25:
        return atoms
    alpha = np.full((len(atoms.residues), 3), np.nan)
    alpha[atoms.residue[atoms.name == "CA"]] = atoms.position[atoms.name == "CA"]
    away = np.nan_to_num(np.linalg.norm(atoms.position - alpha[atoms.residue], axis=1))
    own = rng.exponential(1.0, len(atoms.residues))[atoms.residue]
    side = (atoms.role == 0) & (atoms.name != "CB")
    b_iso = atoms.b_iso + np.where(side, rng.uniform(0, 10) * away + rng.uniform(0, 25) * own, 0)
    acid = np.isin(atoms.name, ("OD1", "OD2", "OE1", "OE2"))
    acid &= np.isin(atoms.residues.name[atoms.residue], ("ASP", "GLU"))
    occupancy = np.where(acid, rng.uniform(0, 1), 1) * atoms.occupancy
    return replace(atoms, b_iso=b_iso.astype("f4"), occupancy=occupancy.astype("f4"))


def residue_types(names) -> np.ndarray:
    """Places of residue names in `AMINO_ACIDS`, -1 for others; MSE is MET."""
    names = np.where(np.asarray(names) == "MSE", "MET", names)
    place = np.searchsorted(AMINO_ACIDS, names).clip(max=len(AMINO_ACIDS) - 1)
    return np.where(np.array(AMINO_ACIDS)[place] == names, place, -1)


def planned(folder: Path, maps: int) -> pd.DataFrame:
    """List the maps to make: file, part, pass and place, in an order that mixes all kinds.

    A longer list begins with a shorter one.
    """
    from cryonb.train.library import split

    index = pd.read_csv(folder / "INDEX.csv")
    part = split(index, exclude=REAL_MAPS)
    length = index.set_index("file")["n_residues"]
    names = [n for n in part.index if 40 <= length[n] <= _LONGEST and "nucleic" not in n]
    seen = ("train", "validation")
    rows, number = [], 0
    while len(rows) < maps:
        order = np.random.default_rng((_SEED, number)).permutation(len(names)).tolist()
        rows += [(names[k], part[names[k]], number, k) for k in order if part[names[k]] in seen]
        number += 1
    return pd.DataFrame(rows[:maps], columns=["file", "part", "pass", "place"])


def _rows_file(work: Path, row) -> Path:
    return work / f"{row.file.replace('/', '_')}_{row.number}.npz"


def make_all(folder: Path, work: Path, plan: pd.DataFrame) -> None:
    """Write the rows of all maps that are not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    for row in tqdm(plan.rename(columns={"pass": "number"}).itertuples(), total=len(plan)):
        path = _rows_file(work, row)
        if not path.exists():
            rng = np.random.default_rng((_SEED, row.number, row.place))
            rows = make_rows(read_model(folder / row.file), rng)
            with written_beside(path) as beside, beside.open("wb") as file:
                np.savez(file, **rows)


def read_rows(work: Path, plan: pd.DataFrame, part: str, kind: str):
    """Read what `make_all` wrote: features, targets and the resolution of each row."""
    columns = []
    for row in plan[plan["part"] == part].rename(columns={"pass": "number"}).itertuples():
        with np.load(_rows_file(work, row)) as stored:
            x = stored[kind].astype(np.float32)
            d = np.full(len(x), stored["resolution"])
            target = stored["trace_type" if kind == "direction" else f"{kind}_type"]
        columns.append((x, target, d))
    return tuple(np.concatenate(column) for column in zip(*columns, strict=True))


def fit(work: Path, plan: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Fit the classifiers to the rows.

    Returns
    -------
    weights : dict of ndarray
        What `cryonb.trace.residue_types` reads.
    report : dict
        Rows, accuracy and cross-entropy on the validation part, for each classifier.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    weights, report = {}, {}
    for kind in ("backbone", "trace"):
        x, target, d = read_rows(work, plan, "train", kind)
        known = target >= 0
        x, target = features(x, d)[known], target[known]
        mean, scale = x.mean(axis=0), x.std(axis=0)
        # All densities have one scale, so that what hardly varies stays small.
        scale[:-2] = scale[:-2].mean()
        network = MLPClassifier(
            (_HIDDEN,), alpha=_DECAY, batch_size=256, max_iter=_EPOCHS, random_state=_SEED,
            learning_rate_init=7e-4, n_iter_no_change=_EPOCHS,
        )  # fmt: skip
        with warnings.catch_warnings():
            # The number of epochs is a choice, not a failure.
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit((x - mean) / scale, target)
        weights |= {f"{kind}.mean": mean, f"{kind}.scale": scale}
        for number, (w, b) in enumerate(
            zip(network.coefs_, network.intercepts_, strict=True), start=1
        ):
            weights |= {f"{kind}.w{number}": w, f"{kind}.b{number}": b}
        weights["frequency"] = np.bincount(target, minlength=20) / len(target)
        x, target, d = read_rows(work, plan, "validation", kind)
        chance = network.predict_proba((features(x, d) - mean) / scale)
        right = chance.argmax(axis=1) == target
        entropy = -np.log(chance[np.arange(len(target)), target]).mean()
        report[kind] = _scores(right, cross_entropy=entropy)
    x, _, d = read_rows(work, plan, "train", "direction")
    x = _with_resolution(x, d)
    linear = LogisticRegression(C=0.01, fit_intercept=False, max_iter=100)
    linear.fit(np.vstack([x, -x]), np.repeat([1, 0], len(x)))
    weights["direction"] = linear.coef_[0]
    x, _, d = read_rows(work, plan, "validation", "direction")
    right = _with_resolution(x, d) @ linear.coef_[0] > 0
    report["direction"] = _scores(right)
    return weights, report


def _scores(right: np.ndarray, **others: float) -> dict[str, float]:
    found = {"accuracy": right.mean(), **others}
    return {"rows": len(right)} | {key: round(float(value), 4) for key, value in found.items()}


def _with_resolution(change, d):
    change = np.clip(change, -5, 5)
    return np.hstack([change, change * (d[:, None] - 3)])


def main() -> None:
    """Make rows, fit, and write the weights."""
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--maps", type=int, default=600, help="of both parts (%(default)s)")
    arguments = parser.parse_args()
    plan = planned(arguments.folder, arguments.maps)
    make_all(arguments.folder, arguments.work, plan)
    weights, report = fit(arguments.work, plan)
    small = {key: np.ascontiguousarray(value, dtype=np.float16) for key, value in weights.items()}
    with written_beside(FILE) as beside:
        save_file(small, beside)
    about = {
        "command": f"python -m cryonb.trace.residue_training FOLDER WORK --maps {arguments.maps}",
        "seed": _SEED,
        "validation": report,
    }
    with written_beside(FILE.with_suffix(".json")) as beside:
        beside.write_text(json.dumps(about, indent=1) + "\n")
    with written_beside(MANIFEST) as beside:
        plan[["file", "part", "pass"]].to_csv(beside, index=False)


if __name__ == "__main__":
    main()
