import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.errors import CryonbError, GridError, MapModelMismatchError
from cryonb.grid import Grid
from cryonb.process import crop, pad
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

GRID = Grid((20, 31, 17), (1.06, 0.9, 1.3), (-7.0, 12.5, 100.0))


@pytest.fixture
def volume(rng):
    return Volume(rng.normal(size=GRID.shape), GRID, name="v")


def test_by_voxels(volume):
    out = crop(volume, start=(2, 3, 4), shape=(5, 6, 7))
    assert np.array_equal(out.values, volume.values[2:7, 3:9, 4:11])
    assert np.allclose(out.origin, (-7 + 4 * 1.06, 12.5 + 3 * 0.9, 100 + 2 * 1.3))
    assert out.name == "v"
    assert out.history == ("cropped to 5 × 6 × 7 voxels from 2 × 3 × 4",)


@settings(deadline=None, max_examples=60)
@given(
    corner=st.tuples(*[st.floats(-20, 140)] * 3),
    size=st.tuples(*[st.floats(0, 40)] * 3),
    margin=st.floats(0, 5),
)
def test_by_coordinates_keeps_exactly_the_centres_within(corner, size, margin):
    volume = Volume(np.arange(GRID.n_voxels, dtype=np.float32).reshape(GRID.shape), GRID)
    lower, upper = np.array(corner), np.array(corner) + size
    axes = GRID.axes()
    keep = [
        (a >= low - margin - 1e-7) & (a <= high + margin + 1e-7)
        for a, low, high in zip(axes, lower, upper, strict=True)
    ]
    if not all(k.any() for k in keep):
        with pytest.raises(GridError, match="holds no voxel"):
            crop(volume, lower=lower, upper=upper, margin=margin)
        return
    out = crop(volume, lower=lower, upper=upper, margin=margin)
    assert np.array_equal(out.values, volume.values[np.ix_(*keep[::-1])])
    # Every value is where it was.
    for new, old, k in zip(out.grid.axes(), axes, keep, strict=True):
        assert np.allclose(new, old[k])


def test_around_a_model(volume, alpha_carbons):
    points = [(0.0, 20.0, 105.0), (4.0, 26.0, 111.0)]
    out = crop(volume, model=alpha_carbons(points), margin=2.0)
    assert (out.grid.lower >= np.array(points[0]) - 2).all()
    assert (out.grid.lower < np.array(points[0]) - 2 + GRID.voxel_size).all()
    assert (out.grid.upper <= np.array(points[1]) + 2).all()
    assert (out.grid.upper > np.array(points[1]) + 2 - GRID.voxel_size).all()


def test_model_elsewhere_is_refused_with_both_boxes(volume, alpha_carbons):
    with pytest.raises(MapModelMismatchError, match=r"x 498.0 to 502.0.*x -7.0 to 10.0"):
        crop(volume, model=alpha_carbons([(500, 500, 500)]), margin=2.0)


def test_around_a_contour():
    values = np.zeros(GRID.shape)
    values[5:9, 10:12, 3] = 1.0
    volume = Volume(values, GRID)
    out = crop(volume, contour=1.0)
    assert out.shape == (4, 2, 1)
    assert (out.values == 1).all()
    wider = crop(volume, contour=1.0, margin=1.3)
    assert wider.shape == (6, 4, 3)
    with pytest.raises(CryonbError, match="lower the contour"):
        crop(volume, contour=1.01)


@settings(deadline=None, max_examples=40)
@given(before=st.tuples(*[st.integers(0, 6)] * 3), after=st.tuples(*[st.integers(0, 6)] * 3))
def test_crop_undoes_pad(before, after):
    values = np.random.default_rng(0).normal(size=GRID.shape)
    volume = Volume(values, GRID)
    padded = pad(volume, before, after=after, value=2.5)
    expected = np.pad(
        volume.values, list(zip(before, after, strict=True)), constant_values=np.float32(2.5)
    )
    assert np.array_equal(padded.values, expected)
    back = crop(padded, start=before, shape=GRID.shape)
    assert np.array_equal(back.values, volume.values)
    assert back.grid.is_close(GRID, tolerance=1e-9)
    inner = GRID.to_points((3, 4, 5))
    assert np.isclose(padded.sample(inner, order=0), volume.sample(inner, order=0))


def test_pad_by_one_number_goes_all_round(volume):
    out = pad(volume, 3)
    assert out.shape == (26, 37, 23)
    assert np.allclose(out.grid.lower, GRID.lower - 3 * np.array(GRID.voxel_size))
    assert np.array_equal(out.values[3:-3, 3:-3, 3:-3], volume.values)


def test_labels_and_probabilities_keep_their_kind(rng):
    labels = LabelVolume(rng.integers(0, 5, GRID.shape).astype(np.uint8), GRID)
    cut = crop(labels, start=(1, 2, 3), shape=(4, 5, 6))
    assert type(cut) is LabelVolume
    assert cut.values.dtype == np.uint8
    assert (pad(labels, 1).values[0] == 0).all()
    values = rng.random((5, *GRID.shape)).astype(np.float16)
    probabilities = ProbabilityVolume(values, GRID)
    cut = crop(probabilities, start=(1, 2, 3), shape=(4, 5, 6))
    assert type(cut) is ProbabilityVolume
    assert np.array_equal(cut.values, values[:, 1:5, 2:7, 3:9])
    padded = pad(probabilities, (1, 0, 2))
    assert padded.values.dtype == np.float16
    assert (padded["background"].values[0] == 1).all()
    assert (padded["helix"].values[0] == 0).all()
    assert np.array_equal(padded.values[:, 1:-1, :, 2:-2], values)


def test_result_does_not_hold_the_large_array(volume):
    out = crop(volume, start=(0, 0, 0), shape=(2, 2, 2))
    root = out.values
    while root.base is not None:
        root = root.base
    assert root.size == 8


@pytest.mark.parametrize(
    "box",
    [
        {},
        {"start": (0, 0, 0)},
        {"lower": (0, 0, 0)},
        {"start": (0, 0, 0), "shape": (1, 1, 1), "contour": 1.0},
    ],
)
def test_half_or_double_boxes_are_refused(volume, box):
    with pytest.raises(GridError, match="needs one box"):
        crop(volume, **box)


@pytest.mark.parametrize(
    ("start", "shape"),
    [((-1, 0, 0), (2, 2, 2)), ((0, 0, 0), (21, 2, 2)), ((0, 0, 0), (0, 2, 2)), ((0.5, 0, 0), 2)],
)
def test_boxes_beyond_the_map_are_refused(volume, start, shape):
    with pytest.raises(GridError, match="pad the map to go beyond"):
        crop(volume, start=start, shape=shape)


def test_other_bad_requests_are_refused(volume):
    with pytest.raises(GridError, match="not above"):
        crop(volume, lower=(1, 1, 1), upper=(0, 2, 2))
    for n in (-1, 1.5, (1, 2)):
        with pytest.raises(GridError, match="none negative"):
            pad(volume, n)
    labels = LabelVolume(np.zeros(GRID.shape, np.uint8), GRID)
    with pytest.raises(CryonbError, match="whole number"):
        pad(labels, 1, value=0.5)
    with pytest.raises(CryonbError, match="contour is a density"):
        crop(labels, contour=1.0)
