"""What amplitudes tell: a B factor that was put in comes out; where a map's terms end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import irfftn, rfftn

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.process.falloff import (
    estimate_b,
    estimate_resolution,
    fit_b,
    known_resolution,
    shell_power,
)
from cryonb.process.filter import ball_transform, spatial_frequency
from cryonb.simulate.fourier import fourier_map


@pytest.fixture(scope="module")
def molecule():
    grid = nb.Grid((56, 60, 64), 1.0, (-28.0, -30.0, -30.0))
    return fourier_map(nb.example_model(), grid, resolution=2.0)


def blurred(volume, b):
    s = spatial_frequency(volume.shape, volume.voxel_size)
    terms = rfftn(volume.values) * np.exp(-b * s**2 / 4)
    return volume.replace(irfftn(terms, s=volume.shape).astype(np.float32))


@given(b=st.floats(-30, 120), resolution=st.floats(2.5, 4.0))
@settings(max_examples=10, deadline=None)
def test_a_falloff_that_is_added_is_found(molecule, b, resolution):
    before = estimate_b(molecule, resolution=resolution)
    after = estimate_b(blurred(molecule, b), resolution=resolution)
    # Shells have a width, over which the mean amplitude is not that of the mean frequency.
    assert after - before == pytest.approx(b, abs=0.5 + 0.02 * abs(b))


def test_atoms_at_rest_fall_off_themselves(molecule):
    wilson, guinier = (estimate_b(molecule, resolution=2.5, atoms=a) for a in (True, False))
    # A Gaussian with the falloff of carbon's electron scattering between 10 and 2.5 Å.
    assert 8 < guinier - wilson < 16
    # The phantom's atoms have B = 30 Å².
    assert wilson == pytest.approx(30, abs=25)


def test_a_straight_line_is_fitted_exactly():
    s = np.linspace(0.02, 0.5, 60)
    table = shell_power(nb.example()).iloc[:1].reindex(range(60)).assign(s=s, n=9.0)
    table["power"] = 7.0 * np.exp(-90.0 * s**2 / 2)
    assert fit_b(table, resolution=3.0, atoms=False) == pytest.approx(90.0, rel=1e-6)
    with pytest.raises(CryonbError, match="At least 4 shells"):
        fit_b(table.iloc[::8], resolution=8.0)


@pytest.mark.parametrize("d", [3.0, 4.5, 7.0])
def test_white_terms_that_end_at_d(rng, d):
    grid = nb.Grid((48, 50, 52), 1.0)
    s = spatial_frequency(grid.shape, grid.voxel_size)
    terms = rfftn(rng.normal(size=grid.shape)) * (s < 1 / d)
    made = nb.Volume(irfftn(terms, s=grid.shape), grid)
    # Power up to s goes with s³, and 0.99² of it is at 0.98^(1/3) of the end.
    assert estimate_resolution(made) == pytest.approx(d, rel=0.06)


@pytest.mark.data
def test_deposited_maps_hold_about_what_is_stated(data):
    for name, stated in (
        ("6272/6272_zone4A.mrc.gz", 2.6), ("30342/390_emd_30342_A_z4.mrc.gz", 3.9),
        ("4118/5ly6_box.ccp4.gz", 4.5), ("20026/emd20026_prot.mrc.gz", 1.75),
    ):  # fmt: skip
        assert 0.7 < estimate_resolution(nb.open_map(data / "maps" / name)) / stated < 1.5


def test_what_is_asked_for_wins_over_what_is_known():
    m = nb.example()
    assert known_resolution(m) == 4.0
    assert known_resolution(m, 5.0) == 5.0
    assert known_resolution(m, 0.5) == 2.0  # Nyquist
    assert 2.0 <= known_resolution(nb.Volume(m.values, m.grid)) < 6.0
    with pytest.raises(CryonbError, match="positive resolution"):
        known_resolution(m, -1.0)


def test_maps_that_say_nothing_are_refused():
    grid = nb.Grid((16, 16, 16))
    with pytest.raises(CryonbError, match="all voxels are 2"):
        known_resolution(nb.Volume(np.full(grid.shape, 2.0), grid))
    broken = np.zeros(grid.shape)
    broken[3, 3, 3] = np.nan
    with pytest.raises(CryonbError, match="not numbers"):
        known_resolution(nb.Volume(broken, grid))


def test_a_ball_takes_means():
    grid = nb.Grid((40, 40, 40), 1.0)
    s = spatial_frequency(grid.shape, grid.voxel_size)
    values = np.zeros(grid.shape)
    values[20, 20, 20] = 1.0
    spread = irfftn(rfftn(values) * ball_transform(s, 6.0), s=grid.shape)
    z, y, x = np.indices(grid.shape) - 20
    r = np.sqrt(z**2 + y**2 + x**2)
    inside = 1 / (4 / 3 * np.pi * 6.0**3)
    assert spread.sum() == pytest.approx(1, rel=1e-6)
    assert spread[r < 5].mean() == pytest.approx(inside, rel=0.02)
    assert np.abs(spread[r > 8]).mean() < 0.03 * inside
