"""Simulated measurements: each condition does what it says."""

import numpy as np
import pytest
import torch

from cryonb.errors import CryonbError
from cryonb.simulate.experiment import Experiment, local_b, observe, zone
from cryonb.simulate.structure_factors import frequencies, structure_factors

SHAPE, VOXEL = (40, 40, 44), (1.0, 1.0, 1.0)


@pytest.fixture
def specimen(rng):
    index = torch.from_numpy(rng.uniform(12, 28, (400, 3)))
    f = structure_factors(index, torch.ones(400, 1), torch.full((400, 1), 20.0), SHAPE, VOXEL)[0]
    return index, f


def power(density, low, high):
    f = torch.fft.rfftn(density)
    s = frequencies(SHAPE, VOXEL).sqrt()
    return float(f[(s >= low) & (s < high)].abs().square().mean())


def test_nothing_passes_beyond_the_resolution(specimen, rng):
    _, f = specimen
    density = observe(f, SHAPE, VOXEL, Experiment(5.0, edge=0.02), rng)
    assert power(density, 0.25, 0.5) < 1e-6 * power(density, 0.1, 0.18)


def test_noise_has_the_power_that_is_asked_for(specimen, rng):
    _, f = specimen
    silent = observe(f, SHAPE, VOXEL, Experiment(4.0, edge=0.02), rng)
    noisy = observe(f, SHAPE, VOXEL, Experiment(4.0, edge=0.02, noise=2.0), rng)
    noise = noisy - silent
    signal = power(silent, 0.23, 0.245)
    assert power(noise, 0.05, 0.24) == pytest.approx(2 * signal, rel=0.35)
    # White before the cut: the same at low and at high frequency.
    assert power(noise, 0.05, 0.15) == pytest.approx(power(noise, 0.15, 0.23), rel=0.15)


def test_sharpening_undoes_the_decay(specimen, rng):
    _, f = specimen
    plain = observe(f, SHAPE, VOXEL, Experiment(4.0), rng)
    undone = observe(f, SHAPE, VOXEL, Experiment(4.0, b_overall=90, b_sharpen=90), rng)
    np.testing.assert_allclose(undone[10:30, 10:30, 10:30], plain[10:30, 10:30, 10:30], atol=2e-2)


def test_solvent_takes_low_frequencies(specimen, rng):
    _, f = specimen
    plain = observe(f, SHAPE, VOXEL, Experiment(4.0), rng)
    poor = observe(f, SHAPE, VOXEL, Experiment(4.0, solvent=0.9, b_solvent=300), rng)
    assert power(poor, 0.0, 0.03) < 0.15 * power(plain, 0.0, 0.03)
    assert power(poor, 0.18, 0.24) > 0.8 * power(plain, 0.18, 0.24)


def test_a_zone_is_the_union_of_balls(rng):
    index = torch.from_numpy(rng.integers(8, 30, (15, 3)).astype(float))
    mask = zone(index, SHAPE, VOXEL, 4.0, 0.0).numpy()
    points = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 1, 3)
    away = np.sqrt(((points - index.numpy()) ** 2).sum(-1)).min(1).reshape(SHAPE)
    np.testing.assert_array_equal(mask, away <= 4.0)


def test_a_masked_map_is_zero_outside(specimen, rng):
    index, f = specimen
    experiment = Experiment(4.0, noise=1.0, mask="zone", mask_radius=3.0, mask_edge=0.0)
    density = observe(f, SHAPE, VOXEL, experiment, rng, index=index)
    outside = zone(index, SHAPE, VOXEL, 3.0, 0.0) == 0
    assert bool((density[outside] == 0).all())
    assert float(density[~outside].std()) > 0


def test_the_same_seed_gives_the_same_map(specimen):
    _, f = specimen
    first, second = (np.random.default_rng(4) for _ in range(2))
    experiment = Experiment.draw(first)
    assert experiment == Experiment.draw(second)
    one = observe(f, SHAPE, VOXEL, experiment, first)
    torch.testing.assert_close(one, observe(f, SHAPE, VOXEL, experiment, second))


def test_drawn_conditions_cover_their_range(rng):
    drawn = [Experiment.draw(rng) for _ in range(300)]
    d = np.array([experiment.resolution for experiment in drawn])
    assert d.min() < 1.8
    assert d.max() > 9.5
    assert {experiment.mask for experiment in drawn} == {"none", "zone", "contour"}


def test_local_b_grows_from_nothing(rng):
    b = local_b(rng.normal(size=(200, 3)), rng, largest=80.0)
    assert b.min() == 0
    assert b.max() == pytest.approx(80)


def test_bad_conditions_are_refused():
    with pytest.raises(CryonbError, match="positive resolution"):
        Experiment(-1.0)
    with pytest.raises(CryonbError, match="mask of none"):
        Experiment(3.0, mask="soft")
