"""Copies that have exchanged their tails: steps by the model's own score, planted exchanges."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.trace.alignment import alignment_of
from cryonb.trace.hidden_markov import LETTERS, ChainModel
from cryonb.trace.homomers import _junction, _swapped, chain_geometry, exchange_tails
from cryonb.trace.residue_frames import read_frames
from cryonb.trace.several import align_chains
from cryonb.trace.steps import bend_ratio, torsion_ratio


def near_dimer(points, direction, apart=4.2):
    """A two-fold pair of chains that come as near as that at one step, and this step's residue."""
    way = direction / np.linalg.norm(direction)
    middle = (points[1:] + points[:-1]) / 2
    k = int((middle[15:-15] @ way).argmax()) + 15
    bond = points[k + 1] - points[k]
    bond /= np.linalg.norm(bond)
    out = way - (way @ bond) * bond
    out /= np.linalg.norm(out)
    centre = middle[k] + out * apart / 2
    turn = Rotation.from_rotvec(np.pi * np.cross(bond, out))
    return turn.apply(points - centre) + centre, k


@pytest.fixture(scope="module")
def dimer():
    """Model, codes and the two true paths of a rhodopsin dimer, and where its chains are near."""
    if find_spec("nglview") is None:
        pytest.skip("the model of rhodopsin comes with nglview")
    frames = read_frames(nb.example_model("rhodopsin"), backbone=False)
    rng = np.random.default_rng(3)
    n = len(frames)
    other, near = near_dimer(frames.position, np.array([0.3, 1.0, 0.2]))
    points = np.vstack([frames.position, other]) + rng.normal(0, 0.2, (2 * n, 3))
    codes = rng.integers(0, 20, n)
    logits = rng.normal(0, 1, (2 * n, 20))
    logits[np.arange(2 * n), np.tile(codes, 2)] += 2
    model = ChainModel.of(points, np.exp(logits), missing=-1.5, jump=-20.0, bridge=2)
    return model, codes, [np.arange(n), np.arange(n) + n], near + 1, np.exp(logits)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), bridge=st.integers(0, 2))
def test_steps_at_an_exchange_are_what_it_changes(seed, bridge):
    rng = np.random.default_rng(seed)
    n = 12
    points = np.cumsum(rng.normal(0, 2.2, (2 * n, 3)), axis=0)
    model = ChainModel.of(
        points, rng.dirichlet(np.ones(20), 2 * n), missing=-1.5, jump=-20.0, bridge=bridge
    )
    codes = rng.integers(0, 20, n)
    one, two = rng.permutation(2 * n).reshape(2, n)
    one[rng.random(n) < 0.3], two[rng.random(n) < 0.3] = -1, -1
    cuts = np.arange(1, n)
    change = _junction(model, one, two, cuts) + _junction(model, two, one, cuts)
    change -= _junction(model, one, one, cuts) + _junction(model, two, two, cuts)
    before = model.log_probability(one, codes) + model.log_probability(two, codes)
    for cut in cuts:
        # Where a chain begins after the cut, its first residue is another one as well.
        if not ((one[:cut] >= 0).any() and (two[:cut] >= 0).any()):
            continue
        if not ((one[cut:] >= 0).any() and (two[cut:] >= 0).any()):
            continue
        paths = _swapped(one, two, cut, n)
        after = sum(model.log_probability(path, codes) for path in paths)
        assert after - before == pytest.approx(change[cut - 1], abs=1e-6)


def test_geometry_of_a_stretch_is_the_sum_of_its_corners(dimer):
    model, _, (one, _), _, _ = dimer
    x = model.positions[one[:30]]
    expected = sum(np.log(bend_ratio(x[k + 1], x[k], x[k + 2], 0.3)) for k in range(28))
    expected += sum(np.log(torsion_ratio(*x[k : k + 4], 0.3)) for k in range(27))
    assert chain_geometry(x, 0.3) == pytest.approx(expected)
    # A residue without a position ends a stretch.
    broken = x.copy()
    broken[10] = np.nan
    apart = chain_geometry(x[:10], 0.3) + chain_geometry(x[11:], 0.3)
    assert chain_geometry(broken, 0.3) == pytest.approx(apart)
    assert chain_geometry(x[:2], 0.3) == 0


def test_planted_exchanges_are_mended(dimer):
    model, codes, true, near, _ = dimer
    one, two = true
    # Tails behind the near step, heads before it, and heads up to the residue beside it.
    for begin, end in ((near, len(one)), (0, near), (near + 1, len(one))):
        mixed = _swapped(one, two, begin, end)
        found = exchange_tails(model, codes, list(mixed))
        for path in found:
            assert any(np.array_equal(path, right) for right in true)


def test_an_exchange_with_residues_left_out_is_mended(dimer):
    model, codes, true, near, _ = dimer
    one, two = (path.copy() for path in true)
    one[near], two[5:9] = -1, -1
    found = exchange_tails(model, codes, list(_swapped(one, two, near, len(one))))
    # The residue that is missing at the exchange may be either chain's.
    for path in found:
        placed = path >= 0
        assert placed.sum() in ((one >= 0).sum(), (two >= 0).sum())
        assert len(np.unique(path[placed] // len(one))) == 1


def test_an_exchanged_part_is_mended(dimer):
    model, codes, true, near, _ = dimer
    # The chains are near at one step only; a part needs another place, so it is moved there.
    points = model.positions.copy()
    n, back = len(codes), near - 40
    away = points[true[0][back]] - points[true[1][back]]
    shift = np.zeros((n, 1))
    shift[back - 8 : back + 9, 0] = np.exp(-((np.arange(-8, 9) / 4) ** 2))
    points[n:] += shift * (away - 4.5 * away / np.linalg.norm(away))
    near_twice = ChainModel(points, model.log_emission, model.spread, -20.0, -1.5, 2)
    found = exchange_tails(near_twice, codes, list(_swapped(*true, back, near)))
    for path in found:
        assert any(np.array_equal(path, right) for right in true)


def test_right_chains_stay_as_they_are(dimer):
    model, codes, true, _, _ = dimer
    for path, right in zip(exchange_tails(model, codes, true), true, strict=True):
        np.testing.assert_array_equal(path, right)


def test_alignment_gives_mended_chains(dimer, monkeypatch):
    """The search is made to exchange tails; what comes out are whole chains, with all they need."""
    model, codes, (one, two), near, emissions = dimer
    part = slice(near - 40, near + 40)
    codes, mixed = codes[part], [p[part] for p in _swapped(one, two, near, len(one))]
    rows = np.concatenate([one[part], two[part]])
    back = np.full(len(model), -1)
    back[rows] = np.arange(len(rows))
    paths = iter([back[path] for path in mixed])

    def planted(positions, emissions, codes, free, options):
        del free, options
        whole = ChainModel.of(positions, emissions, missing=-1.5, jump=-20.0, bridge=2)
        return alignment_of(whole, codes, next(paths))

    monkeypatch.setattr("cryonb.trace.several._among", planted)
    letters = "".join(LETTERS[code] for code in codes)
    chains = align_chains(model.positions[rows], emissions[rows], [letters, letters])
    for chain in chains:
        assert len(np.unique(chain.states // 80)) == 1
        np.testing.assert_array_equal(chain.positions, model.positions[rows][chain.states])
        assert chain.fragments.tolist() == [[0, 79]]
        assert chain.confidence.mean() > 0.5
    paths = iter([back[path] for path in mixed])
    left = align_chains(model.positions[rows], emissions[rows], [letters, letters], exchange=False)
    assert all(len(np.unique(chain.states // 80)) == 2 for chain in left)
    gained = sum(c.log_probability for c in chains) - sum(c.log_probability for c in left)
    assert gained > 0
