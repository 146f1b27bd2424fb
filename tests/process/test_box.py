"""Boxes that are cut out of maps and put back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import next_fast_len

import cryonb as nb
from cryonb.errors import CryonbError, GridError, MapModelMismatchError
from cryonb.process.box import cut_box, put_back


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(3)
    grid = nb.Grid((40, 50, 60), (1.0, 1.2, 0.9), (-7.0, 11.0, 3.5))
    values = rng.normal(0, 0.1, grid.shape)
    values[12:22, 20:34, 25:41] += 5
    return nb.DensityMap(values, grid, resolution=3.0, contour=2.0)


@settings(max_examples=10, deadline=None)
@given(
    low=st.tuples(*[st.floats(0, 20)] * 3), size=st.tuples(*[st.floats(1, 18)] * 3),
    cushion=st.floats(0, 12), soft_edge=st.floats(0, 6), fast=st.booleans(),
)  # fmt: skip
def test_a_box_holds_its_model_and_goes_back(
    case, alpha_carbons, low, size, cushion, soft_edge, fast
):
    lower = case.grid.lower + low
    model = alpha_carbons([lower, lower + size])
    box, weights = cut_box(case, around=model, cushion=cushion, soft_edge=soft_edge, fast=fast)
    assert (box.grid.lower <= lower - cushion + 1e-6).all()
    assert (box.grid.upper >= lower + size + cushion - 1e-6).all()
    if fast:
        assert all(n % 2 == 0 and n == next_fast_len(n, real=True) for n in box.shape)
    # The frame in Å stays: voxels are those of the map.
    inside = box.grid.to_points(np.argwhere(weights.values > 0.999)[:50])
    inside = inside[case.grid.contains(inside)]
    np.testing.assert_allclose(box.sample(inside, order=0), case.sample(inside, order=0), rtol=2e-3)
    np.testing.assert_allclose(put_back(box, case, weights).values, case.values, atol=1e-5)
    if soft_edge >= 1.2:
        assert np.abs(box.values[0]).max() <= np.abs(case.values).max() * 0.5 + 1e-6


def test_a_box_around_density_ignores_noise(case):
    specked = case.replace(case.values + 0)
    values = specked.values.copy()
    values[1, 1, 1] = 50
    box = case.replace(values).box(cushion=3.0, fast=False)
    wanted = case.grid.to_points([12, 20, 25]) - 3, case.grid.to_points([21, 33, 40]) + 3
    assert np.abs(box.grid.lower - wanted[0]).max() < 1.2
    assert np.abs(box.grid.upper - wanted[1]).max() < 1.2
    assert (box.resolution, box.contour) == (3.0, 2.0)


def test_a_mask_weights_the_box_and_work_on_it_is_put_back(case):
    weights = nb.Volume((case.values > 2).astype(np.float32), case.grid)
    box = case.box(around=weights, cushion=4.0)
    assert np.count_nonzero(box.values) == np.count_nonzero(weights.values)
    doubled = box.replace(2 * box.values)
    back = doubled.put_back(case)
    inside = weights.values > 0
    np.testing.assert_allclose(back.values[inside], 2 * case.values[inside], rtol=1e-5)
    np.testing.assert_allclose(back.values[~inside], case.values[~inside])
    assert back.grid == case.grid


def test_the_unique_part_makes_the_whole_again():
    from cryonb.process.operators import Symmetry
    from cryonb.process.point_groups import group_rotations
    from cryonb.process.symmetrize import symmetrize
    from cryonb.simulate.gaussian import gaussians

    atoms = nb.Atoms.from_structure(nb.example_model("phantom"))
    rotations = group_rotations("C3")
    unit = atoms.position - atoms.position.mean(axis=0) + (30, 5, 0)
    points = np.einsum("kij,nj->kni", rotations, unit).reshape(-1, 3)
    grid = nb.Grid.around(points, 2.0, 12)
    whole = gaussians(points, np.tile(atoms.element, 3), grid, resolution=6.0)
    m = nb.DensityMap(whole.values, grid, resolution=6.0)
    symmetry = Symmetry("C3", rotations, np.zeros(3), 1.0, None)
    box = m.box(around=symmetry)
    assert box.grid.n_voxels < 0.5 * m.grid.n_voxels
    # One unit and its soft edge; three of them are the whole.
    assert 0.9 < 3 * box.values.sum() / m.values.sum() < 1.3
    assert box.values.max() == pytest.approx(m.max, rel=0.1)
    empty = nb.Volume(np.zeros(m.shape), m.grid)
    three = symmetrize(put_back(box, empty), symmetry).values
    share = symmetrize(put_back(box.weights, empty), symmetry).values
    dense = m.values > 0.2 * m.max
    assert share[dense].min() > 0.3
    np.testing.assert_allclose(
        three[dense] / share[dense], m.values[dense], atol=0.12 * m.max, rtol=0
    )


def test_impossible_boxes_are_refused(case, alpha_carbons):
    far = alpha_carbons([(500, 500, 500), (510, 510, 510)])
    with pytest.raises(MapModelMismatchError):
        case.box(around=far)
    with pytest.raises(CryonbError, match="0 Å or more"):
        case.box(cushion=-1)
    with pytest.raises(CryonbError, match='"density"'):
        case.box(around="unit")
    with pytest.raises(CryonbError, match="above zero"):
        case.box(around=nb.Volume(np.zeros(case.shape), case.grid))
    box, _ = cut_box(case)
    with pytest.raises(GridError, match="whole voxels"):
        put_back(box.replace(grid=nb.Grid(box.shape, 1.0)), case)
    with pytest.raises(GridError, match="Weights"):
        put_back(box, case, case)
    with pytest.raises(GridError, match="meets the map"):
        put_back(box.replace(grid=box.grid.crop((500, 0, 0), box.shape)), case)
