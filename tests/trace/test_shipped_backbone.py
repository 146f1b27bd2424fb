"""The shipped backbone network: from the map of a molecule that it never saw to a chain."""

from importlib.util import find_spec

import numpy as np
import pytest

import cryonb as nb
from cryonb.atoms import KIND_PROTEIN
from cryonb.trace.peaks import find_ca

pytestmark = pytest.mark.skipif(
    find_spec("nglview") is None, reason="the model of rhodopsin comes with nglview"
)


@pytest.fixture(scope="module")
def found():
    return nb.example("rhodopsin", resolution=3.0).predict_backbone(device="cpu", progress=False)


@pytest.fixture(scope="module")
def model():
    return nb.example_model("rhodopsin")


def test_atoms_and_residue_types_are_found(found, model):
    summary = found.evaluate(model).summary
    assert summary["recall"] > 0.9
    assert summary["precision"] > 0.8
    assert summary["rmsd"] < 0.9
    # The most common residue is one in eleven.
    assert summary["type_accuracy"] > 0.25
    atoms = nb.Atoms.from_structure(model)
    for name in ("N", "C"):
        peaks = find_ca(found.heat[name])
        truth = atoms.position[(atoms.name == name) & (atoms.kind == KIND_PROTEIN)]
        apart = np.linalg.norm(truth[:, None] - peaks.position, axis=2).min(axis=1)
        assert (apart < 1.5).mean() > 0.6, name
    # There are no nucleic acids: a few candidates at most.
    assert len(find_ca(found.heat["P"])) < 10


@pytest.mark.slow
def test_the_sequence_is_threaded(found, model):
    sequences = nb.open_sequences(model)
    traced = found.density.trace(sequences, peaks=found.peaks(), progress=False)
    summary = traced.evaluate(model).summary
    assert summary["matched"] > 75
    assert summary["identity"] > 70
    assert summary["rmsd"] < 0.9
    # Of a shuffled sequence nothing fits.
    rng = np.random.default_rng(1)
    shuffled = "".join(rng.permutation(list(sequences[0])))
    other = found.density.trace(shuffled, peaks=found.peaks(), progress=False)
    gain = [one.chains[0].log_probability - one.chains[0].empty for one in (traced, other)]
    assert gain[0] > gain[1] + 100
