"""Fourier shell correlations against closed forms, a plain sum, mtriage and servalcat."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.errors import CryonbError, GridError
from cryonb.evaluate.fourier_shell import (
    FourierShells,
    half_map_fsc,
    map_model_fsc,
    shell_correlation,
)
from cryonb.grid import Grid
from cryonb.process.mask import model_mask
from cryonb.simulate.fourier import fourier_map
from cryonb.simulate.phantom import example
from cryonb.volume import LabelVolume, Volume

REFERENCE = Path(__file__).parents[1] / "reference"
sys.path.insert(0, str(REFERENCE))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_shells_are_those_of_the_whole_transform(seed):
    rng = np.random.default_rng(seed)
    grid = Grid(rng.integers(6, 15, 3), rng.uniform(0.7, 1.6, 3))
    a, b = rng.normal(size=(2, *grid.shape))
    b += a
    found = shell_correlation(Volume(a, grid), Volume(b, grid))
    # All terms of both transforms, conjugates included, without any symmetry.
    axes = [np.fft.fftfreq(n, v) for n, v in zip(grid.shape, grid.voxel_size[::-1], strict=True)]
    s = np.sqrt(sum(part**2 for part in np.meshgrid(*axes, indexing="ij")))
    width = 1 / grid.extent.max()
    which = np.floor(s / width + 0.5).astype(int)
    f, g = np.fft.fftn(a.astype(np.float32)), np.fft.fftn(b.astype(np.float32))
    shells = [
        k
        for k in np.unique(which)
        if 1 <= k < max(int(0.5 / max(grid.voxel_size) / width + 0.5 + 1e-9), 2)
    ]
    assert len(found) == len(shells)
    for row, k in enumerate(shells):
        mine = which == k
        cross = (f[mine] * g[mine].conj()).sum().real
        norm = np.sqrt((np.abs(f[mine]) ** 2).sum() * (np.abs(g[mine]) ** 2).sum())
        assert found["fsc"][row] == pytest.approx(cross / norm, abs=1e-4)
        assert found["n"][row] == pytest.approx(mine.sum() / 2)
        assert found["s"][row] == pytest.approx(s[mine].mean(), rel=1e-6)


@pytest.fixture(scope="module")
def case():
    """A map, the same with noise twice, and the model."""
    structure = example().structure
    grid = Grid((64, 60, 68), 1.1, tuple(np.array([-18.0, -18.0, -18.0])))
    true = fourier_map(structure, grid, resolution=2.2, b_add=60.0)
    rng = np.random.default_rng(3)
    noise = 2.0 * true.std
    halves = [true.replace(true.values + rng.normal(0, noise, grid.shape)) for _ in range(2)]
    return structure, true, halves


def test_equal_maps_agree_and_noise_does_not(case, rng):
    _, true, _ = case
    same = half_map_fsc(true, true.replace(true.values * 3))
    assert same.table["fsc"].min() > 0.999
    assert same.resolution(0.143) == pytest.approx(same.table["d"].iloc[-1])  # never falls
    other = true.replace(rng.normal(size=true.shape))
    noise = half_map_fsc(other, other.replace(rng.normal(size=true.shape)))
    assert np.abs(noise.table["fsc"][8:]).max() < 0.2
    assert np.isnan(noise.resolution(0.99))


def test_known_signal_and_noise_give_the_known_curve(case):
    _, true, (first, second) = case
    found = half_map_fsc(first, second).table
    signal = shell_correlation(true, first)["fsc"].to_numpy()
    # F = signal / (signal + noise) of one half; the correlation with the truth is its root.
    expected = signal**2
    good = found["n"] > 300
    assert np.abs(found["fsc"] - expected)[good].max() < 0.08
    full = shell_correlation(true, first.replace(first.values + second.values))["fsc"]
    assert np.abs(found["fsc_full"] - full)[good & (found["fsc"] > 0.1)].max() < 0.06


def test_crossings_are_interpolated():
    s = np.array([0.1, 0.2, 0.3, 0.4])
    table = pd.DataFrame({"s": s, "d": 1 / s, "n": 9.0, "fsc": [1.0, 0.8, 0.2, 0.6]})
    found = FourierShells(table, "half maps", "fsc")
    assert found.resolution(0.5) == pytest.approx(1 / 0.25)
    assert found.resolution(0.143) == pytest.approx(2.5)  # never: the last shell
    assert "4.00 Å at 0.5" in repr(found)
    assert "4.00 Å" in found._repr_html_()
    with pytest.raises(CryonbError, match="A curve of fsc was expected"):
        found.resolution(0.5, curve="best")


def test_random_phases_show_what_a_mask_feigns(case):
    structure, _, (first, second) = case
    # A tight, hard mask makes noise agree at its own edges; a soft one does not.
    tight = model_mask(structure, first.grid, radius=1.8, soft_edge=0.0)
    soft = model_mask(structure, first.grid, radius=6.0, soft_edge=8.0)
    hard = half_map_fsc(first, second, mask=tight)
    gentle = half_map_fsc(first, second, mask=soft)
    assert hard.curve == "fsc_corrected"
    far = hard.table["s"] > 0.36
    assert hard.table["fsc_random"][far].mean() > gentle.table["fsc_random"][far].mean() + 0.02
    raw = hard.table["fsc_masked"][far].mean() - hard.table["fsc_corrected"][far].mean()
    assert raw > 0.01
    # Where phases were left alone nothing is corrected.
    low = hard.table["fsc"] > 0.9
    np.testing.assert_array_equal(
        hard.table["fsc_masked"][low][:5], hard.table["fsc_corrected"][low][:5]
    )
    again = half_map_fsc(first, second, mask=tight)
    np.testing.assert_array_equal(hard.table["fsc_random"], again.table["fsc_random"])
    other = half_map_fsc(first, second, mask=tight, rng=np.random.default_rng(5))
    assert np.abs(other.table["fsc_random"] - hard.table["fsc_random"]).max() > 1e-4


def test_a_model_agrees_with_its_own_map_and_less_with_noise(case):
    structure, _, (first, _) = case
    own = map_model_fsc(
        fourier_map(structure, first.grid, resolution=2.2, periodic=True), structure, resolution=3
    )
    assert own.table["fsc"].min() > 0.999
    noisy = map_model_fsc(first, structure, resolution=3)
    assert own.resolution(0.5) < noisy.resolution(0.5) < 8
    assert noisy.resolution(0.143) < noisy.resolution(0.5)
    assert noisy.resolution(0.5) < noisy.resolution(0.5, curve="fsc")  # the mask keeps noise out


def test_bad_requests_are_refused(case):
    structure, true, _ = case
    smaller = Volume(np.zeros((9, 9, 9)), Grid((9, 9, 9)))
    with pytest.raises(GridError, match="Maps on one grid"):
        half_map_fsc(true, smaller)
    with pytest.raises(GridError, match="Maps on one grid"):
        half_map_fsc(true, true, mask=smaller)
    with pytest.raises(CryonbError, match="A density was expected"):
        half_map_fsc(LabelVolume(np.zeros(true.shape, np.uint8), true.grid), true)
    with pytest.raises(CryonbError, match="needs the map's resolution"):
        map_model_fsc(true, structure)


# ---- other programs --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halves(data):
    from half_maps import half_maps, soft_mask

    first, second, voxel, structure = half_maps(data)
    grid = Grid(first.shape, voxel)
    mask = Volume(soft_mask(first.shape, voxel, structure), grid)
    return Volume(first, grid), Volume(second, grid), mask, structure


@pytest.mark.data
def test_resolutions_are_those_of_mtriage(halves):
    """Values by mtriage_fsc.py, beside the table."""
    first, second, _, structure = halves
    theirs = json.loads((REFERENCE / "mtriage_fsc.json").read_text())
    full = first.replace((first.values + second.values) / 2)
    ours = half_map_fsc(first, second)
    assert ours.resolution(0.143) == pytest.approx(theirs["unmasked"]["d_fsc"], abs=0.05)
    assert ours.resolution(0.5) == pytest.approx(theirs["unmasked"]["d_fsc_05"], abs=0.05)
    model = map_model_fsc(full, structure, resolution=3.0)
    for curve, key in (("fsc", "unmasked"), ("fsc_masked", "masked")):
        for threshold, name in ((0.5, "d_fsc_model_05"), (0.143, "d_fsc_model_0143")):
            assert model.resolution(threshold, curve=curve) == pytest.approx(
                theirs[key][name], abs=0.05
            )
    # mtriage's mask: the molecule widened by 6 Å, smoothed as far.
    mask = model_mask(structure, first.grid, radius=6.0, soft_edge=6.0)
    masked = half_map_fsc(first, second, mask=mask)
    assert masked.resolution(0.143, curve="fsc_masked") == pytest.approx(
        theirs["masked"]["d_fsc"], abs=0.05
    )
    assert masked.resolution(0.5, curve="fsc_masked") == pytest.approx(
        theirs["masked"]["d_fsc_05"], abs=0.05
    )


@pytest.mark.data
def test_curves_are_those_of_servalcat(halves):
    """Values by servalcat_fsc.py, beside the table; the same mask for both."""
    first, second, mask, structure = halves
    table = pd.read_csv(REFERENCE / "servalcat_fsc.csv")
    s = (1 / table["d_min"] + 1 / table["d_max"]) / 2
    full = first.replace((first.values + second.values) / 2)
    half = half_map_fsc(first, second, mask=mask)
    model = map_model_fsc(full, structure, mask=mask)

    def theirs(column):
        return FourierShells(
            pd.DataFrame({"s": s, "d": 1 / s, "n": table["ncoeffs"], "fsc": table[column]}),
            "",
            "fsc",
        )

    # Shells are cut at other places, and a shell of few terms differs by that.
    many = table["ncoeffs"] > 80
    for ours, curve, column, near in (
        (half, "fsc", "fsc_half_unmasked", 0.01),
        (half, "fsc_masked", "fsc_half_masked", 0.015),
        (model, "fsc_masked", "fsc_FC_full", 0.005),
    ):
        read = np.interp(s, ours.table["s"], ours.table[curve])
        assert np.abs(read - table[column])[many].max() < near, column
        for threshold in (0.143, 0.5):
            assert ours.resolution(threshold, curve=curve) == pytest.approx(
                theirs(column).resolution(threshold), abs=0.01
            )
    # Random phases differ from draw to draw; where they are few, so does the correction.
    for curve, column in (
        ("fsc_random", "fsc_half_masked_rand"), ("fsc_corrected", "fsc_half_masked_corrected"),
    ):  # fmt: skip
        read = np.interp(s, half.table["s"], half.table[curve])
        assert np.abs(read - table[column])[many].max() < 0.08
        assert np.abs(read - table[column])[many].mean() < 0.015
    assert half.resolution(0.5) == pytest.approx(
        theirs("fsc_half_masked_corrected").resolution(0.5), abs=0.05
    )
