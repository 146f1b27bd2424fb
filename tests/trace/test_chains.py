"""Chains without a sequence: beliefs against all solutions of small cases, and real traces."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.atoms import ROLES, Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.networks.backbone import HEAT
from cryonb.simulate.fourier import fourier_map
from cryonb.trace.chains import _Graph, trace_chains
from cryonb.trace.peaks import Peaks
from cryonb.trace.residue_frames import read_frames
from cryonb.trace.steps import _RATIO, _RATIO_SPREAD
from cryonb.train.backbone import heat_maps
from cryonb.volume import ProbabilityVolume


@pytest.fixture(scope="module")
def atoms():
    """The example protein, helices and strands without its duplex."""
    found = Atoms.from_structure(nb.example_model("phantom"))
    protein = np.isin(found.role, (1, 2, 3, 4)) | (found.name == "CB")
    return found.select(protein)


@pytest.fixture(scope="module")
def frames(atoms):
    return read_frames(atoms, backbone=False)


@pytest.fixture(scope="module")
def density(atoms):
    grid = Grid.around(atoms.position, 1.0, 7.0)
    return nb.DensityMap.from_volume(fourier_map(atoms, grid, resolution=3.0), resolution=3.0)


def steps_of(trace):
    return {tuple(sorted(pair)) for path in trace.paths for pair in itertools.pairwise(path)}


def true_steps(frames):
    joined = np.flatnonzero(frames.stretch[1:] == frames.stretch[:-1])
    return {(int(k), int(k) + 1) for k in joined}


def beliefs_by_counting(positions, pairs, weight, width, score, missing):
    """Every set of pairs that leaves no candidate with more than two, weighed one by one."""
    part = min(width / _RATIO_SPREAD, 1)
    ratio = _RATIO[0] * (1 - part) + _RATIO[1] * part
    total, of_pair = 0.0, np.zeros(len(pairs))
    for chosen in itertools.product((False, True), repeat=len(pairs)):
        value = 1.0
        for node in range(len(positions)):
            mine = [k for k, taken in enumerate(chosen) if taken and node in pairs[k]]
            s = score[node]
            if len(mine) == 0:
                value *= 1 - s + s * missing**2
            elif len(mine) == 1:
                value *= s * missing * (1 - missing)
            elif len(mine) == 2:
                arms = []
                for k in mine:
                    other = pairs[k][0] if pairs[k][1] == node else pairs[k][1]
                    arms.append(positions[other] - positions[node])
                cosine = arms[0] @ arms[1] / np.linalg.norm(arms[0]) / np.linalg.norm(arms[1])
                angle = np.degrees(np.arccos(cosine))
                bend = 0.01 if angle < 65 else np.interp(angle, np.arange(75, 180, 10), ratio)
                value *= s * bend * (1 - missing) ** 2
            else:
                value = 0.0
        value *= np.exp(weight[np.array(chosen)].sum())
        total += value
        of_pair += value * np.array(chosen)
    return of_pair / total


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 7))
def test_beliefs_are_exact_where_the_graph_has_no_loop(seed, n):
    rng = np.random.default_rng(seed)
    positions = np.cumsum(rng.normal(0, 2, (n, 3)), axis=0)
    # A tree: each candidate has a pair with one before it.
    pairs = np.array([(int(rng.integers(k)), k) for k in range(1, n)])
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    weight, score = rng.normal(0, 1.5, n - 1), rng.uniform(0.2, 0.95, n)
    found = _Graph(positions, pairs).beliefs(weight, 0.3, score, 0.1)
    expected = beliefs_by_counting(positions, pairs, weight, 0.3, score, 0.1)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_true_positions_give_the_whole_chains(frames):
    found = trace_chains(frames.position)
    right = true_steps(frames)
    steps = steps_of(found)
    assert len(steps & right) / len(right) > 0.98
    assert len(steps & right) / len(steps) > 0.98
    assert found.spread < 0.15
    assert np.isnan(found.direction).all()


def test_steps_are_mostly_right_among_errors_and_false_candidates(frames, density):
    rng = np.random.default_rng(4)
    kept = np.flatnonzero(rng.random(len(frames)) > 0.1)
    points = frames.position[kept] + rng.normal(0, 0.5 / np.sqrt(3), (len(kept), 3))
    false = points[rng.integers(len(points), size=len(points) // 5)] + rng.normal(
        0, 3, (len(points) // 5, 3)
    )
    alone = steps_of(trace_chains(np.vstack([points, false])))
    trace = trace_chains(np.vstack([points, false]), volume=density)
    right = {
        (a, b) for a, b in itertools.pairwise(range(len(kept)))
        if (kept[a], kept[b]) in true_steps(frames)
    }  # fmt: skip
    with_map = steps_of(trace)
    assert len(with_map & right) / len(with_map) > 0.85
    assert len(with_map & right) / len(right) > 0.85
    assert len(with_map & right) / len(with_map) > len(alone & right) / len(alone)
    # Directions by the map: of paths of four candidates or more.
    turned = [
        np.diff(kept[path[path < len(kept)]]).sum() > 0 for path in trace.paths if len(path) > 3
    ]
    assert np.mean(turned) > 0.8


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_order_and_frame_of_candidates_do_not_matter(seed, frames):
    rng = np.random.default_rng(seed)
    points = frames.position + rng.normal(0, 0.2, frames.position.shape)
    order = rng.permutation(len(points))
    turn = Rotation.random(random_state=seed % 2**31)
    one, two = (
        trace_chains(p, bridge=0) for p in (points, turn.apply(points[order]) + 5)
    )  # fmt: skip
    assert steps_of(one) == {
        tuple(sorted((int(order[a]), int(order[b])))) for a, b in steps_of(two)
    }
    assert max(np.bincount(np.concatenate(one.paths))) == 1


def test_heat_maps_tell_directions(atoms, frames):
    grid = Grid.around(atoms.position, 1.0, 5.0)
    kinds = [HEAT.index(ROLES[role]) if ROLES[role] in HEAT else -1 for role in atoms.role]
    kinds = np.array(kinds)
    values = heat_maps(grid.to_index(atoms.position[kinds >= 0]), kinds[kinds >= 0], grid.shape)
    heat = ProbabilityVolume(values, grid, classes=HEAT)
    order = np.random.default_rng(2).permutation(len(frames))
    found = trace_chains(frames.position[order], heat=heat)
    assert (found.direction > 3).all()
    for path in found.paths:
        assert (np.diff(order[path]) > 0).mean() > 0.95


def test_map_and_heat_maps_tell_directions_together(frames, density):
    """Heat maps that know little do not overrule the map."""
    grid = density.grid
    faint = np.random.default_rng(1).uniform(0, 0.02, (4, *grid.shape)).astype(np.float32)
    heat = ProbabilityVolume(faint, grid, classes=HEAT)
    order = np.random.default_rng(3).permutation(len(frames))
    points = frames.position[order]
    options = {"bridge": 0, "shortest": 6}
    by_map = trace_chains(points, volume=density, **options)
    both = trace_chains(points, volume=density, heat=heat, **options)
    alone = trace_chains(points, heat=heat, **options)
    for path in both.paths:
        assert (np.diff(order[path]) > 0).mean() > 0.95
    assert np.abs(both.direction - by_map.direction).max() < 1
    assert (np.abs(alone.direction) < 1).all()
    # Without a resolution the map does not tell.
    plain = trace_chains(points, volume=nb.Volume(density.values, grid), heat=heat, **options)
    np.testing.assert_allclose(plain.direction, alone.direction, atol=1e-6)


def test_the_model_has_a_chain_a_path(frames):
    found = trace_chains(Peaks(frames.position, np.full(len(frames), 0.8), np.empty((90, 0))))
    model = found.structure()
    assert [len(chain) for chain in model[0]] == [len(path) for path in found.paths]
    first = np.array([residue[0].pos.tolist() for residue in model[0][0]])
    np.testing.assert_allclose(first, frames.position[found.paths[0]])
    assert {residue.name for chain in model[0] for residue in chain} == {"UNK"}
    assert found.scores[0] > 0.9 * (len(found.paths[0]) - 1)


def test_few_candidates_give_no_chain():
    assert len(trace_chains(np.empty((0, 3)))) == 0
    assert len(trace_chains([[0.0, 0, 0], [20.0, 0, 0]])) == 0
    assert "0 of 2 candidates" in repr(trace_chains([[0.0, 0, 0], [20.0, 0, 0]]))


def test_bad_input_is_refused(frames, density):
    with pytest.raises(CryonbError, match=r"shape \(n, 3\)"):
        trace_chains([1.0, 2.0])
    with pytest.raises(CryonbError, match="least between 0 and 1"):
        trace_chains(frames.position, least=1.5)
    empty = density.replace(values=np.zeros(density.shape, np.float32))
    with pytest.raises(CryonbError, match="positive density"):
        trace_chains(frames.position, volume=empty)
