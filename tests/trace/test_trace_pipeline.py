"""From a map to Cα chains, with candidates given."""

import gemmi
import numpy as np
import pandas as pd
import pytest

import cryonb as nb
from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.errors import CryonbError, WeightsError
from cryonb.files.model import read_model
from cryonb.simulate.fourier import fourier_map
from cryonb.trace.peaks import Peaks
from cryonb.trace.residue_frames import read_frames


@pytest.fixture(scope="module")
def truth():
    """The example protein with residue names drawn at random."""
    model = nb.example_model("phantom")
    rng = np.random.default_rng(5)
    for name in [c.name for c in model[0] if c[0].find_atom("CA", "*") is None]:
        model[0].remove_chain(name)
    for chain in model[0]:
        for residue in chain:
            residue.name = AMINO_ACIDS[rng.integers(20)]
    return model


@pytest.fixture(scope="module")
def density(truth):
    return nb.DensityMap.from_volume(fourier_map(truth, resolution=3.0, margin=7.0), resolution=3.0)


@pytest.fixture(scope="module")
def peaks(truth):
    frames = read_frames(truth, backbone=False)
    rng = np.random.default_rng(6)
    n = len(frames)
    emission = rng.dirichlet(np.ones(20), n)
    emission[np.arange(n), [AMINO_ACIDS.index(name) for name in frames.names]] += 2
    emission = (emission / emission.sum(axis=1, keepdims=True)).astype(np.float32)
    position = frames.position + rng.normal(0, 0.2, (n, 3))
    order = rng.permutation(n)
    return Peaks(position, np.full(n, 0.8), emission, AMINO_ACIDS).select(order)


def sequences_of(model):
    return [gemmi.one_letter_code([residue.name for residue in chain]) for chain in model[0]]


def test_sequences_are_threaded(density, peaks, truth, tmp_path):
    found = density.trace(sequences_of(truth), peaks=peaks)
    summary = found.evaluate(truth).summary
    assert summary["matched"] > 95
    assert summary["identity"] > 95
    assert summary["rmsd"] < 0.6
    assert (found.table.n <= found.table.length).all()
    assert found.table.confidence.between(0, 1).all()
    model, table = found.save(tmp_path, stem="x")
    assert read_model(model)[0].count_atom_sites() == found.model[0].count_atom_sites()
    assert len(pd.read_csv(table)) == len(found.model[0])
    assert "Cα atoms" in repr(found)


def test_names_of_fragments_hold_the_threading(density, peaks, truth):
    found = density.trace(sequences_of(truth), peaks=peaks)
    assert found.named.named > 0.8
    assert found.table.named.sum() == (found.named.residues.place >= 0).sum()
    for chain, anchors in zip(found.chains, found.anchors, strict=True):
        placed = np.flatnonzero(chain.states >= 0)
        known = anchors[chain.states[placed]]
        assert (known[known >= 0] == placed[known >= 0]).all()
    plain = density.trace(sequences_of(truth), peaks=peaks, names=False)
    assert plain.named is plain.anchors is None
    assert plain.table.named.sum() == 0


def test_chains_are_traced_without_a_sequence(density, peaks, truth):
    found = density.trace(peaks=peaks)
    comparison = found.evaluate(truth)
    assert comparison.summary["matched"] > 95
    assert comparison.summary["forward"] > 5 * comparison.summary["reverse"]
    assert (found.table.direction > 0).all()
    assert len(found.table) == len(found.chains) == len(found.model[0])
    assert Atoms.from_structure(found.model).residues.name[0] == "UNK"
    # The order of the map's history and the candidates are those that were given.
    assert found.peaks.position is not peaks.position
    np.testing.assert_array_equal(found.peaks.position, peaks.position)


def test_what_is_missing_is_said(density, peaks):
    with pytest.raises(WeightsError, match="cryonb train recipes/backbone"):
        density.trace("MKV", weights="no-such-weights")
    with pytest.raises(CryonbError, match="none has a score of"):
        density.trace(peaks=peaks, threshold=0.9)
    with pytest.raises(CryonbError, match="20 amino acids"):
        density.trace("MKV", peaks=Peaks(peaks.position, peaks.score, np.empty((len(peaks), 0))))
    with pytest.raises(CryonbError, match="At least one sequence"):
        density.trace([], peaks=peaks)
