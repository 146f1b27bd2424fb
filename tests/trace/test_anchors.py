"""Positions that are known to be certain residues, in the alignment and in what is borne out."""

import numpy as np
import pytest

from cryonb.errors import CryonbError
from cryonb.trace.alignment import align, alignment_of
from cryonb.trace.hidden_markov import ChainModel
from cryonb.trace.several import align_chains
from cryonb.trace.support import borne_out
from cryonb.trace.viterbi import best_path


def walk(rng, n, start=(0.0, 0.0, 0.0)):
    steps = np.cumsum(rng.normal(0, 1, (n, 3)), axis=0)
    steps /= np.linalg.norm(steps, axis=1)[:, None]
    return np.asarray(start) + np.cumsum(3.8 * steps, axis=0)


@pytest.fixture
def case():
    """Shuffled positions of 60 residues, and of ten before; emissions say nothing.

    `order` is the residue of each position, below 0 for one before the first.
    """
    rng = np.random.default_rng(11)
    points, codes = walk(rng, 70), rng.integers(20, size=60)
    order = rng.permutation(70) - 10
    anchors = np.where(np.isin(order, np.arange(15, 25)), order, -1)
    return points[order + 10], np.full((70, 20), 0.05), codes, order, anchors


def true_states(order):
    """State of each residue."""
    return np.argsort(order)[10:]


def test_anchors_say_which_residue_is_where(case):
    positions, emissions, codes, order, anchors = case
    blind = align(positions, emissions, codes)
    held = align(positions, emissions, codes, anchors=anchors)
    true = true_states(order)
    assert (held.states == true).mean() > 0.9
    assert (held.states == true).mean() > (blind.states == true).mean()
    assert (held.states[15:25] == true[15:25]).all()
    assert (held.confidence[15:25] > 0.9).all()


def test_an_anchor_is_never_another_residue(case):
    positions, emissions, codes, order, _ = case
    # Anchors that belong elsewhere are left out rather than misused.
    wrong = np.where(np.isin(order, (20, 40)), 60 - order, -1)
    found = align(positions, emissions, codes, anchors=wrong)
    for state in np.flatnonzero(wrong >= 0):
        assert not set(np.flatnonzero(found.states == state)) - {wrong[state]}


def test_copies_keep_their_anchors(case):
    positions, emissions, codes, order, anchors = case
    both = np.vstack([positions, positions + (100.0, 0, 0)])
    none = np.full(70, -1)
    found = align_chains(
        both, np.vstack([emissions] * 2), [codes, codes],
        anchors=[np.append(anchors, none), np.append(none, anchors)],
    )  # fmt: skip
    # Without, nothing would say which copy is which.
    true = true_states(order)
    for number, chain in enumerate(found):
        assert (chain.states[15:25] == true[15:25] + 70 * number).all()
        assert set(chain.states // 70) <= {number, -1}


def test_what_hangs_together_with_a_name_is_borne_out(case):
    positions, emissions, codes, order, anchors = case
    # Residues 40 on lie elsewhere, behind a jump.
    positions = positions + np.where(order >= 40, 80.0, 0.0)[:, None]
    states = true_states(order)
    # One residue is left out, which is no jump; then another; and four are.
    states[[3, 8, 30, 31, 32, 33]] = -1
    found = alignment_of(ChainModel.of(positions, emissions, bridge=2), codes, states)
    sure = borne_out(found, anchors)
    assert np.flatnonzero(sure).tolist() == [*range(4, 8), *range(9, 30)]
    assert not borne_out(found, np.full(70, -1)).any()
    beyond = np.where(order == 50, 50, anchors)
    assert borne_out(found, beyond)[40:].all()
    assert not borne_out(found, beyond)[34:40].any()


def test_a_sequence_and_its_reverse_are_found_alike():
    # The prices of both follow the same searches, so neither is ahead by more than their
    # different beginnings.
    rng = np.random.default_rng(12)
    for _ in range(3):
        points, codes = walk(rng, 40), rng.integers(20, size=40)
        noise = points[rng.integers(40, size=40)] + rng.normal(0, 3, (40, 3))
        emission = rng.dirichlet(np.ones(20), 80)
        emission[np.arange(40), codes] += 0.3
        model = ChainModel.of(np.vstack([points, noise]), emission, missing=-1.5, jump=-20.0)
        forward, _ = best_path(model, codes, rounds=4)
        backward, _ = best_path(model, codes[::-1], rounds=4)
        turned = model.log_probability(backward.states[::-1], codes)
        assert forward.log_probability >= turned - 6


def test_bad_anchors_are_refused(case):
    positions, emissions, codes, _, anchors = case
    with pytest.raises(CryonbError, match="An anchor a position"):
        align(positions, emissions, codes, anchors=anchors[:5])
    with pytest.raises(CryonbError, match="Anchors from 0 to 59"):
        align(positions, emissions, codes, anchors=anchors + 60)
    with pytest.raises(CryonbError, match="No features or anchors"):
        align(positions, emissions, codes, anchors=anchors, method="published")
    with pytest.raises(CryonbError, match="each of 2 sequences"):
        align_chains(positions, emissions, [codes, codes], anchors=[anchors])
    with pytest.raises(CryonbError, match="some have two"):
        align_chains(positions, emissions, [codes, codes], anchors=[anchors, anchors])
