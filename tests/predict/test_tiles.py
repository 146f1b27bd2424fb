"""Tiles: whatever the shape, the stitched result is that of one big tile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from cryonb.errors import CryonbError
from cryonb.predict.tiles import predict_tiles, tile_axis


@settings(deadline=None)
@given(
    size=st.integers(1, 300), edge=st.integers(40, 120), rim=st.integers(0, 16),
    multiple=st.sampled_from([1, 8, 16]), align=st.sampled_from([1, 4]),
    blend=st.sampled_from([None, 0]),
)  # fmt: skip
def test_weights_sum_to_one_and_skip_the_rims(size, edge, rim, multiple, align, blend):
    axis = tile_axis(size, edge=edge, rim=rim, multiple=multiple, align=align, blend=blend)
    assert axis.edge <= -(-edge // multiple) * multiple
    assert not any(start % align for start in axis.starts)
    assert axis.starts[-1] + axis.edge >= size > axis.starts[-1]
    total = np.zeros(size)
    for number, start in enumerate(axis.starts):
        weight = axis.ramps(number)
        inner = min(start + axis.edge, size) - start
        assert not weight[inner:].any()
        if start > 0:
            assert not weight[:rim].any()
        if start + axis.edge < size:
            assert not weight[axis.edge - rim :].any()
        total[start : start + inner] += weight[:inner]
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert axis.edge % multiple == 0


def local_mean(batch):
    """A predictor of known reach: the mean over 9³ voxels, as two classes."""
    found = np.stack([uniform_filter(tile[0], 9, mode="constant") for tile in batch])
    return np.stack([1 - found, found], axis=1)


@pytest.mark.parametrize("shape", [(20, 31, 7), (70, 50, 90), (64, 64, 64), (1, 100, 33)])
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_agree_with_the_whole(rng, shape, batch):
    values = rng.random(shape, dtype=np.float32)
    got = predict_tiles(
        values, local_mean, n_classes=2, edge=32, rim=4, multiple=8, batch=batch, progress=False
    )
    whole = local_mean(values[None, None])[0]
    assert got.shape == (2, *shape)
    np.testing.assert_allclose(got, whole, atol=2e-3)


def test_empty_tiles_are_not_run(rng):
    values = np.zeros((40, 40, 200), np.float32)
    values[:, :, :20] = 1
    calls = []

    def predictor(batch):
        calls.append(len(batch))
        return local_mean(batch)

    got = predict_tiles(
        values, predictor, n_classes=2, edge=40, rim=4, multiple=8, noise=0.1, progress=False
    )
    assert sum(calls) == 1
    np.testing.assert_array_equal(got[0, :, :, 60:], 1)


def test_empty_tiles_between_two_molecules_are_not_run():
    values = np.zeros((40, 40, 400), np.float32)
    values[:, :, 50:70] = values[:, :, 340:350] = 1
    calls = []

    def predictor(batch):
        calls.append(len(batch))
        return local_mean(batch)

    got = predict_tiles(
        values, predictor, n_classes=2, edge=40, rim=4, multiple=8, noise=0.1, progress=False
    )
    assert sum(calls) < 6
    np.testing.assert_allclose(got, local_mean(values[None, None])[0], atol=2e-3)


@pytest.mark.parametrize("edge", [40, 96])
def test_a_molecule_in_a_large_box_costs_its_own_box_only(rng, edge):
    values = np.zeros((90, 100, 110), np.float32)
    values[40:60, 35:50, 60:80] = rng.random((20, 15, 20)) + 0.2
    seen = []

    def predictor(batch):
        seen.append(batch.size)
        found = local_mean(batch)
        # A network whose outermost voxels have no answer.
        found[:, :, :4] = found[:, :, -4:] = 0
        return found

    got = predict_tiles(
        values, predictor, n_classes=2, edge=edge, rim=4, multiple=8, align=4, blend=0,
        noise=0.1, progress=False,
    )  # fmt: skip
    # 20 + 2 × 8 voxels, rounded up, on the longest side.
    assert sum(seen) <= 48**3
    whole = local_mean(values[None, None])[0]
    np.testing.assert_allclose(got, whole, atol=2e-3)
    np.testing.assert_allclose(got.sum(axis=0), 1, atol=2e-3)


@pytest.mark.parametrize("margin", [2, 9])
def test_the_margin_around_density_is_answered(margin):
    values = np.zeros((60, 60, 60), np.float32)
    values[20:40, 20:40, 20:40] = 1

    def predictor(batch):
        return np.stack([np.zeros_like(batch[:, 0]), np.ones_like(batch[:, 0])], axis=1)

    got = predict_tiles(
        values, predictor, n_classes=2, rim=4, multiple=1, margin=margin, progress=False
    )
    answered = np.zeros(values.shape, bool)
    answered[(slice(20 - margin, 40 + margin),) * 3] = True
    np.testing.assert_array_equal(got[1] == 1, answered)
    np.testing.assert_array_equal(got[0] == 1, ~answered)


def test_a_map_of_noise_alone_is_background(rng):
    values = rng.random((20, 20, 20), dtype=np.float32)
    got = predict_tiles(values, local_mean, n_classes=2, rim=4, noise=2.0, progress=False)
    assert (got[0] == 1).all()
    assert (got[1] == 0).all()


def test_tiles_of_nothing_but_rim_are_refused():
    with pytest.raises(CryonbError, match="rim of 20"):
        tile_axis(100, edge=40, rim=20)
