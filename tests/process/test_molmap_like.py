"""A map as soft and as bright as one by molmap."""

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from scipy.fft import irfftn, rfftn

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.files.model import read_model
from cryonb.opening import example_model
from cryonb.process.crop import pad
from cryonb.process.filter import spatial_frequency
from cryonb.process.fourier_shells import Shells
from cryonb.process.level import density_scale
from cryonb.process.molmap_like import _AT_REST, _COARSE, _WIDTH, as_molmap
from cryonb.simulate.gaussian import gaussian_map, sigma_of
from cryonb.train.library import split


@pytest.fixture(scope="module")
def simulated():
    """Rhodopsin by molmap at 6 Å."""
    if find_spec("nglview") is None:  # Importing it here would be too early for the viewer.
        pytest.skip("the model of rhodopsin comes with nglview")
    model = Atoms.from_structure(example_model("rhodopsin"))
    return gaussian_map(model, resolution=6.0)


def scaled(volume, factor):
    """Multiply each term of the transform by a function of 1/d."""
    s = spatial_frequency(volume.shape, volume.voxel_size)
    values = irfftn(rfftn(volume.values) * factor(s), s=volume.shape)
    return volume.replace(values.astype(np.float32))


def likeness(a, b):
    return np.corrcoef(a.values.ravel(), b.values.ravel())[0, 1]


def test_a_simulated_map_stays_as_it_is(simulated):
    before = simulated.values.copy()
    found = as_molmap(simulated, 6.0)
    assert likeness(found, simulated) > 0.998
    assert found.values.mean() == pytest.approx((simulated.values / simulated.max).mean(), rel=0.05)
    np.testing.assert_array_equal(simulated.values, before)
    assert found.history[-1] == "falloff and scale as molmap's at 6 Å"


def test_a_sharpened_map_becomes_soft_again(simulated):
    sharp = scaled(simulated, lambda s: np.exp(15 * (np.clip(s, 0.06, 0.22) - 0.06)))
    assert likeness(sharp, simulated) < 0.9
    found = as_molmap(sharp, 6.0)
    assert likeness(found, simulated) > 0.97


def test_no_term_becomes_stronger(simulated):
    soft = scaled(simulated, lambda s: np.exp(-20 * s))
    found = as_molmap(soft, 6.0)
    # But for the scale, nothing happened.
    np.testing.assert_allclose(
        found.values / found.values.sum(), soft.values / soft.values.sum(), atol=2e-6
    )


def test_the_scale_does_not_hang_on_one_peak_or_on_units(simulated):
    values = 1000 * simulated.values
    found = as_molmap(simulated.replace(values), 6.0)
    np.testing.assert_allclose(found.values, as_molmap(simulated, 6.0).values, atol=1e-4)
    peaked = values.copy()
    peaked[np.unravel_index(values.argmax(), values.shape)] *= 4
    found = as_molmap(simulated.replace(peaked), 6.0)
    assert found.max <= 1.0
    assert density_scale(found.values) == pytest.approx(0.61, abs=0.02)


def test_a_small_box_will_do(simulated):
    middle = tuple(slice(n // 2 - 12, n // 2 + 12) for n in simulated.shape)
    box = nb.Volume(simulated.values[middle], nb.Grid((24, 24, 24)))
    found = as_molmap(box, 6.0)
    assert found.grid == box.grid
    assert np.isfinite(found.values).all()


def test_a_map_without_density_is_refused():
    with pytest.raises(CryonbError, match="positive density"):
        as_molmap(nb.Volume(-np.ones((4, 5, 6), np.float32), nb.Grid((4, 5, 6))), 6.0)


@pytest.mark.data
@pytest.mark.slow
def test_the_constants_are_those_of_domains_for_training(data):
    index = pd.read_csv(data / "structures" / "INDEX.csv")
    domains = index[(split(index) == "train").to_numpy() & index["scope_class"].notna()]
    for resolution, scale in ((6.0, 0.61), (10.0, 0.65)):
        curves, scales = [], []
        for name in domains["file"].sample(12, random_state=1):
            model = Atoms.from_structure(read_model(data / "structures" / name))
            volume = gaussian_map(model, resolution=resolution)
            scales.append(density_scale(volume.values) / volume.max)
            wide = pad(volume, 8)
            shells = Shells(wide.grid, _WIDTH)
            s = shells.s[: len(_AT_REST)]
            fall = 2 * (np.pi * sigma_of(resolution) * s) ** 2
            curve = 0.5 * np.log(shells.power(rfftn(wide.values))[: len(s)]) + fall
            curves.append(curve - curve[_COARSE].mean())
        # The outline, which a dozen domains do not fix, is in the first two shells.
        np.testing.assert_allclose(np.mean(curves, axis=0)[2:], _AT_REST[2:], atol=0.12)
        assert np.mean(scales) == pytest.approx(scale, abs=0.02)
