"""Threading sequences: plain loops as oracles, every path of small cases, and real traces."""

import itertools
import math

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cryonb as nb
from cryonb.atoms import KIND_PROTEIN, Atoms
from cryonb.errors import CryonbError
from cryonb.files.model import read_model, write_model
from cryonb.trace.alignment import align, ca_structure
from cryonb.trace.hidden_markov import BACKGROUND, LETTERS, PUBLISHED_JUMP, ChainModel
from cryonb.trace.posterior import posterior
from cryonb.trace.several import align_chains
from cryonb.trace.viterbi import search

PUBLISHED = {"missing": None, "jump": PUBLISHED_JUMP}


def published_by_loops(positions, emissions, codes, available):
    """The published search, one number after the other: states, and where fragments begin."""
    n = len(positions)
    mean, deviation = 3.8047179727719045, 0.03622304 * 10
    transition = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            z = (math.dist(positions[i], positions[j]) - mean) / deviation
            density = math.exp(-z * z / 2) / (deviation * math.sqrt(2 * math.pi))
            transition[i][j] = density + 1e-20
        total = sum(transition[i])
        transition[i] = [math.log(value / total) for value in transition[i]]
    emission = []
    for row in emissions:
        total = sum(value + 1e-20 for value in row)
        mixed = [
            math.sqrt((value + 1e-20) / total * b) for value, b in zip(row, BACKGROUND, strict=True)
        ]
        emission.append([math.log(value / sum(mixed)) for value in mixed])
    everything = math.log(sum(math.exp(row[codes[0]]) for row in emission))
    initial = [row[codes[0]] - everything for row in emission]

    excluded = {i for i in range(n) if not available[i]}
    found, begins = [], []
    while len(found) < len(codes) and len(excluded) < n:
        begins.append(len(found))
        rest = codes[len(found) :]
        states = [i for i in range(n) if i not in excluded]
        score = {i: initial[i] + emission[i][rest[0]] for i in states}
        path = {i: [i] for i in states}
        for code in rest[1:]:
            next_score, next_path = {}, {}
            for target in states:
                best, source = -math.inf, None
                for i in states:
                    if target not in path[i] and score[i] + transition[i][target] > best:
                        best, source = score[i] + transition[i][target], i
                if source is None:
                    break
                next_score[target] = best + emission[target][code]
                next_path[target] = [*path[source], target]
            if len(next_score) < len(states):
                break
            score, path = next_score, next_path
        end = max(states, key=lambda i: score[i])
        found += path[end]
        excluded |= set(path[end])
    return found + [-1] * (len(codes) - len(found)), begins


def walk(rng, n):
    """A chain of steps of about 3.8 Å that turns by 45 to 90 degrees at each."""
    step, points = np.array([1.0, 0, 0]), [np.zeros(3)]
    for length in rng.normal(3.8, 0.05, n - 1):
        points.append(points[-1] + length * step)
        aside = np.cross(step, rng.normal(0, 1, 3))
        turn = np.radians(rng.uniform(45, 90))
        step = np.cos(turn) * step + np.sin(turn) * aside / np.linalg.norm(aside)
    return np.array(points)


def case(rng, n, extra=0, *, sure=2.0):
    """A walk with noise points, in random order: positions, emissions, codes, true states."""
    points = walk(rng, n)
    points = np.vstack([points, points[rng.integers(n, size=extra)] + rng.normal(0, 3, (extra, 3))])
    codes = rng.integers(0, 20, n)
    logits = rng.normal(0, 1, (n + extra, 20))
    logits[np.arange(n), codes] += sure
    order = rng.permutation(n + extra)
    emissions = np.exp(logits[order])
    return points[order], emissions / emissions.sum(1, keepdims=True), codes, np.argsort(order)[:n]


def every_path(model, codes):
    """The best self-avoiding path, and the best of all, by trying each."""
    choices = [*range(len(model)), -1] if np.isfinite(model.missing) else range(len(model))
    simple, free = -np.inf, -np.inf
    for path in itertools.product(choices, repeat=len(codes)):
        value = model.log_probability(np.array(path), codes)
        free = max(free, value)
        used = [state for state in path if state >= 0]
        if len(set(used)) == len(used):
            simple = max(simple, value)
    return simple, free


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 100_000), n=st.integers(1, 14), extra=st.integers(0, 12))
def test_published_search_state_by_state(seed, n, extra):
    rng = np.random.default_rng(seed)
    positions, emissions, codes, _ = case(rng, n, extra, sure=rng.choice([0.0, 1.5, 3.0]))
    expected, begins = published_by_loops(
        positions.tolist(), emissions.tolist(), codes.tolist(), [True] * len(positions)
    )
    found = align(positions, emissions, codes, method="published")
    assert found.states.tolist() == expected
    assert found.fragments[:, 0].tolist() == begins


def test_published_search_aborts_and_goes_on():
    positions, emissions, codes, _ = case(np.random.default_rng(3), 40, 6)
    expected, begins = published_by_loops(
        positions.tolist(), emissions.tolist(), codes.tolist(), [True] * len(positions)
    )
    found = align(positions, emissions, codes, method="published")
    assert len(begins) > 2
    assert found.states.tolist() == expected
    assert found.fragments[:, 0].tolist() == begins


def test_published_chains_take_from_what_is_left():
    rng = np.random.default_rng(4)
    positions, emissions, codes, _ = case(rng, 20, 8)
    chains = align_chains(positions, emissions, [codes[:9], codes[9:]], method="published")
    available = np.ones(len(positions), bool)
    for part, found in zip((codes[:9], codes[9:]), chains, strict=True):
        expected, _ = published_by_loops(
            positions.tolist(), emissions.tolist(), part.tolist(), available.tolist()
        )
        assert found.states.tolist() == expected
        available[expected] = False


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 100_000), missing=st.sampled_from([-np.inf, -1.5, 0.5]),
    jump=st.sampled_from([-46.0, -20.0, -3.0]), bridge=st.integers(0, 2), backward=st.booleans(),
)  # fmt: skip
def test_bound_is_the_best_of_all_paths(seed, missing, jump, bridge, backward):
    rng = np.random.default_rng(seed)
    positions, emissions, codes, _ = case(rng, 4, 1, sure=1.0)
    codes[rng.random(4) < 0.2] = 20
    model = ChainModel.of(positions, emissions, missing=missing, jump=jump, bridge=bridge)
    simple, free = every_path(model, codes)
    found = search(model, codes, avoid=False, backward=backward)
    # Jumps count beside the steps in reach, where a step weighs one part in 10⁶ more.
    assert found.log_probability == pytest.approx(free, abs=1e-4)
    assert model.log_probability(found.states, codes) == pytest.approx(free, abs=1e-4)
    greedy = search(model, codes, backward=backward)
    used = greedy.states[greedy.states >= 0]
    assert len(np.unique(used)) == len(used)
    assert greedy.log_probability <= simple + 1e-4
    assert model.log_probability(greedy.states, codes) == pytest.approx(
        greedy.log_probability, abs=1e-4
    )


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 100_000))
def test_dense_and_sparse_steps_agree(seed):
    rng = np.random.default_rng(seed)
    positions, emissions, _, _ = case(rng, 25, 15)
    model = ChainModel.of(positions, emissions)
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    deviation = 0.3622304
    dense = np.exp(-(((apart - 3.8047179727719045) / deviation) ** 2) / 2)
    dense = dense / (deviation * np.sqrt(2 * np.pi)) + 1e-20
    dense = np.log(dense / dense.sum(axis=1, keepdims=True))
    found = np.repeat(model.leave[:, None], len(positions), axis=1)
    start, end, weight = model.steps[0]
    found[start, end] = weight
    # The density of a step of no length, one part in 10⁴ of the floor, is left out.
    np.testing.assert_allclose(found, dense, atol=2e-4)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 100_000), n=st.integers(2, 60), extra=st.integers(0, 60))
def test_no_worse_than_published(seed, n, extra):
    rng = np.random.default_rng(seed)
    positions, emissions, codes, _ = case(rng, n, extra, sure=rng.choice([0.5, 1.5, 3.0]))
    published = align(positions, emissions, codes, method="published")
    found = align(positions, emissions, codes, **PUBLISHED)
    assert len(np.unique(found.states)) == n
    assert found.log_probability >= published.log_probability - 1e-6
    assert found.log_probability <= found.bound + 1e-6


def test_a_clear_chain_is_found_whole():
    positions, emissions, codes, true = case(np.random.default_rng(1), 80, 60, sure=6.0)
    found = align(positions, emissions, codes)
    assert (found.states == true).mean() > 0.95
    right = found.states == true
    assert found.confidence[right].mean() > 0.8
    np.testing.assert_array_equal(found.positions[right], positions[true[right]])
    assert nb.align(positions, emissions, found.sequence).states.tolist() == found.states.tolist()


@pytest.mark.parametrize("gap", [1, 2, 9])
def test_a_gap_in_the_middle(gap):
    positions, emissions, codes, true = case(np.random.default_rng(2), 60, sure=6.0)
    gone = true[30 : 30 + gap]
    left = np.setdiff1d(np.arange(60), gone)
    found = align(positions[left], emissions[left], codes)
    expected = np.where(np.isin(true, gone), -1, np.searchsorted(left, true))
    placed = found.states >= 0
    # A residue whose state fits badly may be left out as well; none is put elsewhere.
    np.testing.assert_array_equal(found.states[placed], expected[placed])
    assert placed.sum() >= len(left) - 2
    assert not placed[30 : 30 + gap].any()
    assert not found.confidence[~placed].any()
    assert np.isnan(found.positions[~placed]).all()
    ends = np.flatnonzero(np.diff(np.concatenate([[0], placed, [0]])))
    np.testing.assert_array_equal(found.fragments, ends.reshape(-1, 2) - (0, 1))


def test_ends_without_states():
    positions, emissions, codes, true = case(np.random.default_rng(5), 50, sure=6.0)
    left = np.sort(true[7:41])
    found = align(positions[left], emissions[left], codes)
    assert found.fragments.tolist() == [[7, 40]]
    assert found.placed == pytest.approx(34 / 50)


@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 100_000), missing=st.sampled_from([-np.inf, -1.5]),
    bridge=st.integers(0, 2),
)  # fmt: skip
def test_posterior_is_the_share_of_all_paths(seed, missing, bridge):
    rng = np.random.default_rng(seed)
    positions, emissions, codes, true = case(rng, 4, 1, sure=1.0)
    model = ChainModel.of(positions, emissions, missing=missing, jump=-20.0, bridge=bridge)
    # Four residues lie within the shift of ten, so all states are open to all of them.
    total, through = 0.0, np.zeros(4)
    gaps = [*range(5), -1] if np.isfinite(missing) else range(5)
    for path in itertools.product(gaps, repeat=4):
        path = np.array(path)
        weight = np.exp(model.log_probability(path, codes))
        total += weight
        through += weight * (path == true)
    np.testing.assert_allclose(posterior(model, codes, true), through / total, atol=1e-4)


def test_homomers_share_the_states():
    rng = np.random.default_rng(6)
    positions, emissions, codes, _ = case(rng, 50, 20, sure=5.0)
    away = positions + (70.0, 0, 0)
    both = np.vstack([positions, away])
    other = rng.integers(0, 20, 30)
    order = rng.permutation(len(both))
    chains = align_chains(both[order], np.vstack([emissions] * 2)[order], [other, codes, codes])
    used = np.concatenate([chain.states[chain.states >= 0] for chain in chains])
    assert len(np.unique(used)) == len(used)
    sides = [set(chain.positions[~np.isnan(chain.positions[:, 0]), 0] > 35) for chain in chains[1:]]
    # Each copy lies on one side, and the chain that fits nowhere did not come first.
    assert sorted(map(sorted, sides)) == [[False], [True]]
    for chain in chains[1:]:
        assert chain.placed > 0.9


def test_chains_without_states_left():
    positions, emissions, codes, _ = case(np.random.default_rng(7), 12, sure=5.0)
    chains = align_chains(positions, emissions, [codes] * 3, order="given")
    assert chains[0].placed > 0.9
    assert chains[2].placed == 0
    assert len(ca_structure(chains)[0]) < 3


def test_structure_of_a_trace(tmp_path):
    positions, emissions, codes, _ = case(np.random.default_rng(8), 30, sure=6.0)
    codes[4] = 20
    found = align(positions, emissions, codes)
    structure = ca_structure([found, found], names=["A", "long"])
    back = read_model(write_model(structure, tmp_path / "trace.cif"))
    assert [chain.name for chain in back[0]] == ["A", "long"]
    rows = np.flatnonzero(found.states >= 0)
    residues = list(back[0]["A"])
    assert [residue.seqid.num for residue in residues] == (rows + 1).tolist()
    np.testing.assert_allclose(
        [r[0].pos.tolist() for r in residues], found.positions[rows], atol=1e-3
    )
    np.testing.assert_allclose(
        [r[0].b_iso for r in residues], 100 * found.confidence[rows], atol=0.01
    )
    assert residues[4].name == "UNK"
    names = [
        gemmi.find_tabulated_residue(r.name).one_letter_code for r in residues if r.name != "UNK"
    ]
    assert names == [LETTERS[codes[k]] for k in rows if codes[k] < 20]
    with pytest.raises(CryonbError, match="2 chain names"):
        ca_structure([found, found], names=["A"])


def test_unknown_residues_have_no_state_in_the_published_search():
    positions, emissions, codes, _ = case(np.random.default_rng(9), 12)
    letters = "".join(LETTERS[code] for code in codes)
    whole = align(positions, emissions, letters, method="published")
    found = align(positions, emissions, letters[:5] + "X" + letters[5:], method="published")
    assert found.states[5] == -1
    np.testing.assert_array_equal(np.delete(found.states, 5), whole.states)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"positions": np.zeros((4, 2))}, "shape \\(S, 3\\)"),
        ({"emissions": np.ones((4, 21))}, "Emissions of shape \\(4, 20\\)"),
        ({"emissions": np.full((4, 20), -1.0)}, "not logits"),
        ({"positions": np.full((4, 3), np.nan)}, "Finite"),
        ({"sequence": ""}, "at least one residue"),
        ({"sequence": [3, 21]}, "from 0 to 20"),
        ({"sequence": [0.5]}, "integers"),
        ({"method": "dense"}, "sparse or published"),
        ({"bridge": 3}, "bridge of 0, 1 or 2"),
        ({"sequence": "ACDEFG", "missing": None}, "give more positions"),
    ],
)
def test_bad_input_is_said(change, sentence):
    given_ = {"positions": np.eye(4, 3), "emissions": np.ones((4, 20)), "sequence": "ACD"} | change
    with pytest.raises(CryonbError, match=sentence):
        align(given_.pop("positions"), given_.pop("emissions"), given_.pop("sequence"), **given_)


def test_input_is_left_alone():
    positions, emissions, codes, _ = case(np.random.default_rng(10), 15, 5)
    kept = [array.copy() for array in (positions, emissions, codes)]
    align(positions, emissions, codes)
    for array, copy in zip((positions, emissions, codes), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.data
def test_a_real_trace_among_noise(data):
    rng = np.random.default_rng(11)
    atoms = Atoms.from_structure(
        nb.open_model(data / "structures" / "pool_protein" / "1jk9_A.pdb.gz")
    )
    atoms = atoms.select((atoms.name == "CA") & (atoms.kind == KIND_PROTEIN))
    names = gemmi.one_letter_code(list(atoms.residues.name[atoms.residue]))
    codes = np.array([LETTERS.index(letter.upper()) for letter in names])
    n = len(codes)
    noise = atoms.position[rng.integers(n, size=n)] + rng.normal(0, 3, (n, 3))
    apart = np.linalg.norm(noise[:, None] - atoms.position[None], axis=2).min(axis=1)
    positions = np.vstack([atoms.position + rng.normal(0, 0.25, (n, 3)), noise[apart > 2]])
    logits = rng.normal(0, 1, (len(positions), 20))
    logits[np.arange(n), codes] += 2.5
    emissions = np.exp(logits)
    found = align(positions, emissions, codes)
    assert (found.states == np.arange(n)).mean() > 0.9
    published = align(positions, emissions, codes, method="published")
    same_model = align(positions, emissions, codes, **PUBLISHED)
    assert same_model.log_probability > published.log_probability
