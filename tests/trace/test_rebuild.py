"""Backbones from Cα atoms: what must hold exactly, and how near the truth they are."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, ModelError, ModelWarning
from cryonb.grid import Grid
from cryonb.simulate import phantom
from cryonb.trace.frames import dihedral, frames
from cryonb.trace.peptides import TURNS, load_table
from cryonb.volume import Volume


def alphas(model, *, name=None, leave=()):
    """The model's Cα atoms, without the residues of these numbers."""
    new = model.clone()
    for chain in new[0]:
        for k in reversed(range(len(chain))):
            if chain[k].seqid.num in leave:
                del chain[k]
                continue
            chain[k].name = name or chain[k].name
            for j in reversed(range(len(chain[k]))):
                if chain[k][j].name != "CA":
                    del chain[k][j]
    return new


def table_of(model):
    """Positions by chain, number and atom."""
    return {
        (site.chain.name, site.residue.seqid.num, site.atom.name): np.array(site.atom.pos.tolist())
        for site in model[0].all()
    }


def rmsd(found, truth, names="NCO"):
    one, two = table_of(found), table_of(truth)
    apart = [one[key] - two[key] for key in one if key in two and key[2] in tuple(names)]
    assert len(apart) > 10
    return np.sqrt(np.mean(np.sum(np.square(apart), axis=1)))


def from_points(points, name="ALA"):
    structure, model = gemmi.Structure(), gemmi.Model(1)
    chain = gemmi.Chain("A")
    for number, point in enumerate(points, start=1):
        residue = gemmi.Residue()
        residue.name, residue.seqid = name, gemmi.SeqId(number, " ")
        atom = gemmi.Atom()
        atom.name, atom.element = "CA", gemmi.Element("C")
        atom.pos = gemmi.Position(*point)
        residue.add_atom(atom)
        chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    return structure


@pytest.mark.parametrize(
    "ideal", [phantom.alpha_helix(20), phantom.beta_sheet(3, length=8), phantom.polyproline(15)]
)
def test_ideal_elements_come_back(ideal):
    truth = ideal.structure
    found = nb.rebuild_backbone(alphas(truth))
    # Ends included, where the chain has to be guessed on.
    assert rmsd(found, truth, ("N", "C")) < 0.3
    inner = truth.clone()
    for chain in inner[0]:
        del chain[0]
        del chain[-1]
    assert rmsd(found, inner, ("N", "C", "O", "CB")) < 0.4
    assert rmsd(found, truth, ("CA",)) < 0.02


def test_an_ideal_helix_is_rebuilt_within_three_tenths():
    truth = phantom.alpha_helix(24).structure
    assert rmsd(nb.rebuild_backbone(alphas(truth)), truth) < 0.3


def test_a_reversed_chain_is_not_rebuilt():
    truth = phantom.alpha_helix(24).structure
    points = [np.array(r[0].pos.tolist()) for r in alphas(truth)[0][0]]
    found = nb.rebuild_backbone(from_points(points[::-1]))
    back = [[np.array(a.pos.tolist()) for a in r] for r in found[0][0]][::-1]
    true = [[np.array(a.pos.tolist()) for a in r] for r in truth[0][0]]
    oxygens = [np.linalg.norm(b[3] - t[3]) for b, t in zip(back, true, strict=True)]
    assert np.median(oxygens) > 3


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_it_moves_with_the_model(seed):
    rng = np.random.default_rng(seed)
    points = random_chain(rng, 12)
    turn, shift = Rotation.random(random_state=rng).as_matrix(), rng.uniform(-50, 50, 3)
    one = Atoms.from_structure(nb.rebuild_backbone(from_points(points))).position
    two = Atoms.from_structure(nb.rebuild_backbone(from_points(points @ turn.T + shift))).position
    assert np.allclose(one @ turn.T + shift, two, atol=1e-5)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6), noise=st.floats(0, 0.3))
def test_bonds_are_sane_and_no_atom_is_lacking(seed, noise):
    rng = np.random.default_rng(seed)
    points = random_chain(rng, 15)
    found = nb.rebuild_backbone(from_points(points + rng.normal(0, noise, points.shape)))
    n, ca, c, o, cb = np.array([[a.pos.tolist() for a in r] for r in found[0][0]]).swapaxes(0, 1)
    for one, two, length in ((c, o, 1.23), (ca, cb, 1.53), (c[:-1], n[1:], 1.33)):
        assert np.allclose(np.linalg.norm(one - two, axis=1), length, atol=0.04)
    for one, two, length in ((n, ca, 1.46), (ca, c, 1.52)):
        # Noise that was not all taken away goes into these.
        assert np.allclose(np.linalg.norm(one - two, axis=1), length, atol=0.05 + 0.2 * noise)
    # L-amino acids.
    assert (np.einsum("ij,ij->i", np.cross(n - ca, c - ca), cb - ca) > 0).all()


def random_chain(rng, n):
    """Cα atoms 3.8 Å apart with angles from 90 to 145°."""
    points = [np.array([0.0, 3.8, 0]), np.zeros(3), np.array([3.8, 0, 0])]
    while len(points) < n:
        axis = frames(*points[-3:])
        angle, torsion = rng.uniform(1.57, 2.53), rng.uniform(-np.pi, np.pi)
        side = np.sin(angle) * np.array([np.cos(torsion), np.sin(torsion)])
        points.append(points[-1] + 3.8 * np.append(-np.cos(angle), side) @ axis)
    return np.array(points)


def test_frames_and_dihedral_agree():
    rng = np.random.default_rng(3)
    a, b, c = rng.normal(size=(3, 50, 3))
    torsion = rng.uniform(-np.pi, np.pi, 50)
    axis = frames(a, b, c)
    d = c + np.cos(torsion)[:, None] * axis[:, 1] + np.sin(torsion)[:, None] * axis[:, 2]
    assert np.allclose(dihedral(a, b, c, d + axis[:, 0]), torsion)


def test_a_gap_is_not_bridged():
    truth = phantom.alpha_helix(24).structure
    found = table_of(nb.rebuild_backbone(alphas(truth, leave=(10, 11, 12))))
    assert ("A", 11, "CA") not in found
    assert len({key[1] for key in found}) == 21
    # Each side has its own end: C of residue 9 is bound to none, with N of 13 far away.
    assert np.linalg.norm(found["A", 9, "C"] - found["A", 13, "N"]) > 3
    parts = [
        nb.rebuild_backbone(alphas(truth, leave=leave))
        for leave in (range(10, 25), range(1, 13))
    ]  # fmt: skip
    for key, position in (table_of(parts[0]) | table_of(parts[1])).items():
        assert np.allclose(found[key], position, atol=1e-9)


def test_residues_keep_their_names_numbers_and_b():
    truth = phantom.alpha_helix(10).structure
    model = alphas(truth)
    chain = model[0][0]
    chain[3].name, chain[5].name = "GLY", "UNK"
    chain[4][0].b_iso = 77.0
    before = model.make_pdb_string()
    found = nb.rebuild_backbone(model)
    assert model.make_pdb_string() == before
    assert [r.name for r in found[0][0]] == [r.name for r in chain]
    assert [str(r.seqid) for r in found[0][0]] == [str(r.seqid) for r in chain]
    assert {a.b_iso for a in found[0][0][4]} == {77.0}
    assert [a.name for a in found[0][0][3]] == ["N", "CA", "C", "O"]
    assert [a.name for a in found[0][0][5]] == ["N", "CA", "C", "O", "CB"]


def test_cis_proline_is_cis():
    # A cis peptide laid out from the mean plane: Cα atoms 2.94 Å apart within a strand.
    points = random_chain(np.random.default_rng(1), 12)
    points[6:] -= (3.8 - load_table().apart[1]) * (points[6] - points[5]) / 3.8
    model = from_points(points)
    model[0][0][6].name = "PRO"
    found = table_of(nb.rebuild_backbone(model))
    omega = dihedral(*(found["A", k, name] for k, name in
                       ((6, "CA"), (6, "C"), (7, "N"), (7, "CA"))))  # fmt: skip
    assert abs(np.degrees(omega)) < 20
    other = dihedral(*(found["A", k, name] for k, name in
                       ((3, "CA"), (3, "C"), (4, "N"), (4, "CA"))))  # fmt: skip
    assert abs(np.degrees(other)) > 160


def test_density_turns_a_peptide():
    truth = phantom.beta_sheet(2, length=8).structure
    model = alphas(truth)
    # A map of the oxygens of a structure with all peptides turned over.
    turned = table_of(nb.rebuild_backbone(model))
    wrong = Volume(np.zeros((60, 60, 60), np.float32), Grid((60, 60, 60), 0.7, (-21, -21, -21)))
    z, y, x = np.meshgrid(*(np.arange(60) * 0.7 - 21,) * 3, indexing="ij")
    points = np.stack([x, y, z], axis=-1)
    values = np.zeros(wrong.shape)
    for (chain, number, name), place in turned.items():
        if name == "CA":
            values += 0.3 * np.exp(-((points - place) ** 2).sum(axis=-1))
        after = turned.get((chain, number + 1, "CA"))
        if name == "O" and after is not None:
            middle = (turned[chain, number, "CA"] + after) / 2
            axis = (after - middle) / np.linalg.norm(after - middle)
            away = place - middle
            flipped = middle + 2 * (away @ axis) * axis - away
            values += 3 * np.exp(-((points - flipped) ** 2).sum(axis=-1))
    volume = Volume(values.astype(np.float32), wrong.grid)
    found = table_of(nb.rebuild_backbone(model, volume, density_weight=50.0))
    oxygens = [k for k in found if k[2] == "O" and (k[0], k[1] + 1, "O") in found]
    far = [np.linalg.norm(found[k] - turned[k]) for k in oxygens]
    assert np.mean(np.array(far) > 2.5) > 0.8


def test_what_cannot_be_rebuilt_is_refused():
    with pytest.raises(ModelError, match="Three or more consecutive"):
        nb.rebuild_backbone(from_points([[0, 0, 0], [3.8, 0, 0]]))
    with pytest.raises(ModelError, match="Three or more consecutive"):
        nb.rebuild_backbone(phantom.dna_duplex("ACGT").structure)
    model = alphas(phantom.alpha_helix(10).structure)
    far = Volume(np.ones((8, 8, 8), np.float32), Grid((8, 8, 8), 1.0, (500, 0, 0)))
    with pytest.raises(CryonbError, match="no Cα atom lies in its box"):
        nb.rebuild_backbone(model, far)
    flat = Volume(np.ones((60, 60, 60), np.float32), Grid((60, 60, 60), 1.0, (-30, -30, -30)))
    with pytest.raises(CryonbError, match="above its mean"):
        nb.rebuild_backbone(model, flat)


def test_a_lone_residue_keeps_its_alpha_and_is_told():
    model = alphas(phantom.alpha_helix(20).structure, leave=(5, 7))
    with pytest.warns(ModelWarning, match="1 residues in stretches"):
        found = nb.rebuild_backbone(model)
    assert [a.name for a in next(r for r in found[0][0] if r.seqid.num == 6)] == ["CA"]


def test_the_table_holds_probabilities():
    table = load_table()
    total = (table.turn.astype(float) ** 2).sum(axis=-1) / 255**2
    # Roots are kept to one part in 255.
    assert np.allclose(total, 1, atol=0.05)
    assert table.turn.shape[-1] == TURNS == table.cis_turn.shape[-1]
    assert table.apart == pytest.approx([3.80, 2.94], abs=0.03)
