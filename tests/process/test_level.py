"""What a map tells about itself."""

import numpy as np
import pytest

from cryonb.process.level import density_scale, noise_level


def test_noise_is_told_from_the_molecule(rng):
    values = rng.normal(0, 0.03, (40, 40, 40)).astype(np.float32)
    values[15:25, 15:25, 15:25] = 1.0
    assert noise_level(values) == pytest.approx(5 * 0.03, rel=0.1)


def test_a_masked_map_has_no_noise_to_measure(rng):
    values = np.zeros((40, 40, 40), np.float32)
    values[10:30] = rng.normal(0.5, 0.2, (20, 40, 40))
    assert noise_level(values) == pytest.approx(0.02 * density_scale(values))


def test_strong_noise_does_not_hide_the_molecule(rng):
    values = rng.normal(0, 1, (40, 40, 40))
    assert noise_level(values) == 0.25 * density_scale(values)


def test_the_level_follows_the_units(rng):
    values = rng.normal(0, 0.03, (20, 20, 20))
    values[5:12, 5:12, 5:12] = 1
    assert noise_level(9 * values) == pytest.approx(9 * noise_level(values))
    assert noise_level(np.zeros((3, 3, 3))) == 0


def test_scale_ignores_zeros_and_follows_the_density(rng):
    values = rng.normal(1, 0.2, (9, 9, 9))
    scale = density_scale(values)
    assert density_scale(np.pad(values, 12)) == pytest.approx(scale)
    assert density_scale(7 * values) == pytest.approx(7 * scale)
    assert density_scale(np.zeros((3, 3, 3))) == 0
