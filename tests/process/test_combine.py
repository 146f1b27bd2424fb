"""Composites of focused maps, against the truth that they were made of."""

import gemmi
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.errors import CryonbError, ModelError
from cryonb.process.combine import superposition
from cryonb.simulate.fourier import fourier_map

D = 4.0


@pytest.fixture(scope="module")
def case():
    """A model, the truth, and where along x each voxel is, from 0 to 1."""
    model = nb.example_model("phantom")
    atoms = nb.Atoms.from_structure(model)
    grid = nb.Grid.around(atoms.position, 1.5, 10.0)
    x = grid.axes()[0]
    place = np.clip((x - atoms.lower[0]) / (atoms.upper[0] - atoms.lower[0]), 0, 1)
    return model, fourier_map(model, grid, resolution=D), np.broadcast_to(place, grid.shape)


def focused(truth, place, seed, *, scale=1.0, least=0.4, most=3.0):
    """A map whose noise grows with the place, of details of the resolution."""
    rough = gaussian_filter(np.random.default_rng(seed).normal(size=truth.shape), 1.0)
    inside = truth.values > 0.5 * truth.std
    noise = (least + (most - least) * place) * truth.values[inside].std() * rough / rough.std()
    values = scale * (truth.values + noise)
    return nb.DensityMap(values.astype(np.float32), truth.grid, resolution=D)


def local_cc(m, truth, sigma=4.0):
    a, b = (np.asarray(v, dtype=float) for v in (m, truth))

    def mean(v):
        return gaussian_filter(v, sigma)

    cov = mean(a * b) - mean(a) * mean(b)
    return cov / np.sqrt((mean(a * a) - mean(a) ** 2) * (mean(b * b) - mean(b) ** 2))


def test_the_composite_is_nowhere_farther_from_the_truth_than_the_best_map(case):
    model, truth, place = case
    left = focused(truth, place, 1)
    right = focused(truth, 1 - place, 2, scale=7.0)
    made = nb.combine([left, right], [model, model])
    inside = truth.values > truth.std
    scores = [local_cc(m.values, truth.values)[inside] for m in (left, right, made)]
    best = np.maximum(scores[0], scores[1])
    assert (scores[2] - best).min() > -0.03
    assert np.mean(scores[2] >= best - 0.005) > 0.95
    assert scores[2].mean() > best.mean() + 0.01
    # On the target's scale, where that is good.
    near = inside & (place < 0.3)
    slope = np.polyfit(truth.values[near], made.values[near], 1)[0]
    assert slope == pytest.approx(1, abs=0.2)


def test_maps_in_other_frames_are_moved(case):
    model, truth, place = case
    left, right = focused(truth, place, 3), focused(truth, 1 - place, 4)
    turn = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()
    shift = np.array([40.0, -12.0, 7.0])
    moved = model.clone()
    transform = gemmi.Transform(gemmi.Mat33(turn.tolist()), gemmi.Vec3(*shift.tolist()))
    moved[0].transform_pos_and_adp(transform)
    # So large that all of the other map lies within it.
    grid = nb.Grid.around(nb.Atoms.from_structure(moved).position, 1.2, 30.0)
    points = grid.to_points(np.indices(grid.shape).reshape(3, -1).T)
    there = right.sample((points - shift) @ turn, order=3).reshape(grid.shape)
    other = nb.DensityMap(np.nan_to_num(there), grid, resolution=D)
    matrix, vector = superposition(moved, model)
    np.testing.assert_allclose(matrix, turn.T, atol=1e-6)
    np.testing.assert_allclose(vector, -turn.T @ shift, atol=1e-4)
    made = nb.combine([left, other], [model, moved])
    direct = nb.combine([left, right], [model, model])
    assert made.grid == left.grid
    inside = truth.values > truth.std
    assert np.corrcoef(made.values[inside], direct.values[inside])[0, 1] > 0.99
    best = np.maximum(*(local_cc(m.values, truth.values)[inside] for m in (left, right)))
    assert (local_cc(made.values, truth.values)[inside] - best).min() > -0.05


def test_a_map_that_ends_leaves_the_rest_to_the_others(case):
    model, truth, place = case
    whole = focused(truth, place, 5)
    half = focused(truth, 1 - place, 6).crop(
        start=(0, 0, truth.shape[2] // 2),
        shape=(*truth.shape[:2], truth.shape[2] - truth.shape[2] // 2),
    )
    made = nb.combine([whole, half], [model, model])
    beyond = np.s_[:, :, : truth.shape[2] // 2 - 1]
    np.testing.assert_allclose(made.values[beyond], whole.values[beyond], rtol=1e-4, atol=1e-6)


def test_masks_choose(case):
    _, truth, place = case
    left, right = focused(truth, place, 7), focused(truth, 1 - place, 8, scale=5.0)
    near = nb.Volume((place < 0.45).astype(np.float32), truth.grid)
    far = nb.Volume((place >= 0.55).astype(np.float32), truth.grid)
    made = nb.combine([left, right], [near, far])
    one = place < 0.55  # what no mask has is the target's
    np.testing.assert_allclose(made.values[one], left.values[one], rtol=1e-3, atol=1e-4)
    two = place >= 0.55
    scale = (made.values[two] * right.values[two]).sum() / (right.values[two] ** 2).sum()
    assert scale == pytest.approx(1 / 5, rel=0.35)
    np.testing.assert_allclose(made.values[two], scale * right.values[two], atol=1e-4 * left.max)


def test_bad_requests_are_refused(case):
    model, truth, place = case
    m = focused(truth, place, 9)
    with pytest.raises(CryonbError, match="1 maps and 2 guides"):
        nb.combine([m], [model, model])
    with pytest.raises(CryonbError, match="models or masks"):
        nb.combine([m, m], [model, m])
    with pytest.raises(CryonbError, match="resolution"):
        nb.combine([truth, truth], [model, model])
    renamed = model.clone()
    for number, chain in enumerate(renamed[0]):
        chain.name = f"x{number}"
    with pytest.raises(ModelError, match="share three residues"):
        nb.combine([m, m], [model, renamed])
    with pytest.raises(CryonbError, match="does not correlate"):
        nb.combine([m, m.replace(-m.values)], [model, model])
