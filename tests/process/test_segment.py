"""Segments of maps whose parts are known."""

import numpy as np
import pytest

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.process.segment import segment


def blobs(centres, heights, width, shape=(40, 40, 40)):
    z, y, x = np.indices(shape, dtype=float)
    values = np.zeros(shape)
    for (cx, cy, cz), height in zip(centres, heights, strict=True):
        square = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
        values += height * np.exp(-square / (2 * width**2))
    return nb.DensityMap(values, nb.Grid(shape, 1.0, (5.0, 0.0, -3.0)))


def test_each_maximum_is_a_segment_and_the_border_is_half_way():
    m = blobs([(12, 20, 20), (28, 20, 20)], [1.0, 1.0], 4.0)
    found = m.segment(contour=0.05, steps=0)
    assert len(found) == 2
    left = found.labels.values[:, :, :20] == found.labels.values[20, 20, 12]
    inside = m.values[:, :, :20] >= 0.05
    assert (left == inside).all()
    centres = found.table[list("xyz")].to_numpy()
    wanted = np.array([(17.0, 20, 17), (33.0, 20, 17)])
    apart = np.linalg.norm(centres[:, None] - wanted, axis=2).min(axis=1)
    assert apart.max() < 0.6
    assert found.table["volume"].sum() == pytest.approx((m.values >= 0.05).sum())
    np.testing.assert_allclose(found.table["mass"], found.table["volume"] / 1210)


def test_every_voxel_above_the_contour_is_in_one_segment_whatever_the_noise(rng):
    values = blobs([(12, 20, 20), (28, 20, 20)], [1.0, 0.8], 5.0).values
    m = nb.DensityMap(values + rng.normal(0, 0.05, values.shape), nb.Grid(values.shape))
    found = segment(m, contour=0.3, least_volume=0)
    assert ((found.labels.values > 0) == (m.values >= 0.3)).all()
    np.testing.assert_allclose(
        sum(found.map(n).values for n in found.table["segment"]),
        np.where(m.values >= 0.3, m.values, 0),
        rtol=1e-6,
    )
    assert sum(found.labels.counts().values()) == m.grid.n_voxels
    # Noise makes many maxima; smoothing merges them to the two that are there.
    assert len(segment(m, contour=0.3, steps=0)) > 2 >= len(segment(m, contour=0.3, count=2))
    both = segment(m, contour=0.3, count=2)
    truth = np.argmax([blobs([c], [h], 5.0).values for c, h in
                       (((12, 20, 20), 1.0), ((28, 20, 20), 0.8))], axis=0)  # fmt: skip
    agree = [np.mean(truth[both.labels.values == n] == k) for n, k in ((1, 0), (2, 1))]
    assert min(agree) > 0.95


def test_scales_merge_subunits_in_their_order():
    # Two pairs: partners 8 voxels apart, the pairs 40.
    centres = [(14, 16, 12), (14, 24, 12), (54, 16, 12), (54, 24, 12)]
    m = blobs(centres, [1, 0.9, 1, 0.9], 2.5, shape=(24, 40, 70))
    assert len(m.segment(contour=0.05, steps=0)) == 4
    pairs = m.segment(contour=0.05, count=2)
    assert len(pairs) == 2
    number = [pairs.labels.values[z, y, x] for x, y, z in centres]
    assert number[0] == number[1] != number[2] == number[3]
    assert len(m.segment(contour=0.05, steps=0, least_volume=1e6)) == 0


def test_plateaus_end():
    values = np.pad(np.ones((10, 12, 14)), 1)
    m = nb.DensityMap(values, nb.Grid(values.shape))
    assert len(segment(m, contour=0.5, steps=0)) == 1


def test_bad_requests_are_refused():
    m = blobs([(20, 20, 20)], [1.0], 4.0)
    with pytest.raises(CryonbError, match="lower the contour"):
        m.segment(contour=5.0)
    with pytest.raises(CryonbError, match="count=0"):
        m.segment(count=0)
    with pytest.raises(CryonbError, match="from 1 to 1"):
        m.segment(contour=0.1).map(2)


@pytest.mark.parametrize("sigma", [1.0, 4.5, 9.0])
def test_smoothing_is_a_gaussian_filter(rng, sigma):
    from scipy.ndimage import gaussian_filter

    from cryonb.process.segment import _Smoothing

    values = rng.random((90, 41, 75), dtype=np.float32)
    inside = np.zeros(values.shape, dtype=bool)
    inside[40:52, 10:20, 5:9] = rng.random((12, 10, 4)) > 0.5
    wanted = gaussian_filter(values, sigma, mode="constant", truncate=6)[inside]
    # The filter samples the Gaussian, which is not quite the same where it is narrow.
    np.testing.assert_allclose(_Smoothing(values, inside)(sigma), wanted, rtol=0.01)
