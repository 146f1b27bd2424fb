"""A map as non-negative Gaussians: exact at the voxels, better than a spline between them."""

import numpy as np
import pytest

from cryonb.density_map import DensityMap
from cryonb.errors import CryonbError, CryonbWarning
from cryonb.field import SplineField, gaussians
from cryonb.field.gaussians import fit_gaussians
from cryonb.grid import Grid
from cryonb.simulate.fourier import fourier_map
from cryonb.simulate.gaussian import gaussian_map
from cryonb.simulate.phantom import alpha_helix
from cryonb.volume import LabelVolume, Volume

RESOLUTION = 3.0


@pytest.fixture(scope="module")
def helix():
    """A helix at voxels of a third of the resolution, and as it really is at 0.25 Å."""
    model = alpha_helix(6).structure
    m = gaussian_map(model, resolution=RESOLUTION, voxel_size=RESOLUTION / 3, margin=6.0)
    shape = tuple((n - 1) * 4 + 1 for n in m.shape)
    fine = Grid(shape, RESOLUTION / 12, m.origin)
    return m, gaussian_map(model, fine, resolution=RESOLUTION)


@pytest.fixture(scope="module")
def made(helix):
    return fit_gaussians(helix[0], resolution=RESOLUTION, progress=False)


def test_it_meets_every_voxel(helix, made):
    m, _ = helix
    before = m.values.copy()
    found = made.on_grid(m.grid)
    np.testing.assert_allclose(found, m.values, atol=2e-4 * m.max)
    np.testing.assert_array_equal(m.values, before)
    assert made.weights.min() >= 0
    assert made.unexplained < 0.02


def test_between_voxels_it_is_closer_to_the_truth_than_a_spline(helix, made):
    m, truth = helix
    inside = truth.values > 1e-3 * truth.max
    error, of_spline = (
        np.abs(field.on_grid(truth.grid) - truth.values)[inside].mean()
        for field in (made, SplineField(m))
    )
    assert error < 0.4 * of_spline


def test_points_and_derivatives(helix, made):
    m, truth = helix
    rng = np.random.default_rng(4)
    points = m.origin + rng.random((50, 3)) * (np.array(m.shape[::-1]) - 1) * m.voxel_size
    value, gradient = made.evaluate(points)
    inside = truth.sample(points, order=3)
    np.testing.assert_allclose(value, inside, atol=0.02 * m.max)
    step = 1e-2
    for axis, e in enumerate(np.eye(3)):
        slope = (made.value(points + step * e) - made.value(points - step * e)) / (2 * step)
        good = ~np.isnan(slope)
        np.testing.assert_allclose(gradient[good, axis], slope[good], atol=2e-3 * m.max)
    assert np.isnan(made.value([m.grid.upper + 1])).all()


def test_blocks_join_without_a_seam(helix, made, monkeypatch):
    m, truth = helix
    monkeypatch.setattr(gaussians, "_BLOCK", 9)
    pieces = fit_gaussians(m, resolution=RESOLUTION, progress=False)
    assert pieces.weights.shape == made.weights.shape
    difference = pieces.on_grid(truth.grid) - made.on_grid(truth.grid)
    assert np.abs(difference).max() < 0.02 * m.max


def test_two_atoms_that_a_map_shows_as_one_come_apart():
    grid = Grid((17, 17, 17), 1.0)
    sigma = 0.225 * RESOLUTION
    places = np.array([[8.0, 8.0, 7.35], [8.0, 8.0, 8.65]])
    z = np.indices(grid.shape).reshape(3, -1).T[:, ::-1]
    square = ((z[:, None] - places) ** 2).sum(axis=2)
    values = np.exp(-square / (2 * sigma**2)).sum(axis=1).reshape(grid.shape)
    field = fit_gaussians(Volume(values, grid), resolution=RESOLUTION, progress=False)
    line = np.column_stack([np.full(61, 8.0), np.full(61, 8.0), np.linspace(5, 11, 61)])
    one, two = field.value(line), field.deconvolved(0.6).value(line)
    assert one.argmax() == pytest.approx(30, abs=2)
    peaks = np.flatnonzero((two[1:-1] > two[:-2]) & (two[1:-1] > two[2:])) + 1
    heights = line[peaks[two[peaks] > 0.5 * two.max()], 2]
    assert heights == pytest.approx([7.35, 8.65], abs=0.2)


def test_a_map_with_ripples_is_no_sum_of_gaussians():
    sharp = fourier_map(alpha_helix(6).structure, resolution=RESOLUTION)
    with pytest.warns(CryonbWarning, match="cubic"):
        made = fit_gaussians(sharp, resolution=RESOLUTION, iterations=10, progress=False)
    np.testing.assert_allclose(made.on_grid(sharp.grid), sharp.values, atol=2e-4 * sharp.max)


def test_a_map_hands_it_over_and_what_it_cannot_do_is_said(helix):
    m, _ = helix
    known = DensityMap.from_volume(m, resolution=RESOLUTION)
    field = known.field(method="gaussians", iterations=20, progress=False)
    assert "Gaussians of 0.54 Å" in repr(field)
    assert field.to_map(0.5).voxel_size == (0.5, 0.5, 0.5)
    sharper = field.deconvolved(0.7).to_map(0.5)
    assert sharper.resolution == RESOLUTION
    assert sharper.max > field.to_map(0.5).max
    with pytest.raises(CryonbError, match="resolution= or width="):
        fit_gaussians(m)
    with pytest.raises(CryonbError, match="positive width"):
        fit_gaussians(m, width=0.0)
    with pytest.raises(CryonbError, match="crop the map"):
        fit_gaussians(m, width=0.01)
    with pytest.raises(CryonbError, match="width from 0"):
        field.deconvolved(0.1)
    with pytest.raises(CryonbError, match="density was expected"):
        fit_gaussians(LabelVolume(np.ones((4, 4, 4), np.uint8), Grid((4, 4, 4), 1.0)), width=1.0)
