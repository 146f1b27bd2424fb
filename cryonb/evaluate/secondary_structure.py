"""A prediction of secondary structure, judged by a model: residues, segments, voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cryonb.atoms import KIND_NUCLEIC, KIND_PROTEIN, Atoms
from cryonb.evaluate.calibration import calibration
from cryonb.evaluate.haruspex import residue_counts
from cryonb.files.tables import write_tables
from cryonb.grid import no_overlap
from cryonb.label.secondary_structure import SecondaryStructure, secondary_structure
from cryonb.label.voxels import label_volume
from cryonb.volume import CLASSES, ProbabilityVolume, Volume

__all__ = ["SUMMARY_KEYS", "Evaluation", "evaluate_sse"]

#: Keys of `Evaluation.summary`, in order.
SUMMARY_KEYS = (
    "q3", "f1_helix", "f1_strand", "f1_coil", "f1_nucleotide",
    "voxel_f1_helix", "voxel_f1_strand", "voxel_f1_coil", "voxel_f1_nucleotide", "voxel_accuracy",
    "haruspex_precision", "haruspex_recall", "haruspex_f1", "n_residues",
)  # fmt: skip
_STRUCTURE = CLASSES[1:]


@dataclass(frozen=True)
class Evaluation:
    """A prediction judged by a model.

    Attributes
    ----------
    summary : pandas.Series
        The scores, see `evaluate_sse`.
    residues : pandas.DataFrame
        A row a residue: chain, number, icode, name, dssp, truth, predicted, correct, density (in
        r.m.s.d., where a density was given), x, y, z (middle of its backbone in Å) and the mean
        probability of each class.
    segments : pandas.DataFrame
        A row a stretch of one class: chain, first, last, state, length, recovered (share of its
        residues predicted right), found (at least half).
    """

    summary: pd.Series
    residues: pd.DataFrame
    segments: pd.DataFrame

    def worst(self, n: int = 10) -> pd.DataFrame:
        """Give the stretches of a chain in which the prediction errs most.

        Parameters
        ----------
        n : int
            How many at most.

        Returns
        -------
        DataFrame
            A row a stretch of wrong residues, the worst first: chain, first, last (numbers),
            length, truth and predicted (the most frequent), deficit (sum over its residues of what
            the probability of the truth lacks to one), row (of its middle in `residues`).
        """
        table = self.residues
        lacking = (
            1
            - table[list(CLASSES)].to_numpy()[
                np.arange(len(table)), table["truth"].map(CLASSES.index)
            ]
        )
        new = (table["correct"] != table["correct"].shift()) | (
            table["chain"] != table["chain"].shift()
        )
        rows = []
        for _, part in table[~table["correct"]].groupby(new.cumsum()[~table["correct"]]):
            rows.append(
                {
                    "chain": part["chain"].iloc[0],
                    "first": part["number"].iloc[0],
                    "last": part["number"].iloc[-1],
                    "length": len(part),
                    "truth": part["truth"].mode()[0],
                    "predicted": part["predicted"].mode()[0],
                    "deficit": lacking[part.index].sum(),
                    "row": part.index[len(part) // 2],
                }
            )
        columns = ["chain", "first", "last", "length", "truth", "predicted", "deficit", "row"]
        worst = pd.DataFrame(rows, columns=columns).sort_values("deficit", ascending=False)
        return worst.head(n).reset_index(drop=True)

    def calibration(self, *, bins: int = 10) -> pd.DataFrame:
        """Compare how sure the prediction of residues is with how often it is right.

        See `cryonb.evaluate.calibration.calibration`.
        """
        truth = self.residues["truth"].map(CLASSES.index).to_numpy()
        return calibration(truth, self.residues[list(CLASSES)], bins=bins)

    def save(self, folder) -> Path:
        """Write summary.csv, residues.csv and segments.csv into a folder, and give the folder."""
        return write_tables(
            folder, summary=self.summary, residues=self.residues, segments=self.segments
        )

    def _repr_html_(self) -> str:
        table = self.summary.to_frame("value").map(lambda value: f"{value:.3f}")
        table.loc["n_residues"] = f"{self.summary['n_residues']:.0f}"
        return table.to_html()


def _f1(truth: np.ndarray, found: np.ndarray, name) -> float:
    """F1 of one class; NaN where it neither occurs nor is predicted."""
    total = (truth == name).sum() + (found == name).sum()
    return float(2 * ((truth == name) & (found == name)).sum() / total) if total else np.nan


def evaluate_sse(
    probabilities: ProbabilityVolume, model, *, density: Volume | None = None, radius: float = 3.0
) -> Evaluation:
    """Judge a prediction by a model.

    Parameters
    ----------
    probabilities : ProbabilityVolume
        The prediction.
    model : gemmi.Structure or Atoms
        The model, in the frame of the map; DSSP on it is the truth.
    density : Volume, optional
        The map, for the scores of Haruspex, which count only residues with density.
    radius : float
        Voxels are labelled within this distance of the backbone, in Å.

    Returns
    -------
    Evaluation
        `summary` has the keys `SUMMARY_KEYS`:

        * q3: share of protein residues whose class is right. A residue's class is the class with
          the largest mean probability over its backbone atoms, of all five: a residue that is
          called background is wrong.
        * f1_*: F1 of each class over protein and nucleic residues.
        * voxel_f1_*, voxel_accuracy: over the voxels within `radius` of a backbone atom (of any
          atom of a nucleotide), truth being the class of the nearest one; other voxels do not
          count, since a model rarely covers all that is in a map.
        * haruspex_*: as Mostosi et al. (2020) count residues, see
          `cryonb.evaluate.haruspex.residue_counts`. NaN without `density`.
        * n_residues: residues that count, i.e. with backbone inside the map.

        A score is NaN where its class neither occurs nor is predicted.

    Raises
    ------
    MapModelMismatchError
        If no backbone atom lies inside the map.
    ModelError
        If the model lacks its backbone.
    """
    atoms = Atoms.from_structure(model)
    structure = secondary_structure(atoms)
    polymer = np.isin(structure.residues.kind, [KIND_PROTEIN, KIND_NUCLEIC])
    backbone = atoms.backbone & polymer[atoms.residue]
    at, owner = atoms.position[backbone], atoms.residue[backbone]
    read = probabilities.sample(at)
    inside = ~np.isnan(read[:, 0])
    if not inside.any():
        raise no_overlap(probabilities.grid, atoms.lower, atoms.upper)
    n = len(structure)
    count = np.bincount(owner[inside], minlength=n)
    means = (
        np.stack(
            [np.bincount(owner[inside], read[inside, k], n) for k in range(len(CLASSES))], axis=1
        )
        / np.maximum(count, 1)[:, None]
    )
    rows = np.flatnonzero(polymer & (count > 0))
    names = np.array(CLASSES)
    residues = structure.to_frame().rename(columns={"state": "truth"}).iloc[rows]
    residues = residues.assign(predicted=names[means[rows].argmax(axis=1)])
    residues["correct"] = residues["truth"] == residues["predicted"]
    residues["density"] = np.nan
    if density is not None:
        read_density = density.sample(at)
        good = ~np.isnan(read_density)
        total = np.bincount(owner[good], read_density[good], n)
        mean_density = total / np.maximum(np.bincount(owner[good], minlength=n), 1)
        residues["density"] = mean_density[rows] / density.std
    atoms_each = np.maximum(np.bincount(owner, minlength=n), 1)
    for axis, letter in enumerate("xyz"):
        residues[letter] = (np.bincount(owner, at[:, axis], n) / atoms_each)[rows]
    for k, name in enumerate(CLASSES):
        residues[name] = means[rows, k]
    segments = _segments(structure, residues["correct"], rows)
    scores = _residue_scores(residues, structure.residues.kind[rows] == KIND_PROTEIN)
    scores |= _voxel_scores(probabilities, atoms, structure, radius)
    scores |= _haruspex_scores(residues)
    scores["n_residues"] = float(len(rows))
    summary = pd.Series({key: scores[key] for key in SUMMARY_KEYS}, dtype=float)
    return Evaluation(summary, residues.reset_index(drop=True), segments)


def _residue_scores(residues: pd.DataFrame, protein: np.ndarray) -> dict[str, float]:
    truth, found = residues["truth"].to_numpy(), residues["predicted"].to_numpy()
    correct = residues["correct"].to_numpy()
    scores = {"q3": float(correct[protein].mean()) if protein.any() else np.nan}
    return scores | {f"f1_{name}": _f1(truth, found, name) for name in _STRUCTURE}


def _voxel_scores(probabilities, atoms, structure, radius) -> dict[str, float]:
    truth = label_volume(atoms, probabilities.grid, radius=radius, secondary=structure).values
    known = truth > 0
    truth, found = truth[known], probabilities.labels().values[known]
    scores = {f"voxel_f1_{name}": _f1(truth, found, k) for k, name in enumerate(CLASSES) if k}
    return scores | {"voxel_accuracy": float((truth == found).mean()) if truth.size else np.nan}


def _haruspex_scores(residues: pd.DataFrame) -> dict[str, float]:
    counts = residue_counts(residues["truth"], residues["predicted"], residues["density"])
    # Without a density nothing is counted, and all three are NaN.
    return {f"haruspex_{key}": getattr(counts, key) for key in ("precision", "recall", "f1")}


def _segments(structure: SecondaryStructure, correct: pd.Series, rows) -> pd.DataFrame:
    """Add to each stretch the share of its residues inside the map that is right."""
    table = structure.segments()
    right = np.zeros(len(structure))
    counted = np.zeros(len(structure))
    right[rows], counted[rows] = correct, 1
    totals = [np.concatenate([[0], np.cumsum(values)]) for values in (right, counted)]
    start, stop = table["start"].to_numpy(), table["stop"].to_numpy()
    good, known = (total[stop] - total[start] for total in totals)
    table = table.drop(columns=["start", "stop"])
    table["recovered"] = np.where(known > 0, good / np.maximum(known, 1), np.nan)
    table["found"] = table["recovered"] >= 0.5
    return table[known > 0].reset_index(drop=True)
