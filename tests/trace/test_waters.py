"""Waters that are known to be in a map, found again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cryonb as nb
from cryonb.atoms import KIND_WATER
from cryonb.errors import CryonbError
from cryonb.field.spline import SplineField
from cryonb.trace.waters import sphericity


@pytest.fixture(scope="module")
def found(watered, wet_map):
    return wet_map(0.2).add_waters(watered[0])


def test_known_waters_are_found_and_few_others(watered, found, matched):
    recall, precision = matched(found.table[list("xyz")].to_numpy(), watered[1])
    assert recall > 0.9
    # About `false`, a quarter, are expected to be noise.
    assert precision > 0.65


def test_the_model_gets_a_chain_of_waters_and_keeps_the_rest(watered, found):
    model = watered[0]
    before = model[0].count_atom_sites()
    assert found.model[0].count_atom_sites() == before + len(found)
    chain = found.model[0][-1]
    assert chain.name == "W"
    assert {residue.name for residue in chain} == {"HOH"}
    placed = np.array([residue[0].pos.tolist() for residue in chain])
    np.testing.assert_allclose(placed, found.table[list("xyz")])
    assert [c.name for c in model[0]] == [c.name for c in found.model[0]][:-1]
    again = nb.Atoms.from_structure(found.model, waters=True)
    assert np.count_nonzero(again.kind == KIND_WATER) == len(found)


def test_waters_keep_their_distances(watered, found):
    atoms = nb.Atoms.from_structure(watered[0])
    points = found.table[list("xyz")].to_numpy()
    apart = np.linalg.norm(points[:, None] - points, axis=2)[np.triu_indices(len(points), 1)]
    assert apart.min() >= 2.3
    assert np.linalg.norm(points[:, None] - atoms.position, axis=2).min() >= 2.3
    carbon = atoms.position[atoms.element == 6]
    assert np.linalg.norm(points[:, None] - carbon, axis=2).min() >= 2.9
    assert (found.table["bonds"] > 0).all()
    assert (found.table["sphericity"] >= 0.5).all()
    assert (found.table["sigma"] >= found.threshold).all()


def test_a_map_without_waters_gets_nearly_none(watered):
    from cryonb.simulate.fourier import fourier_map

    model = watered[0]
    grid = nb.Grid.around(nb.Atoms.from_structure(model).position, 0.8, 7.0)
    clean = fourier_map(model, grid, resolution=2.0)
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.1 * clean.values.std(), grid.shape)
    m = nb.DensityMap(clean.values + noise.astype(np.float32), grid, resolution=2.0)
    assert len(m.add_waters(model)) <= 5


@settings(max_examples=6, deadline=None)
@given(st.floats(0.5, 1.0), st.tuples(*[st.floats(-0.4, 0.4)] * 3))
def test_round_peaks_are_round_and_flanks_are_not(width, centre):
    grid = nb.Grid((21, 21, 21), 0.5, (-5, -5, -5))
    points = grid.to_points(np.indices(grid.shape).reshape(3, -1).T) - centre
    square = (points**2).sum(axis=1)
    ball = np.exp(-square / (2 * width**2)).reshape(grid.shape)
    # A stronger atom 1.4 Å away, as within a molecule.
    bonded = points - [1.4, 0, 0]
    flank = ball + 3 * np.exp(-(bonded**2).sum(axis=1) / (2 * width**2)).reshape(grid.shape)
    at = np.array([centre])
    assert sphericity(SplineField(nb.Volume(ball, grid)), at)[0] > 0.99
    assert sphericity(SplineField(nb.Volume(flank, grid)), at)[0] < 0.5


def test_bad_requests_are_refused(watered, wet_map):
    model = watered[0]
    m = wet_map(0.2)
    with pytest.raises(CryonbError, match=r"3\.5 Å or better"):
        m.add_waters(model, resolution=5.0)
    with pytest.raises(CryonbError, match="new chain"):
        m.add_waters(model, chain=model[0][0].name)
