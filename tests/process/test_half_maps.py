"""Half maps: what is refused, and what they give."""

import numpy as np
import pytest

import cryonb as nb
from cryonb.errors import CryonbError, GridError


@pytest.fixture
def pair(rng):
    grid = nb.Grid((20, 22, 24), 1.2, (5.0, 6.0, 7.0))
    return [nb.DensityMap(rng.normal(size=grid.shape), grid, resolution=4.0) for _ in range(2)]


def test_the_mean_is_a_map(pair):
    halves = nb.half_maps(*pair)
    first, second = halves
    np.testing.assert_allclose(halves.mean.values, (first.values + second.values) / 2)
    assert type(halves.mean) is nb.DensityMap
    assert halves.mean.resolution == 4.0
    assert halves.mean.grid == pair[0].grid
    assert "two of <DensityMap" in repr(halves)


def test_files_and_volumes_are_the_same(pair, tmp_path):
    paths = [half.save(tmp_path / f"{k}.mrc") for k, half in enumerate(pair)]
    read = nb.half_maps(*paths, resolution=4.0)
    np.testing.assert_array_equal(read.mean.values, nb.half_maps(*pair).mean.values)
    table = read.fsc().table
    assert np.abs(table["fsc"]).max() < 1
    plain = nb.half_maps(*(nb.Volume(half.values, half.grid) for half in pair))
    assert type(plain.mean) is nb.DensityMap


def test_what_is_no_pair_of_halves_is_refused(pair):
    first, second = pair
    with pytest.raises(CryonbError, match="both are the same map"):
        nb.half_maps(first, first.replace(first.values.copy()))
    with pytest.raises(CryonbError, match="all voxels of the second are 3"):
        nb.half_maps(first, second.replace(np.full(first.shape, 3.0, np.float32)))
    broken = first.values.copy()
    broken[2, 2, 2] = np.nan
    with pytest.raises(CryonbError, match="some of the first are not numbers"):
        nb.half_maps(first.replace(broken), second)
    with pytest.raises(GridError, match="resample one to the grid of the other"):
        nb.half_maps(first, second.crop(start=(0, 0, 0), shape=(9, 9, 9)))
    with pytest.raises(CryonbError, match="A density was expected"):
        nb.half_maps(first, nb.LabelVolume(np.zeros(first.shape, np.uint8), first.grid))
