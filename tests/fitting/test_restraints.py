"""Springs of a model: what is bonded, what is flat, and that motion of the whole costs nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryonb.atoms import Atoms
from cryonb.fitting.restraints import Restraints, bonded_pairs
from cryonb.simulate import phantom


@pytest.fixture(scope="module")
def helix():
    return Atoms.from_structure(phantom.alpha_helix(8).structure)


@pytest.fixture(scope="module")
def springs(helix):
    return Restraints.of(helix.position, helix.element)


def named(atoms, *names):
    return [f"{atoms.residue[k]}{atoms.name[k]}" for k in names]


def test_bonds_are_those_of_the_chemistry(helix):
    found = {tuple(named(helix, *pair)) for pair in bonded_pairs(helix.position, helix.element)}
    inside = [("N", "CA"), ("CA", "C"), ("C", "O"), ("CA", "CB")]
    expected = {(f"{k}{a}", f"{k}{b}") for k in range(8) for a, b in inside}
    expected |= {(f"{k}C", f"{k + 1}N") for k in range(7)}
    assert found == expected


def test_bonds_of_nucleotides_are_those_of_gemmi_residues():
    atoms = Atoms.from_structure(phantom.dna_duplex("CG").structure)
    pairs = bonded_pairs(atoms.position, atoms.element)
    degree = np.bincount(pairs.ravel(), minlength=len(atoms))
    # Neighbours that are not hydrogen, by the formulas of the sugar, the phosphate and the bases.
    expected = {"P": 4, "C1'": 3, "C2'": 2, "C3'": 3, "C4'": 3, "O4'": 2, "C5'": 2, "OP1": 1}
    for name, count in expected.items():
        assert (degree[atoms.name == name] == count).all(), name


def test_two_alternatives_are_not_bonded():
    position = np.array([[0.0, 0, 0], [1.5, 0, 0], [1.6, 0.3, 0]])
    element = np.array([6, 6, 6])
    assert len(bonded_pairs(position, element)) == 3
    assert bonded_pairs(position, element, np.array([0, 65, 66])).tolist() == [[0, 1], [0, 2]]


def test_every_angle_and_every_end_is_there_once(springs):
    neighbours = {}
    for a, b in springs.bonds:
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    expected = {
        (a, b, c) for b, around in neighbours.items() for a in around for c in around if a < c
    }
    assert {tuple(row) for row in springs.angles} == expected
    assert len(springs.angles) == len(expected) == len(springs.ends)


def test_strangers_are_more_than_three_bonds_apart(helix, springs):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    n = len(helix)
    graph = coo_array((np.ones(len(springs.bonds)), springs.bonds.T), shape=(n, n))
    steps = shortest_path(graph, directed=False, unweighted=True)
    assert steps[tuple(springs.near.T)].min() == 4
    far = np.argwhere(np.triu(steps > 3))
    apart = np.linalg.norm(helix.position[far[:, 0]] - helix.position[far[:, 1]], axis=1)
    assert len(springs.near) == (apart <= 5.0).sum()


def test_peptides_are_flat_and_alpha_carbons_are_not(helix, springs):
    flat = springs.spread < 0.15
    centre = helix.name[springs.groups[:, 0]]
    assert not flat[centre == "CA"].any()
    # All of one hand.
    assert np.abs(springs.volume[centre == "CA"].sum()) > 2 * (centre == "CA").sum()
    # Both ways along each peptide bond: CA or O before it, CA behind it.
    names = {tuple(helix.name[row]) for row in springs.groups[flat]}
    assert {("C", "CA", "N", "CA"), ("C", "O", "N", "CA")} <= names
    assert np.abs(springs.volume[flat]).max() < 1.0


@settings(deadline=None, max_examples=10)
@given(st.tuples(*[st.floats(-3, 3)] * 6))
def test_motion_of_the_whole_costs_nothing_and_a_mirror_does(x):
    atoms = Atoms.from_structure(phantom.alpha_helix(8).structure)
    springs = Restraints.of(atoms.position, atoms.element)
    moved = atoms.position @ Rotation.from_rotvec(x[:3]).as_matrix().T + x[3:]
    assert float(springs.energy(torch.tensor(moved))) < 1e-6
    assert springs.deviations(atoms.position, moved) == pytest.approx((0, 0), abs=1e-6)
    assert float(springs.energy(torch.tensor(moved * [1, 1, -1]))) > 1000


def test_energy_counts_in_standard_deviations():
    position = np.array([[0.0, 0, 0], [1.5, 0, 0]])
    springs = Restraints.of(position, [6, 6])
    longer = torch.tensor([[0.0, 0, 0], [1.56, 0, 0]], dtype=torch.float64)
    assert float(springs.energy(longer)) == pytest.approx(0.5 * 3**2, rel=1e-6)
    assert springs.deviations(position, longer.numpy())[0] == pytest.approx(0.06, abs=1e-9)


def test_what_comes_too_near_is_pushed_away():
    position = np.array([[0.0, 0, 0], [4.0, 0, 0]])
    springs = Restraints.of(position, [6, 6])
    near = torch.tensor([[0.0, 0, 0], [2.6, 0, 0]], dtype=torch.float64, requires_grad=True)
    energy = springs.energy(near)
    energy.backward()
    assert energy.item() == pytest.approx(0.5 * 2**2, rel=1e-6)
    assert near.grad[1, 0] < 0  # downhill is away


def test_gradients_are_those_of_differences(helix, springs, rng):
    position = torch.tensor(
        helix.position + rng.normal(0, 0.1, helix.position.shape), requires_grad=True
    )
    assert torch.autograd.gradcheck(springs.energy, position, eps=1e-6, rtol=1e-4)


def test_volumes_are_determinants(helix, springs):
    for row, volume in zip(springs.groups, springs.volume, strict=True):
        first, *others = helix.position[row]
        assert volume == pytest.approx(np.linalg.det(np.array(others) - first), abs=1e-9)
