"""The measures of the Emap2sec paper, from windows; classes 0 other, 1 strand, 2 helix.

Equations are those of Maddhuri Venkata Subramaniya et al., Nature Methods 16, 911 (2019), section
"Evaluation measures".
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cryonb.atoms import Atoms
from cryonb.errors import MapModelMismatchError
from cryonb.label.emap2sec import ORDER, window_labels, windows_near
from cryonb.label.secondary_structure import secondary_structure

__all__ = [
    "emap2sec_scores", "relaxed_truth", "residue_votes", "segment_scores", "voxel_scores",
]  # fmt: skip

_KINDS = ORDER[:3]
#: Shortest segments that count: (class, residues).
_SEGMENTS = {"helix": 6, "strand": 3}


def voxel_scores(truth, found) -> dict[str, float]:
    r"""Voxel F1 and accuracy of each class, and both over all.

    For class c with tp voxels rightly, fp wrongly called c and fn missed:
    precision :math:`P = tp / (tp + fp)`, recall :math:`R = tp / (tp + fn)`,
    :math:`F_1 = 2 P R / (P + R)`; "accuracy" of a class is its recall. Over all: F1 weighted by
    the number of voxels of each class, and the share of voxels that are right.

    Parameters
    ----------
    truth, found : array_like of int, shape (n,)
        Classes; voxels without truth are left out by the caller.

    Returns
    -------
    dict
        f1_*, accuracy_* for coil (other), strand, helix, and f1, accuracy. NaN for a class that is
        neither there nor found.
    """
    truth, found = np.asarray(truth), np.asarray(found)
    scores, weighted = {}, 0.0
    for number, name in enumerate(_KINDS):
        tp = int(((truth == number) & (found == number)).sum())
        there, called = int((truth == number).sum()), int((found == number).sum())
        f1 = 2 * tp / (there + called) if there + called else np.nan
        scores[f"f1_{name}"] = f1
        scores[f"accuracy_{name}"] = tp / there if there else np.nan
        weighted += there * f1 if there else 0.0
    scores["f1"] = weighted / len(truth) if len(truth) else np.nan
    scores["accuracy"] = float((truth == found).mean()) if len(truth) else np.nan
    return scores


def relaxed_truth(model, points, truth, found, *, radius: float = 3.0) -> np.ndarray:
    """Give the truth of the relaxed measure: the class found, where any near Cα has it.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model.
    points : ndarray, shape (n, 3)
        Window centres in Å.
    truth, found : ndarray of int, shape (n,)
        Strict truth and prediction.
    radius : float
        All Cα atoms within it count.
    """
    ca, window, label, _ = windows_near(model, points, radius=radius)
    agrees = np.zeros(len(points), dtype=bool)
    agrees[window[label[ca] == found[window]]] = True
    return np.where(agrees, found, truth)


def residue_votes(model, points, found, *, radius: float = 3.0) -> pd.DataFrame:
    """Let the windows near each Cα vote.

    A residue is right if a majority (the most frequent class; ties go to the lower number) of the
    windows within `radius` of its Cα has its class. Residues without a window near do not count.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model.
    points : ndarray, shape (n, 3)
        Window centres in Å.
    found : ndarray of int, shape (n,)
        Their classes.
    radius : float
        In Å.

    Returns
    -------
    DataFrame
        residue (place in the table of residues), truth, found, right (share of its windows with
        its class), voters.
    """
    ca, window, label, residue = windows_near(model, points, radius=radius)
    votes = np.zeros((len(label), len(ORDER)), dtype=int)
    np.add.at(votes, (ca, found[window]), 1)
    voters = votes.sum(axis=1)
    table = pd.DataFrame(
        {
            "residue": residue,
            "truth": label,
            "found": votes.argmax(axis=1),
            "right": votes[np.arange(len(label)), label] / np.maximum(voters, 1),
            "voters": voters,
        }
    )
    return table[voters > 0].reset_index(drop=True)


def segment_scores(model, points, found, *, radius: float = 3.0) -> dict[str, float]:
    """Share of helices (of at least 6 residues) and strands (at least 3) that are found.

    A segment is found if at least half of the windows near its Cα atoms (each window counted once,
    with the segment's class as its truth) have its class.

    Parameters
    ----------
    model, points, found, radius
        As in `residue_votes`.

    Returns
    -------
    dict
        segments_helix, segments_strand, segments (both together); NaN where there is none.
    """
    ca, window, label, residue = windows_near(model, points, radius=radius)
    segments = secondary_structure(Atoms.from_structure(model)).segments()
    tally = {name: [0, 0] for name in _SEGMENTS}
    for row in segments.itertuples():
        if row.state not in _SEGMENTS or row.length < _SEGMENTS[row.state]:
            continue
        number = ORDER.index(row.state)
        inside = (residue[ca] >= row.start) & (residue[ca] < row.stop) & (label[ca] == number)
        near = np.unique(window[inside])
        if len(near):
            tally[row.state][0] += (found[near] == number).mean() >= 0.5
            tally[row.state][1] += 1
    scores = {f"segments_{n}": a / b if b else np.nan for n, (a, b) in tally.items()}
    right, total = (sum(column) for column in zip(*tally.values(), strict=True))
    return scores | {"segments": right / total if total else np.nan}


def emap2sec_scores(model, points, found, *, radius: float = 3.0) -> pd.Series:
    """Compute every measure of the paper for one map.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model.
    points : ndarray, shape (n, 3)
        Window centres in Å.
    found : ndarray of int, shape (n,)
        Classes in the original's order (3 is background).
    radius : float
        In Å.

    Returns
    -------
    Series
        q3 and q3_coil, q3_strand, q3_helix (residues), the keys of `voxel_scores` strict and with
        "relaxed_" before, those of `segment_scores`, n_windows and n_residues (that count).

    Raises
    ------
    MapModelMismatchError
        If no window is near a Cα atom.
    """
    points, found = np.asarray(points), np.asarray(found)
    truth = window_labels(model, points, radius=radius)
    known = truth < 3
    if not known.any():
        raise MapModelMismatchError(
            f"Windows within {radius:g} Å of a Cα atom were expected, but there is none: map and "
            "model may be in different frames, or the contour level too high."
        )
    votes = residue_votes(model, points, found, radius=radius)
    right = votes["truth"] == votes["found"]
    scores = {"q3": float(right.mean())}
    for number, name in enumerate(_KINDS):
        mine = right[votes["truth"] == number]
        scores[f"q3_{name}"] = float(mine.mean()) if len(mine) else np.nan
    scores |= voxel_scores(truth[known], found[known])
    relaxed = relaxed_truth(model, points, truth, found, radius=radius)
    voxel = voxel_scores(relaxed[known], found[known])
    scores |= {f"relaxed_{key}": value for key, value in voxel.items()}
    scores |= segment_scores(model, points, found, radius=radius)
    return pd.Series(scores | {"n_windows": int(known.sum()), "n_residues": len(votes)})
