"""Density graphs of densities whose peaks are known, and what can be done with them."""

import gemmi
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from cryonb.density_map import DensityMap
from cryonb.errors import CryonbError
from cryonb.field import SplineField
from cryonb.files.model import read_model
from cryonb.graph import density_graph
from cryonb.graph.build import default_threshold
from cryonb.graph.prune import measure_nodes
from cryonb.graph.walk import climb, cluster_centres, seed_points
from cryonb.grid import Grid
from cryonb.simulate import phantom
from cryonb.simulate.gaussian import gaussian_map
from cryonb.volume import Volume

SIGMA = 0.8


def gaussians(centres, heights, grid, sigma=SIGMA):
    """A sum of Gaussians, in closed form."""
    z, y, x = np.meshgrid(*grid.axes()[::-1], indexing="ij")
    total = np.zeros(grid.shape)
    for (cx, cy, cz), height in zip(centres, heights, strict=True):
        r2 = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
        total += height * np.exp(-r2 / (2 * sigma**2))
    return Volume(total, grid, name="known")


CENTRES = np.array([[3.1, 4.2, 5.3], [7.4, 4.4, 5.1], [3.3, 8.6, 9.2], [8.9, 9.1, 3.7]])
HEIGHTS = [1.0, 2.0, 1.5, 1.2]


@pytest.fixture(scope="module")
def known():
    return gaussians(CENTRES, HEIGHTS, Grid((26, 30, 28), 0.5, (-0.5, -1.0, 0.0)))


@pytest.fixture(scope="module")
def helix():
    """An ideal helix at atomic resolution."""
    model = phantom.alpha_helix(14).structure
    return gaussian_map(model, resolution=1.5, voxel_size=0.5)


@pytest.mark.parametrize("method", ["newton", "paper"])
def test_nodes_are_the_centres_of_gaussians(known, method):
    graph = density_graph(known, resolution=9.0, method=method)
    assert len(graph) == 4
    distance, which = cKDTree(CENTRES).query(graph.points)
    assert sorted(which) == [0, 1, 2, 3]
    assert distance.max() < (0.02 if method == "newton" else 0.03)
    np.testing.assert_allclose(graph.nodes["density"], np.array(HEIGHTS)[which], rtol=0.01)


@pytest.mark.parametrize("name", ["helix", "gaussians"])
def test_newton_gives_the_nodes_of_the_paper(known, helix, name):
    volume = helix if name == "helix" else known
    paper = density_graph(volume, resolution=1.5, method="paper", isolated=True)
    fast = density_graph(volume, resolution=1.5, isolated=True)
    assert len(paper) > 3
    assert (cKDTree(fast.points).query(paper.points)[0] <= 0.05).mean() >= 0.995
    assert (cKDTree(paper.points).query(fast.points)[0] <= 0.05).mean() >= 0.995
    assert fast.nodes["density"].min() >= fast.threshold


@pytest.mark.parametrize("method", ["newton", "paper"])
def test_walks_that_leave_the_map_give_no_node(method):
    # A slope that rises towards a corner: nothing on it is a peak.
    grid = Grid((12, 12, 12), 1.0)
    z, y, x = np.meshgrid(*grid.axes()[::-1], indexing="ij")
    centre = 14.0  # beyond the last voxel
    values = np.exp(-((x - centre) ** 2 + (y - centre) ** 2 + (z - centre) ** 2) / 50)
    graph = density_graph(Volume(values, grid), resolution=3.0, method=method, isolated=True)
    assert graph.threshold < values.max()
    assert len(graph) == 0
    assert graph.points.shape == (0, 3)


def test_seeds_are_the_dense_points_of_the_lattice(known):
    field = SplineField(known)
    seeds = seed_points(field, spacing=0.5, threshold=0.4)
    # The lattice is the voxels' own here.
    assert len(seeds) == (known.values >= 0.4).sum()
    assert known.sample(seeds).min() >= 0.4
    fine = seed_points(field, spacing=0.23, threshold=0.4)
    lattice = known.grid.with_voxel_size(0.23)
    index = np.indices(lattice.shape).reshape(3, -1).T
    assert len(fine) == (field.value(lattice.to_points(index)) >= 0.4).sum()


def test_a_walk_ends_where_the_next_step_is_no_higher(known):
    field = SplineField(known)
    seeds = seed_points(field, spacing=0.7, threshold=0.3)
    ends, density = climb(field, seeds)
    assert len(ends) == len(seeds)
    value, gradient = field.evaluate(ends)
    np.testing.assert_array_equal(value, density)
    assert (density >= field.value(seeds)).all()
    slope = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    assert (field.value(ends + 0.05 * slope) <= density).all()
    # The length of a walk is a whole number of steps: so far from the seed at most.
    assert cKDTree(CENTRES).query(ends)[0].max() < 0.06


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), radius=st.floats(0.05, 0.6))
def test_clusters_are_the_components_of_near_points(seed, radius):
    points = np.random.default_rng(seed).uniform(0, 2, (40, 3))
    graph = nx.from_numpy_array(cdist(points, points) <= radius)
    expected = [points[list(part)].mean(axis=0) for part in nx.connected_components(graph)]
    found = cluster_centres(points, radius=radius)
    assert len(found) == len(expected)
    assert cKDTree(found).query(np.array(expected))[0].max() < 1e-9


def test_edges_are_the_pairs_within_twice_the_resolution(known):
    graph = density_graph(known, resolution=2.9)
    distance = cdist(graph.points, graph.points)
    expected = np.argwhere(np.triu(distance <= 5.8, k=1))
    np.testing.assert_array_equal(graph.edges, expected)
    np.testing.assert_allclose(graph.lengths, distance[tuple(expected.T)])
    assert 0 < len(expected) < 6


def test_nodes_without_an_edge_go_unless_asked_for(known):
    assert len(density_graph(known, resolution=1.0)) == 0
    alone = density_graph(known, resolution=1.0, isolated=True)
    assert len(alone) == 4
    assert len(alone.edges) == 0
    # 4.3 Å between the first two, which make the only pair.
    pair = density_graph(known, resolution=9.0, edge_length=4.4)
    assert len(pair) == 2
    assert len(density_graph(known, resolution=9.0, edge_length=4.4, least_component=3)) == 0


def test_thresholds(known):
    field = SplineField(known)
    positive = np.maximum(known.values, 0).astype(np.float64)
    assert default_threshold(field) == pytest.approx(positive.mean() + 3 * positive.std())
    assert len(density_graph(known, resolution=9.0, threshold=1.3)) == 2
    scale = (positive**3).sum() / (positive**2).sum()
    graph = density_graph(known, resolution=9.0, threshold="molecule")
    assert graph.threshold == pytest.approx(0.6 * scale)
    mapped = DensityMap.from_volume(known, resolution=9.0, contour=1.1)
    assert mapped.density_graph(threshold="contour").threshold == 1.1
    assert density_graph(mapped, threshold="contour").threshold == 1.1


def test_a_peak_between_the_seeds_counts_for_neither_method():
    # Just above the threshold, in the middle of a cell of the seeds' lattice.
    grid = Grid((41, 41, 41), 0.2)
    volume = gaussians([[4.25, 4.25, 4.25]], [1.0], grid, sigma=0.5)
    for threshold, count in ((0.9, 0), (0.6, 1)):
        for method in ("newton", "paper"):
            graph = density_graph(
                volume, resolution=1.0, threshold=threshold, method=method, isolated=True
            )
            assert len(graph) == count, (threshold, method)


def test_a_pass_lies_midway_between_equal_peaks():
    grid = Grid((30, 30, 40), 0.5)
    centres = [[7.0, 7.2, 7.1], [10.4, 7.2, 7.1]]
    volume = gaussians(centres, [1.0, 1.0], grid, sigma=1.1)
    assert len(density_graph(volume, resolution=4.0, threshold=0.3)) == 2
    graph = density_graph(volume, resolution=4.0, threshold=0.3, passes=True)
    assert graph.nodes["kind"].tolist().count("peak") == 2
    found = graph.points[graph.nodes["kind"] == "pass"]
    np.testing.assert_allclose(found, [[8.7, 7.2, 7.1]], atol=0.01)
    made = measure_nodes(graph, SplineField(volume))
    assert made.nodes["prominence"][made.nodes["kind"] == "pass"].item() == pytest.approx(
        0, abs=0.02
    )


def test_prominence_is_the_way_down_to_a_higher_peak():
    grid = Grid((24, 24, 70), 0.5)
    x = np.array([6.0, 9.0, 14.0])
    heights = np.array([1.0, 0.7, 2.0])
    volume = gaussians([[c, 6.0, 6.0] for c in x], heights, grid)
    line = np.linspace(3, 18, 3001)
    profile = (heights * np.exp(-((line[:, None] - x) ** 2) / (2 * SIGMA**2))).sum(axis=1)
    top = [profile[(line > c - 1) & (line < c + 1)].max() for c in x]
    first = profile[(line > 6) & (line < 9)].min()
    second = profile[(line > 9) & (line < 14)].min()
    expected = [(top[0] - second) / top[0], (top[1] - first) / top[1], 1.0]
    graph = density_graph(volume, resolution=2.6, threshold=0.2)
    measured = measure_nodes(graph, SplineField(volume)).nodes.sort_values("x")
    np.testing.assert_allclose(measured["prominence"], expected, atol=0.03)
    np.testing.assert_allclose(measured["height"], measured["density"] / 0.2 - 1, rtol=1e-6)


def test_pruning_drops_what_does_not_stand_out(known):
    whole = density_graph(known, resolution=9.0, threshold=0.4)
    assert len(whole) == 4
    high = density_graph(known, resolution=9.0, threshold=0.4, prune={"height": 2.5})
    assert high.nodes["density"].min() >= 1.4
    assert len(high) == 2
    contrast = measure_nodes(whole, SplineField(known), measures=("contrast",)).nodes["contrast"]
    kept = density_graph(
        known, resolution=9.0, threshold=0.4, prune={"contrast": float(contrast.median())}
    )
    assert len(kept) == 2
    assert len(whole.nodes.columns) == 4  # the first graph is as it was


def test_contrast_is_in_local_standard_deviations(rng):
    # White noise with one strong peak: its contrast is its height over the noise.
    grid = Grid((30, 30, 30), 1.0)
    values = rng.normal(0, 0.1, grid.shape)
    values += gaussians([[15.0, 15.0, 15.0]], [3.0], grid, sigma=0.9).values
    volume = Volume(values, grid)
    graph = density_graph(volume, resolution=3.0, threshold=2.0, isolated=True)
    assert len(graph) == 1
    found = measure_nodes(graph, SplineField(volume)).nodes["contrast"].item()
    near = values[10:21, 10:21, 10:21]
    assert found == pytest.approx((values.max() - near.mean()) / near.std(), rel=0.25)


def test_the_networkx_graph_says_the_same(known):
    graph = density_graph(known, resolution=2.9)
    made = graph.graph
    assert sorted(map(sorted, made.edges)) == graph.edges.tolist()
    assert made.nodes[1]["x"] == graph.nodes["x"][1]
    assert made.nodes[1]["density"] == pytest.approx(graph.nodes["density"][1])
    a, b = graph.edges[0]
    assert made.edges[a, b]["length"] == pytest.approx(graph.lengths[0])
    labels = graph.components()
    for part in nx.connected_components(made):
        assert len({labels[k] for k in part}) == 1
    assert np.bincount(labels).argmax() == 0


def test_selection_keeps_edges_among_what_is_kept(known):
    graph = density_graph(known, resolution=9.0)
    part = graph.select(np.array([True, False, True, True]))
    assert len(part.edges) == 3
    np.testing.assert_allclose(part.lengths, cdist(part.points, part.points)[tuple(part.edges.T)])
    with pytest.raises(CryonbError, match="bool for each of 4 nodes"):
        graph.select([0, 1])


def test_tensors_have_the_shapes_of_a_graph_library(known):
    torch = pytest.importorskip("torch")
    graph = density_graph(known, resolution=2.9, isolated=True)
    made = graph.tensors()
    m = len(graph.edges)
    assert {name: tuple(t.shape) for name, t in made.items()} == {
        "x": (4, 1), "pos": (4, 3), "edge_index": (2, 2 * m), "edge_attr": (2 * m, 1)
    }  # fmt: skip
    assert made["edge_index"].dtype == torch.int64
    assert all(made[name].dtype == torch.float32 for name in ("x", "pos", "edge_attr"))
    a, b = made["edge_index"]
    lengths = (made["pos"][a] - made["pos"][b]).norm(dim=1)
    torch.testing.assert_close(lengths, made["edge_attr"][:, 0], atol=1e-4, rtol=0)
    assert {(i, j) for i, j in zip(a.tolist(), b.tolist(), strict=True)} == {
        (j, i) for i, j in zip(a.tolist(), b.tolist(), strict=True)
    }


def test_files_can_be_read_back(known, tmp_path):
    graph = density_graph(known, resolution=2.9, passes=True)
    model = read_model(graph.save(tmp_path / "nodes.cif"))
    atoms = list(model[0].all())
    found = np.array([[*cra.atom.pos] for cra in atoms])
    np.testing.assert_allclose(found, graph.points, atol=1e-3)
    density = graph.nodes["density"].to_numpy()
    np.testing.assert_allclose(
        [cra.atom.b_iso for cra in atoms], 100 * density / density.max(), atol=0.02
    )
    assert {cra.residue.name for cra in atoms} == {"DUM"}
    made = nx.read_graphml(graph.save(tmp_path / "graph.graphml"), node_type=int)
    assert nx.utils.graphs_equal(nx.Graph(made), graph.graph) or (
        sorted(made.edges) == sorted(graph.graph.edges)
        and made.nodes[0]["density"] == pytest.approx(graph.graph.nodes[0]["density"])
    )
    with pytest.raises(CryonbError, match=r"\.cif, \.mmcif or \.graphml"):
        graph.save(tmp_path / "graph.txt")
    assert not (tmp_path / "graph.txt").exists()


def test_an_empty_graph_can_be_handed_over_too(known, tmp_path):
    graph = density_graph(known, resolution=1.0, passes=True, prune={"prominence": 0.5})
    assert len(graph) == 0
    assert graph.tensors()["edge_index"].shape == (2, 0)
    assert len(graph.components()) == 0
    assert isinstance(graph.structure(), gemmi.Structure)
    graph.save(tmp_path / "empty.graphml")


def test_a_map_makes_a_graph_that_is_judged(helix):
    model = phantom.alpha_helix(14).structure
    graph = DensityMap.from_volume(helix, resolution=1.5).density_graph()
    found = graph.evaluate(model).summary
    # At 1.5 Å nearly every atom is a peak of its own.
    assert found["ca_sensitivity"] == 1.0
    assert found["atom_sensitivity"] > 0.9
    assert found["atom_specificity"] > 0.98
    assert found["atom_rmsd"] < 0.1


def test_a_map_makes_a_graph_that_draws_itself(known):
    graph = DensityMap.from_volume(known, resolution=2.9).density_graph()
    assert graph.name == "known"
    assert graph.resolution == 2.9
    model = phantom.alpha_helix(10).structure
    assert graph.plot(model)._repr_png_().startswith(b"\x89PNG")
    assert graph.plot()._repr_png_().startswith(b"\x89PNG")
    quintic = DensityMap.from_volume(known, resolution=2.9).field(method="quintic")
    other = DensityMap.from_volume(known, resolution=2.9).density_graph(field=quintic)
    assert cKDTree(CENTRES).query(other.points)[0].max() < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give resolution= or edge_length="),
        ({"resolution": 3.0, "method": "spam"}, "newton, paper"),
        ({"resolution": 3.0, "threshold": "contour"}, "contour level is known"),
        ({"resolution": 3.0, "seed_spacing": 0.0}, "positive length"),
        ({"resolution": -3.0}, "positive length"),
        ({"resolution": 9.0, "prune": {"beauty": 1.0}}, "height, prominence, contrast"),
    ],
)
def test_bad_arguments_get_a_sentence(known, options, message):
    with pytest.raises(CryonbError, match=message):
        density_graph(known, **options)
