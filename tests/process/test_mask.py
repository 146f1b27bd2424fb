import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import cryonb as nb
from cryonb.errors import CryonbError, MapModelMismatchError
from cryonb.grid import Grid
from cryonb.process import contour_mask, mask, model_mask
from cryonb.process import mask as mask_function
from cryonb.volume import LabelVolume, Volume

GRID = Grid((20, 24, 17), (1.06, 0.9, 1.3), (-7.0, 12.5, 100.0))


def centres(grid):
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return grid.to_points(index).reshape(-1, 3)


def expected_weights(distance, radius, edge):
    """The definition, written out once more without sharing code."""
    weights = np.zeros_like(distance)
    weights[distance <= radius] = 1
    between = (distance > radius) & (distance < radius + edge)
    weights[between] = (1 + np.cos(np.pi * (distance[between] - radius) / edge)) / 2
    return weights


@settings(deadline=None, max_examples=30)
@given(
    radius=st.floats(0.7, 6),
    edge=st.sampled_from([0.0, 0.5, 3.0]),
    n=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_model_mask_is_the_falloff_of_the_exact_distance(alpha_carbons, radius, edge, n, seed):
    rng = np.random.default_rng(seed)
    # Some atoms lie outside the map and reach in.
    points = rng.uniform(GRID.lower - 3, GRID.upper + 3, (n, 3))
    points[0] = GRID.to_points((10, 12, 8)) + 0.2
    distance = cdist(centres(GRID), points).min(axis=1)
    out = model_mask(alpha_carbons(points), GRID, radius=radius, soft_edge=edge)
    # At a hard edge rounding of the distance decides: leave those voxels out.
    clear = np.abs(distance - radius) > 1e-4
    expected = expected_weights(distance, radius, edge)
    assert np.abs(out.values.ravel() - expected)[clear].max() < 1e-5


def test_chunks_make_no_difference(monkeypatch, rng, alpha_carbons):
    from importlib import import_module

    module = import_module("cryonb.process.mask")
    points = rng.uniform(GRID.lower, GRID.upper, (5, 3))
    volume = Volume(rng.normal(size=GRID.shape), GRID)
    whole = model_mask(alpha_carbons(points), GRID).values
    contour = contour_mask(volume, 3.0, radius=1.5).values
    monkeypatch.setattr(module, "_CHUNK", 900)
    assert np.array_equal(model_mask(alpha_carbons(points), GRID).values, whole)
    assert np.array_equal(contour_mask(volume, 3.0, radius=1.5).values, contour)


@pytest.mark.parametrize(("radius", "edge"), [(0.0, 0.0), (0.0, 3.0), (2.5, 0.0), (2.0, 4.0)])
def test_contour_mask_is_the_falloff_of_the_distance_to_the_core(rng, radius, edge):
    volume = Volume(rng.normal(size=GRID.shape), GRID)
    level = float(np.sort(volume.values.ravel())[-4])
    points = centres(GRID)
    core = volume.values.ravel() >= level
    assert core.sum() == 4
    distance = cdist(points, points[core]).min(axis=1)
    out = contour_mask(volume, level, radius=radius, soft_edge=edge).values.ravel()
    clear = (np.abs(distance - radius) > 1e-6) | core
    assert np.abs(out - expected_weights(distance, radius, edge))[clear].max() < 1e-5


def test_mask_multiplies_and_says_so(rng, alpha_carbons):
    volume = Volume(rng.normal(size=GRID.shape), GRID, name="v")
    model = alpha_carbons([(0.0, 20.0, 110.0)])
    out = mask(volume, model=model, radius=3.0, soft_edge=2.0)
    weights = model_mask(model, GRID, radius=3.0, soft_edge=2.0).values
    assert np.array_equal(out.values, volume.values * weights)
    assert 0 < np.count_nonzero(out.values) < 0.2 * out.values.size
    assert out.grid == GRID
    assert out.name == "v"
    assert out.history == ("masked around a model (radius 3 Å, soft edge 2 Å)",)
    by_contour = mask(volume, contour=2.0, soft_edge=0.0)
    assert np.array_equal(by_contour.values, np.where(volume.values >= 2, volume.values, 0))


def test_bad_requests_are_refused(rng, alpha_carbons):
    volume = Volume(rng.random(GRID.shape), GRID)
    model = alpha_carbons([(0.0, 20.0, 110.0)])
    with pytest.raises(CryonbError, match="all voxels are 0"):
        mask_function(Volume(np.zeros(GRID.shape), GRID))
    with pytest.raises(CryonbError, match="both were given"):
        mask(volume, model=model, contour=1.0)
    with pytest.raises(CryonbError, match="lower the contour"):
        mask(volume, contour=2.0)
    with pytest.raises(CryonbError, match="soft edge of a mask is 0 Å or more"):
        mask(volume, model=model, soft_edge=-1.0)
    with pytest.raises(CryonbError, match="A density was expected"):
        mask(LabelVolume(np.zeros(GRID.shape, np.uint8), GRID), model=model)
    with pytest.raises(MapModelMismatchError, match="within 7 Å of an atom"):
        mask(volume, model=alpha_carbons([(300.0, 20.0, 110.0)]))


def test_without_a_request_the_molecule_is_kept(rng):
    model = nb.example_model("phantom")
    atoms = nb.Atoms.from_structure(model)
    grid = nb.Grid.around(atoms.position, 1.5, 25.0)
    clean = nb.fourier_map(model, grid, resolution=4.0).values
    noisy = clean + rng.normal(0, 0.05 * clean.max(), grid.shape).astype(np.float32)
    # A scrap in a corner, as dense as the molecule.
    noisy[3:5, 3:5, 3:5] = clean.max()
    m = nb.DensityMap(noisy, grid, resolution=4.0)
    masked = m.mask()
    assert masked.history[-1].startswith("masked around the molecule, contour")
    assert (masked.sample(atoms.position) != 0).mean() > 0.99
    assert (masked.values[:8, :8, :8] == 0).all()
    assert (masked.values != 0).mean() < 0.5
    # A level that the map has is the one that counts, and the same by hand but for the scrap.
    m.contour = 0.4 * float(clean.max())
    wanted = mask(m, contour=m.contour, radius=4.0).values.copy()
    wanted[:13, :13, :13] = 0
    np.testing.assert_array_equal(m.mask().values, wanted)
