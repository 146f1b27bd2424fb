"""Training of the classifiers of residue types and chain directions, on simulated maps.

`cryonb train recipes/residue_types.toml` does it. Rows of density go to the folder of the run, a
file a map, so that a run that was cut off goes on; then the classifiers are fitted to them. The
test part of `cryonb.train.library.split` is not read. What the run wrote is copied beside this
module to ship it.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from tqdm.auto import tqdm

from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside
from cryonb.files.model import read_model
from cryonb.grid import Grid
from cryonb.simulate.experiment import Experiment, experimental_map
from cryonb.trace.residue_frames import half_ball, read_frames, side_lattice
from cryonb.trace.residue_types import features
from cryonb.train.kinds import ResidueTypesRecipe
from cryonb.train.recipe import Recipe

__all__ = ["draw_experiment", "fit", "make_rows", "planned", "train_residue_types"]

#: Settings that rows of density do not depend on; a longer list of maps begins with a shorter one.
_NOT_OF_ROWS = (
    "name", "data", "maps", "hidden", "epochs", "batch", "rate", "decay", "direction"
)  # fmt: skip


def draw_experiment(rng: np.random.Generator, recipe: ResidueTypesRecipe) -> Experiment:
    """Draw the conditions of a map; some are plain Fourier maps."""
    drawn = Experiment.draw(rng, finest=recipe.finest, coarsest=recipe.coarsest)
    if rng.random() < recipe.clean:
        return Experiment(resolution=drawn.resolution, edge=0.02)
    mask = "zone" if drawn.mask == "zone" else "none"
    return replace(drawn, gaussian=False, mask=mask, mask_radius=max(drawn.mask_radius, 3.5))


def make_rows(model, rng: np.random.Generator, recipe: ResidueTypesRecipe) -> dict[str, np.ndarray]:
    """Simulate a map of a model, and read the density around its residues.

    Returns
    -------
    dict
        resolution; backbone and trace (n, m): density at the two lattices; direction (n, h): what a
        half turn changes; type (n,): places in `AMINO_ACIDS`, -1 for none; and the rows (n,) within
        each kind.
    """
    atoms = loosen(Atoms.from_structure(model), rng)
    experiment = draw_experiment(rng, recipe)
    voxel = float(rng.uniform(0.6, min(1.25, experiment.resolution / 2.1)))
    grid = Grid.around(atoms.position, voxel, 9.0)
    volume = experimental_map(atoms, grid, experiment=experiment, rng=rng)
    rows = {"resolution": np.float32(experiment.resolution)}
    for backbone, jitter in ((True, recipe.jitter_backbone), (False, recipe.jitter_trace)):
        # A residue moves as a whole, by an error that its neighbours do not share.
        error = rng.normal(0, jitter, (len(atoms.residues), 3))
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


def planned(folder: Path, recipe: ResidueTypesRecipe) -> pd.DataFrame:
    """List the maps to make: file, part, pass and place, in an order that mixes all kinds.

    A longer list begins with a shorter one.

    Raises
    ------
    CryonbError
        If no structure of the folder is long and short enough.
    """
    from cryonb.train.library import split

    index = pd.read_csv(folder / "INDEX.csv")
    part = split(index, n_test=recipe.held_out, exclude=recipe.exclude)
    length = index.set_index("file")["n_residues"]
    least, most = recipe.shortest, recipe.longest
    names = [n for n in part.index if least <= length[n] <= most and "nucleic" not in n]
    seen = ("train", "validation")
    if not part[names].isin(seen).any():
        raise CryonbError(
            f"Structures of {least} to {most} residues were expected in {folder}, but none of the "
            f"{len(part)} there is one that may be trained on."
        )
    rows, number = [], 0
    while len(rows) < recipe.maps:
        order = np.random.default_rng((recipe.seed, number)).permutation(len(names)).tolist()
        rows += [(names[k], part[names[k]], number, k) for k in order if part[names[k]] in seen]
        number += 1
    return pd.DataFrame(rows[: recipe.maps], columns=["file", "part", "pass", "place"])


def _rows_file(work: Path, row) -> Path:
    return work / f"{row.file.replace('/', '_')}_{row.number}.npz"


def make_all(
    folder: Path, work: Path, plan: pd.DataFrame, recipe: ResidueTypesRecipe, *, progress: bool
) -> None:
    """Write the rows of all maps that are not there yet."""
    rows = plan.rename(columns={"pass": "number"}).itertuples()
    for row in tqdm(rows, total=len(plan), desc=recipe.name, disable=not progress):
        path = _rows_file(work, row)
        if not path.exists():
            rng = np.random.default_rng((recipe.seed, row.number, row.place))
            made = make_rows(read_model(folder / row.file), rng, recipe)
            with written_beside(path) as beside, beside.open("wb") as file:
                np.savez(file, **made)


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


def fit(
    work: Path, plan: pd.DataFrame, recipe: ResidueTypesRecipe
) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Fit the classifiers to the rows.

    Returns
    -------
    weights : dict of ndarray
        What `cryonb.trace.residue_types` reads.
    report : dict
        Rows, accuracy and cross-entropy on the validation part, for each classifier.

    Raises
    ------
    CryonbError
        If there are too few maps for a validation part, or for all amino acids.
    KeyboardInterrupt
        After Ctrl-C.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    for part in ("train", "validation"):
        if not (plan["part"] == part).any():
            raise CryonbError(
                f"Maps for training and for validation were expected, but of {len(plan)} none is "
                f"of the part {part!r}; make more `maps`."
            )
    weights, report = {}, {}
    for kind in ("backbone", "trace"):
        x, target, d = read_rows(work, plan, "train", kind)
        known = target >= 0
        x, target = features(x, d)[known], target[known]
        lacking = sorted(set(AMINO_ACIDS) - {AMINO_ACIDS[place] for place in target})
        if lacking:
            raise CryonbError(
                "Residues of all twenty amino acids were expected in the maps for training, but "
                f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not there; make more "
                "`maps`."
            )
        mean, scale = x.mean(axis=0), x.std(axis=0)
        # All densities have one scale, so that what hardly varies stays small.
        scale[:-2] = scale[:-2].mean()
        network = MLPClassifier(
            (recipe.hidden,), alpha=recipe.decay, batch_size=recipe.batch, max_iter=recipe.epochs,
            random_state=recipe.seed, learning_rate_init=recipe.rate,
            n_iter_no_change=recipe.epochs,
        )  # fmt: skip
        with warnings.catch_warnings():
            # The number of epochs is a choice, not a failure.
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit((x - mean) / scale, target)
        if network.n_iter_ < recipe.epochs:
            # scikit-learn makes a warning of Ctrl-C, and would hand out what is half learned.
            raise KeyboardInterrupt("stopped while fitting; the same command fits anew")
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
    linear = LogisticRegression(C=recipe.direction, fit_intercept=False, max_iter=100)
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


def train_residue_types(recipe, run=None, *, progress: bool = True) -> Path:
    """Train the classifiers of residue types and chain directions by a recipe.

    Parameters
    ----------
    recipe : path, dict or ResidueTypesRecipe
        A TOML file, or its entries.
    run : path, optional
        Folder of the run; `runs/<name>` by default. Maps whose rows are there are not made again.
    progress : bool
        Show a bar.

    Returns
    -------
    Path
        The weights (`.safetensors`); recipe, description, manifest and validation table lie beside
        them.

    Raises
    ------
    CryonbError
        If the recipe is of another architecture or the run of another recipe, there is no folder of
        structures, or they are too few.
    KeyboardInterrupt
        After Ctrl-C; the same call goes on from there.
    """
    import sklearn
    from safetensors.numpy import save

    from cryonb.networks.weights import write_weights
    from cryonb.train.stage import data_folder

    recipe = Recipe.given(recipe)
    if not isinstance(recipe, ResidueTypesRecipe):
        raise CryonbError(
            "A recipe of the architecture 'residue-types' was expected, but that of "
            f"{recipe.architecture!r} was given."
        )
    folder = data_folder(recipe) / "structures"
    run = recipe.folder(run)
    rows = run / "rows"
    _claim(rows, recipe)
    (run / f"{recipe.name}.toml").write_text(recipe.to_toml())
    plan = planned(folder, recipe)
    with written_beside(run / f"{recipe.name}_manifest.csv") as beside:
        plan[["file", "part", "pass"]].to_csv(beside, index=False)
    make_all(folder, rows, plan, recipe, progress=progress)
    weights, report = fit(rows, plan, recipe)
    small = {key: np.ascontiguousarray(value, dtype=np.float16) for key, value in weights.items()}
    with written_beside(run / f"{recipe.name}_validation.csv") as beside:
        pd.DataFrame.from_dict(report, orient="index").to_csv(beside, index_label="classifier")
    path = run / f"{recipe.name}.safetensors"
    description = {
        "architecture": recipe.architecture,
        "recipe": recipe.to_dict() | {"data": ""},
        "scikit-learn": sklearn.__version__,
        "validation": report,
        "parameters": sum(value.size for value in small.values()),
    }
    write_weights(save(small), path, description)
    return path


def _claim(rows: Path, recipe: ResidueTypesRecipe) -> None:
    """Make the folder of rows, or refuse one that another recipe filled."""
    stored = rows / "recipe.toml"
    if not stored.is_file():
        rows.mkdir(parents=True, exist_ok=True)
        stored.write_text(recipe.to_toml())
    before, now = Recipe.read(stored).to_dict(), recipe.to_dict()
    other = [key for key in now if key not in _NOT_OF_ROWS and before.get(key) != now[key]]
    if other:
        raise CryonbError(
            f"Maps by this recipe were expected in {rows}, but they were made with another "
            f"{', '.join(other)}; name another folder for the run, or remove that one."
        )
