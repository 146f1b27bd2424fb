"""False discovery rates: the promise is kept on noise with a known truth."""

import numpy as np
import pytest

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.process.confidence import background, confidence


@pytest.fixture(scope="module")
def known():
    """A ball of density in noise, and where it is."""
    rng = np.random.default_rng(3)
    z, y, x = np.indices((40, 40, 40)) - 19.5
    ball = z**2 + y**2 + x**2 < 9**2
    values = rng.normal(0.5, 2.0, ball.shape) + 12.0 * ball
    return nb.Volume(values.astype(np.float32), nb.Grid(ball.shape)), ball


def test_noise_is_estimated_at_the_sides(known):
    mean, deviation = background(known[0])
    assert mean == pytest.approx(0.5, abs=0.3)
    assert deviation == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_no_more_is_false_than_promised(known, rate):
    m, ball = known
    sure = confidence(m, noise=(0.5, 2.0)).values > 1 - rate
    assert (sure & ~ball).sum() <= rate * sure.sum()
    assert sure[ball].mean() > 0.85


def test_it_agrees_with_the_rule_written_out(known):
    from scipy.stats import norm

    m = known[0]
    p = np.sort(norm.sf((m.values.ravel().astype(float) - 0.5) / 2.0))
    n = len(p)
    adjusted = p * n * (1 / np.arange(1, n + 1)).sum() / np.arange(1, n + 1)
    adjusted = np.minimum(np.minimum.accumulate(adjusted[::-1])[::-1], 1)
    found = np.sort(1 - confidence(m, noise=(0.5, 2.0)).values.ravel())
    np.testing.assert_allclose(found, adjusted, atol=1e-6)


def test_pure_noise_has_no_signal():
    values = np.random.default_rng(4).normal(size=(30, 30, 30)).astype(np.float32)
    assert (confidence(nb.Volume(values, nb.Grid(values.shape))).values > 0.95).sum() == 0


def test_a_masked_map_is_refused_with_a_way_out():
    values = np.zeros((20, 20, 20), dtype=np.float32)
    values[8:12, 8:12, 8:12] = 1
    with pytest.raises(CryonbError, match=r"masked.*noise="):
        confidence(nb.Volume(values, nb.Grid(values.shape)))
