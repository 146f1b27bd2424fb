"""Cα candidates, judged by a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cryonb.atoms import AMINO_ACIDS, KIND_PROTEIN, Atoms
from cryonb.errors import ModelError
from cryonb.files.tables import write_tables
from cryonb.graph.match import match_points
from cryonb.grid import Grid, no_overlap
from cryonb.trace.peaks import Peaks

__all__ = ["PeakEvaluation", "evaluate_peaks", "peak_curve"]


@dataclass(frozen=True)
class PeakEvaluation:
    """Cα candidates judged by a model.

    Attributes
    ----------
    summary : pandas.Series
        recall, precision, f1, rmsd (Å), type_accuracy, n_peaks, n_ca.
    residues : pandas.DataFrame
        A row a Cα: chain, number, icode, name, peak (its row, -1 for none), distance (Å, NaN for
        none) and type (the most probable amino acid at its peak, "" for none).
    """

    summary: pd.Series
    residues: pd.DataFrame

    def save(self, folder) -> Path:
        """Write summary.csv and residues.csv into a folder, and give the folder."""
        return write_tables(folder, summary=self.summary, residues=self.residues)

    def _repr_html_(self) -> str:
        return self.summary.to_frame("value").map(lambda value: f"{value:.4g}").to_html()


def evaluate_peaks(
    peaks: Peaks, model, *, radius: float = 2.0, matching: str = "greedy",
    grid: Grid | None = None,
) -> PeakEvaluation:  # fmt: skip
    """Judge Cα candidates by a model: one with one, within a radius.

    Parameters
    ----------
    peaks : Peaks
        The candidates.
    model : gemmi.Structure or Atoms
        The model, in the frame of the map.
    radius : float
        Å.
    matching : {"greedy", "optimal"}
        See `cryonb.graph.match.match_points`.
    grid : Grid, optional
        Cα atoms outside of it do not count. Candidates always do.

    Returns
    -------
    PeakEvaluation
        recall, precision: shares of Cα atoms and of candidates that have a partner; f1: their
        harmonic mean; rmsd: over pairs; type_accuracy: share of the pairs whose most probable
        amino acid is the model's, NaN where the candidates have no emissions. A score is NaN where
        there is nothing to count.

    Raises
    ------
    ModelError
        If the model has no Cα atom.
    MapModelMismatchError
        If none lies in the grid.
    """
    atoms = Atoms.from_structure(model)
    alpha = atoms.select((atoms.name == "CA") & (atoms.kind == KIND_PROTEIN))
    if not len(alpha):
        raise ModelError("A model with Cα atoms was expected, but it has none.")
    if grid is not None:
        inside = grid.contains(alpha.position)
        if not inside.any():
            raise no_overlap(grid, alpha.lower, alpha.upper)
        alpha = alpha.select(inside)
    found, distance = match_points(alpha.position, peaks.position, radius=radius, method=matching)
    paired = found >= 0
    of = alpha.residues
    table = pd.DataFrame(
        {key: getattr(of, key)[alpha.residue] for key in ("chain", "number", "icode", "name")}
    )
    kind = np.full(len(alpha), "", dtype=object)
    right = np.nan
    if peaks.emission.shape[1] and set(peaks.classes) <= set(AMINO_ACIDS):
        names = np.array(peaks.classes)
        kind[paired] = names[peaks.emission[found[paired]].argmax(axis=1)]
        if paired.any():
            right = float((kind[paired] == table["name"].to_numpy()[paired]).mean())
    table = table.assign(peak=found, distance=distance, type=kind)
    summary = _shares(int(paired.sum()), len(peaks), len(alpha)) | {
        "rmsd": float(np.sqrt(np.mean(distance[paired] ** 2))) if paired.any() else np.nan,
        "type_accuracy": right,
        "n_peaks": len(peaks),
        "n_ca": len(alpha),
    }
    return PeakEvaluation(pd.Series(summary, dtype=float), table)


def peak_curve(peaks: Peaks, model, thresholds=None, **options) -> pd.DataFrame:
    """Judge the candidates above each of several thresholds, as in figure 7 of the paper.

    Parameters
    ----------
    peaks : Peaks
        From `find_ca` with a low threshold.
    model : gemmi.Structure or Atoms
        The model.
    thresholds : sequence of float, optional
        Of the score; 0.05 to 0.95 by default.
    **options
        Of `evaluate_peaks`.

    Returns
    -------
    DataFrame
        A row a threshold: threshold and the entries of `PeakEvaluation.summary`.

    References
    ----------
    Giri, Wang & Cheng, Scientific Data 11, 458 (2024), figure 7.
    """
    thresholds = np.arange(0.05, 1.0, 0.05) if thresholds is None else thresholds
    atoms = Atoms.from_structure(model)
    rows = [evaluate_peaks(peaks.above(t), atoms, **options).summary for t in thresholds]
    table = pd.DataFrame(rows).reset_index(drop=True)
    table.insert(0, "threshold", np.asarray(thresholds, dtype=float))
    return table


def _shares(pairs: int, n_peaks: int, n_ca: int) -> dict[str, float]:
    return {
        "recall": pairs / n_ca if n_ca else np.nan,
        "precision": pairs / n_peaks if n_peaks else np.nan,
        "f1": 2 * pairs / (n_peaks + n_ca) if n_peaks + n_ca else np.nan,
    }
