"""Haruspex's annotation on ideal elements, whose density is made to fit each rule."""

import numpy as np
import pytest

from cryonb.atoms import Atoms
from cryonb.grid import Grid
from cryonb.label.haruspex import (
    HELIX,
    NUCLEOTIDE,
    SHEET,
    UNASSIGNED,
    annotate,
    extended_states,
    segment_starts,
)
from cryonb.label.secondary_structure import ramachandran, secondary_structure
from cryonb.simulate import phantom
from cryonb.volume import CLASSES, Volume

SIZE = 80


def box_of(structure):
    atoms = Atoms.from_structure(structure)
    middle = (atoms.lower + atoms.upper) / 2
    return atoms, Grid((SIZE,) * 3, (1.1,) * 3, tuple(middle - SIZE * 1.1 / 2))


def flat(atoms, grid, level, rng):
    """A map of r.m.s.d. near 1 in which every atom sits at about `level`."""
    values = rng.normal(size=grid.shape).astype(np.float32)
    index = np.rint(grid.to_index(atoms.position)).astype(int)
    for shift in np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3):
        values[tuple((index + shift).T)] = level
    return Volume(values, grid)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (phantom.alpha_helix(16), HELIX),
        (phantom.beta_sheet(3, length=8), SHEET),
        (phantom.beta_sheet(3, length=8, parallel=True), SHEET),
        (phantom.dna_duplex("ACGTGCA"), NUCLEOTIDE),
    ],
)
def test_strong_elements_mark_voxels_within_3_angstroms(made, kind, rng):
    atoms, grid = box_of(made.structure)
    found = annotate(made.structure, flat(atoms, grid, 6.0, rng))
    assert set(np.unique(found.label)) == {kind, UNASSIGNED}
    index = np.argwhere(found.label == kind)
    away = np.linalg.norm(
        grid.to_points(index)[:, None] - atoms.position[atoms.backbone], axis=-1
    ).min(axis=1)
    assert away.max() <= 3.0
    assert found.counts[found.label == kind].all()


def test_weak_elements_are_masked_and_faint_ones_unassigned(rng):
    made = phantom.alpha_helix(16).structure
    atoms, grid = box_of(made)
    weak = annotate(made, flat(atoms, grid, 1.5, rng))
    assert (weak.label == UNASSIGNED).all()
    index = tuple(np.rint(grid.to_index(atoms.position[atoms.backbone])).astype(int).T)
    middle = slice(20, 44)
    assert not weak.counts[index][middle].any()
    faint = annotate(made, flat(atoms, grid, 0.5, rng))
    assert (faint.label == UNASSIGNED).all()
    assert faint.counts[index].all()


def test_density_without_a_model_is_masked(rng):
    made = phantom.alpha_helix(16).structure
    atoms, grid = box_of(made)
    volume = flat(atoms, grid, 6.0, rng)
    values = volume.values.copy()
    values[:6, :6, :6] = 9.0
    found = annotate(made, Volume(values, grid))
    assert not found.counts[:6, :6, :6].any()
    quiet = values < 0
    assert found.counts[quiet].all()


def test_elements_grow_into_neighbours_of_their_profile():
    made = phantom.alpha_helix(14).structure
    helix = CLASSES.index("helix")
    before = secondary_structure(made).state
    assert (before == helix).sum() == 12
    # The torsions of an ideal helix's last residues are its own where they exist.
    phi, psi = ramachandran(made)
    assert np.isnan(phi[0])
    assert np.isnan(psi[-1])
    assert np.allclose(phi[1:], phi[1])
    assert (extended_states(made, steps=0) == before).all()
    # The first and the last residue lack an angle, so they stay coil.
    assert (extended_states(made, steps=3) == before).all()
    sheet = phantom.beta_sheet(2, length=9).structure
    strand = CLASSES.index("strand")
    states = secondary_structure(sheet).state
    grown = extended_states(sheet, steps=3)
    assert (grown == strand).sum() >= (states == strand).sum()
    assert ((grown == strand) | (states != strand)).all()


def test_segments_need_atoms_density_and_annotation(rng):
    made = phantom.beta_sheet(8, length=12).structure
    atoms, grid = box_of(made)
    volume = flat(atoms, grid, 6.0, rng)
    found = annotate(made, volume)
    share = (found.label != UNASSIGNED).mean() * (SIZE / 70) ** 3
    options = {"edge": 70, "step": 5}
    assert len(segment_starts(found, made, volume, **options, annotated=share / 2))
    assert not len(segment_starts(found, made, volume, **options, annotated=share * 1.1))
    assert not len(segment_starts(found, made, volume, **options, annotated=0, atoms_above=10**4))
    assert not len(segment_starts(found, made, volume, **options, annotated=0, backbone_mean=7))
    assert segment_starts(found, made, volume, edge=100).shape == (0, 3)
