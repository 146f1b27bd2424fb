"""Side chains that are known to be in a map, found again."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, ModelError
from cryonb.grid import Grid
from cryonb.simulate import phantom
from cryonb.simulate.fourier import fourier_map
from cryonb.trace.known import CHI_GROUPS, slot_positions, slots
from cryonb.trace.rotamers import SYMMETRIC, chi_angles, load_rotamers, place
from cryonb.volume import Volume

NAMES = ("LEU", "SER", "PHE", "LYS", "GLU", "VAL", "ILE", "ALA", "TYR", "GLY", "ARG", "MET",
         "TRP", "THR", "ASN", "HIS", "GLN", "ASP", "CYS", "LEU")  # fmt: skip


@pytest.fixture(scope="module")
def bare():
    """A helix of all amino acids but proline: backbone and Cβ."""
    model = phantom.alpha_helix(len(NAMES)).structure.clone()
    for residue, name in zip(model[0][0], NAMES, strict=True):
        residue.name = name
        if name == "GLY":
            residue.remove_atom("CB", "\0", gemmi.Element("C"))
    return model


@pytest.fixture(scope="module")
def truth(bare):
    """The helix with side chains whose angles are a few degrees off those of frequent rotamers."""
    model, rng = bare.clone(), np.random.default_rng(2)
    name, position = slot_positions(Atoms.from_structure(bare))
    for row, residue in enumerate(model[0][0]):
        if name[row] not in CHI_GROUPS:
            continue
        rotamers = load_rotamers()[name[row]]
        # χ1 near -60° or 180°, which a helix leaves room for.
        fits = [chi for chi in rotamers.chi[:6] if np.cos(chi[0] - np.radians(60)) < 0.5]
        chi = fits[rng.integers(len(fits))] + rng.normal(0, np.radians(5), len(fits[0]))
        at = (position[row, None, k] for k in (0, 1, 4))
        for atom_name, point in zip(
            rotamers.atoms, place(rotamers, *at, chi[None])[0, 0], strict=True
        ):
            atom = gemmi.Atom()
            atom.name, atom.element = atom_name, gemmi.Element(atom_name[0])
            atom.pos, atom.b_iso = gemmi.Position(*point.tolist()), 30.0
            residue.add_atom(atom)
    return model


@pytest.fixture(scope="module")
def density(truth):
    atoms = Atoms.from_structure(truth)
    return fourier_map(atoms, Grid.around(atoms.position, 0.8, 7.0), resolution=2.5)


def chi_errors(found, truth):
    """Errors of each χ in degrees, by residue."""
    (name, one), (_, two) = (slot_positions(Atoms.from_structure(m)) for m in (found, truth))
    errors = {}
    for kind in CHI_GROUPS:
        for row in np.flatnonzero(name == kind):
            apart = chi_angles(kind, one[row]) - chi_angles(kind, two[row])
            apart = np.abs((apart + np.pi) % (2 * np.pi) - np.pi)
            if kind in SYMMETRIC:
                k = SYMMETRIC[kind]
                apart[k] = min(apart[k], np.pi - apart[k])
            errors[int(row)] = np.degrees(apart)
    return errors


def test_side_chains_are_found_by_their_density(bare, truth, density):
    found = nb.add_side_chains(bare, density)
    errors = chi_errors(found.model, truth)
    assert np.mean([e[0] < 20 for e in errors.values()]) > 0.9
    assert np.mean([(e[:2] < 30).all() for e in errors.values()]) > 0.85
    table = found.table
    assert len(table) == len(errors) == len(NAMES) - 2
    assert table.probability.between(0, 1).all()
    # The table says where the atoms are.
    name, position = slot_positions(Atoms.from_structure(found.model))
    for row, chi in zip(table.number - 1, table.filter(like="chi").to_numpy(), strict=True):
        measured = np.degrees(chi_angles(name[row], position[row]))
        assert np.allclose(np.cos(np.radians(measured - chi[: len(measured)])), 1, atol=1e-6)


def test_without_a_map_frequent_rotamers_are_taken(bare, truth, density):
    blind = nb.add_side_chains(bare)
    assert blind.table.density.isna().all()
    assert (blind.table.rotamer < 12).mean() > 0.7
    seen = nb.add_side_chains(bare, density)
    wrong = [np.mean([e[0] > 40 for e in chi_errors(f.model, truth).values()])
             for f in (seen, blind)]  # fmt: skip
    assert wrong[0] < wrong[1]


def test_every_atom_of_every_residue_is_there_once(bare, density):
    before = bare.make_pdb_string()
    found = nb.add_side_chains(bare, density).model
    assert bare.make_pdb_string() == before
    for residue in found[0][0]:
        assert sorted(a.name for a in residue) == sorted(slots(residue.name))
    # Once more on its own result: old side chains are replaced, not doubled.
    again = nb.add_side_chains(found, density).model
    assert again.make_pdb_string() == found.make_pdb_string()


def test_a_lacking_beta_carbon_is_placed(bare):
    model = bare.clone()
    chain = model[0][0]
    true = np.array(chain[7].find_atom("CB", "*").pos.tolist())
    for k in (0, 7):
        chain[k].remove_atom("CB", "\0", gemmi.Element("C"))
    found = nb.add_side_chains(model).model[0][0]
    assert sorted(a.name for a in found[0]) == sorted(slots("LEU"))
    assert np.linalg.norm(np.array(found[7].find_atom("CB", "*").pos.tolist()) - true) < 0.15


def test_a_clash_is_avoided(bare):
    blind = nb.add_side_chains(bare)
    # A wall of foreign atoms where the first phenylalanine would have its ring.
    ring = next(a for a in blind.model[0][0][2] if a.name == "CZ")
    model = bare.clone()
    chain = gemmi.Chain("Z")
    residue = gemmi.Residue()
    residue.name, residue.seqid = "XXX", gemmi.SeqId(1, " ")
    atom = gemmi.Atom()
    atom.name, atom.element, atom.pos = "C1", gemmi.Element("C"), ring.pos
    residue.add_atom(atom)
    chain.add_residue(residue)
    model[0].add_chain(chain)
    moved = next(a for a in nb.add_side_chains(model).model[0][0][2] if a.name == "CZ")
    assert moved.pos.dist(ring.pos) > 2


@settings(deadline=None, max_examples=10)
@given(name=st.sampled_from(sorted(CHI_GROUPS)), seed=st.integers(0, 10**6))
def test_placed_atoms_have_the_angles_asked_for(name, seed):
    rng = np.random.default_rng(seed)
    rotamers = load_rotamers()[name]
    turn, shift = Rotation.random(random_state=rng), rng.uniform(-50, 50, 3)
    n, ca, cb = np.array([[1.46, 0, 0], [0, 0, 0], [-0.5, 1.2, 0.8]])
    chi = rng.uniform(-np.pi, np.pi, (1, 3, rotamers.chi.shape[1]))
    here = place(rotamers, n[None], ca[None], cb[None], chi)
    there = place(rotamers, *(turn.apply(v[None]) + shift for v in (n, ca, cb)), chi)
    assert np.allclose(turn.apply(here.reshape(-1, 3)) + shift, there.reshape(-1, 3), atol=1e-9)
    whole = np.full((3, 14, 3), np.nan)
    whole[:, [0, 1, 4]] = n, ca, cb
    whole[:, 5 : 5 + here.shape[2]] = here[0]
    assert np.allclose(np.cos(chi_angles(name, whole) - chi[0]), 1, atol=1e-9)


def test_the_library_has_bonds_as_in_textbooks():
    # Engh & Huber 1991: Cβ-Cγ of Leu 1.530, Cβ-Oγ of Ser 1.417, Cβ-Sγ of Cys 1.808 Å.
    for name, length in (("LEU", 1.530), ("SER", 1.417), ("CYS", 1.808)):
        assert np.linalg.norm(load_rotamers()[name].local[0]) == pytest.approx(length, abs=0.02)
    for rotamers in load_rotamers().values():
        assert rotamers.frequency.sum() == pytest.approx(1, abs=1e-5)
        assert (np.diff(rotamers.frequency) <= 0).all()


def test_what_cannot_get_side_chains_is_refused(bare):
    with pytest.raises(ModelError, match="rebuild the backbone first"):
        nb.add_side_chains(phantom.dna_duplex("ACGT").structure)
    far = Volume(np.ones((8, 8, 8), np.float32), Grid((8, 8, 8), 1.0, (500, 0, 0)))
    with pytest.raises(CryonbError, match="no Cα atom lies in its box"):
        nb.add_side_chains(bare, far)
