"""Fragments named by what is known of their residues: runs against a plain loop, copies, turns."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cryonb as nb
from cryonb.atoms import AMINO_ACIDS
from cryonb.errors import CryonbError
from cryonb.files.model import read_model
from cryonb.trace.hidden_markov import LETTERS
from cryonb.trace.placing import Copy
from cryonb.trace.registers import best_run, run_scores

SHIFTS, CUT = {1: 7.0, 2: 9.0}, 5.0


def walk(rng, n, start=(0.0, 0.0, 0.0)):
    """A chain of 3.8 Å steps that bends at random."""
    steps = np.cumsum(rng.normal(0, 1, (n, 3)), axis=0)
    steps /= np.linalg.norm(steps, axis=1)[:, None]
    return np.asarray(start) + np.cumsum(3.8 * steps, axis=0)


def fragments(*chains):
    """A model of Cα atoms, a chain each."""
    made = gemmi.Structure()
    made.add_model(gemmi.Model(1))
    for number, points in enumerate(chains):
        chain = gemmi.Chain("ABCDEFGHIJ"[number])
        for k, point in enumerate(np.asarray(points).tolist()):
            residue = gemmi.Residue()
            residue.name, residue.seqid = "ALA", gemmi.SeqId(k + 1, " ")
            atom = gemmi.Atom()
            atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(*point)
            residue.add_atom(atom)
            chain.add_residue(residue)
        made[0].add_chain(chain)
    made.setup_entities()
    return made


def known(rng, codes, sure=1.0):
    """Probabilities of residues that say what they are, more or less."""
    found = rng.dirichlet(np.ones(20), len(codes))
    found[np.arange(len(codes)), codes] += sure
    return found / found.sum(axis=1, keepdims=True)


@pytest.fixture
def protein():
    rng = np.random.default_rng(4)
    codes = rng.integers(20, size=120)
    return walk(rng, 120), codes, "".join(LETTERS[code] for code in codes)


def plain(ratio, codes, allowed):
    """The best run by all steps from all cells."""
    n, m = allowed.shape
    score = np.full((n, m), -np.inf)
    for i in range(n):
        for j in range(m):
            if not allowed[i, j]:
                continue
            before = [-CUT if i else 0.0]
            before += [
                score[i - a, j - b] - (SHIFTS[max(a, b) - 1] if a != b else 0)
                for a in (1, 2, 3)
                for b in (1, 2, 3)
                if min(a, b) == 1 and i >= a and j >= b
            ]
            score[i, j] = max(before) + ratio[i, codes[j]]
    return (score - CUT * (np.arange(n) < n - 1)[:, None]).max()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), m=st.integers(1, 14))
def test_runs_are_those_of_a_plain_loop(seed, n, m):
    rng = np.random.default_rng(seed)
    ratio, codes = rng.normal(0, 3, (n, 21)), rng.integers(0, 21, (3, m))
    allowed = rng.random((n, m)) < 0.8
    scores = run_scores(ratio, codes, allowed)
    np.testing.assert_allclose(scores, [plain(ratio, one, allowed) for one in codes])
    run = best_run(ratio, codes[0], allowed)
    if run is None:
        assert not allowed.any()
        return
    assert run.score == pytest.approx(scores[0])
    # The cells that it names have this score, with its costs.
    assert allowed[run.rows, run.places].all()
    steps = np.column_stack([np.diff(run.rows), np.diff(run.places)])
    assert (steps >= 1).all()
    assert (steps.min(axis=1, initial=1) == 1).all()
    total = ratio[run.rows, codes[0][run.places]].sum()
    total -= sum(SHIFTS[max(step) - 1] for step in steps.tolist() if step[0] != step[1])
    total -= CUT * (int(run.rows[0] > 0) + int(run.rows[-1] < n - 1))
    assert total == pytest.approx(run.score)


def test_fragments_find_their_places(protein):
    points, codes, sequence = protein
    rng = np.random.default_rng(5)
    # The second runs backwards, the third lacks a residue, the fourth has one too many.
    third = np.delete(np.arange(62, 90), 12)
    parts = [points[5:30], points[33:60][::-1], points[third], points[92:116]]
    own = [codes[5:30], codes[33:60][::-1], codes[third], codes[92:116]]
    extra = (parts[3][11] + parts[3][12]) / 2 + (0, 0.5, 0)
    parts[3] = np.insert(parts[3], 12, extra, axis=0)
    own[3] = np.insert(own[3], 12, (codes[103] + 7) % 20)
    emission = known(rng, np.concatenate(own), 2.0)
    other = "".join(LETTERS[code] for code in rng.integers(20, size=100))
    found = nb.name_fragments(fragments(*parts), None, [other, sequence], emission=emission)
    table = found.fragments
    assert set(table.sequence[table.named > 5]) == {1}
    forward = table[table.named > 5].groupby("chain").forward.all()
    assert forward.to_dict() == {"A": True, "B": False, "C": True, "D": True}
    residues = found.residues
    truth = np.concatenate([
        np.arange(5, 30), np.arange(33, 60)[::-1], third, np.insert(np.arange(92, 116), 12, -1),
    ])  # fmt: skip
    given_name = residues.place.to_numpy() >= 0
    assert given_name.mean() > 0.95
    # Beside the residue too many, which of the two it is cannot be told.
    wrong = (residues.place.to_numpy() != truth) & given_name
    assert wrong.sum() <= 1
    chain = found.model[0][0]
    numbers = [residue.seqid.num for residue in chain]
    assert numbers == sorted(set(numbers))
    letters = gemmi.one_letter_code([residue.name for residue in chain])
    assert all(sequence[k - 1] == letter for k, letter in zip(numbers, letters, strict=True))
    assert (table.p[table.named > 0] <= 0.005).all()


def test_a_turned_model_has_the_same_names(protein):
    points, codes, sequence = protein
    emission = known(np.random.default_rng(6), codes[10:50], 0.6)
    one = nb.name_fragments(fragments(points[10:50]), None, sequence, emission=emission)
    two = nb.name_fragments(fragments(points[10:50][::-1]), None, sequence, emission=emission[::-1])
    np.testing.assert_array_equal(one.residues.place, two.residues.place[::-1])
    assert one.named > 0.9
    assert one.fragments.forward[0]
    assert not two.fragments.forward[0]


def test_copies_have_their_own_fragments(protein):
    points, codes, sequence = protein
    rng = np.random.default_rng(7)
    away = points + (150.0, 0, 0)
    parts = [points[:40], away[5:45], away[50:90], points[48:95]]
    own = [codes[:40], codes[5:45], codes[50:90], codes[48:95]]
    model, emission = fragments(*parts), known(rng, np.concatenate(own), 1.0)
    two = nb.name_fragments(model, None, [sequence] * 2, emission=emission)
    named = two.residues[two.residues.place >= 0]
    assert len(named) > 0.95 * len(two.residues)
    assert not named.duplicated(["sequence", "place"]).any()
    of = named.groupby("chain").sequence.agg(set)
    assert of["A"] == of["D"] != of["B"]
    assert of["B"] == of["C"]
    # With one copy, only what does not overlap, and hangs together, has names.
    one = nb.name_fragments(model, None, sequence, emission=emission)
    named = one.residues[one.residues.place >= 0]
    assert not named.duplicated("place").any()
    assert set(named.chain) in ({"A", "D"}, {"B", "C"})


def test_fragments_of_nothing_have_no_names():
    rng = np.random.default_rng(8)
    sequence = "".join(LETTERS[code] for code in rng.integers(20, size=200))
    parts = [walk(rng, 20, (60.0 * k, 0, 0)) for k in range(10)]
    emission = rng.dirichlet(np.ones(20), 200)
    found = nb.name_fragments(fragments(*parts), None, sequence, emission=emission)
    assert (found.fragments.named > 0).sum() <= 1
    assert {residue.name for residue in found.model[0][-1]} == {"UNK"}
    # About even between 0 and 1.
    many = nb.name_fragments(fragments(*parts), None, sequence, emission=emission, chance=1e-9)
    assert 0.2 < many.fragments.p.mean() < 0.8
    assert (many.residues.place == -1).all()
    assert len(many.model[0]) == 10


def test_a_chain_is_no_longer_than_its_residues():
    points = np.array([[0, 0, 0], [50.0, 0, 0]])
    copy = Copy(0, np.zeros(30, dtype=np.int64))
    assert copy.allowed(points).all()
    copy.positions[10] = (0, 0, 0)
    allowed = copy.allowed(points)
    assert not allowed[:, 10].any()
    # 13 steps of 3.8 Å are 49.4 Å, and two Å are allowed for errors.
    assert np.flatnonzero(allowed[1]).tolist() == [*range(23, 30)]
    assert allowed[0].sum() == 29


def test_it_is_saved_and_shown(protein, tmp_path):
    points, codes, sequence = protein
    emission = known(np.random.default_rng(9), codes[10:50])
    found = nb.name_fragments(fragments(points[10:50]), None, sequence, emission=emission)
    paths = found.save(tmp_path)
    assert all(path.exists() for path in paths)
    assert read_model(paths[0])[0].count_atom_sites() == 40
    assert "40 of 40 residues" in repr(found)
    assert "forward" in found._repr_html_()
    truth = fragments(points)
    for residue, code in zip(truth[0][0], codes.tolist(), strict=True):
        residue.name = AMINO_ACIDS[code]
    assert found.evaluate(truth).summary.identity == 100


def test_bad_input_is_refused(protein):
    model = fragments(protein[0][:10])
    with pytest.raises(CryonbError, match="neither was given"):
        nb.name_fragments(model, None, "MKV")
    with pytest.raises(CryonbError, match="Sequences of one-letter codes"):
        nb.name_fragments(model, None, [], emission=np.ones((10, 20)))
    with pytest.raises(CryonbError, match=r"shape \(10, 20\)"):
        nb.name_fragments(model, None, "MKV", emission=np.ones((9, 20)))


@pytest.mark.data
@pytest.mark.slow
def test_a_real_map_names_its_fragments(data):
    truth = read_model(data / "maps/6272/3j9s.pdb")
    volume = nb.open_map(data / "maps/6272/6272_zone4A.mrc.gz", resolution=2.6)
    points = np.array([
        atom.pos.tolist() for residue in truth[0][0] for atom in residue if atom.name == "CA"
    ])  # fmt: skip
    parts = [slice(10, 50), slice(90, 130), slice(200, 240)]
    model = fragments(points[parts[0]], points[parts[1]][::-1], points[parts[2]])
    found = nb.name_fragments(model, volume, nb.open_sequences(truth)[0])
    place = [np.arange(len(points))[part] for part in parts]
    expected = np.concatenate([place[0], place[1][::-1], place[2]])
    named = found.residues.place >= 0
    assert named.mean() > 0.9
    assert (found.residues.place == expected)[named].mean() > 0.95
