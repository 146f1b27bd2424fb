"""Voxel labels: against a k-d tree over all voxels, and on phantoms."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, ModelError
from cryonb.grid import Grid
from cryonb.label import voxels
from cryonb.label.secondary_structure import secondary_structure
from cryonb.label.voxels import label_volume, nearest_labels
from cryonb.simulate import phantom
from cryonb.volume import CLASSES


def by_tree(points, states, grid, radius):
    """The same by asking for the nearest point of every voxel."""
    centres = grid.to_points(np.indices(grid.shape).reshape(3, -1).T)
    distance, which = cKDTree(points).query(centres)
    return np.where(distance <= radius, np.asarray(states)[which], 0).reshape(grid.shape)


grids = st.builds(
    Grid,
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    voxel_size=st.tuples(*[st.floats(0.4, 3.0)] * 3),
    origin=st.tuples(*[st.floats(-20, 20)] * 3),
)


@settings(deadline=None, max_examples=100)
@given(grids, st.integers(0, 2**32 - 1), st.floats(0.3, 6.0), st.integers(1, 30))
def test_labels_are_those_of_the_nearest_point(grid, seed, radius, count):
    rng = np.random.default_rng(seed)
    # Half of the points lie off the grid: some within reach of it, some not.
    points = rng.uniform(grid.lower - 8, grid.upper + 8, size=(count, 3))
    states = rng.integers(1, 5, count)
    assert (
        nearest_labels(points, states, grid, radius) == by_tree(points, states, grid, radius)
    ).all()


def test_slabs_and_chunks_do_not_show(monkeypatch, rng):
    grid = Grid((23, 17, 19), (1.1, 0.8, 1.4), (3.0, -5.0, 7.0))
    points = rng.uniform(grid.lower, grid.upper, size=(200, 3))
    states = rng.integers(1, 5, 200)
    whole = nearest_labels(points, states, grid, 2.5)
    monkeypatch.setattr(voxels, "_SLAB", 2 * 17 * 19)
    monkeypatch.setattr(voxels, "_CHUNK", 700)
    assert (nearest_labels(points, states, grid, 2.5) == whole).all()
    assert (whole == by_tree(points, states, grid, 2.5)).all()


def test_the_radius_is_inclusive_and_follows_each_axis():
    grid = Grid((9, 9, 9), (1.0, 2.0, 3.0), (-4.0, -8.0, -12.0))
    labels = nearest_labels([[0.0, 0.0, 0.0]], [3], grid, 3.0)
    z, y, x = np.nonzero(labels)
    assert sorted({*z}) == [3, 4, 5]
    assert sorted({*y}) == [3, 4, 5]
    assert sorted({*x}) == [1, 2, 3, 4, 5, 6, 7]
    assert labels[4, 4, 4] == 3


def test_no_points_and_far_points_are_background():
    grid = Grid((4, 5, 6))
    assert not nearest_labels(np.zeros((0, 3)), np.zeros(0, int), grid, 3.0).any()
    assert not nearest_labels([[500.0, 0, 0]], [1], grid, 3.0).any()
    assert nearest_labels(np.zeros((0, 3)), [], grid, 3.0).dtype == np.uint8


def test_of_equally_near_points_the_first_wins():
    grid = Grid((1, 1, 3))
    assert nearest_labels([[0, 0, 0], [2, 0, 0]], [1, 2], grid, 1.0).tolist() == [[[1, 1, 2]]]
    assert nearest_labels([[2, 0, 0], [0, 0, 0]], [2, 1], grid, 1.0).tolist() == [[[1, 2, 2]]]


@pytest.mark.parametrize(
    ("points", "states", "radius", "message"),
    [
        ([[0, 0, 0]], [1], 0.0, "radius must be a positive number"),
        ([[0, 0, 0]], [1], np.nan, "radius must be a positive number"),
        ([[0, 0, 0]], [1, 2], 3.0, "One state for each of 1 points"),
        ([[0, 0, np.inf]], [1], 3.0, "Finite points"),
        ([[0, 0, 0]], [256], 3.0, "States from 0 to 255"),
        ([[0, 0, 0]], [-1], 3.0, "States from 0 to 255"),
    ],
)
def test_bad_arguments_are_named(points, states, radius, message):
    with pytest.raises(CryonbError, match=message):
        nearest_labels(points, states, Grid((4, 4, 4)), radius)


def test_a_helix_is_labelled_by_its_backbone():
    model = phantom.alpha_helix(12)
    atoms = Atoms.from_structure(model.structure)
    grid = Grid.around(atoms.position, 0.7, margin=5.0)
    labels = label_volume(model.structure, grid, radius=2.0)
    backbone = atoms.select(atoms.backbone)
    expected = by_tree(backbone.position, model.states[backbone.residue], grid, 2.0)
    assert (labels.values == expected).all()
    assert labels.classes == CLASSES
    assert labels.mask("helix").sum() > labels.mask("coil").sum() > 0
    # Side chains mark nothing: every labelled voxel lies within the radius of the backbone.
    marked = grid.to_points(np.argwhere(labels.values > 0))
    assert cKDTree(backbone.position).query(marked)[0].max() <= 2.0


def test_nucleotides_with_and_without_bases():
    model = phantom.dna_duplex("ACGTAC")
    atoms = Atoms.from_structure(model.structure)
    grid = Grid.around(atoms.position, 1.0, margin=4.0)
    whole = label_volume(model.structure, grid, radius=1.5)
    backbone = label_volume(model.structure, grid, radius=1.5, nucleotide_atoms="backbone")
    nucleotide = CLASSES.index("nucleotide")
    assert set(np.unique(whole.values)) == {0, nucleotide}
    assert set(np.unique(backbone.values)) == {0, nucleotide}
    assert (whole.mask("nucleotide") | ~backbone.mask("nucleotide")).all()
    bases = atoms.position[np.isin(atoms.name, ["N1", "C2"])]
    assert (whole.sample(bases, order=0) == nucleotide).all()
    assert (backbone.sample(bases, order=0) == 0).all()
    with pytest.raises(CryonbError, match="'all' or 'backbone', but 'sugar'"):
        label_volume(model.structure, grid, nucleotide_atoms="sugar")


def test_known_secondary_structure_is_used():
    model = phantom.alpha_helix(12)
    grid = Grid.around(Atoms.from_structure(model.structure).position, 1.5, margin=4.0)
    known = secondary_structure(model.structure)
    again = label_volume(model.structure, grid, secondary=known)
    assert (again.values == label_volume(model.structure, grid).values).all()
    other = secondary_structure(phantom.alpha_helix(9).structure)
    with pytest.raises(ModelError, match=r"12 residues was expected, but it has 9"):
        label_volume(model.structure, grid, secondary=other)


def test_a_training_sample_takes_well_under_a_second(rng):
    grid = Grid((100, 100, 100))
    points, states = rng.uniform(0, 99, size=(5000, 3)), rng.integers(1, 5, 5000)
    started = time.perf_counter()
    labels = nearest_labels(points, states, grid, 3.0)
    assert time.perf_counter() - started < 1.0
    assert 0.3 < (labels > 0).mean() < 0.5
