"""A map at a coarser resolution."""

import numpy as np
import pytest

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.process.blur import blurred
from cryonb.simulate import phantom
from cryonb.simulate.gaussian import gaussian_map


def test_a_simulated_map_becomes_that_of_the_coarser_resolution():
    model = phantom.alpha_helix(12).structure
    coarse = gaussian_map(model, resolution=6.0, voxel_size=0.7)
    fine = gaussian_map(model, coarse.grid, resolution=3.5)
    before = fine.values.copy()
    found = blurred(fine, 3.5, 6.0)
    np.testing.assert_allclose(found.values, coarse.values, atol=2e-3 * coarse.max)
    np.testing.assert_array_equal(fine.values, before)
    assert found.history[-1] == "blurred from 3.5 to 6 Å"


def test_the_resolution_goes_with_the_map():
    m = nb.DensityMap(np.ones((4, 5, 6), np.float32), nb.Grid((4, 5, 6)), resolution=3.0)
    assert blurred(m, 3.0, 5.0).resolution == 5.0
    assert m.resolution == 3.0


def test_a_map_cannot_be_unblurred():
    m = nb.DensityMap(np.ones((4, 5, 6), np.float32), nb.Grid((4, 5, 6)))
    with pytest.raises(CryonbError, match="coarser than the map's 5 Å"):
        blurred(m, 5.0, 3.0)
