"""Volume, LabelVolume and ProbabilityVolume: what they keep, and how they are read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.errors import CryonbError, GridError
from cryonb.grid import Grid
from cryonb.volume import CLASSES, LabelVolume, ProbabilityVolume, Volume

GRID = Grid((4, 5, 6), (1.0, 1.5, 2.0), (10.0, -20.0, 30.0))


@pytest.fixture
def volume(rng):
    return Volume(rng.normal(size=GRID.shape), GRID, name="a")


@pytest.fixture
def probabilities(rng):
    raw = rng.random((5, *GRID.shape)).astype(np.float32)
    return ProbabilityVolume(raw / raw.sum(axis=0), GRID)


def test_values_cannot_be_changed(volume):
    with pytest.raises(ValueError, match="read-only"):
        volume.values[0, 0, 0] = 1
    assert volume.values.dtype == np.float32


@pytest.mark.parametrize("view", [False, True])
def test_later_changes_of_the_array_do_not_reach_the_volume(view):
    array = np.zeros(GRID.shape, dtype=np.float32)
    volume = Volume(array[:] if view else array, GRID)
    array += 1
    assert volume.max == 0


def test_nested_lists_are_taken():
    assert Volume([[[1, 2], [3, 4]]], Grid((1, 2, 2))).values[0, 1, 1] == 4


def test_statistics_by_hand():
    volume = Volume(np.arange(8.0).reshape(2, 2, 2) - 2, Grid((2, 2, 2)))
    assert (volume.mean, volume.min, volume.max) == (1.5, -2, 5)
    assert volume.rms == pytest.approx(np.sqrt((4 + 1 + 0 + 1 + 4 + 9 + 16 + 25) / 8))
    assert volume.std == pytest.approx(np.arange(8).std())


def test_spread_of_a_map_far_from_zero():
    noise = np.random.default_rng(0).normal(size=(30, 30, 30))
    assert Volume(noise + 1000, Grid((30, 30, 30))).std == pytest.approx(noise.std(), rel=1e-3)
    assert Volume(np.full((3, 3, 3), 0.1), Grid((3, 3, 3))).std == pytest.approx(0, abs=1e-7)


def test_replace_keeps_what_is_not_replaced(volume):
    other = volume.replace(volume.values * 2, note="doubled")
    assert other.history == ("doubled",)
    assert (other.name, other.grid) == ("a", GRID)
    assert volume.history == ()
    moved = other.replace(grid=GRID.crop((1, 1, 1), GRID.shape))
    assert moved.origin == (11.0, -18.5, 32.0)
    np.testing.assert_array_equal(moved.values, other.values)


def test_replace_keeps_the_class_and_its_names():
    labels = LabelVolume(np.ones((2, 2, 2)), Grid((2, 2, 2)), classes=("no", "yes"))
    other = labels.replace(note="same")
    assert type(other) is LabelVolume
    assert other.classes == ("no", "yes")


def test_shape_must_be_the_grid_s():
    with pytest.raises(GridError, match=r"\(4, 5, 6\).*\(6, 5, 4\)"):
        Volume(np.zeros((6, 5, 4)), GRID)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=30))
def test_linear_sampling_is_exact_for_a_linear_function(fractions):
    z, y, x = np.meshgrid(*GRID.axes()[::-1], indexing="ij")
    volume = Volume(x - 2 * y + 0.5 * z, GRID)
    points = GRID.lower + np.array(fractions) * (GRID.upper - GRID.lower)
    expected = points @ [1, -2, 0.5]
    np.testing.assert_allclose(volume.sample(points), expected, rtol=1e-5)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_sampling_at_centres_gives_the_values(volume, order):
    index = np.indices(GRID.shape).reshape(3, -1).T
    found = volume.sample(GRID.to_points(index), order=order)
    np.testing.assert_allclose(found, volume.values.ravel(), atol=1e-5)


def test_outside_is_nan(volume):
    found = volume.sample([GRID.lower - 0.1, GRID.lower, GRID.upper, GRID.upper + 0.1])
    assert np.isnan(found).tolist() == [True, False, False, True]
    assert np.isnan(volume.sample([[1e6, 0, 0]])).all()
    assert volume.sample(np.zeros((0, 3))).shape == (0,)


def test_as_an_array(volume):
    assert np.asarray(volume) is not None
    assert np.asarray(volume).shape == GRID.shape
    assert np.asarray(volume, dtype=np.float64).dtype == np.float64
    copied = np.array(volume)
    copied[0, 0, 0] = 7
    assert volume.values[0, 0, 0] != 7


def test_representation():
    assert "4 × 5 × 6 voxels (z, y, x) of 1 × 1.5 × 2 Å" in repr(Volume(np.zeros((4, 5, 6)), GRID))
    # Spacings that differ by rounding only are one.
    grid = Grid((2, 2, 2), (1.1, 1.1 + 1e-9, 1.1))
    assert "of 1.1 Å" in repr(Volume(np.zeros((2, 2, 2)), grid))
    two = Grid((2, 2, 2), (1.1, 1.1, 2))
    assert "of 1.1 × 1.1 × 2 Å" in repr(Volume(np.zeros((2, 2, 2)), two))


def test_labels_are_read_nearest_and_counted():
    labels = LabelVolume(np.array([[[0, 1, 1, 4]]], dtype=np.uint8), Grid((1, 1, 4)))
    assert labels.values.dtype == np.uint8
    assert labels.sample([[2.6, 0, 0], [2.4, 0, 0]]).tolist() == [4, 1]
    assert labels.mask("helix").tolist() == [[[False, True, True, False]]]
    assert labels.counts() == {
        "background": 1,
        "helix": 2,
        "strand": 0,
        "coil": 0,
        "nucleotide": 1,
    }
    with pytest.raises(CryonbError, match="'turn' was asked"):
        labels.mask("turn")


def test_probability_of_one_class(probabilities):
    helix = probabilities["helix"]
    assert type(helix) is Volume
    assert helix.grid == GRID
    np.testing.assert_array_equal(helix.values, probabilities.values[1])
    with pytest.raises(CryonbError, match="'turn' was asked"):
        probabilities["turn"]


def test_most_probable_class(probabilities):
    labels = probabilities.labels()
    np.testing.assert_array_equal(labels.values, probabilities.values.argmax(axis=0))
    assert labels.classes == CLASSES


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_probabilities_at_points(rng, probabilities, dtype):
    stored = ProbabilityVolume(probabilities.values.astype(dtype), GRID)
    assert stored.values.dtype == dtype
    points = rng.uniform(GRID.lower, GRID.upper, size=(40, 3))
    points[0] = GRID.lower - 1
    found = stored.sample(points)
    assert found.shape == (40, 5)
    assert np.isnan(found[0]).all()
    expected = np.stack([stored[name].sample(points) for name in CLASSES], axis=1)
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-6)
    np.testing.assert_allclose(found[1:].sum(axis=1), 1, atol=3e-3)


def test_probabilities_of_another_shape():
    with pytest.raises(GridError, match=r"\(5, z, y, x\)"):
        ProbabilityVolume(np.zeros((4, *GRID.shape), np.float32), GRID)
    with pytest.raises(GridError, match="expected for this grid"):
        ProbabilityVolume(np.zeros((5, 6, 5, 4), np.float32), GRID)


def test_half_precision_of_probabilities_is_kept_by_replace(probabilities):
    stored = ProbabilityVolume(probabilities.values.astype(np.float16), GRID)
    assert stored.replace(note="x").values.dtype == np.float16
