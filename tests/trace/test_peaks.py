"""Cα candidates: where Gaussians are, and as the published program clusters them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from cryonb.atoms import AMINO_ACIDS
from cryonb.errors import CryonbError
from cryonb.graph.match import first_of_groups
from cryonb.graph.voxel_peaks import voxel_peaks
from cryonb.grid import Grid
from cryonb.trace.peaks import cluster_published, find_ca
from cryonb.volume import ProbabilityVolume, Volume


def heat(points, grid, *, sigma=0.8, height=1.0):
    z, y, x = np.indices(grid.shape)
    place = grid.to_points(np.stack([z, y, x], axis=-1))
    out = np.zeros(grid.shape)
    for point, top in zip(points, np.broadcast_to(height, len(points)), strict=True):
        square = ((place - point) ** 2).sum(axis=-1)
        out = np.maximum(out, top * np.exp(-square / (2 * sigma**2)))
    return Volume(out, grid)


@settings(deadline=None, max_examples=30)
@given(
    place=st.tuples(*[st.floats(4.6, 9.4)] * 3),
    size=st.tuples(*[st.floats(0.7, 1.3)] * 3),
    sigma=st.floats(0.8, 1.5),
)
def test_a_parabola_finds_the_middle_of_a_gaussian(place, size, sigma):
    grid = Grid((16, 17, 18), size, (-3.0, 7.0, 2.0))
    point = grid.to_points(np.array(place))
    found = find_ca(heat([point], grid, sigma=sigma), threshold=0.3)
    assert len(found) == 1
    # What float32 leaves of a Gaussian.
    np.testing.assert_allclose(found.position[0], point, atol=2e-4)


@pytest.mark.parametrize(("refine", "within"), [("centroid", 0.35), ("none", 0.87)])
def test_other_ways_are_as_near_as_they_say(rng, refine, within):
    grid = Grid((14, 14, 14))
    for point in rng.uniform(5, 8, (10, 3)):
        found = find_ca(heat([point], grid), refine=refine)
        assert np.linalg.norm(found.position[0] - point) < within


def test_a_plateau_is_one_peak():
    values = np.zeros((9, 9, 9), np.float32)
    values[4:6, 4, 4] = 1.0
    found = find_ca(Volume(values, Grid(values.shape)), refine="centroid")
    np.testing.assert_allclose(found.position, [[4, 4, 4.5]], atol=0.02)


def test_the_lower_of_two_near_peaks_goes():
    grid = Grid((12, 12, 24))
    points = np.array([[5.0, 5, 5], [8.0, 5, 5], [11.0, 5, 5], [18.0, 5, 5]])
    volume = heat(points, grid, height=[0.6, 0.9, 0.7, 0.5])
    assert len(find_ca(volume, radius=2.9)) == 4
    found = find_ca(volume, radius=3.1)
    np.testing.assert_allclose(found.position, points[[1, 3]], atol=0.01)
    np.testing.assert_allclose(found.score, [0.9, 0.5], atol=1e-6)
    high = find_ca(volume, radius=3.1, threshold=0.55)
    np.testing.assert_array_equal(found.above(0.55).position, high.position)


def greedy(points, radius):
    """The published clustering as the paper's program says it: one after the other."""
    left, groups = list(range(len(points))), []
    while left:
        seed = left[0]
        near = [k for k in left if k == seed or math.dist(points[k], points[seed]) <= radius]
        groups.append(near)
        left = [k for k in left if k not in near]
    return groups


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 70), whole=st.booleans())
def test_groups_are_those_of_a_plain_loop(seed, n, whole):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 7, (n, 3))
    # On whole numbers many distances are exactly the radius.
    points = np.round(points) + 0.123 if whole else points
    seeds, group = first_of_groups(points, radius=2.0)
    expected = greedy(points, 2.0)
    assert seeds.tolist() == [rows[0] for rows in expected]
    for number, rows in enumerate(expected):
        assert np.flatnonzero(group == number).tolist() == rows


def random_networks(rng, shape, sharp=40):
    """Probabilities as two networks give them: in blobs."""
    from scipy.ndimage import gaussian_filter

    grid = Grid(shape, 1.0, (10.1234, -5.0, 3.7))
    volumes = []
    for classes in (("background", "CA", "N", "C"), ("background", *AMINO_ACIDS)):
        logits = (
            gaussian_filter(rng.normal(size=(len(classes), *shape)), (0, 1.2, 1.2, 1.2)) * sharp
        )
        logits[1] += 3 if len(classes) == 4 else 0
        odds = np.exp(logits - logits.max(axis=0))
        volumes.append(
            ProbabilityVolume((odds / odds.sum(axis=0)).astype(np.float32), grid, classes=classes)
        )
    return volumes


def test_published_clusters_are_those_of_the_program(rng):
    atom, amino = random_networks(rng, (9, 12, 15))
    rows = []
    # As the program goes through its map: x slowest, z fastest.
    for k in range(15):
        for j in range(12):
            for i in range(9):
                p, q = atom.values[:, i, j, k], amino.values[:, i, j, k]
                if p.argmax() > 0 and q.argmax() > 0 and p[1] > 0.4:
                    place = [round(10.1234 + k, 3), round(-5.0 + j, 3), round(3.7 + i, 3)]
                    rows.append((place, p[1], [v + q[0] / 20 for v in q[1:]]))
    points = [row[0] for row in rows]
    groups = greedy(points, 2.0)
    assert len(groups) > 20
    assert len(points) > 2 * len(groups)
    found = cluster_published(atom, amino)
    expected = [np.mean([points[k] for k in group], axis=0) for group in groups]
    np.testing.assert_allclose(found.position, expected, atol=1e-9)
    emission = [np.mean([rows[k][2] for k in group], axis=0) for group in groups]
    np.testing.assert_allclose(found.emission, emission, atol=1e-6)
    np.testing.assert_allclose(found.emission.sum(axis=1), 1, atol=1e-5)
    assert found.classes == AMINO_ACIDS


def test_published_clusters_depend_on_the_order_and_ours_do_not(rng):
    # Softer, so that no two probabilities are equal.
    atom, amino = random_networks(rng, (14, 14, 14), sharp=15)
    turned = [
        ProbabilityVolume(v.values[:, ::-1, :, ::-1].copy(), Grid((14,) * 3), classes=v.classes)
        for v in (atom, amino)
    ]
    plain = [ProbabilityVolume(v.values, Grid((14,) * 3), classes=v.classes) for v in (atom, amino)]

    def sorted_rows(positions):
        rows = np.round(positions, 4)
        return rows[np.lexsort(rows.T)]

    def back(positions):
        return positions * [-1, 1, -1] + [13, 0, 13]

    one, two = cluster_published(*plain), cluster_published(*turned)
    assert len(one) != len(two) or not np.allclose(
        sorted_rows(one.position), sorted_rows(back(two.position))
    )
    one, two = (find_ca(pair[0]["CA"], classes=pair[1]) for pair in (plain, turned))
    np.testing.assert_allclose(
        sorted_rows(one.position), sorted_rows(back(two.position)), atol=1e-3
    )
    assert pdist(one.position).min() > 2.0


def test_emissions_are_read_at_the_peaks(rng):
    grid = Grid((12, 12, 30))
    points = np.array([[6.2, 5.8, 5.1], [20.3, 6.0, 6.4]])
    values = np.zeros((3, *grid.shape), np.float32)
    values[0] = 0.2
    values[1, :, :, :13], values[2, :, :, 13:] = 0.8, 0.8
    classes = ProbabilityVolume(values, grid, classes=("background", "GLY", "TRP"))
    found = find_ca(heat(points, grid, height=[0.9, 0.8]), classes=classes)
    np.testing.assert_allclose(found.emission, [[0.9, 0.1], [0.1, 0.9]], atol=1e-5)
    assert found.classes == ("GLY", "TRP")
    # Where the classes say nothing, each is as likely.
    far = ProbabilityVolume(values, Grid(grid.shape, 1.0, (99.0, 0, 0)), classes=classes.classes)
    np.testing.assert_allclose(find_ca(heat(points, grid), classes=far).emission, 0.5)


def test_nothing_gives_nothing():
    empty = Volume(np.zeros((8, 8, 8)), Grid((8, 8, 8)))
    assert len(find_ca(empty)) == 0
    classes = ProbabilityVolume(
        np.ones((21, 8, 8, 8), np.float32) / 21, empty.grid, classes=("background", *AMINO_ACIDS)
    )
    atom = ProbabilityVolume(
        np.ones((4, 8, 8, 8), np.float32) / 4, empty.grid, classes=("background", "CA", "N", "C")
    )
    assert find_ca(empty, classes=classes).emission.shape == (0, 20)
    assert cluster_published(atom, classes).emission.shape == (0, 20)


def test_impossible_wishes_are_refused():
    empty = Volume(np.zeros((8, 8, 8)), Grid((8, 8, 8)))
    with pytest.raises(CryonbError, match="threshold above zero"):
        find_ca(empty, threshold=0)
    with pytest.raises(CryonbError, match="positive number of Å"):
        find_ca(empty, radius=0)
    with pytest.raises(CryonbError, match="refinement of parabola"):
        voxel_peaks(empty.values, threshold=0.5, refine="newton")
    atom = ProbabilityVolume(np.ones((1, 8, 8, 8)), empty.grid, classes=("background",))
    with pytest.raises(CryonbError, match="class CA"):
        cluster_published(atom, atom)
