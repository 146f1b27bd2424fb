"""Voxels near points by brute force, and the molecule's mask by gemmi."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from cryonb.atoms import Atoms
from cryonb.errors import MapModelMismatchError
from cryonb.grid import Grid
from cryonb.process import spheres
from cryonb.process.spheres import molecular_mask, van_der_waals_radii, voxels_within
from cryonb.simulate.phantom import example


@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0.3, 6))
@settings(max_examples=40, deadline=None)
def test_voxels_within_are_those_of_brute_force(seed, radius):
    rng = np.random.default_rng(seed)
    grid = Grid(rng.integers(3, 12, 3), rng.uniform(0.5, 2, 3), rng.uniform(-20, 20, 3))
    # Some of the points lie outside the grid.
    points = grid.lower + rng.uniform(-0.4, 1.4, (7, 3)) * grid.extent
    radii = radius * rng.uniform(0.3, 1, 7)
    centres = grid.to_points(np.indices(grid.shape).reshape(3, -1).T)
    distance = np.linalg.norm(centres[None] - points[:, None], axis=-1)
    expected = set(
        zip(*map(np.ndarray.tolist, np.nonzero(distance <= radii[:, None])), strict=True)
    )
    found = [
        pair for batch in voxels_within(grid, points, radii) for pair in zip(*batch, strict=True)
    ]
    assert len(found) == len(set(found))
    edge = np.abs(distance - radii[:, None]) < 1e-9
    assert set(found) ^ expected <= set(zip(*map(np.ndarray.tolist, np.nonzero(edge)), strict=True))


@given(
    seed=st.integers(0, 2**32 - 1), radius=st.floats(0.2, 3), shifts=st.sampled_from([0, 10_000])
)
@settings(max_examples=40, deadline=None)
def test_erosion_is_that_of_a_distance_transform(seed, radius, shifts):
    rng = np.random.default_rng(seed)
    voxel = np.where(rng.random(3) < 0.3, radius, rng.uniform(0.5, 1.5, 3))
    margin = np.ceil(radius / voxel).astype(int) + 1
    inside = rng.random(tuple(rng.integers(1, 9, 3) + 2 * margin)) < 0.97
    inner = tuple(slice(m, -m) for m in margin)
    expected = distance_transform_edt(inside, sampling=voxel)[inner] > radius
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spheres, "_SHIFTS", shifts)  # none, or as many as there are
        found = spheres._eroded(inside, voxel, radius, margin)
    np.testing.assert_array_equal(found, expected)


def test_batches_hold_each_point_once(monkeypatch, rng):
    grid, points = Grid((9, 9, 9)), rng.uniform(0, 8, (20, 3))
    whole = next(iter(voxels_within(grid, points, 2.0)))
    monkeypatch.setattr("cryonb.process.spheres._PAIRS", 500)
    parts = list(voxels_within(grid, points, 2.0))
    assert len(parts) > 1
    for joined, expected in zip(map(np.concatenate, zip(*parts, strict=True)), whole, strict=True):
        np.testing.assert_array_equal(joined, expected)


def test_radii_are_those_of_cctbx_and_carbon_stands_for_the_unknown():
    np.testing.assert_array_equal(
        van_der_waals_radii([1, 6, 7, 8, 15, 16, 30, 0, 120]),
        [1.2, 1.775, 1.5, 1.45, 1.9, 1.8, 1.39, 1.775, 1.775],
    )


@pytest.mark.parametrize("voxel", [(0.7, 0.7, 0.7), (1.1, 0.8, 1.3)])
def test_the_molecule_is_gemmis(voxel):
    structure = example().structure
    atoms = Atoms.from_structure(structure)
    grid = Grid.around(atoms.position, voxel, 5.0)
    ours = molecular_mask(structure, grid).values > 0

    moved = structure.clone()
    moved.cell = gemmi.UnitCell(*grid.extent, 90, 90, 90)
    moved.spacegroup_hm = "P 1"
    for site in moved[0].all():
        site.atom.pos = gemmi.Position(*(np.array(site.atom.pos.tolist()) - grid.lower))
    theirs = gemmi.FloatGrid(*grid.shape[::-1])
    theirs.set_unit_cell(moved.cell)
    theirs.spacegroup = gemmi.SpaceGroup("P 1")
    gemmi.SolventMasker(gemmi.AtomicRadiiSet.Cctbx).put_mask_on_float_grid(theirs, moved[0])
    inside = (np.array(theirs.array) < 0.5).T
    assert 0.02 < inside.mean() < 0.6
    assert (ours != inside).sum() <= 2  # voxels that a rounding decides


def test_a_model_elsewhere_is_refused():
    with pytest.raises(MapModelMismatchError, match="do not overlap"):
        molecular_mask(example().structure, Grid((9, 9, 9), 1.0, (900, 0, 0)))
