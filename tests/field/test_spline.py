"""The B-spline field against scipy's, against closed forms, and its rules."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import NdBSpline
from scipy.ndimage import map_coordinates, spline_filter

from cryonb.density_map import DensityMap
from cryonb.errors import CryonbError
from cryonb.field import Field, SplineField, field
from cryonb.grid import Grid
from cryonb.process.level import density_scale
from cryonb.volume import LabelVolume, Volume

GRID = Grid((9, 12, 10), (0.8, 1.1, 1.3), (3.0, -4.0, 50.0))


@pytest.fixture
def noise(rng):
    return Volume(rng.normal(size=GRID.shape), GRID)


def scipy_spline(volume, degree):
    """The same spline by scipy's class for derivatives, in (z, y, x) voxels."""
    half = degree // 2
    values = spline_filter(volume.values.astype(np.float64), degree, mode="mirror")
    values = np.pad(values, half, mode="reflect")
    knots = [np.arange(n + degree + 1) - half - (degree + 1) / 2.0 for n in values.shape]
    return NdBSpline(tuple(knots), values, degree)


@pytest.mark.parametrize("degree", [3, 5])
def test_values_are_those_of_map_coordinates(noise, rng, degree):
    points = rng.uniform(GRID.lower, GRID.upper, (500, 3))
    expected = map_coordinates(
        noise.values.astype(np.float64), GRID.to_index(points).T, order=degree, mode="mirror"
    )
    np.testing.assert_allclose(
        SplineField(noise, degree=degree).value(points), expected, rtol=0, atol=5e-6
    )


@pytest.mark.parametrize("degree", [3, 5])
def test_derivatives_are_those_of_scipys_spline(noise, rng, degree):
    points = rng.uniform(GRID.lower, GRID.upper, (300, 3))
    spline = scipy_spline(noise, degree)
    index = GRID.to_index(points)
    _, gradient, hessian = SplineField(noise, degree=degree).evaluate(points, derivatives=2)
    unit = np.eye(3, dtype=int)[::-1]
    for a in range(3):
        expected = spline(index, nu=unit[a]) / GRID.voxel_size[a]
        np.testing.assert_allclose(gradient[:, a], expected, rtol=0, atol=2e-5)
        for b in range(3):
            scale = GRID.voxel_size[a] * GRID.voxel_size[b]
            expected = spline(index, nu=unit[a] + unit[b]) / scale
            np.testing.assert_allclose(hessian[:, a, b], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["cubic", "quintic"])
def test_the_spline_goes_through_the_voxels(noise, method):
    made = field(noise, method=method)
    index = np.indices(GRID.shape).reshape(3, -1).T
    np.testing.assert_allclose(
        made.value(GRID.to_points(index)), noise.values.ravel(), rtol=0, atol=5e-6
    )
    np.testing.assert_allclose(made.on_grid(GRID), noise.values, rtol=0, atol=5e-6)


@settings(deadline=None, max_examples=25)
@given(
    x=st.floats(0, 1), y=st.floats(0, 1), z=st.floats(0, 1), degree=st.sampled_from([3, 5]),
    seed=st.integers(0, 5),
)  # fmt: skip
def test_one_point_and_many_agree_and_turn_with_the_axes(x, y, z, degree, seed):
    # Axes exchanged in map and point alike leave the value, and exchange the gradient.
    values = np.random.default_rng(seed).normal(size=GRID.shape)
    point = GRID.lower + np.array([x, y, z]) * (GRID.upper - GRID.lower)
    turned = Grid(GRID.shape[::-1], GRID.voxel_size[::-1], GRID.origin[::-1])
    one = SplineField(Volume(values, GRID), degree=degree)
    two = SplineField(Volume(values.T, turned), degree=degree)
    value, gradient = one.evaluate(point[None])
    value_turned, gradient_turned = two.evaluate(point[None, ::-1])
    assert value == pytest.approx(value_turned, abs=2e-5)
    np.testing.assert_allclose(gradient, gradient_turned[:, ::-1], rtol=0, atol=5e-5)


def test_a_gaussian_is_followed_between_its_voxels():
    # Closed form: value, gradient and curvature of exp(-r²/2σ²) with σ = 2 voxels.
    grid = Grid((25, 25, 25), 0.5, (-6.0, -6.0, -6.0))
    z, y, x = np.meshgrid(*grid.axes()[::-1], indexing="ij")
    made = SplineField(Volume(np.exp(-(x**2 + y**2 + z**2) / 2), grid), degree=5)
    points = np.random.default_rng(1).uniform(-2, 2, (200, 3))
    value, gradient, hessian = made.evaluate(points, derivatives=2)
    true = np.exp(-(points**2).sum(axis=1) / 2)
    np.testing.assert_allclose(value, true, atol=1e-4)
    np.testing.assert_allclose(gradient, -points * true[:, None], atol=5e-4)
    expected = (points[:, :, None] * points[:, None, :] - np.eye(3)) * true[:, None, None]
    np.testing.assert_allclose(hessian, expected, atol=5e-3)


def test_outside_is_nan_and_the_border_is_not(noise):
    made = SplineField(noise)
    points = np.array([GRID.upper, GRID.lower, GRID.upper + [0.01, 0, 0], GRID.lower - [0, 0, 1]])
    points = np.vstack([points, [[np.nan, 0, 0]]])
    value, gradient, hessian = made.evaluate(points, derivatives=2)
    assert np.isnan(value).tolist() == [False, False, True, True, True]
    assert np.isnan(gradient).all(axis=1).tolist() == [False, False, True, True, True]
    assert np.isnan(hessian).all(axis=(1, 2)).tolist() == [False, False, True, True, True]
    assert value[0] == pytest.approx(noise.values[-1, -1, -1], abs=5e-6)


def test_a_finer_grid_is_read_like_points(noise):
    made = SplineField(noise)
    grid = Grid((7, 9, 8), 0.9, tuple(GRID.lower + [2.03, 5.1, 4.4]))
    read = made.on_grid(grid)
    index = np.indices(grid.shape).reshape(3, -1).T
    expected = made.value(grid.to_points(index)).reshape(grid.shape)
    assert 0 < np.isnan(expected).mean() < 0.9
    np.testing.assert_allclose(read, expected, rtol=0, atol=5e-6)
    np.testing.assert_allclose(Field.on_grid(made, grid), expected, rtol=0, atol=1e-6)
    far = Grid((3, 3, 3), 1.0, tuple(GRID.upper + 10))
    assert np.isnan(made.on_grid(far)).all()


def test_many_chunks_are_one_answer(noise, rng, monkeypatch):
    points = rng.uniform(GRID.lower - 1, GRID.upper + 1, (1000, 3))
    made = SplineField(noise)
    whole = made.evaluate(points, derivatives=2)
    monkeypatch.setattr("cryonb.field.spline._CHUNK", 64)
    monkeypatch.setattr("cryonb.field.protocol._BATCH", 100)
    for once, parts in zip(whole, made.evaluate(points, derivatives=2), strict=True):
        np.testing.assert_array_equal(once, parts)


def test_two_voxels_an_axis_are_enough(rng):
    values = rng.normal(size=(2, 3, 4))
    made = SplineField(Volume(values, Grid((2, 3, 4))), degree=5)
    assert made.value([[3.0, 2.0, 1.0]]) == pytest.approx(values[1, 2, 3], abs=1e-5)


@pytest.mark.parametrize(
    ("volume", "options", "message"),
    [
        (
            Volume(np.zeros((4, 4, 4)), Grid((4, 4, 4))),
            {"method": "spam"},
            "cubic, quintic, gaussians, siren",
        ),
        (Volume(np.zeros((4, 4, 4)), Grid((4, 4, 4))), {"epochs": 3}, "takes no options"),
        (Volume(np.zeros((1, 4, 4)), Grid((1, 4, 4))), {}, "at least two voxels"),
        (Volume(np.full((4, 4, 4), np.nan), Grid((4, 4, 4))), {}, "finite values"),
        (
            LabelVolume(np.zeros((4, 4, 4), np.uint8), Grid((4, 4, 4)), classes=("a",)),
            {},
            "a LabelVolume was given",
        ),
    ],
)
def test_bad_input_gets_a_sentence(volume, options, message):
    with pytest.raises(CryonbError, match=message):
        field(volume, **options)


def test_bad_points_and_degrees_get_a_sentence(noise):
    with pytest.raises(CryonbError, match="degree 3 or 5"):
        SplineField(noise, degree=4)
    with pytest.raises(CryonbError, match="shape \\(n, 3\\)"):
        SplineField(noise).value([1.0, 2.0, 3.0])
    with pytest.raises(CryonbError, match="derivatives 0 to 2"):
        SplineField(noise).evaluate([[0, 0, 0]], derivatives=3)


def test_a_map_hands_over_its_field(noise):
    made = DensityMap.from_volume(noise).field()
    assert isinstance(made, SplineField)
    assert made.degree == 3
    positive = np.maximum(noise.values, 0)
    assert made.statistics.mean == pytest.approx(positive.mean())
    assert made.statistics.std == pytest.approx(positive.std())
    assert made.statistics.scale == pytest.approx(density_scale(noise.values))
    assert DensityMap.from_volume(noise).field(method="quintic").degree == 5


def test_the_field_of_a_map_is_read_on_finer_voxels(noise):
    m = DensityMap.from_volume(noise, resolution=3.0, contour=0.5)
    made = m.field()
    fine = made.to_map()
    assert isinstance(fine, DensityMap)
    assert (fine.resolution, fine.contour) == (3.0, 0.5)
    assert fine.voxel_size == pytest.approx((min(m.voxel_size) / 2,) * 3)
    assert fine.origin == m.origin
    outermost = fine.grid.to_points(np.array(fine.shape) - 1)
    assert m.grid.contains(outermost[None] - 1e-6).all()
    points = fine.grid.to_points([[3, 2, 5], [0, 0, 0]])
    np.testing.assert_allclose(fine.sample(points, order=1), made.value(points), atol=1e-5)
    same = made.to_map(min(m.voxel_size))
    assert same.shape[2] <= m.shape[2] * m.voxel_size[0] / min(m.voxel_size)
    again = copy.deepcopy(made)
    np.testing.assert_array_equal(again.value(points), made.value(points))
    assert again.density.resolution == 3.0


def test_no_points_give_empty_arrays(noise):
    value, gradient = SplineField(noise).evaluate(np.empty((0, 3)))
    assert value.shape == (0,)
    assert gradient.shape == (0, 3)
