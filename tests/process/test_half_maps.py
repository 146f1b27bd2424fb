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


@pytest.fixture(scope="module")
def measured():
    """A noisy map of the example at 3 Å, with its halves."""
    rng = np.random.default_rng(3)
    clean = nb.example(resolution=3.0)
    halves = [
        clean.replace(clean.values + 0.5 * clean.std * rng.normal(size=clean.shape)).filter(low=2.2)
        for _ in range(2)
    ]
    return clean.replace((halves[0].values + halves[1].values) / 2).with_half_maps(*halves)


def test_half_maps_ride_on_a_map(measured, tmp_path):
    first, second = measured.half_maps
    np.testing.assert_allclose(measured.values, measured.half_maps.mean.values)
    # What is made of the map is no longer the mean of these halves.
    assert measured.filter(low=4.0).half_maps is None
    assert measured.crop(start=(1, 1, 1), shape=(30, 30, 30)).half_maps is None
    paths = [
        v.save(tmp_path / f"{n}.mrc") for v, n in ((measured, "m"), (first, "a"), (second, "b"))
    ]
    read = nb.open_map(paths[0], resolution=3.0, half_maps=paths[1:])
    np.testing.assert_array_equal(read.half_maps.second.values, second.values)
    assert read.resolution == 3.0
    with pytest.raises(GridError, match="resample one to the grid of the other"):
        measured.with_half_maps(
            *(h.crop(start=(0, 0, 0), shape=(30, 30, 30)) for h in (first, second))
        )


def test_tools_use_the_half_maps_that_ride(measured):
    halves = measured.half_maps
    plain = measured.replace()
    assert plain.half_maps is None
    same = np.testing.assert_array_equal
    same(measured.sharpen().values, plain.sharpen(half_maps=halves).values)
    assert measured.sharpening().method == "half_maps"
    assert measured.sharpening(method="half_maps").method == "half_maps"
    assert measured.sharpening(b_iso=30.0).method == "b_iso"
    same(measured.sharpen(method="surface").values, plain.sharpen(method="surface").values)
    model = nb.example_model()
    same(measured.difference(model).values, plain.difference(model, half_maps=halves).values)
    same(measured.local_resolution().values, halves.local_resolution().values)
    for tool in (plain.local_resolution, plain.density_modify):
        with pytest.raises(CryonbError, match="none ride on this map"):
            tool()


def test_a_model_is_judged_beside_the_half_maps(measured):
    model = nb.example_model()
    found = measured.evaluate(model)
    plain = measured.replace().evaluate(model)
    halves, table = found.summary["fsc_half_0.143"], found.fsc.table
    assert "fsc_half_0.143" not in plain.summary
    np.testing.assert_array_equal(plain.summary, found.summary.drop("fsc_half_0.143"))
    assert 2.0 < halves < 4.0
    corrected = table["fsc_corrected"].clip(lower=0)
    fine = corrected > 0.01
    np.testing.assert_allclose(
        table["fsc_full"][fine], np.sqrt(2 * corrected / (1 + corrected))[fine], atol=1e-6
    )
    # The model is the truth here, so its correlation is what the halves foretell.
    middle = (table["d"] > halves) & (table["d"] < 12)
    apart = (table["fsc_masked"] - table["fsc_full"])[middle]
    assert np.abs(apart).max() < 0.1
    assert found.fsc.plot()._repr_png_().startswith(b"\x89PNG")


def test_a_local_resolution_adds_a_score(measured):
    model = nb.example_model()
    local = measured.local_resolution()
    found = measured.evaluate(model, resolution=local)
    plain = measured.evaluate(model)
    assert np.isfinite(found.summary["cc_mask_local"])
    np.testing.assert_array_equal(plain.summary, found.summary.drop("cc_mask_local"))
    inside = found.residues["resolution"]
    assert inside.between(local.values.min(), local.values.max()).all()
    assert found.settings["resolution"] == "3 Å"
    assert "resolution" not in plain.residues
