"""Scores of secondary structure, on predictions whose quality is known."""

import numpy as np
import pandas as pd
import pytest

from cryonb.atoms import Atoms
from cryonb.errors import MapModelMismatchError
from cryonb.evaluate.secondary_structure import SUMMARY_KEYS, evaluate_sse
from cryonb.grid import Grid
from cryonb.label.voxels import label_volume
from cryonb.simulate.fourier import fourier_map
from cryonb.simulate.phantom import example
from cryonb.volume import CLASSES, ProbabilityVolume, Volume

KEYS = [
    "q3", "f1_helix", "f1_strand", "f1_coil", "f1_nucleotide", "voxel_f1_helix", "voxel_f1_strand",
    "voxel_f1_coil", "voxel_f1_nucleotide", "voxel_accuracy", "haruspex_precision",
    "haruspex_recall", "haruspex_f1", "n_residues",
]  # fmt: skip


@pytest.fixture(scope="module")
def case():
    phantom = example()
    atoms = Atoms.from_structure(phantom.structure)
    grid = Grid.around(atoms.position, 1.0, 6.0)
    labels = label_volume(phantom.structure, grid).values
    return phantom, grid, labels


def one_hot(labels, grid):
    values = np.stack([labels == k for k in range(len(CLASSES))]).astype(np.float32)
    return ProbabilityVolume(values, grid)


def test_the_truth_gets_full_marks(case):
    phantom, grid, labels = case
    density = fourier_map(phantom.structure, grid, resolution=4.0)
    evaluation = evaluate_sse(one_hot(labels, grid), phantom.structure, density=density)
    assert list(evaluation.summary.index) == KEYS == list(SUMMARY_KEYS)
    assert evaluation.summary["voxel_accuracy"] == 1
    assert evaluation.summary["q3"] > 0.97  # atoms between two residues' voxels
    assert evaluation.summary["haruspex_f1"] > 0.97
    assert evaluation.summary["n_residues"] == len(phantom.states) == len(evaluation.residues)
    assert evaluation.segments["recovered"].mean() > 0.95


def test_scores_count_what_they_say(case):
    phantom, grid, _ = case
    everywhere = np.full(grid.shape, CLASSES.index("helix"))
    evaluation = evaluate_sse(one_hot(everywhere, grid), phantom.structure)
    states = phantom.states
    helix, protein = (states == 1).sum(), np.isin(states, [1, 2, 3]).sum()
    assert evaluation.summary["q3"] == pytest.approx(helix / protein)
    assert evaluation.summary["f1_helix"] == pytest.approx(2 * helix / (helix + len(states)))
    assert evaluation.summary["f1_strand"] == 0
    assert np.isnan(evaluation.summary["haruspex_f1"])  # no density was given


def test_a_residue_called_background_is_wrong(case):
    phantom, grid, labels = case
    nothing = np.zeros_like(labels)
    summary = evaluate_sse(one_hot(nothing, grid), phantom.structure).summary
    assert summary["q3"] == 0
    assert summary["voxel_accuracy"] == 0


def test_haruspex_counts_only_residues_with_density(case):
    phantom, grid, _ = case
    atoms = Atoms.from_structure(phantom.structure)
    # Density on some helices and sheets alone; helix predicted everywhere.
    values = np.zeros(grid.shape, np.float32)
    half = atoms.position[atoms.position[:, 0] < np.median(atoms.position[:, 0])]
    index = np.round(grid.to_index(half)).astype(int)
    for shift in np.ndindex(3, 3, 3):
        values[tuple((index + np.array(shift) - 1).T)] = 10
    found = one_hot(np.full(grid.shape, 1), grid)
    evaluation = evaluate_sse(found, phantom.structure, density=Volume(values, grid))
    seen = evaluation.residues[evaluation.residues["density"] >= 1]
    assert 0 < len(seen) < len(evaluation.residues)
    tp = (seen["truth"] == "helix").sum()
    assert evaluation.summary["haruspex_precision"] == pytest.approx(tp / len(seen))
    assert evaluation.summary["haruspex_recall"] == 1


def test_residues_outside_the_map_do_not_count(case):
    phantom, grid, labels = case
    z = grid.shape[0] // 2
    part = grid.crop((z, 0, 0), (grid.shape[0] - z, *grid.shape[1:]))
    upper = ProbabilityVolume(one_hot(labels, grid).values[:, z:], part)
    evaluation = evaluate_sse(upper, phantom.structure)
    assert 0 < evaluation.summary["n_residues"] < len(phantom.states)
    assert evaluation.summary["q3"] > 0.9


def test_a_model_elsewhere_is_refused_with_both_boxes(case):
    phantom, grid, labels = case
    away = Grid(grid.shape, grid.voxel_size, tuple(np.array(grid.origin) + 500))
    with pytest.raises(MapModelMismatchError, match=r"do not overlap.*x \d+.*model's is x -?\d+"):
        evaluate_sse(one_hot(labels, away), phantom.structure)


def test_tables_are_saved(case, tmp_path):
    phantom, grid, labels = case
    evaluation = evaluate_sse(one_hot(labels, grid), phantom.structure)
    evaluation.save(tmp_path / "out")
    again = pd.read_csv(tmp_path / "out" / "residues.csv")
    assert len(again) == len(evaluation.residues)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "summary.csv", "residues.csv", "segments.csv",
    }  # fmt: skip
    assert "voxel_accuracy" in evaluation._repr_html_()
