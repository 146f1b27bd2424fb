"""Springs of a model: what is bonded, what is flat, and that motion of the whole costs nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryonb.atoms import Atoms
from cryonb.files.model import read_model
from cryonb.fitting.internal import torsion_angles
from cryonb.fitting.restraints import Restraints
from cryonb.fitting.topology import bonded_pairs, named_bonds
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
    assert float(springs.energy(torch.tensor(moved))) < 0.01
    assert springs.deviations(atoms.position, moved) == pytest.approx((0, 0, 0), abs=1e-5)
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
    near = torch.tensor([[0.0, 0, 0], [2.9, 0, 0]], dtype=torch.float64, requires_grad=True)
    energy = springs.energy(near)
    energy.backward()
    assert energy.item() == pytest.approx(0.5 * 2**2, rel=1e-6)
    assert near.grad[1, 0] < 0  # downhill is away


@pytest.mark.parametrize(
    ("pair", "closest"), [((6, 6), 3.1), ((6, 8), 2.92), ((7, 8), 2.6), ((12, 8), 1.8)]
)
def test_how_near_atoms_may_come_is_a_matter_of_elements(pair, closest):
    # Sums of the van der Waals radii (C 1.7, O 1.52 Å) less 0.3; hydrogen bonds and ions nearer.
    springs = Restraints.of(np.array([[0.0, 0, 0], [4.5, 0, 0]]), np.array(pair))
    assert springs.closest == pytest.approx([closest])
    for apart, count in ((closest - 0.25, 1), (closest - 0.15, 0)):
        assert springs.clashes(np.array([[0.0, 0, 0], [apart, 0, 0]])) == count


def test_what_may_collide_is_looked_up_anew():
    element = np.array([6, 6])
    springs = Restraints.of(np.array([[0.0, 0, 0], [9.0, 0, 0]]), element)
    near = np.array([[0.0, 0, 0], [2.9, 0, 0]])
    assert float(springs.energy(torch.tensor(near))) == 0
    again = springs.renewed(near)
    assert float(again.energy(torch.tensor(near))) == pytest.approx(0.5 * 2**2, rel=1e-6)
    # What is near at the start stays as near.
    begun = Restraints.of(near, element)
    assert float(begun.renewed(near + 1).energy(torch.tensor(near))) == 0


BUTANE = np.array([[-0.5, 1.4, 0.0], [0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [2.0, 1.4, 0.0]])


def turned(degrees):
    """Butane's carbons with the last atom at a torsion angle."""
    angle = np.radians(degrees)
    last = [2.0, 1.4 * np.cos(angle), 1.4 * np.sin(angle)]
    return np.vstack([BUTANE[:3], [last]])


@given(st.floats(-180, 180))
@settings(deadline=None)
def test_torsion_angles_are_as_built(degrees):
    found = np.degrees(torsion_angles(turned(degrees), np.array([[0, 1, 2, 3]])))
    assert (found[0] - degrees + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("start", [60.0, 178.0, -179.0])
def test_torsions_pull_back_and_let_go(start):
    springs = Restraints.of(turned(start), np.full(4, 6))
    assert springs.torsions.tolist() == [[0, 1, 2, 3]]

    def at(degrees):
        return float(springs.energy(torch.tensor(turned(start + degrees))))

    # The closed form of Restraints.energy; the same both ways, across 180° as well.
    for away in (3.0, -3.0, 20.0, 120.0):
        delta = 2 * (1 - np.cos(np.radians(away)))
        limit, sigma = np.radians(30), np.radians(5)
        expected = 0.5 * (limit / sigma) ** 2 * (1 - np.exp(-delta / limit**2))
        assert at(away) == pytest.approx(expected, rel=1e-4)
    assert at(3.0) == pytest.approx(0.5 * (3 / 5) ** 2, rel=0.01)
    # Once it has let go, another rotamer costs what half of the way there does.
    assert at(120.0) == pytest.approx(at(90.0), rel=0.05)
    turns = springs.deviations(turned(start), turned(start + 4))[2]
    assert turns == pytest.approx(4.0, abs=1e-6)


def test_each_bond_that_turns_has_one_torsion(helix, springs):
    middle = {tuple(helix.name[row]) for row in springs.torsions[:, 1:3]}
    assert middle == {("N", "CA"), ("CA", "C")}
    assert len(springs.torsions) == 2 * 8 - 1  # no φ without a residue before


def test_stiffness_is_the_second_derivative(helix, springs, rng):
    # At the targets, where nothing repels, and along any direction.
    step = rng.normal(0, 1, helix.position.shape)
    step *= 1e-4 / np.abs(step).max()
    quadratic = 0.5 * step.ravel() @ (springs.stiffness(helix.position) @ step.ravel())
    energy = [
        float(springs.energy(torch.tensor(helix.position + sign * step))) for sign in (-1, 0, 1)
    ]
    assert (energy[0] + energy[2]) / 2 - energy[1] == pytest.approx(quadratic, rel=0.02)


def rough(atoms, rng, size):
    return atoms.moved_to(atoms.position + rng.normal(0, size / np.sqrt(3), atoms.position.shape))


def test_bonds_survive_displacement_by_name(helix, springs, rng):
    away = rough(helix, rng, 0.4)
    alone = bonded_pairs(away.position, away.element)
    assert {tuple(pair) for pair in alone} != {tuple(pair) for pair in springs.bonds}
    found = Restraints.of_atoms(away)
    np.testing.assert_array_equal(found.bonds, springs.bonds)
    np.testing.assert_array_equal(found.angles, springs.angles)


def named_only(atoms):
    return bonded_pairs(atoms.position, atoms.element, named=named_bonds(atoms))


def test_bonds_by_name_are_those_by_distance_in_dna():
    atoms = Atoms.from_structure(phantom.dna_duplex("CGATTA").structure)
    assert set(atoms.residues.name) == {"DA", "DC", "DG", "DT"}
    np.testing.assert_array_equal(named_only(atoms), bonded_pairs(atoms.position, atoms.element))
    assert named_bonds(atoms)[2].all()


@pytest.mark.data
@pytest.mark.parametrize(
    "model",
    ["20026/3ajo_fitted_refined.pdb", "6272/3j9s.pdb", "20353/6PJ6_hairpin3_2606.pdb"],
)
def test_bonds_by_name_are_those_by_distance_in_deposited_models(data, model):
    atoms = Atoms.from_structure(read_model(data / "maps" / model))
    found, expected = named_only(atoms), bonded_pairs(atoms.position, atoms.element)
    assert {tuple(pair) for pair in found} == {tuple(pair) for pair in expected}


def test_residues_across_a_gap_are_not_linked(helix):
    number = helix.residues.number + 5 * (np.arange(8) >= 4)
    gap = replace(helix, residues=replace(helix.residues, number=number))
    linked = {tuple(pair) for pair in named_bonds(helix)[0]}
    missing = linked - {tuple(pair) for pair in named_bonds(gap)[0]}
    assert [[helix.name[k] for k in pair] for pair in missing] == [["C", "N"]]


def test_a_flattened_centre_gets_the_hand_of_the_others():
    helix = Atoms.from_structure(phantom.alpha_helix(12).structure)
    good = Restraints.of_atoms(helix)
    centre = np.flatnonzero(helix.name == "CA")[5]
    row = np.flatnonzero(good.groups[:, 0] == centre)[0]
    # Into the plane of its neighbours, and a little beyond.
    position = helix.position.copy()
    three = position[good.groups[row, 1:]]
    normal = np.cross(three[1] - three[0], three[2] - three[0])
    normal /= np.linalg.norm(normal)
    position[centre] -= 1.1 * ((position[centre] - three[0]) @ normal) * normal
    bad = Restraints.of_atoms(helix.moved_to(position))
    np.testing.assert_array_equal(bad.groups, good.groups)
    assert np.sign(bad.volume[row]) == np.sign(good.volume[row])
    assert abs(bad.volume[row]) > 0.5 * abs(good.volume[row])


def test_targets_of_a_rough_model_are_those_of_a_good_one(rng):
    helix = Atoms.from_structure(phantom.alpha_helix(60).structure)
    good, bad = Restraints.of_atoms(helix), Restraints.of_atoms(rough(helix, rng, 0.3))
    own = Restraints.of_atoms(rough(helix, rng, 0.3), typical=False)
    assert np.abs(good.length - bad.length).mean() < 0.03
    assert np.abs(good.span - bad.span).mean() < 0.08
    assert np.abs(own.length - Restraints.of_atoms(helix).length[: len(own.length)]).mean() > 0.1
    # A good model's own geometry is what is aimed at.
    assert good.strain(helix.position) == pytest.approx((0, 0), abs=1e-3)
    assert bad.strain(helix.position)[0] < 0.04


def test_strain_is_a_deviation_in_degrees():
    three = np.array([[1.5, 0.0, 0], [0, 0, 0], [-0.5, 1.4, 0]])
    springs = Restraints.of(three, np.full(3, 6))
    turn = Rotation.from_rotvec([0, 0, np.radians(2)]).as_matrix()
    bent = np.vstack([three[:2], three[2:] @ turn.T])
    bonds, angles = springs.strain(bent)
    assert bonds == pytest.approx(0, abs=1e-9)
    assert angles == pytest.approx(2, abs=0.05)


def test_gradients_are_those_of_differences(helix, springs, rng):
    position = torch.tensor(
        helix.position + rng.normal(0, 0.1, helix.position.shape), requires_grad=True
    )
    assert torch.autograd.gradcheck(springs.energy, position, eps=1e-6, rtol=1e-4)


def test_volumes_are_determinants(helix, springs):
    for row, volume in zip(springs.groups, springs.volume, strict=True):
        first, *others = helix.position[row]
        assert volume == pytest.approx(np.linalg.det(np.array(others) - first), abs=1e-9)
