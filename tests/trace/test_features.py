"""What a language model says of residues, in the alignment: sums by loops, and a stand-in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.errors import CryonbError
from cryonb.trace.alignment import align
from cryonb.trace.features import with_features
from cryonb.trace.hidden_markov import BACKGROUND, ChainModel
from cryonb.trace.several import align_chains

#: Residues that a network mistakes for each other: columns of LETTERS.
GROUPS = ((0, 7, 15), (1, 11), (2, 3), (4, 16, 19), (5, 6, 12), (9, 10), (8, 13, 18, 17), (14,))


def walk(rng, n):
    step, points = np.array([1.0, 0, 0]), [np.zeros(3)]
    for _ in range(n - 1):
        aside = np.cross(step, rng.normal(0, 1, 3))
        turn = np.radians(rng.uniform(45, 90))
        step = np.cos(turn) * step + np.sin(turn) * aside / np.linalg.norm(aside)
        points.append(points[-1] + 3.8 * step)
    return np.array(points)


def confused(rng, n, extra, sure):
    """Positions among noise, whose emissions know the group of a residue, not which one it is."""
    points = walk(rng, n)
    false = points[rng.integers(n, size=extra)] + rng.normal(0, 3, (extra, 3))
    codes = rng.integers(0, 20, n)
    of = np.array([next(k for k, group in enumerate(GROUPS) if c in group) for c in range(20)])
    logits = rng.normal(0, 1, (n + extra, 20))
    for row, code in enumerate(codes):
        logits[row, rng.choice(GROUPS[of[code]])] += sure
    order = rng.permutation(n + extra)
    emissions = np.exp(logits[order])
    emissions /= emissions.sum(axis=1, keepdims=True)
    language = (of[codes][:, None] == of[None]).astype(float)
    return np.vstack([points, false])[order], emissions, codes, np.argsort(order)[:n], language


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), weight=st.floats(0, 1))
def test_emissions_are_the_sums_that_are_told(seed, weight):
    rng = np.random.default_rng(seed)
    model = ChainModel.of(rng.normal(0, 5, (4, 3)), rng.dirichlet(np.ones(20), 4), missing=-1.5)
    codes = np.array([3, 20, 7])
    features = rng.dirichlet(np.ones(20), 3)
    own, columns = with_features(model, codes, 5 * features, None, weight)
    emission = np.exp(model.log_emission)
    for state in range(4):
        for k, code in enumerate(codes):
            soft = sum(features[k, a] * emission[state, a] for a in range(20))
            expected = soft if code == 20 else (1 - weight) * emission[state, code] + weight * soft
            assert own.log_emission[state, columns[k]] == pytest.approx(np.log(expected))
    soft = features @ BACKGROUND
    expected = (1 - weight) * BACKGROUND[3] + weight * soft[0]
    assert own.skip(columns)[0] == pytest.approx(-1.5 + np.log(expected))
    # Other classes: the ratio of agreeing to chance.
    classes, states = rng.dirichlet(np.ones(3), 3), rng.dirichlet(np.ones(3), 4)
    own, columns = with_features(model, codes, classes, states, weight)
    for state in range(4):
        for k, code in enumerate(codes):
            ratio = sum(
                states[state, d] * classes[k, d] / states[:, d].mean() for d in range(3)
            )  # fmt: skip
            expected = model.log_emission[state, code] + weight * np.log(ratio)
            assert own.log_emission[state, columns[k]] == pytest.approx(expected)


def test_no_weight_changes_nothing():
    positions, emissions, codes, _, language = confused(np.random.default_rng(1), 50, 30, 2.0)
    plain = align(positions, emissions, codes)
    found = align(positions, emissions, codes, features=language, feature_weight=0.0)
    np.testing.assert_array_equal(found.states, plain.states)
    assert found.log_probability == pytest.approx(plain.log_probability)
    np.testing.assert_allclose(found.confidence, plain.confidence, atol=1e-9)
    assert found.sequence == plain.sequence


def test_a_stand_in_for_a_language_model_helps():
    plain, with_language = [], []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        positions, emissions, codes, true, language = confused(rng, 60, 60, 3.0)
        for found, options in ((plain, {}), (with_language, {"features": language})):
            states = align(positions, emissions, codes, **options).states
            found.append((states == true).mean())
    assert np.mean(with_language) > np.mean(plain) + 0.05
    assert np.mean(with_language) > 0.8


def test_unknown_residues_are_what_the_language_model_says():
    rng = np.random.default_rng(5)
    positions, emissions, _, true, _ = confused(rng, 60, 40, 4.0)
    unknown = np.full(60, 20)
    features = np.zeros((60, 20))
    features[np.arange(60), emissions[true].argmax(axis=1)] = 1
    found = align(positions, emissions, unknown, features=features)
    assert (found.states == true).mean() > 0.9
    assert set(found.sequence) == {"X"}


def test_states_of_residues_tell_them_apart():
    rng = np.random.default_rng(6)
    positions, _, codes, true, _ = confused(rng, 60, 0, 0.0)
    even = np.full((60, 20), 0.05)
    kind = rng.integers(0, 3, 60)
    residue = np.eye(3)[kind] + 0.05
    state = np.empty((60, 3))
    state[true] = residue
    found = align(
        positions, even, codes, features=residue, state_features=state, feature_weight=1.0
    )
    assert (found.states == true).mean() > 0.9


def test_chains_have_features_of_their_own():
    rng = np.random.default_rng(7)
    positions, emissions, codes, true, language = confused(rng, 60, 30, 4.0)
    one, two = slice(0, 30), slice(30, 60)
    chains = align_chains(
        positions, emissions, [codes[one], codes[two]], features=[language[one], None]
    )
    alone = align(positions, emissions, codes[one], features=language[one])
    assert (chains[0].states == true[one]).mean() > 0.7
    assert len(alone) == len(chains[0]) == 30
    single = align_chains(positions, emissions, [codes[one]], features=language[one])
    np.testing.assert_array_equal(single[0].states, alone.states)
    states = rng.dirichlet(np.ones(3), len(positions))
    residue = rng.dirichlet(np.ones(3), 30)
    both = align_chains(
        positions, emissions, [codes[one]] * 2, features=[residue] * 2, state_features=states
    )
    used = np.concatenate([chain.states[chain.states >= 0] for chain in both])
    assert len(np.unique(used)) == len(used)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"features": np.ones((5, 20)), "feature_weight": 2}, "weight from 0 to 1"),
        ({"features": np.ones((4, 20))}, r"features of shape \(5, d\)"),
        ({"features": np.ones((5, 8))}, "state_features="),
        ({"features": -np.ones((5, 20))}, "softmax"),
        ({"features": np.ones((5, 3)), "state_features": np.ones((9, 4))}, "As many classes"),
        ({"features": np.ones((5, 3)), "state_features": np.ones((7, 3))}, r"shape \(9, d\)"),
        ({"features": np.ones((5, 20)), "method": "published"}, "No features"),
    ],
)
def test_bad_features_are_refused(options, sentence):
    with pytest.raises(CryonbError, match=sentence):
        align(np.eye(9, 3), np.ones((9, 20)), "ACDEF", **options)


def test_features_of_the_wrong_number_of_chains_are_refused():
    with pytest.raises(CryonbError, match="each of 2 sequences"):
        align_chains(np.eye(9, 3), np.ones((9, 20)), ["ACD", "EFG"], features=[np.ones((3, 20))])
    with pytest.raises(CryonbError, match="State features of 9 positions"):
        align_chains(
            np.eye(9, 3), np.ones((9, 20)), ["ACD"], features=np.ones((3, 2)),
            state_features=np.ones((8, 2)),
        )  # fmt: skip
