"""Residue types by density, registers against plain loops, and the classifiers' symmetries."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cryonb as nb
from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.errors import CryonbError
from cryonb.files.model import read_model
from cryonb.grid import Grid
from cryonb.simulate.fourier import fourier_map
from cryonb.trace.hidden_markov import BACKGROUND, LETTERS
from cryonb.trace.peaks import Peaks
from cryonb.trace.residue_frames import half_ball, read_frames, side_lattice
from cryonb.trace.residue_types import direction_logit
from cryonb.trace.sequence import _slide, sequence_from_map


@pytest.fixture(scope="module")
def atoms():
    found = Atoms.from_structure(nb.example_model("phantom"))
    return found.select(np.isin(found.role, (1, 2, 3, 4)) | (found.name == "CB"))


@pytest.fixture(scope="module")
def density(atoms):
    grid = Grid.around(atoms.position, 1.0, 9.0)
    return nb.DensityMap.from_volume(fourier_map(atoms, grid, resolution=3.0), resolution=3.0)


@pytest.fixture(scope="module")
def certain():
    """A sequence, emissions that know it well, and Cα atoms of residues 10 to 39."""
    rng = np.random.default_rng(3)
    codes = rng.integers(20, size=80)
    emission = rng.dirichlet(np.ones(20), 30)
    emission[np.arange(30), codes[10:40]] += 1
    structure = gemmi.Structure()
    model, chain = gemmi.Model(1), gemmi.Chain("A")
    for k in range(30):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "UNK", gemmi.SeqId(k + 1, " ")
        atom = gemmi.Atom()
        atom.name, atom.element = "CA", gemmi.Element("C")
        atom.pos = gemmi.Position(3.8 * k, (k % 2) * 1.0, 0)
        residue.add_atom(atom)
        chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    return structure, "".join(LETTERS[code] for code in codes), emission


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), m=st.integers(1, 15))
def test_registers_are_those_of_a_plain_loop(seed, n, m):
    rng = np.random.default_rng(seed)
    ratio, codes = rng.normal(size=(n, 20)), rng.integers(-1, 20, m)
    score, start = _slide(ratio, codes)
    for value, first in zip(score, start, strict=True):
        expected = sum(
            ratio[k, codes[first + k]]
            for k in range(n)
            if 0 <= first + k < m and codes[first + k] >= 0
        )
        assert value == pytest.approx(expected)
    least = max(int(np.ceil(0.6 * min(n, m))), 1)
    overlap = [min(n + f, m) - max(f, 0) for f in range(-n, m + 1)]
    assert len(start) == sum(value >= least for value in overlap)


def test_emissions_that_know_find_the_register(certain):
    structure, sequence, emission = certain
    other = sequence[::-1]
    found = sequence_from_map(structure, None, [other, sequence], emission=emission)
    row = found.placements.iloc[0]
    assert (row.sequence, row.start, row.forward, row.n) == (1, 10, True, 30)
    assert row.p == pytest.approx(1 / 201)
    assert row.z > 8
    assert row.next < row.score
    three = gemmi.expand_one_letter_sequence(sequence[10:40], gemmi.ResidueKind.AA)
    assert list(found.residues.placed) == list(three)
    (chain,) = sequence_from_map(structure, None, sequence, emission=emission).align()
    assert (chain.states[10:40] >= 0).mean() > 0.9


def test_a_trace_that_runs_backwards_is_read_backwards(certain, atoms, density):
    structure, sequence, emission = certain
    found = sequence_from_map(
        structure, None, sequence, emission=emission[::-1], either_way=True, shuffles=20
    )
    row = found.placements.iloc[0]
    assert (row.start, row.forward) == (10, False)
    assert found.residues.placed[29] == AMINO_ACIDS[LETTERS.find(sequence[10])]
    # By density, frames turn with the direction.
    alpha = atoms.select(atoms.name == "CA")
    one = sequence_from_map(alpha, density, "A" * len(alpha), either_way=True, shuffles=5)
    assert one.placements.forward.mean() > 0.5


def test_emissions_of_nothing_are_not_believed(certain):
    structure, sequence, _ = certain
    p = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        emission = rng.dirichlet(np.ones(20), 30)
        p.append(
            sequence_from_map(
                structure, None, sequence, emission=emission, shuffles=40, rng=rng
            ).placements.p[0]
        )
    # About even between 0 and 1: of twenty, hardly more than five are below 0.1.
    assert sum(value < 0.1 for value in p) <= 5
    assert np.mean(p) == pytest.approx(0.5, abs=0.2)


def test_candidates_lend_their_emissions(certain):
    structure, sequence, emission = certain
    alpha = read_frames(structure).position
    peaks = Peaks(alpha[:20] + 0.5, np.ones(20), emission[:20].astype("f4"), AMINO_ACIDS)
    found = sequence_from_map(structure, None, sequence, emission=peaks)
    assert found.placements.start[0] == 10
    np.testing.assert_allclose(found.probability[25], BACKGROUND / BACKGROUND.sum(), atol=1e-3)


def test_the_same_seed_gives_the_same(certain):
    structure, sequence, emission = certain
    one, two = (
        sequence_from_map(structure, None, sequence, emission=emission).placements for _ in "ab"
    )
    assert one.equals(two)


def test_scale_of_the_map_does_not_matter(atoms, density):
    one = sequence_from_map(atoms, density)
    two = sequence_from_map(atoms, density.replace(values=density.values * 37))
    np.testing.assert_allclose(one.probability, two.probability, atol=1e-4)
    np.testing.assert_allclose(one.probability.sum(axis=1), 1)
    assert len(one.placements) == 0
    assert (one.residues.placed == "").all()


def test_a_chain_that_runs_the_other_way_has_the_opposite_logit(atoms, density):
    frames = read_frames(atoms, backbone=False)
    for stretch in np.unique(frames.stretch):
        path = frames.position[frames.stretch == stretch]
        forward = direction_logit(path, density)
        assert forward == pytest.approx(-direction_logit(path[::-1], density), rel=1e-4)
        assert forward > 2
    assert np.isnan(direction_logit(path[:2], density))


def test_frames_move_with_the_model(atoms, density):
    for backbone in (True, False):
        frames = read_frames(atoms, backbone=backbone)
        known = frames.axes[frames.known]
        np.testing.assert_allclose(
            known @ known.transpose(0, 2, 1), np.tile(np.eye(3), (len(known), 1, 1)), atol=1e-9
        )
        np.testing.assert_allclose(np.linalg.det(known), 1)
    # The first axis of a backbone is where the Cβ atoms are.
    frames = read_frames(atoms)
    beta = np.full((len(atoms.residues), 3), np.nan)
    beta[atoms.residue[atoms.name == "CB"]] = atoms.position[atoms.name == "CB"]
    away = beta[frames.row] - frames.position
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    cosine = (away * frames.axes[:, 0]).sum(axis=1)
    assert np.nanmin(cosine) > 0.98
    # The half ball and its half turn make the ball, without the axis.
    turned = half_ball() * [1, -1, -1]
    assert len(np.unique(np.vstack([half_ball(), turned]).round(6), axis=0)) == 2 * len(turned)
    assert np.linalg.norm(side_lattice(True), axis=1).max() <= 7.2


def test_bad_input_is_refused(certain, atoms, density):
    structure, sequence, emission = certain
    with pytest.raises(CryonbError, match="neither was given"):
        sequence_from_map(structure, None, sequence)
    with pytest.raises(CryonbError, match=r"shape \(30, 20\)"):
        sequence_from_map(structure, None, sequence, emission=emission[:5])
    with pytest.raises(CryonbError, match="one-letter codes"):
        sequence_from_map(structure, None, "MK1", emission=emission)
    with pytest.raises(CryonbError, match="resolution="):
        sequence_from_map(atoms, nb.DensityMap(density.values, density.grid))
    with pytest.raises(CryonbError, match="in one frame"):
        sequence_from_map(atoms.moved_to(atoms.position + 500), density)
    with pytest.raises(CryonbError, match="A sequence was expected to align"):
        sequence_from_map(structure, None, emission=emission).align()
    peaks = Peaks(np.zeros((1, 3)), np.ones(1), np.empty((1, 0)))
    with pytest.raises(CryonbError, match="20 amino acids"):
        sequence_from_map(structure, None, sequence, emission=peaks)


@pytest.mark.data
@pytest.mark.slow
def test_a_real_map_knows_its_sequence(data):
    model = read_model(data / "maps/6272/3j9s.pdb")
    volume = nb.open_map(data / "maps/6272/6272_zone4A.mrc.gz", resolution=2.6)
    names = [residue.name for residue in model[0][0] if residue.find_atom("CA", "*")]
    sequence = gemmi.one_letter_code(names).upper()
    for atoms in (Atoms.from_structure(model), None):
        if atoms is None:
            atoms = Atoms.from_structure(model)
            atoms = atoms.select(atoms.name == "CA")
        found = sequence_from_map(atoms, volume, sequence)
        row = found.placements.iloc[0]
        assert row.start == 0
        assert row.z > 20
        # Chance is 0.07.
        assert (found.residues.best == found.residues.name).mean() > 0.25
