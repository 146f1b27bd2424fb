"""The level below which a tile is empty."""

import numpy as np
import pytest

from cryonb.predict.tiles import noise_level


def test_noise_is_told_from_the_molecule(rng):
    values = rng.normal(0, 0.03, (40, 40, 40)).astype(np.float32)
    values[15:25, 15:25, 15:25] = 1.0
    assert noise_level(values) == pytest.approx(5 * 0.03, rel=0.1)


def test_a_masked_map_has_no_noise_to_measure(rng):
    values = np.zeros((40, 40, 40), np.float32)
    values[10:30] = rng.normal(0.5, 0.2, (20, 40, 40))
    assert noise_level(values) == pytest.approx(0.02)


def test_strong_noise_does_not_hide_the_molecule(rng):
    assert noise_level(rng.normal(0, 1, (40, 40, 40))) == 0.25
