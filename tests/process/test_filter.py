"""Filters: plane waves pass or vanish; hands are mirrored."""

import numpy as np
import pytest

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.process.filter import band_filter, flip_hand, spatial_frequency


def wave(d, n=48, voxel=1.0):
    """A plane wave along a diagonal of (z, y) with wavelength near d, periodic in the box."""
    k = round(n * voxel / d / np.sqrt(2))
    z, y, _ = np.indices((n, n, n))
    grid = nb.Grid((n, n, n), voxel, (1.0, 2.0, 3.0))
    values = np.cos(2 * np.pi * k * (z + y) / n).astype(np.float32)
    return nb.Volume(values, grid), n * voxel / k / np.sqrt(2)


@pytest.mark.parametrize(("d", "low", "high", "stays"), [
    (4.0, 3.0, None, 1), (4.0, 6.0, None, 0), (4.0, None, 6.0, 1), (8.0, None, 6.0, 0),
    (6.0, 4.0, 10.0, 1), (3.0, 4.0, 10.0, 0), (17.0, 4.0, 10.0, 0),
])  # fmt: skip
def test_waves_pass_or_vanish(d, low, high, stays):
    m, _ = wave(d)
    found = band_filter(m, low=low, high=high)
    np.testing.assert_allclose(found.values, stays * m.values, atol=1e-4)
    assert found.grid == m.grid


def test_frequencies_are_those_of_the_wave():
    m, d = wave(5.0, voxel=1.2)
    s = spatial_frequency(m.shape, m.voxel_size)
    strongest = np.abs(np.fft.rfftn(m.values)).argmax()
    assert s.ravel()[strongest] == pytest.approx(1 / d, rel=1e-5)


def test_a_map_gets_its_new_resolution():
    m = nb.example()
    assert m.filter(low=8.0).resolution == 8.0
    assert m.filter(low=2.0).resolution == m.resolution
    assert "8 Å low-pass" in m.filter(low=8.0).history[-1]


def test_limits_that_make_no_sense_are_refused():
    m, _ = wave(6.0)
    with pytest.raises(CryonbError, match="positive limit"):
        band_filter(m)
    with pytest.raises(CryonbError, match="finer"):
        band_filter(m, low=9.0, high=5.0)


def test_the_other_hand():
    m = nb.example()
    found = flip_hand(m)
    assert found.grid == m.grid
    np.testing.assert_array_equal(flip_hand(found).values, m.values)
    np.testing.assert_array_equal(found.values[0], m.values[-1])


def test_maps_are_filtered_to_their_resolution(rng):
    grid = nb.Grid((20, 22, 24), 1.0)
    m = nb.DensityMap(rng.random(grid.shape), grid, resolution=5.0)
    np.testing.assert_array_equal(m.filter().values, m.filter(low=5.0).values)
    with pytest.raises(CryonbError, match="low= or high= was expected"):
        nb.DensityMap(m.values, grid).filter()
