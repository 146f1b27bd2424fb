"""Confidence against accuracy."""

import numpy as np
import pytest

from cryonb.errors import CryonbError
from cryonb.evaluate.calibration import calibration, calibration_error


def test_a_small_case_by_hand():
    probabilities = [[0.9, 0.1], [0.3, 0.7], [0.75, 0.25], [1.0, 0.0], [0.95, 0.05]]
    table = calibration([0, 1, 1, 0, 1], probabilities, bins=5)
    assert table["low"].tolist() == [0.6, 0.8]
    assert table["confidence"].tolist() == pytest.approx([0.725, 0.95])
    assert table["accuracy"].tolist() == pytest.approx([0.5, 2 / 3])
    assert table["n"].tolist() == [2, 3]
    expected = 2 / 5 * 0.225 + 3 / 5 * (0.95 - 2 / 3)
    assert calibration_error(table) == pytest.approx(expected)


def test_truth_drawn_from_the_probabilities_is_calibrated(rng):
    probabilities = rng.dirichlet([0.7, 0.7, 0.7], 40_000)
    truth = (rng.random((40_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    assert calibration_error(calibration(truth, probabilities)) < 0.01
    assert calibration_error(calibration(truth, probabilities**0.5)) > 0.03


def test_lengths_must_agree():
    with pytest.raises(CryonbError, match="3 classes"):
        calibration([0, 1, 2], np.ones((2, 2)))
