"""One map, one method: everything that can be measured, as a row of a table."""

from __future__ import annotations

import time
import warnings

import numpy as np

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.evaluate.emap2sec import emap2sec_scores
from cryonb.evaluate.secondary_structure import evaluate_sse
from cryonb.files.model import read_model
from cryonb.files.mrc import read_map
from cryonb.label.emap2sec import ORDER
from cryonb.predict.emap2sec import window_grid
from cryonb.predict.secondary_structure import emap2sec_windows, predict_sse
from cryonb.simulate.gaussian import gaussian_map
from cryonb.volume import CLASSES, ProbabilityVolume

__all__ = ["judge", "with_background_as_coil"]

#: Scores of Emap2sec's paper that a row has, under "window_<name>".
_WINDOW_SCORES = ("q3", "f1", "accuracy", "relaxed_f1", "relaxed_accuracy", "segments_helix",
                  "segments_strand", "segments")  # fmt: skip


def judge(case: dict, method: str, *, device: str | None = None) -> dict:
    """Predict one map by one method and compare with its model.

    Parameters
    ----------
    case : dict
        model : path; map : path, or nothing for a map simulated from the model (a Gaussian on each
        atom, as ChimeraX's molmap) at resolution; and whatever should stand in the row: name,
        resolution (Å), group. contour : Emap2sec's contour level, if it is known.
    method : str
        Weights, as for `predict_sse`.
    device : str, optional
        Where torch computes.

    Returns
    -------
    dict
        The entries of the case, method, seconds (of the prediction, reading and judging left
        out), the keys of `evaluate_sse`'s summary, n_protein (residues that q3 is over), those of
        Emap2sec's paper as window_* (for every method from the classes at points about 2 Å apart),
        and for Emap2sec window_q3_one and window_f1_one, those of its first phase.
    """
    from cryonb.networks.weights import load_module

    model = Atoms.from_structure(read_model(case["model"]))
    path, resolution = case.get("map"), case.get("resolution")
    if isinstance(path, str) and path:
        volume = read_map(path)
    elif resolution:
        volume = gaussian_map(model, resolution=float(resolution))
    else:
        raise CryonbError(
            f"A map, or a resolution to simulate one at, was expected for {case['model']}."
        )
    row = {key: value for key, value in case.items() if key not in ("map", "model")}
    row["method"] = method
    module, about = load_module(method, device=device, resolution=resolution)
    contour = case.get("contour")
    if contour is None and "contour" in about and not path:
        # Simulated maps have no noise; the share of the maximum that training had is the level.
        contour = about["contour"] * volume.max
    begin = time.perf_counter()
    one = None
    if about["architecture"] == "emap2sec":
        # The paper's rule for maps of experiments.
        rule = {"keep_structure": bool(path)}
        windows = emap2sec_windows(
            volume, module, about, contour=contour, resolution=resolution, progress=False, **rule
        )
        row["seconds"] = time.perf_counter() - begin
        found, points, label = windows.volume(), windows.points, windows.class_two
        one = windows.label_one
    else:
        found = predict_sse(volume, method=method, device=device, on="network", progress=False)
        row["seconds"] = time.perf_counter() - begin
        if about["architecture"] == "haruspex":
            found = with_background_as_coil(found)
        points, label = _on_strides(found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judged = evaluate_sse(found, model, density=volume)
    row |= judged.summary.to_dict()
    protein = judged.residues["truth"].isin(["helix", "strand", "coil"])
    row["n_protein"] = int(protein.sum())
    row |= _window_scores(model, points, label)
    if one is not None:
        scores = _window_scores(model, points, one)
        row |= {f"{key}_one": scores[key] for key in ("window_q3", "window_f1") if key in scores}
    return row


def with_background_as_coil(probabilities: ProbabilityVolume) -> ProbabilityVolume:
    """Give what Haruspex leaves unassigned to coil, which it does not know.

    Without this its coil would count as missed wherever it is right.

    Parameters
    ----------
    probabilities : ProbabilityVolume
        With the classes of cryonb.

    Returns
    -------
    ProbabilityVolume
        Of the same kind; background is zero everywhere, so voxels of solvent are coil, too.
    """
    values = probabilities.values.copy()
    coil, background = CLASSES.index("coil"), CLASSES.index("background")
    values[coil] += values[background]
    values[background] = 0
    return probabilities.replace(values, note="background counted as coil")


def _on_strides(probabilities: ProbabilityVolume) -> tuple[np.ndarray, np.ndarray]:
    """Read classes in the original's order at points about 2 Å apart."""
    step = max(round(2 / probabilities.voxel_size[0]), 1)
    grid = window_grid(probabilities.grid, step)
    part = probabilities.values[:, ::step, ::step, ::step]
    columns = [CLASSES.index(name) for name in ORDER]
    label = part[columns].argmax(axis=0).ravel()
    points = grid.to_points(np.argwhere(np.ones(grid.shape, dtype=bool)))
    return points, label


def _window_scores(model, points, label) -> dict[str, float]:
    if not (model.name == "CA").any():
        return {}
    scores = emap2sec_scores(model, points, label)
    return {f"window_{key}": scores[key] for key in _WINDOW_SCORES}
