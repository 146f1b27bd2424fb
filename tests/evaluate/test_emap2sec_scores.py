"""The measures of the Emap2sec paper, counted by hand."""

import numpy as np
import pytest

from cryonb.atoms import Atoms
from cryonb.errors import MapModelMismatchError
from cryonb.evaluate.emap2sec import (
    emap2sec_scores,
    relaxed_truth,
    residue_votes,
    segment_scores,
    voxel_scores,
)
from cryonb.label.emap2sec import ORDER, window_labels
from cryonb.label.secondary_structure import secondary_structure
from cryonb.simulate import phantom


@pytest.fixture(scope="module")
def helix():
    return phantom.alpha_helix(12).structure


@pytest.fixture(scope="module")
def carbons(helix):
    atoms = Atoms.from_structure(helix)
    return atoms.position[atoms.name == "CA"], secondary_structure(helix).state


def test_voxel_scores_by_hand():
    truth = [0, 0, 0, 1, 1, 2]
    found = [0, 0, 1, 1, 0, 2]
    scores = voxel_scores(truth, found)
    # coil: tp 2, there 3, called 3; strand: tp 1 of 2 and 2; helix: 1 of 1.
    assert scores["f1_coil"] == pytest.approx(2 / 3)
    assert scores["f1_strand"] == pytest.approx(1 / 2)
    assert scores["f1_helix"] == 1
    assert scores["accuracy_coil"] == pytest.approx(2 / 3)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["f1"] == pytest.approx((3 * 2 / 3 + 2 * 1 / 2 + 1) / 6)
    assert np.isnan(voxel_scores([0], [0])["f1_helix"])


def test_windows_take_the_nearest_carbon_within_reach(helix, carbons):
    position, state = carbons
    expected = np.array([ORDER.index(("background", "helix", "strand", "coil")[s]) for s in state])
    np.testing.assert_array_equal(window_labels(helix, position), expected)
    assert window_labels(helix, position[:1] + 100.0) == [3]
    # The nearest counts, however many are within reach.
    off = position + 0.4 * (position.mean(axis=0) - position)
    away = np.linalg.norm(off[:, None] - position, axis=-1)
    nearest = np.where(away.min(axis=1) < 3, expected[away.argmin(axis=1)], 3)
    np.testing.assert_array_equal(window_labels(helix, off), nearest)


def test_residues_vote(helix, carbons):
    position, state = carbons
    middle = 6
    assert state[middle] == 1
    # Three windows at one carbon; two say helix. The neighbours' carbons are 3.8 Å away.
    points = np.repeat(position[middle : middle + 1], 3, axis=0)
    votes = residue_votes(helix, points, np.array([2, 2, 0]))
    assert len(votes) == 1
    assert votes["right"][0] == pytest.approx(2 / 3)
    assert votes["found"][0] == votes["truth"][0] == 2
    votes = residue_votes(helix, points, np.array([2, 0, 0]))
    assert votes["found"][0] == 0


def test_relaxed_truth_allows_every_class_within_reach(helix, carbons):
    position, state = carbons
    edge = int(np.flatnonzero(np.diff(state) != 0)[0])
    point = position[edge : edge + 2].mean(axis=0)[None]
    assert np.linalg.norm(point - position[edge]) < 3
    truth = window_labels(helix, point)
    for found in (0, 2):
        assert relaxed_truth(helix, point, truth, np.array([found])) == [found]
    assert relaxed_truth(helix, point, truth, np.array([1])) == truth


def test_a_segment_is_found_by_half_of_its_windows(helix, carbons):
    position, state = carbons
    inside = np.flatnonzero(state == 1)
    for wrong, expected in ((len(inside) // 2, 1.0), (len(inside) // 2 + 1, 0.0)):
        found = np.full(len(position), 2)
        found[inside[:wrong]] = 0
        scores = segment_scores(helix, position, found)
        assert scores["segments_helix"] == expected
        assert np.isnan(scores["segments_strand"])
        assert scores["segments"] == expected


def test_short_helices_do_not_count():
    short = phantom.alpha_helix(6).structure
    atoms = Atoms.from_structure(short)
    points = atoms.position[atoms.name == "CA"]
    assert np.isnan(segment_scores(short, points, np.full(len(points), 2))["segments"])


def test_everything_together(helix, carbons):
    position, _ = carbons
    scores = emap2sec_scores(helix, position, window_labels(helix, position))
    assert scores["q3"] == scores["f1"] == scores["relaxed_accuracy"] == scores["segments"] == 1
    assert scores["n_windows"] == scores["n_residues"] == 12
    with pytest.raises(MapModelMismatchError, match="there is none"):
        emap2sec_scores(helix, position + 500.0, np.zeros(len(position), dtype=int))
