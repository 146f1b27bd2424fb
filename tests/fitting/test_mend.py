"""Bad geometry made good: most of an error of each atom's own goes with it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryonb.atoms import Atoms
from cryonb.files.model import read_model
from cryonb.fitting.descent import Descent
from cryonb.fitting.mend import mend
from cryonb.fitting.restraints import Restraints
from cryonb.simulate import phantom


@pytest.fixture(scope="module")
def helix():
    return Atoms.from_structure(phantom.alpha_helix(20).structure)


def mended(atoms):
    none = np.zeros(len(atoms), dtype=int)
    run = Descent(atoms, none, Restraints.of_atoms(atoms), 3.0, 1.0, None)
    mend(run, none)
    return run


def rough(atoms, rng, size):
    return atoms.moved_to(atoms.position + rng.normal(0, size / np.sqrt(3), atoms.position.shape))


def rms(shift):
    return np.sqrt((shift**2).sum(axis=1).mean())


def test_a_sound_model_is_not_touched(helix):
    run = mended(helix)
    np.testing.assert_array_equal(run.state.position, helix.position)
    assert run.restraints.torsions.shape[0] > 30


@pytest.mark.parametrize(("size", "left"), [(0.2, 0.55), (0.3, 0.55), (0.5, 0.65)])
def test_most_of_a_random_error_goes(helix, size, left):
    for seed in range(3):
        start = rough(helix, np.random.default_rng(seed), size)
        run = mended(start)
        assert rms(run.state.position - helix.position) < left * size
        bonds, angles, _ = run.restraints.deviations(run.state.position, helix.position)
        assert bonds < 0.02
        assert angles < 4
        # Every amino acid is of the hand that it was of.
        good = Restraints.of_atoms(helix)
        chiral = np.abs(good.volume) > 1
        assert (np.sign(run.restraints.volume) == np.sign(good.volume))[chiral].all()


def test_nothing_is_likelier_than_what_is_found(helix, rng):
    """The truth, and places around the mended model, cost more: see `mend` for the sum."""
    start = rough(helix, rng, 0.3)
    run = mended(start)
    springs = Restraints.of_atoms(start)
    spread = springs.strain(start.position)[0] / np.sqrt(2)
    none = np.zeros(0, dtype=int)
    springs = replace(springs, torsions=springs.torsions[none], turn=springs.turn[none])

    def cost(position):
        away = ((position - start.position) / spread) ** 2
        return float(springs.energy(torch.tensor(position))) + 0.5 * away.sum()

    found = cost(run.state.position)
    assert found < cost(helix.position)
    for _ in range(20):
        step = rng.normal(0, 0.01, start.position.shape)
        assert found < cost(run.state.position + step)


@settings(deadline=None, max_examples=5)
@given(st.tuples(*[st.floats(-3, 3)] * 6))
def test_it_does_not_matter_which_way_a_model_lies(x):
    helix = Atoms.from_structure(phantom.alpha_helix(8).structure)
    start = rough(helix, np.random.default_rng(0), 0.3)
    turn, shift = Rotation.from_rotvec(x[:3]).as_matrix(), np.array(x[3:])
    there = mended(start.moved_to(start.position @ turn.T + shift)).state.position
    here = mended(start).state.position
    assert rms((there - shift) @ turn - here) < 0.02


@pytest.mark.data
@pytest.mark.parametrize("model", ["20026/3ajo_fitted_refined.pdb", "5925/5925_native.pdb"])
def test_of_deposited_models_too(data, model):
    """Not those of the table: its structures are other entries'."""
    atoms = Atoms.from_structure(read_model(data / "maps" / model))
    run = mended(rough(atoms, np.random.default_rng(0), 0.3))
    assert rms(run.state.position - atoms.position) < 0.17
