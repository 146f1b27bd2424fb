import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from cryonb.train.belts import belt

SHAPE = (60, 56, 64)


@pytest.fixture(scope="module")
def molecule():
    rng = np.random.default_rng(0)
    index = rng.normal(0, 5, (300, 3)) + np.array(SHAPE) / 2
    density = np.zeros(SHAPE, dtype=np.float32)
    np.add.at(density, tuple(np.rint(index).astype(int).T), 6.0)
    return index, gaussian_filter(density, 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_belt_is_smooth_and_beside_the_molecule(molecule, seed):
    index, density = molecule
    made = belt(index, density, np.random.default_rng(seed))
    assert made.shape == SHAPE
    assert made.dtype == np.float32
    points = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 3)
    away = cKDTree(index).query(points)[0].reshape(SHAPE)
    at_atoms = density[away < 1.5].mean()
    assert made[away < 1.5].mean() < 0.35 * made.max()
    assert 0 < made.max() < 1.5 * at_atoms
    assert (made[away > 50] == 0).all()
    # Nothing in it is as sharp as an atom.
    steps = max(np.abs(np.diff(made, axis=axis)).max() for axis in range(3))
    assert steps < 0.5 * made.max()


def test_a_belt_lies_in_a_plane(molecule):
    index, density = molecule
    made = belt(index, density, np.random.default_rng(5))
    points = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 3)
    weight = made.ravel()
    spread = np.cov(points.T, aweights=weight)
    thin, *_, wide = np.sqrt(np.linalg.eigvalsh(spread))
    assert thin < 0.8 * wide
    assert thin < 18 / np.sqrt(3) + 3


def test_without_atoms_there_is_no_belt(molecule):
    _, density = molecule
    assert not belt(np.full((3, 3), -20.0), density, np.random.default_rng(0)).any()
