import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import irfftn, rfftn

from cryonb.process.level_spectrum import level_spectrum

SHAPE = (64, 60, 54)
S2 = sum(
    np.reshape(f, shape) ** 2
    for f, shape in (
        (np.fft.fftfreq(64), (-1, 1, 1)),
        (np.fft.fftfreq(60), (1, -1, 1)),
        (np.fft.rfftfreq(54), (1, 1, -1)),
    )
)


@pytest.fixture(scope="module")
def points():
    """Transform of random point atoms in a ball, which has the same power at all frequencies."""
    rng = np.random.default_rng(3)
    place = rng.normal(0, 6, (400, 3)) + np.array(SHAPE) / 2
    out = np.zeros(SHAPE)
    np.add.at(out, tuple(np.rint(place).astype(int).T), 1.0)
    return rfftn(out)


def with_falloff(points, b):
    return irfftn(points * np.exp(-b / 4 * S2), s=SHAPE).astype(np.float32)


@settings(deadline=None, max_examples=15)
@given(b=st.floats(30, 300), scale=st.floats(0.01, 100))
def test_any_falloff_becomes_one(points, b, scale):
    wanted = level_spectrum(with_falloff(points, 60.0), pad=False)
    found = level_spectrum(scale * with_falloff(points, b), pad=False)
    assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.99


def test_falloff_is_that_of_60(points):
    found = rfftn(level_spectrum(with_falloff(points, 200.0), pad=False))
    s = np.sqrt(S2)

    def level(low, high):
        return np.log((np.abs(found[(s > low) & (s < high)]) ** 2).mean()) / 2

    fine = np.mean(S2[(s > 0.24) & (s < 0.26)])
    coarse = np.mean(S2[(s > 0.14) & (s < 0.16)])
    assert level(0.24, 0.26) - level(0.14, 0.16) == pytest.approx(-15 * (fine - coarse), abs=0.1)


def test_a_plateau_of_noise_is_not_raised(points):
    rng = np.random.default_rng(0)
    signal = with_falloff(points, 400.0)
    noise = rng.normal(0, 0.02 * signal.std(), SHAPE).astype(np.float32)
    before, after = (rfftn(v) for v in (signal + noise, level_spectrum(signal + noise, pad=False)))
    s = np.sqrt(S2)
    rim = (s > 0.4) & (s < 0.5)
    gain = np.abs(after[rim]).mean() / np.abs(before[rim]).mean()
    assert gain < 1.5
    middle = (s > 0.15) & (s < 0.2)
    assert np.abs(after[middle]).mean() / np.abs(before[middle]).mean() > 5


def test_a_mask_stays(points):
    values = with_falloff(points, 100.0)
    values[:10] = 0
    found = level_spectrum(values)
    assert found.shape == SHAPE
    assert found.dtype == np.float32
    assert (found[:10] == 0).all()
    assert (found[10:] != 0).mean() > 0.99


def test_an_empty_map_stays_empty():
    assert (level_spectrum(np.zeros((20, 20, 20), np.float32)) == 0).all()
