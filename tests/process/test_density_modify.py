"""Density modification: gain against a known truth, none where there is nothing to gain."""

import numpy as np
import pytest
from scipy.fft import irfftn, rfftn

import cryonb as nb
from cryonb.errors import CryonbError, GridError
from cryonb.process import density_modify as room
from cryonb.process.density_modify import density_modify
from cryonb.process.filter import spatial_frequency
from cryonb.process.fourier_shells import FourierShells, Shells, shell_correlation
from cryonb.process.map_likelihood import likelihood_slope, molecule_probability
from cryonb.process.mask import model_mask
from cryonb.simulate.fourier import fourier_map

VOXEL = 1.4


def with_noise(truth, level, seed):
    """Two halves whose mean has `level` times the truth's power in noise at 4 Å."""
    rng = np.random.default_rng(seed)
    shells = Shells(truth.grid)
    terms = rfftn(truth.values)
    power = shells.power(terms)[np.abs(shells.s - 0.25).argmin()]
    deviation = np.sqrt(2 * level * power / truth.grid.n_voxels)
    return nb.half_maps(
        *(
            nb.DensityMap(truth.values + rng.normal(0, deviation, truth.shape), truth.grid)
            for _ in range(2)
        )
    )


def before(made, halves):
    """The mean, weighted as it would be without modification."""
    s = spatial_frequency(halves.mean.shape, halves.mean.voxel_size)
    weight = np.interp(s, made.curve["s"], made.curve["fsc_before"], right=0)
    weight = np.maximum(weight, 1e-3)
    values = irfftn(rfftn(halves.mean.values) * weight, s=halves.mean.shape)
    return halves.mean.replace(values.astype(np.float32))


def rise(old, new, share=1.0):
    """Rise of the correlation in standard errors of one map's atanh."""
    a, b = (np.arctanh(table["fsc"].clip(upper=0.9999)) for table in (old, new))
    return (b - a) * np.sqrt(np.maximum(share * new["n"], 1))


@pytest.fixture(scope="module")
def case():
    """The phantom's map, its noisy halves, a mask around the model, and what came of them."""
    model = nb.example_model()
    grid = nb.Grid((48, 48, 48), VOXEL, (-33.0, -33.0, -33.0))
    truth = fourier_map(model, grid, resolution=2 * VOXEL, b_add=60.0, periodic=True)
    halves = with_noise(truth, 4.0, 1)
    return truth, halves, model_mask(model, grid), halves.density_modify(progress=False)


def test_the_map_comes_nearer_to_the_truth(case):
    truth, halves, around, made = case
    for mask, least in ((None, 0.3), (around, 0.05)):
        tables = [shell_correlation(m, truth, mask=mask) for m in (before(made, halves), made.map)]
        old, new = (FourierShells(table, "map and model", "fsc") for table in tables)
        assert old.resolution(0.5) - new.resolution(0.5) > least
        share = 1 if mask is None else np.mean(mask.values**2)
        change = rise(*tables, share)
        assert change.min() > -3
        assert change.max() > 5
    assert made.gain > 0.05
    assert made.resolution_after < made.resolution_before


def test_the_gain_is_estimated_without_the_truth(case):
    truth, _, _, made = case
    found = shell_correlation(made.map, truth, mask=made.mask)["fsc"]
    held = made.curve["fsc"] > 0.05
    assert np.abs(found - made.curve["fsc_after"])[held].mean() < 0.08


def test_either_half_gains_and_keeps_its_class(case):
    truth, halves, around, made = case
    assert type(made.half_maps) is type(halves)
    assert type(made.map) is nb.DensityMap
    assert made.cycles == 2
    for old, new in zip(halves, made.half_maps, strict=True):
        old, new = (shell_correlation(m, truth, mask=around)["fsc"] for m in (old, new))
        assert (new - old).mean() > 0.01
    assert "density modified in 2 cycles" in made.map.history[-1]


def test_where_nothing_is_to_be_gained_nothing_is_lost():
    # A truth that is Gaussian noise, even all over the box, has no regions and no histogram.
    rng = np.random.default_rng(5)
    grid = nb.Grid((48, 48, 48), VOXEL)
    s = spatial_frequency(grid.shape, grid.voxel_size)
    terms = rfftn(rng.standard_normal(grid.shape)) * np.exp(-80 * s**2 / 4)
    truth = nb.Volume(irfftn(terms, s=grid.shape).astype(np.float32), grid)
    halves = with_noise(truth, 1.0, 6)
    made = halves.density_modify(progress=False)
    old, new = (shell_correlation(m, truth) for m in (before(made, halves), made.map))
    assert rise(old, new).min() > -3
    assert (made.mask.values == 1).all()
    assert abs(made.gain) < 0.05


def test_noise_is_refused():
    rng = np.random.default_rng(7)
    grid = nb.Grid((40, 40, 40), VOXEL)
    halves = nb.half_maps(*(nb.DensityMap(rng.normal(size=grid.shape), grid) for _ in range(2)))
    with pytest.raises(CryonbError, match="Half maps that agree were expected"):
        halves.density_modify(progress=False)


def test_input_is_not_changed_and_the_scale_does_not_matter(case):
    _, halves, _, made = case
    kept = [half.values.copy() for half in halves]
    larger = [half.replace(half.values * 1000) for half in halves]
    m = halves.mean.replace(halves.mean.values, note="sharpened elsewhere")
    m.contour = 0.1
    again = m.density_modify(larger, progress=False)
    assert m.contour == 0.1
    assert again.map.contour is None
    for half, values in zip(halves, kept, strict=True):
        np.testing.assert_array_equal(half.values, values)
    scale = np.abs(made.map.values).max()
    np.testing.assert_allclose(again.map.values / 1000, made.map.values, atol=2e-3 * scale)


def test_bad_input_is_refused(case):
    _, halves, _, _ = case
    first = halves.first
    other = nb.DensityMap(np.ones((20, 20, 20)), nb.Grid((20, 20, 20), VOXEL))
    with pytest.raises(GridError, match="Maps on one grid"):
        density_modify(first, (first, other))
    with pytest.raises(GridError, match="Maps on one grid"):
        other.density_modify(halves)
    with pytest.raises(GridError, match="Maps on one grid"):
        halves.density_modify(mask=other)
    with pytest.raises(CryonbError, match="One cycle or more"):
        halves.density_modify(cycles=0)
    with pytest.raises(CryonbError, match="weights above zero"):
        halves.density_modify(mask=first.replace(np.zeros(first.shape)))


def test_an_interruption_ends_with_the_cycles_that_are_done(case, monkeypatch, capsys):
    _, halves, _, made = case
    calls = []

    def slope(*values):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return likelihood_slope(*values)

    monkeypatch.setattr(room, "likelihood_slope", slope)
    stopped = halves.density_modify()
    assert stopped.cycles == 1
    assert "interrupted" in capsys.readouterr().err
    assert stopped.resolution_after < stopped.resolution_before
    calls[:] = [1, 1, 1]
    none = halves.density_modify(progress=False)
    assert none.cycles == 0
    assert none.gain == 0
    assert not none.curve["modified"].any()
    np.testing.assert_allclose(none.curve["fsc_before"], made.curve["fsc_before"])
    # Without a cycle the map is the mean weighted by FSC.
    expected = before(none, halves).values
    scale = np.abs(expected).max()
    np.testing.assert_allclose(none.map.values, expected, atol=1e-2 * scale)


def test_a_mask_that_was_applied_before_does_no_harm(case):
    truth, halves, around, _ = case
    masked = nb.half_maps(*(half.replace(half.values * around.values) for half in halves))
    made = masked.density_modify(progress=False)
    assert np.isfinite(made.map.values).all()
    old, new = (
        shell_correlation(m, truth, mask=around)["fsc"] for m in (before(made, masked), made.map)
    )
    assert (new - old).min() > -0.05


def test_molecule_is_told_from_solvent_by_its_variance():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(48, 48, 48)).astype(np.float32)
    values[12:36, 12:36, 12:36] *= 4
    s = spatial_frequency(values.shape, (1.0, 1.0, 1.0))
    found = molecule_probability(values, s, 4.0)
    assert found[18:30, 18:30, 18:30].min() > 0.95
    outside = np.ones(values.shape, bool)
    outside[6:42, 6:42, 6:42] = False
    assert np.median(found[outside]) < 0.05


def test_the_slope_is_that_of_a_normal_distribution():
    # ln p = -v² / (2 σ²), of which the slope is -v / σ².
    rng = np.random.default_rng(4)
    values = rng.normal(0, 2.0, (60, 60, 60)).astype(np.float32)
    found = likelihood_slope(values, np.zeros(values.shape, np.float32), 0.2)
    near = np.abs(values) < 3
    line = np.polyfit(values[near], found[near], 1)
    np.testing.assert_allclose(line, (-1 / 4, 0), atol=0.01)


def test_it_draws_itself(case):
    made = case[3]
    assert made.plot()._repr_png_()[:4] == b"\x89PNG"
    assert "Density modified" in made._repr_html_()
    assert "shells modified" in repr(made)
