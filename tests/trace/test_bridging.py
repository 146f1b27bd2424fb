"""Residues without a candidate: geometry by closed forms, joins by counting, planted gaps."""

import itertools
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cryonb as nb
from cryonb.atoms import ROLES, Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.networks.backbone import HEAT
from cryonb.simulate.fourier import fourier_map
from cryonb.trace.bridging import Fragments, _JoinTable, _matching, bridge_fragments
from cryonb.trace.chains import trace_chains
from cryonb.trace.residue_frames import read_frames
from cryonb.trace.steps import STEP, closing_circle, directions, torsion_ratio
from cryonb.train.backbone import heat_maps
from cryonb.volume import ProbabilityVolume


@pytest.fixture(scope="module")
def protein():
    """Rhodopsin: atoms, Cα frames, a map at 3 Å."""
    if find_spec("nglview") is None:
        pytest.skip("the model of rhodopsin comes with nglview")
    atoms = Atoms.from_structure(nb.example_model("rhodopsin"), ligands=False)
    grid = Grid.around(atoms.position, 1.0, 7.0)
    density = nb.DensityMap.from_volume(fourier_map(atoms, grid, resolution=3.0), resolution=3.0)
    return atoms, read_frames(atoms, backbone=False), density


def planted(frames, rng, gaps, error=0.2):
    """Candidates without some runs of residues inside of stretches: positions, residues."""
    lost = []
    for first, size in gaps:
        lost.extend(range(first, first + size))
    kept = np.setdiff1d(np.arange(len(frames)), lost)
    order = rng.permutation(kept)
    return frames.position[order] + rng.normal(0, error / 3**0.5, (len(order), 3)), order


def inner_gaps(frames, sizes):
    """Runs of residues, ten from each other."""
    first = np.arange(8, len(frames) - 12, 10)
    return list(zip(first.tolist(), itertools.cycle(sizes), strict=False))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), apart=st.floats(0.5, 7.2))
def test_circle_points_are_a_step_from_both_ends(seed, apart):
    rng = np.random.default_rng(seed)
    a, c = rng.normal(0, 9, (2, 3))
    way = rng.normal(size=3)
    b = a + apart * way / np.linalg.norm(way)
    points, density = closing_circle(a[None], b[None], c[None], 16, 0.1)
    for end in (a, b):
        np.testing.assert_allclose(np.linalg.norm(points[0] - end, axis=1), STEP, atol=1e-6)
    # Evenly around, and the first one away from `beside`.
    gaps = np.linalg.norm(np.diff(points[0], axis=0), axis=1)
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-6)
    assert np.linalg.norm(points[0] - c, axis=1).argmax() == 0
    assert density[0] == pytest.approx(1 / (8 * np.pi * STEP**2 * apart), rel=1e-3)


def test_closing_densities_are_those_of_freely_jointed_steps():
    rng = np.random.default_rng(1)
    apart = np.linspace(0.001, 10.0, 20_000)
    ends = np.zeros((len(apart), 3))
    ends[:, 0] = apart
    density = closing_circle(np.zeros_like(ends), ends, np.tile([0, 1.0, 0], (len(apart), 1)), 4, 0)
    shell = 4 * np.pi * apart**2 * density[1]
    assert np.trapezoid(shell, apart) == pytest.approx(1, abs=0.01)
    # Three steps: the average over the first of them, against a count.
    first = STEP * directions(4000)
    target = np.array([6.0, 0, 0])
    found = closing_circle(first, np.tile(target, (4000, 1)), np.zeros_like(first), 4, 0)[1].mean()
    walks = rng.normal(size=(400_000, 3, 3))
    walks = STEP * (walks / np.linalg.norm(walks, axis=2, keepdims=True)).sum(axis=1)
    length = np.linalg.norm(walks, axis=1)
    counted = (np.abs(length - 6) < 0.1).mean() / (4 * np.pi * (6.1**3 - 5.9**3) / 3)
    assert found == pytest.approx(counted, rel=0.03)


def test_torsions_of_helices_are_right_handed():
    turn = np.radians(100) * np.arange(8)
    helix = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(8)], axis=1)
    assert torsion_ratio(*helix[2:6], 0.1) > 5
    assert torsion_ratio(*(helix[2:6] * [1, 1, -1]), 0.1) < 0.5


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 6))
def test_probabilities_of_joins_are_exact_where_there_is_no_loop(seed, n):
    rng = np.random.default_rng(seed)
    # A tree of ends, with two variants of one of its joins.
    ends = np.array([(int(rng.integers(k)), k) for k in range(1, n)])
    ends = np.vstack([ends, ends[-1:, ::-1]])
    log = rng.normal(0, 1.5, len(ends))
    none = np.zeros(len(ends), int)
    found, best = _matching(_JoinTable(none, none, ends, log, []), n, 0.3)
    weight = {}
    for (a, b), value in zip(ends, log, strict=True):
        weight[min(a, b), max(a, b)] = weight.get((min(a, b), max(a, b)), 0) + np.exp(value)
    total, of_pair = 0.0, dict.fromkeys(weight, 0.0)
    for chosen in itertools.product((0, 1), repeat=len(weight)):
        taken = [pair for pair, on in zip(weight, chosen, strict=True) if on]
        used = [end for pair in taken for end in pair]
        if len(set(used)) < len(used):
            continue
        value = np.prod([weight[pair] for pair in taken]) * 0.3 ** (n - len(used))
        total += value
        for pair in taken:
            of_pair[pair] += value
    np.testing.assert_allclose(found, [of_pair[p] / total for p in sorted(weight)], rtol=1e-3)
    twice = np.flatnonzero(log == max(log[-2:]))[0]
    assert twice in best


@pytest.mark.parametrize("sizes", [(1,), (2,), (1, 2)])
def test_planted_gaps_are_closed(protein, sizes):
    _, frames, density = protein
    rng = np.random.default_rng(3)
    gaps = inner_gaps(frames, sizes)
    assert len(gaps) >= 5
    points, residue = planted(frames, rng, gaps)
    broken = trace_chains(points, volume=density, bridge=0)
    found = trace_chains(points, volume=density)
    true = len(np.unique(frames.stretch))
    assert not broken.bridged.any()
    assert len(broken) > 0.7 * len(gaps) + true - 1
    assert len(found) <= len(broken) - 0.8 * len(gaps)
    assert found.bridged.sum() == len(found.positions) - len(points)
    assert len(found) <= true + 0.2 * len(gaps)
    # Where they were placed, and as what.
    off, wrong = [], 0
    for path, steps in zip(found.paths, found.steps, strict=True):
        assert len(steps) == len(path) - 1
        at = np.append(residue, np.full(found.bridged.sum(), -1))[path]
        for k in np.flatnonzero(found.bridged[path]):
            before = np.flatnonzero(~found.bridged[path[:k]])[-1]
            after = k + np.flatnonzero(~found.bridged[path[k:]])[0]
            sign = np.sign(at[after] - at[before])
            wrong += abs(at[after] - at[before]) != after - before
            here = at[before] + sign * (k - before)
            off.append(np.linalg.norm(found.positions[path[k]] - frames.position[here]))
    assert len(off) >= 0.8 * sum(size for _, size in gaps)
    assert wrong <= 0.1 * len(off)
    assert np.median(off) < 0.8


def test_gaps_of_three_stay_open(protein):
    _, frames, density = protein
    gaps = inner_gaps(frames, (3,))
    points, residue = planted(frames, np.random.default_rng(4), gaps)
    found = trace_chains(points, volume=density)
    wrong = 0
    for path in found.paths:
        real = residue[path[~found.bridged[path]]]
        wrong += (np.abs(np.diff(real)) > 1).sum()
    assert wrong <= 0.2 * len(gaps)


def test_a_false_candidate_at_an_end_is_left_out(protein):
    _, frames, density = protein
    (first, _), *_ = inner_gaps(frames, (1,))
    points, residue = planted(frames, np.random.default_rng(5), [(first, 1)], error=0.1)
    # Where the chain seems to go on, but beside it.
    a, b = frames.position[first - 1], frames.position[first]
    line = np.cross(b - a, frames.position[first + 1] - a)
    false = a + 3.8 * (b - a) / 3.8 * 0.55 + 3.0 * line / np.linalg.norm(line)
    found = trace_chains(np.vstack([points, false]), volume=density)
    at = {int(r): k for k, r in enumerate(residue)}
    joined = [
        path for path in found.paths if at[first - 1] in path and at[first + 1] in path
    ]  # fmt: skip
    assert len(joined) == 1
    assert len(points) not in joined[0]


def test_heat_maps_place_residues(protein):
    atoms, frames, density = protein
    gaps = inner_gaps(frames, (1, 2))
    points, _ = planted(frames, np.random.default_rng(6), gaps)
    kinds = np.array([HEAT.index(ROLES[r]) if ROLES[r] in HEAT else -1 for r in atoms.role])
    grid = Grid.around(atoms.position, 1.0, 5.0)
    values = heat_maps(grid.to_index(atoms.position[kinds >= 0]), kinds[kinds >= 0], grid.shape)
    # Half a hump where candidates are missing, as if below the threshold.
    heat = ProbabilityVolume(np.where(values > 0.3, values, 0), grid, classes=HEAT)
    with_heat = trace_chains(points, volume=density, heat=heat)
    placed = with_heat.positions[with_heat.bridged]
    off = np.linalg.norm(placed[:, None] - frames.position, axis=2).min(axis=1)
    assert len(placed) >= 0.8 * sum(size for _, size in gaps)
    assert np.sqrt((off**2).mean()) < 0.8
    model = with_heat.structure()
    assert sum(len(chain) for chain in model[0]) == sum(map(len, with_heat.paths))


def test_nothing_to_join_stays_as_it_is(protein):
    _, frames, _ = protein
    one = Fragments([np.arange(5)], [np.full(4, 0.9)], frames.position[:5])
    assert bridge_fragments(
        one, np.zeros(1), width=0.3, missing=0.1, least=0.5, most=2, false=0.1
    ) is one  # fmt: skip
    far = Fragments(
        [np.arange(3), np.arange(3, 6)], [np.full(2, 0.9)] * 2,
        np.vstack([frames.position[:3], frames.position[:3] + 100]),
    )  # fmt: skip
    found = bridge_fragments(far, np.zeros(2), width=0.3, missing=0.1, least=0.5, most=2, false=0.1)
    assert [path.tolist() for path in found.paths] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(CryonbError, match="bridge of 0, 1 or 2"):
        trace_chains(frames.position, bridge=3)
