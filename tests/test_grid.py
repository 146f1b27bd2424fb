"""Grid: index to Å and back, boxes, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.errors import CryonbError, GridError
from cryonb.grid import Grid

shapes = st.tuples(*[st.integers(1, 400)] * 3)
voxels = st.tuples(*[st.floats(0.1, 20)] * 3)
origins = st.tuples(*[st.floats(-2000, 2000)] * 3)
grids = st.builds(Grid, shapes, voxels, origins)


@settings(deadline=None)
@given(grid=grids, fractions=st.lists(st.tuples(*[st.floats(-1, 2)] * 3), min_size=1, max_size=20))
def test_index_to_points_and_back(grid, fractions):
    index = np.array(fractions) * grid.shape
    again = grid.to_index(grid.to_points(index))
    np.testing.assert_allclose(again, index, atol=1e-7)


@settings(deadline=None)
@given(grid=grids)
def test_corners(grid):
    last = np.array(grid.shape) - 1
    np.testing.assert_allclose(grid.to_points([0, 0, 0]), grid.origin)
    np.testing.assert_allclose(grid.to_points(last), grid.upper)
    assert grid.contains(grid.to_points([[0, 0, 0], last, last / 2])).all()
    assert not grid.contains(grid.upper + np.array(grid.voxel_size) * [0.1, 0, 0])
    assert not grid.contains(grid.lower - np.array(grid.voxel_size) * [0, 0, 0.1])


@settings(deadline=None)
@given(
    grid=grids,
    start=st.tuples(*[st.integers(-50, 50)] * 3),
    shape=st.tuples(*[st.integers(1, 50)] * 3),
)
def test_crop_keeps_voxels_in_place(grid, start, shape):
    part = grid.crop(start, shape)
    assert part.shape == shape
    np.testing.assert_allclose(
        part.to_points([1, 2, 3]), grid.to_points(np.array(start) + [1, 2, 3]), atol=1e-9
    )


@settings(deadline=None)
@given(grid=grids, before=st.tuples(*[st.integers(0, 9)] * 3), after=st.integers(0, 9))
def test_pad_and_crop_give_the_same_grid(grid, before, after):
    wide = grid.pad(before, after)
    assert wide.shape == tuple(n + b + after for n, b in zip(grid.shape, before, strict=True))
    assert wide.crop(before, grid.shape).is_close(grid)
    assert grid.pad(2).shape == tuple(n + 4 for n in grid.shape)


@settings(deadline=None)
@given(grid=grids, voxel=st.floats(0.5, 5))
def test_new_spacing_stays_within_the_old_centres(grid, voxel):
    other = grid.with_voxel_size(voxel)
    assert other.origin == grid.origin
    slack = 1e-5 * voxel
    assert (other.upper <= grid.upper + slack).all()
    assert (other.upper > grid.upper - voxel - slack).all()


@settings(deadline=None)
@given(
    points=st.lists(st.tuples(*[st.floats(-100, 100)] * 3), min_size=1, max_size=10),
    voxel=st.floats(0.5, 5),
    margin=st.floats(0, 10),
)
def test_grid_around_points(points, voxel, margin):
    grid = Grid.around(points, voxel, margin)
    points = np.array(points)
    assert (grid.lower <= points.min(axis=0) - margin + 1e-6).all()
    assert (grid.upper >= points.max(axis=0) + margin - 1e-6).all()
    assert (grid.lower > points.min(axis=0) - margin - voxel - 1e-6).all()
    steps = grid.lower / voxel
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)


def test_axis_order_by_hand():
    grid = Grid((2, 3, 4), (1, 10, 100), (0.5, 0, -7))
    # One step along the first array axis is one step along z.
    np.testing.assert_allclose(grid.to_points([1, 0, 0]), [0.5, 0, 93])
    np.testing.assert_allclose(grid.to_points([0, 0, 3]), [3.5, 0, -7])
    np.testing.assert_allclose(grid.to_index([3.5, 20, 93]), [1, 2, 3])
    assert grid.n_voxels == 24
    assert grid.voxel_volume == 1000
    np.testing.assert_allclose(grid.extent, [4, 30, 200])
    x, y, z = grid.axes()
    assert (x.tolist(), y.tolist(), z.tolist()) == ([0.5, 1.5, 2.5, 3.5], [0, 10, 20], [-7, 93])
    assert "x 0.5 to 3.5, y 0.0 to 20.0, z -7.0 to 93.0 Å" in grid.describe_box()


def test_shapes_of_points_are_kept():
    grid = Grid((5, 5, 5))
    assert grid.to_index([1, 2, 3]).shape == (3,)
    assert grid.to_points(np.zeros((4, 2, 3))).shape == (4, 2, 3)
    assert grid.contains(np.zeros((4, 2, 3))).shape == (4, 2)


def test_overlap_is_zero_apart_and_full_within():
    grid = Grid((11, 11, 11), 1.0)
    np.testing.assert_allclose(grid.overlap([2, 3, 4], [5, 5, 100]), [3, 2, 6])
    np.testing.assert_allclose(grid.overlap([20, 3, 4], [25, 5, 5]), [0, 2, 1])


def test_equality_and_hash():
    assert Grid((1, 2, 3), 2) == Grid((1, 2, 3), (2, 2, 2))
    assert len({Grid((1, 2, 3)), Grid((1, 2, 3)), Grid((3, 2, 1))}) == 2
    assert Grid((9, 9, 9), 1).is_close(Grid((9, 9, 9), 1.0001))
    assert not Grid((9, 9, 9), 1).is_close(Grid((9, 9, 9), 1.001))
    assert not Grid((9, 9, 9)).is_close(Grid((9, 9, 8)))


def test_numpy_numbers_are_taken_and_arguments_not_changed():
    shape, origin = np.array([3, 4, 5]), np.array([1.0, 2.0, 3.0])
    grid = Grid(shape, np.float32(1.5), origin)
    grid.lower[:] = 0
    origin[:] = 9
    assert grid == Grid((3, 4, 5), 1.5, (1, 2, 3))
    assert all(type(n) is int for n in grid.shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 1, 1),), "positive whole numbers"),
        (((1.5, 1, 1),), "positive whole numbers"),
        (((1, 1),), "one or three"),
        (((1, 1, 1), 0), "must be positive"),
        (((1, 1, 1), (1, -1, 1)), "must be positive"),
        (((1, 1, 1), np.nan), "finite"),
        (((1, 1, 1), 1, (0, 0, np.inf)), "finite"),
        (((1, 1, 1), "one"), "one or three finite numbers"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(GridError, match=message):
        Grid(*arguments)


def test_no_points():
    with pytest.raises(CryonbError, match="at least one point"):
        Grid.around(np.zeros((0, 3)))
