"""Cα candidates judged by a model."""

import numpy as np
import pytest

from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.errors import MapModelMismatchError, ModelError
from cryonb.evaluate.peaks import evaluate_peaks, peak_curve
from cryonb.grid import Grid
from cryonb.simulate import phantom
from cryonb.trace.peaks import Peaks


@pytest.fixture(scope="module")
def helix():
    return phantom.alpha_helix(12).structure


def alphas(model):
    atoms = Atoms.from_structure(model)
    return atoms.position[atoms.name == "CA"]


def peaks_at(position, score=None, kind=0):
    emission = np.zeros((len(position), 20), np.float32)
    emission[np.arange(len(position)), kind] = 1
    score = np.ones(len(position), np.float32) if score is None else np.asarray(score)
    return Peaks(np.asarray(position, float), score, emission, AMINO_ACIDS)


def test_scores_count_pairs_one_with_one(helix):
    alpha = alphas(helix)
    # Nine moved by 1 Å, one of them found twice, one false one far away.
    position = np.concatenate([alpha[:9] + [0.6, 0.8, 0.0], alpha[:1], alpha[:1] + 50])
    found = evaluate_peaks(peaks_at(position, kind=[0] * 4 + [1] * 7), helix).summary
    assert found["recall"] == 9 / 12
    assert found["precision"] == 9 / 11
    assert found["f1"] == pytest.approx(2 * 9 / 23)
    # The nearer of the two is taken.
    assert found["rmsd"] == pytest.approx(np.sqrt(8 / 9))
    # The model is of alanine; the one found twice is paired with its second peak.
    assert found["type_accuracy"] == pytest.approx(3 / 9)


def test_residues_name_their_peaks(helix, tmp_path):
    alpha = alphas(helix)
    found = evaluate_peaks(peaks_at(alpha[[5, 2]]), helix)
    assert found.residues["peak"].tolist() == [-1, -1, 1, -1, -1, 0] + [-1] * 6
    assert found.residues["type"][2] == "ALA"
    assert (found.save(tmp_path) / "residues.csv").is_file()


def test_what_is_outside_does_not_count(helix):
    alpha = alphas(helix)
    grid = Grid.around(alpha[:5], 1.0, 0.01)
    inside = int(grid.contains(alpha).sum())
    found = evaluate_peaks(peaks_at(alpha[:5]), helix, grid=grid).summary
    assert found["n_ca"] == inside < 12
    with pytest.raises(MapModelMismatchError):
        evaluate_peaks(peaks_at(alpha), helix, grid=Grid((5, 5, 5), 1.0, (900.0, 0, 0)))


def test_the_curve_takes_the_best_first(helix):
    alpha = alphas(helix)
    position = np.concatenate([alpha, alpha + 40])
    score = np.concatenate([np.linspace(0.3, 0.9, 12), np.linspace(0.05, 0.4, 12)])
    curve = peak_curve(peaks_at(position, score), helix, [0.01, 0.45, 0.95])
    assert curve["precision"].iloc[0] == 0.5
    assert curve["precision"].iloc[1] == 1.0
    assert curve["recall"].iloc[0] == 1.0
    assert curve["recall"].iloc[2] == 0.0
    assert np.isnan(curve["precision"].iloc[2])


def test_models_without_protein_are_refused():
    with pytest.raises(ModelError, match="Cα atoms"):
        evaluate_peaks(peaks_at(np.zeros((1, 3))), phantom.dna_duplex("ACGT").structure)
