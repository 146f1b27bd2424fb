"""Rigid placement: known places found again, derivatives by finite differences."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.errors import CryonbError, MapModelMismatchError
from cryonb.fitting.rigid import _jacobian, _Judge, fit
from cryonb.fitting.search import spread_rotations
from cryonb.simulate import phantom


@pytest.fixture(scope="module")
def pair():
    """A model that looks the same from no two sides, and its map at 6 Å."""
    model = nb.example_model()
    m = nb.gaussian_map(model, resolution=6.0, voxel_size=1.5)
    return nb.DensityMap.from_volume(m, resolution=6.0), model


def moved(model, turn, shift):
    other = model.clone()
    matrix = Rotation.from_rotvec(turn).as_matrix().tolist()
    for one in other:
        one.transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(matrix), gemmi.Vec3(*shift)))
    return other


def distance(one, other):
    a, b = (nb.Atoms.from_structure(model).position for model in (one, other))
    return np.sqrt(((a - b) ** 2).sum(axis=1).mean())


def test_a_model_from_anywhere_comes_to_its_place(pair):
    m, model = pair
    away = moved(model, [1.0, -2.0, 0.7], [40.0, -13.0, 25.0])
    before = away.make_mmcif_document().as_string()
    found = fit(away, m, step=20.0, progress=False)
    assert distance(found.model(), model) < 0.1
    assert found.poses["cc"].iloc[0] > 0.99
    assert found.poses["cc"].is_monotonic_decreasing
    assert away.make_mmcif_document().as_string() == before
    matrix, vector = found.transform()
    np.testing.assert_allclose(
        nb.Atoms.from_structure(away).position @ matrix.T + vector,
        nb.Atoms.from_structure(found.model()).position, atol=1e-3,
    )  # fmt: skip


def test_a_small_error_is_mended_where_it_is(pair):
    m, model = pair
    away = moved(model, [0.08, 0.0, -0.05], [1.5, -1.0, 0.5])
    assert distance(away, model) > 1.5
    found = fit(away, m, everywhere=False, progress=False)
    assert distance(found.model(), model) < 0.05
    assert len(found.poses) == 1


def test_what_cannot_be_fitted_is_refused(pair):
    m, model = pair
    with pytest.raises(CryonbError, match="resolution"):
        fit(model, nb.Volume(m.values, m.grid))
    with pytest.raises(CryonbError, match="lower contour"):
        fit(model, m, contour=2 * m.max)
    with pytest.raises(MapModelMismatchError, match="everywhere=True"):
        fit(moved(model, [0, 0, 0], [500.0, 0, 0]), m, everywhere=False, progress=False)


@settings(deadline=None, max_examples=10)
@given(st.tuples(*[st.floats(-2, 2)] * 6))
def test_derivatives_are_those_of_finite_differences(x):
    x = np.array(x)
    model = phantom.alpha_helix(12).structure
    m = nb.gaussian_map(model, resolution=6.0, voxel_size=1.0)
    judge = _Judge(m, nb.Atoms.from_structure(model), 6.0, 400)
    middle = nb.Atoms.from_structure(model).position.mean(axis=0)

    def value(x):
        return judge(Rotation.from_rotvec(x[:3]).as_matrix(), middle + x[3:])

    cc, torque, force = value(x)
    found = np.concatenate([_jacobian(x[:3]).T @ torque, force])
    step = 1e-3
    for k in range(6):
        ahead, behind = (value(x + sign * step * np.eye(6)[k])[0] for sign in (1, -1))
        assert found[k] == pytest.approx((ahead - behind) / (2 * step), abs=2e-3)
    assert -1 <= cc <= 1


def test_rotations_are_spread_evenly():
    rotations = spread_rotations(30.0)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-9)
    # cos of the angle between two rotations: (trace - 1) / 2.
    trace = np.einsum("aij,bij->ab", rotations, rotations)
    angle = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    np.fill_diagonal(angle, 180)
    nearest = angle.min(axis=1)
    assert nearest.min() > 15
    # Whatever the orientation, a neighbour is near.
    random = Rotation.random(500, rng=np.random.default_rng(1)).as_matrix()
    away = np.degrees(
        np.arccos(np.clip((np.einsum("aij,bij->ab", random, rotations) - 1) / 2, -1, 1))
    ).min(axis=1)
    assert away.max() < 30
