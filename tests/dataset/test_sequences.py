"""Sequences of chains, their alignment, and clusters of relatives."""

import gemmi
import numpy as np
import pytest

from cryonb.dataset.sequences import chain_sequences, cluster_sequences, fasta, identity
from cryonb.errors import CryonbError
from cryonb.simulate import phantom

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def drawn(rng, n=150):
    return "".join(rng.choice(list(LETTERS), n))


def changed(rng, text, keep):
    other = drawn(rng, len(text))
    return "".join(a if rng.random() < keep else b for a, b in zip(text, other, strict=True))


@pytest.fixture
def gapped():
    """A helix of 12 residues of which residues 5 to 7 have no coordinates."""
    structure = phantom.alpha_helix(12).structure
    chain = structure[0][0]
    names = [gemmi.expand_one_letter(c, gemmi.ResidueKind.AA) for c in "ACDEFGHIKLMN"]
    for residue, name in zip(chain, names, strict=True):
        residue.name = name
    for _ in range(3):
        del chain[4]
    structure.setup_entities()
    structure.get_entity_of(chain.get_polymer()).full_sequence = names
    return structure


def test_the_alignment_shows_what_was_not_built(gapped):
    (one,) = chain_sequences(gapped)
    assert one.deposited == "ACDEFGHIKLMN"
    assert one.built == "ACDEIKLMN"
    assert one.aligned == ("ACDEFGHIKLMN", "ACDE---IKLMN")
    text = fasta("EMD-1", [one], "aligned").splitlines()
    assert text[1::2] == list(one.aligned)


def test_equal_chains_share_a_record_of_two_lines(gapped):
    one = chain_sequences(gapped)[0]
    two = type(one)("B", one.deposited, one.built, one.aligned)
    lines = fasta("EMD-1", [one, two], "deposited").splitlines()
    assert lines == [f">EMD-1_1|Chains {one.chain}, B|", "ACDEFGHIKLMN"]
    assert len(fasta("EMD-1", [one, two], "built").splitlines()) == 4


def test_a_model_without_a_stated_sequence_gives_that_of_its_coordinates(gapped):
    chain = gapped[0][0]
    gapped.get_entity_of(chain.get_polymer()).full_sequence = []
    (one,) = chain_sequences(gapped)
    assert one.deposited == one.built == "ACDEIKLMN"
    assert chain_sequences(phantom.dna_duplex("ACGT").structure) == []


def test_identity_is_of_the_shorter_sequence(rng):
    text = drawn(rng)
    assert identity(text, text) == 1
    assert identity(text, text[30:110]) == 1
    assert identity(text, changed(rng, text, 0.7)) == pytest.approx(0.7, abs=0.1)


def test_relatives_come_together_and_others_do_not(rng):
    a, b, c = (drawn(rng) for _ in range(3))
    a2 = changed(rng, a, 0.75)
    entries = [[a], [b], [a2, c], [c], [], [b], []]
    # The third entry links the first with the fourth.
    assert cluster_sequences(entries).tolist() == [0, 1, 0, 0, 2, 1, 3]
    assert cluster_sequences(entries, threshold=0.95).tolist() == [0, 1, 2, 2, 3, 1, 4]


def test_unrelated_sequences_stay_apart_and_odd_letters_do_no_harm(rng):
    entries = [[drawn(rng, int(n))] for n in rng.integers(40, 400, 60)]
    entries += [["X" * 50], ["AC"], ["U"]]
    assert np.array_equal(cluster_sequences(entries), np.arange(63))
    assert len(cluster_sequences([])) == 0
    with pytest.raises(CryonbError, match="from 0 to 1"):
        cluster_sequences(entries, threshold=40)
