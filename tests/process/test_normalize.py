import numpy as np
import pytest

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.process import normalize
from cryonb.volume import LabelVolume, Volume

GRID = Grid((9, 10, 11), (1.0, 1.1, 1.2), (5.0, -3.0, 0.5))
METHODS = ["rms", "sigma", "emap2sec", "cryo2struct", "emready", "siren"]


@pytest.fixture
def masked(rng):
    """A map with negatives, and zeros outside a mask."""
    values = rng.normal(0.3, 2.0, GRID.shape).astype(np.float32)
    values[:3] = 0
    return Volume(values, GRID, name="m", history=("read",))


def test_rms_and_sigma_follow_their_definitions(masked):
    wide = masked.values.astype(np.float64)
    rms = normalize(masked, method="rms").values
    assert np.allclose(rms, wide / np.sqrt((wide**2).mean()), atol=1e-6)
    sigma = normalize(masked, method="sigma").values
    assert np.allclose(sigma, (wide - wide.mean()) / wide.std(), atol=1e-6)


def test_sigma_keeps_a_small_signal_on_a_large_offset(rng):
    values = (1000 + rng.normal(size=GRID.shape)).astype(np.float32)
    wide = values.astype(np.float64)
    expected = (wide - wide.mean()) / wide.std()
    assert np.abs(normalize(Volume(values, GRID), method="sigma").values - expected).max() < 2e-4


def test_emap2sec_cuts_negatives_before_min_max(masked):
    out = normalize(masked, method="emap2sec").values
    assert np.allclose(out, np.maximum(masked.values, 0) / masked.values.max(), atol=1e-6)


def test_emap2sec_subtracts_the_minimum_of_a_positive_map():
    values = np.linspace(3, 7, GRID.n_voxels, dtype=np.float32).reshape(GRID.shape)
    out = normalize(Volume(values, GRID), method="emap2sec").values
    assert np.allclose(out, (values - 3) / 4, atol=1e-6)
    assert out.min() == 0
    assert out.max() == 1


def test_siren_is_emap2sec_on_minus_one_to_one(masked):
    expected = 2 * normalize(masked, method="emap2sec").values - 1
    assert np.allclose(normalize(masked, method="siren").values, expected, atol=1e-6)


def test_cryo2struct_takes_the_percentile_of_non_zero_values_with_negatives(masked):
    values = masked.values
    ordered = np.sort(values[values != 0])
    place = 0.95 * (len(ordered) - 1)
    low = int(place)
    scale = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
    expected = np.clip(values / scale, 0, 1)
    assert np.allclose(normalize(masked, method="cryo2struct").values, expected, atol=1e-5)


def test_emready_takes_the_percentile_of_positive_values():
    # 100,001 positive values 1..100001: the 99.999th percentile is exactly the one before the last.
    values = np.zeros((60, 50, 40), dtype=np.float32)
    values.ravel()[:100_001] = np.arange(1, 100_002)
    values.ravel()[100_001:110_000] = -5
    volume = Volume(values, Grid(values.shape))
    out = normalize(volume, method="emready").values
    assert np.allclose(out, np.clip(values / 100_000, 0, 1), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_input_is_kept_and_metadata_carried(masked, method):
    before = masked.values.copy()
    out = normalize(masked, method=method)
    assert np.array_equal(masked.values, before)
    assert out.grid == GRID
    assert out.name == "m"
    assert out.history == ("read", f"normalised ({method})")
    assert out.values.dtype == np.float32


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [0.001, 250.0])
def test_scale_of_the_input_does_not_matter(masked, method, factor):
    scaled = masked.replace(masked.values * np.float32(factor))
    out = normalize(scaled, method=method).values
    assert np.allclose(out, normalize(masked, method=method).values, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.0, 3.5])
def test_constant_map_is_refused(method, level):
    with pytest.raises(CryonbError, match=f"every voxel is {level:g}"):
        normalize(Volume(np.full(GRID.shape, level), GRID), method=method)


@pytest.mark.parametrize("method", ["emap2sec", "cryo2struct", "emready", "siren"])
def test_map_without_positive_density_is_refused(rng, method):
    negative = Volume(-1 - rng.random(GRID.shape), GRID)
    with pytest.raises(CryonbError, match="needs density above zero"):
        normalize(negative, method=method)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(masked, bad):
    values = masked.values.copy()
    values[4, 5, 6] = bad
    with pytest.raises(CryonbError, match="finite"):
        normalize(Volume(values, GRID))


def test_unknown_method_and_labels_are_refused(masked):
    with pytest.raises(CryonbError, match="rms, sigma, emap2sec"):
        normalize(masked, method="zscore")
    labels = LabelVolume(np.ones(GRID.shape, np.uint8), GRID)
    with pytest.raises(CryonbError, match="LabelVolume was given"):
        normalize(labels)
