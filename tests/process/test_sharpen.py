"""Sharpening: B factors that were put in are taken out; cctbx's choice; bad input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.fft import irfftn, rfftn

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, GridError
from cryonb.process.falloff import estimate_b, fit_b, shell_power
from cryonb.process.filter import spatial_frequency
from cryonb.process.local_sharpen import match_model
from cryonb.process.mask import model_mask
from cryonb.process.sharpen import sharpen, sharpening, transfer
from cryonb.process.surface import molecule_share, surface_and_regions
from cryonb.simulate.fourier import fourier_map

REFERENCE = Path(__file__).parents[1] / "reference" / "cctbx_sharpen.json"
RESOLUTION = 3.0


def agree(a, b, mask=None):
    keep = slice(None) if mask is None else mask
    return np.corrcoef(a.values[keep].ravel(), b.values[keep].ravel())[0, 1]


@pytest.fixture(scope="module")
def case():
    """The phantom's map as it should be, with 120 Å² more, and two noisy halves of that."""
    model = nb.example_model()
    grid = nb.Grid((60, 60, 64), 1.1, (-33.0, -33.0, -33.0))
    truth = fourier_map(model, grid, resolution=RESOLUTION, periodic=True)
    dull = fourier_map(model, grid, resolution=RESOLUTION, b_add=120.0, periodic=True)
    rng = np.random.default_rng(1)
    noise = 0.5 * dull.std
    halves = [dull.replace(dull.values + rng.normal(0, noise, grid.shape)) for _ in range(2)]
    return model, truth, dull, nb.half_maps(*halves)


def test_a_target_is_reached(case):
    _, truth, dull, _ = case
    for target in (20.0, 90.0, 250.0):
        made = sharpening(dull, resolution=RESOLUTION, b_iso=target)
        assert made.method == "b_iso"
        # Close to the resolution the transfer droops already.
        taken, left = (estimate_b(m, resolution=4.0) for m in (dull, made.map))
        assert taken - left == pytest.approx(made.b_sharpen, abs=5)
        assert made.b_iso == pytest.approx(target)
    back = sharpen(dull, resolution=RESOLUTION, b_iso=estimate_b(truth, resolution=RESOLUTION))
    assert agree(back, truth) > 0.95
    assert agree(dull, truth) < 0.9
    rule = sharpening(dull, resolution=RESOLUTION, method="b_iso")
    assert rule.b_iso == pytest.approx(5.9 * RESOLUTION**2)


def test_the_transfer_turns_at_the_resolution():
    s = np.array([0.0, 0.1, 0.2, 0.3, 1 / 3.0, 1 / 2.4])
    found = transfer(s, 80.0, 3.0)
    np.testing.assert_allclose(found[:3], np.exp(80 * s[:3] ** 2 / 4), rtol=1e-3)
    b = 80 - 200 / (1 + np.exp(10 * (1 / 0.3 - 3.0)))
    assert found[3] == pytest.approx(np.exp(b * 0.09 / 4), rel=1e-5)
    assert found[4] == pytest.approx(np.exp((80 - 100) / 9 / 4), rel=1e-5)  # half way
    assert found[5] == 0
    even = transfer(s[:4], -80.0, 3.0)
    np.testing.assert_allclose(even, np.exp(-80 * s[:4] ** 2 / 4), rtol=1e-5)


def test_without_a_parameter_detail_comes_out(case):
    _, truth, dull, _ = case
    m = nb.DensityMap(dull.values, dull.grid, contour=0.1, resolution=RESOLUTION, name="m")
    made = m.sharpening()
    assert made.method == "surface"
    assert len(made.curve) == 21
    assert made.b_sharpen > 50
    assert agree(made.map, truth) > agree(dull, truth) + 0.05
    assert type(made.map) is nb.DensityMap
    assert made.map.contour is None
    assert "sharpened by surface to 3 Å: B from" in made.map.history[-1]
    np.testing.assert_array_equal(m.sharpen().values, made.map.values)
    # The scale of the map and its place do not matter.
    other = nb.DensityMap(40 * dull.values, nb.Grid(dull.shape, dull.voxel_size), resolution=3.0)
    assert other.sharpening().b_sharpen == pytest.approx(made.b_sharpen, abs=3)
    assert "Sharpening by surface" in repr(made)
    assert "<b>Sharpened by surface</b>" in made._repr_html_()
    assert made.plot()._repr_png_().startswith(b"\x89PNG")


def test_regions_and_surfaces_of_cubes():
    values = np.zeros((40, 40, 40), np.float32)
    values[2:8, 2:8, 2:8] = 2.0
    values[20:24, 20:24, 20:24] = 2.0
    values[30, 30, 30] = 2.0
    # A fifth of the molecule's voxels shall be inside: all 281 and the threshold's own.
    surface, regions = surface_and_regions(values + 0.0, share=(281 + 0.5) / 0.2 / values.size)
    assert regions == 0  # the threshold is at the top: nothing is above
    values += np.arange(values.size).reshape(values.shape) * 1e-7
    surface, regions = surface_and_regions(values, share=(282 + 0.5) / 0.2 / values.size)
    assert regions * 282 == pytest.approx(3)
    # 30 % of 282 voxels are in the largest cube alone.
    assert surface == pytest.approx((8**3 - 6**3) / 6**3)


@pytest.mark.data
@pytest.mark.parametrize("name", json.loads(REFERENCE.read_text()))
def test_surface_is_that_of_cctbx(data, name):
    """Values by cctbx_sharpen.py, beside the table."""
    theirs = json.loads(REFERENCE.read_text())[name]
    path, resolution = name.split(" ")
    d = float(resolution)
    m = nb.open_map(data / "maps" / path, resolution=d)
    share = molecule_share(m, d)
    assert share == pytest.approx(theirs["share"], abs=0.002)
    s, terms = spatial_frequency(m.shape, m.voxel_size), rfftn(m.values)
    score, ours = [], []
    for b_sharpen, _, value, regions in theirs["rows"][::3]:
        found = surface_and_regions(irfftn(terms * transfer(s, b_sharpen, d), s=m.shape), share)
        # cctbx takes out anisotropy first, which 30342 has (26 Å² between the axes).
        assert found[1] == pytest.approx(regions, abs=0.003, rel=0.25)
        score.append(value)
        ours.append(found)
    # The weight of the regions that makes their scores of our measures is one for all.
    surface, regions = np.array(ours).T
    weight = ((surface - score) @ regions) / (regions @ regions)
    np.testing.assert_allclose(surface - weight * regions, score, atol=0.1)
    # B is chosen on steps of 20 Å², from another B before.
    assert sharpening(m).b_sharpen == pytest.approx(theirs["b_sharpen"], abs=20)


def test_half_maps_weight_and_flatten(case):
    _, _, dull, halves = case
    made = halves.mean.sharpening(half_maps=halves)
    assert made.method == "half_maps"
    assert made.resolution == pytest.approx(halves.fsc().resolution(0.143))
    # What is left of the signal's falloff is that of the weights alone.
    table = shell_power(made.map)
    flat = table.assign(power=shell_power(halves.mean)["power"] * made.curve["factor"] ** 2)
    assert np.allclose(flat["power"], table["power"], rtol=0.3, atol=1e-3 * table["power"].max())
    assert abs(fit_b(flat, resolution=made.resolution, atoms=False)) < 5
    # Nothing beyond the resolution.
    beyond = table["s"] > 1.15 / made.resolution
    assert table["power"][beyond].max() < 1e-4 * table["power"].max()
    # The same without the weights lets more noise through.
    s = spatial_frequency(dull.shape, dull.voxel_size)
    fsc = made.curve["fsc"].clip(lower=1e-3)
    even = np.interp(s, made.curve["s"], made.curve["factor"] / np.sqrt(2 * fsc / (1 + fsc)))
    ideal, plain = (
        dull.replace(irfftn(rfftn(m.values) * even, s=dull.shape)) for m in (dull, halves.mean)
    )
    assert agree(made.map, ideal) > agree(plain, ideal) + 0.02
    np.testing.assert_array_equal(halves.sharpen().values, made.map.values)


def test_a_model_brings_its_own_falloff(case):
    model, truth, dull, halves = case
    own = fourier_map(model, dull.grid, resolution=RESOLUTION, periodic=True)
    same = sharpening(own, model=model, resolution=RESOLUTION)
    inner = same.curve["d"] > 1.1 * RESOLUTION
    np.testing.assert_allclose(same.curve["factor"][inner], 1, atol=0.02)
    made = halves.mean.sharpening(model=model, resolution=RESOLUTION)
    left = np.square(made.map.values - truth.values).sum()
    for b in np.linspace(0, 120, 7):
        other = sharpen(halves.mean, b_iso=b, resolution=RESOLUTION).values
        scale = (other * truth.values).sum() / (other * other).sum()
        assert left < np.square(scale * other - truth.values).sum()
    assert made.plot()._repr_png_().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def uneven():
    """Two copies of the phantom with 20 and 160 Å² beside each other, and both with 20."""
    atoms = Atoms.from_structure(nb.example_model())
    at = atoms.position - atoms.position.mean(axis=0)
    away = np.array([0, 0, np.ptp(at[:, 2]) + 14.0])
    grid = nb.Grid.around(np.concatenate([at, at + away]), 1.2, 8.0)

    def made(b):
        return [
            fourier_map(replace(atoms, position=p), grid, resolution=RESOLUTION, b_add=x)
            for p, x in zip((at, at + away), b, strict=True)
        ]

    truth = sum(part.values for part in made((20.0, 20.0)))
    given = sum(part.values for part in made((20.0, 160.0)))
    masks = [
        model_mask(replace(atoms, position=p), grid, radius=3, soft_edge=0).values > 0
        for p in (at, at + away)
    ]
    return nb.Volume(truth, grid), nb.Volume(given, grid), masks


def test_windows_sharpen_what_is_dull(uneven, rng):
    truth, given, (sharp, dull) = uneven
    b_iso = estimate_b(truth, resolution=RESOLUTION)
    whole = sharpen(given, resolution=RESOLUTION, b_iso=b_iso)
    local = sharpen(given, resolution=RESOLUTION, b_iso=b_iso, local=True)
    assert agree(local, truth, dull) > agree(whole, truth, dull) + 0.02
    assert agree(local, truth, sharp) > 0.99
    assert "and locally" in local.history[-1]
    # Half maps of equal noise: the dull one is weighted down by itself.
    noise = 0.4 * given.std
    halves = nb.half_maps(
        *(given.replace(given.values + rng.normal(0, noise, given.shape)) for _ in range(2))
    )
    whole, local = (halves.sharpen(local=part, resolution=RESOLUTION) for part in (False, True))
    empty = ~(sharp | dull)
    assert local.values[empty].std() / local.values[sharp].std() < 0.8 * (
        whole.values[empty].std() / whole.values[sharp].std()
    )
    assert agree(local, truth) > agree(whole, truth)


def test_local_scaling_to_a_model(uneven):
    truth, given, (_, dull) = uneven
    local = match_model(given, truth, width=24.0)
    assert agree(local, truth, dull) > agree(given, truth, dull) + 0.05
    np.testing.assert_allclose(match_model(truth, truth, width=24.0).values, truth.values, atol=
                               1e-3 * truth.max)  # fmt: skip


def test_bad_requests_are_refused(case):
    model, _, dull, halves = case
    with pytest.raises(CryonbError, match="A method of auto, surface"):
        sharpen(dull, method="best")
    with pytest.raises(CryonbError, match="needs half_maps="):
        sharpen(dull, method="half_maps")
    with pytest.raises(CryonbError, match="A density was expected"):
        sharpen(nb.LabelVolume(np.zeros(dull.shape, np.uint8), dull.grid))
    with pytest.raises(CryonbError, match="all voxels are 0"):
        sharpen(dull.replace(np.zeros(dull.shape, np.float32)))
    small = nb.Volume(np.random.default_rng(0).normal(size=(9, 9, 9)), nb.Grid((9, 9, 9)))
    with pytest.raises(GridError, match="Maps on one grid"):
        sharpen(small, half_maps=halves)
    with pytest.raises(CryonbError, match="At least 4 shells"):
        sharpen(small, b_iso=10.0, resolution=6.0)
    rng = np.random.default_rng(4)
    noise = nb.half_maps(*(dull.replace(rng.normal(size=dull.shape)) for _ in range(2)))
    with pytest.raises(CryonbError, match="Half maps that agree"):
        noise.sharpen()
    moved = model.clone()
    for site in moved[0].all():
        site.atom.pos.x += 500.0
    with pytest.raises(CryonbError, match=r"do not overlap|no voxel"):
        sharpen(dull, model=moved, resolution=RESOLUTION)
