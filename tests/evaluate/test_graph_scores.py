"""Scores of density graphs: pairings against brute force, and cases counted by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, MapModelMismatchError
from cryonb.evaluate.graph import SUMMARY_KEYS, evaluate_graph, match_points
from cryonb.graph import DensityGraph
from cryonb.grid import Grid
from cryonb.simulate import phantom


def graph_of(points, grid):
    nodes = pd.DataFrame(np.reshape(points, (-1, 3)), columns=["x", "y", "z"]).assign(density=1.0)
    return DensityGraph(nodes, [], grid=grid, threshold=0.1)


@pytest.fixture(scope="module")
def helix():
    atoms = Atoms.from_structure(phantom.alpha_helix(12).structure)
    return atoms, Grid.around(atoms.position, 1.0, 6.0)


def closest_first(distance, radius):
    """Greedy pairing, one pair at a time."""
    found = {}
    distance = np.where(distance <= radius, distance, np.inf)
    while distance.size and np.isfinite(distance.min()):
        row, column = np.unravel_index(distance.argmin(), distance.shape)
        found[int(row)] = int(column)
        distance[row], distance[:, column] = np.inf, np.inf
    return found


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 30), m=st.integers(0, 30))
def test_greedy_takes_the_closest_pair_first(seed, n, m):
    rng = np.random.default_rng(seed)
    targets, points = rng.uniform(0, 3, (n, 3)), rng.uniform(0, 3, (m, 3))
    expected = closest_first(cdist(targets, points), 1.0)
    found, apart = match_points(targets, points, radius=1.0)
    assert {k: int(v) for k, v in enumerate(found) if v >= 0} == expected
    for row, column in expected.items():
        assert apart[row] == pytest.approx(np.linalg.norm(targets[row] - points[column]))
    assert np.isnan(apart[found < 0]).all()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 25), m=st.integers(1, 25))
def test_optimal_makes_the_most_pairs_at_the_least_cost(seed, n, m):
    rng = np.random.default_rng(seed)
    targets, points = rng.uniform(0, 3, (n, 3)), rng.uniform(0, 3, (m, 3))
    square = cdist(targets, points) ** 2
    cost = np.where(square <= 1.0, square, 1e4)
    row, column = linear_sum_assignment(cost)
    real = cost[row, column] < 1e4
    found, apart = match_points(targets, points, radius=1.0, method="optimal")
    paired = found >= 0
    assert paired.sum() == real.sum()
    assert np.sum(apart[paired] ** 2) == pytest.approx(cost[row, column][real].sum())
    assert len(set(found[paired])) == paired.sum()
    assert paired.sum() >= (match_points(targets, points, radius=1.0)[0] >= 0).sum()


def test_nodes_on_all_atoms_score_one(helix):
    atoms, grid = helix
    summary = evaluate_graph(graph_of(atoms.position, grid), atoms).summary
    assert tuple(summary.index) == SUMMARY_KEYS
    assert summary["atom_sensitivity"] == summary["atom_specificity"] == 1.0
    assert summary["ca_sensitivity"] == summary["ca_covered"] == 1.0
    assert summary["atom_rmsd"] == summary["ca_rmsd"] == 0.0
    assert summary["n_atoms"] == len(atoms)
    assert summary["n_ca"] == 12


def test_the_distance_of_moved_nodes_is_their_rmsd(helix):
    atoms, grid = helix
    shift = np.array([0.1, -0.2, 0.15])
    summary = evaluate_graph(graph_of(atoms.position + shift, grid), atoms).summary
    assert summary["atom_sensitivity"] == 1.0
    assert summary["atom_rmsd"] == pytest.approx(np.linalg.norm(shift))


def test_one_node_serves_one_residue(helix):
    # A node on one Cα: its neighbours along the helix are 3.8 Å away; with 5 Å they are covered,
    # but only its own Cα has it.
    atoms, grid = helix
    carbon = atoms.position[atoms.name == "CA"]
    node = carbon[5] + [0.3, 0.0, 0.0]
    found = evaluate_graph(graph_of(node, grid), atoms, ca_radius=5.5)
    near = (np.linalg.norm(carbon - node, axis=1) <= 5.5).mean()
    assert found.summary["ca_sensitivity"] == pytest.approx(1 / 12)
    assert found.summary["ca_covered"] == pytest.approx(near)
    assert near > 2 / 12
    assert found.summary["ca_rmsd"] == pytest.approx(0.3)
    assert found.residues["node"].tolist() == [-1] * 5 + [0] + [-1] * 6


def test_a_residue_takes_the_nearest_of_its_nodes(helix):
    atoms, grid = helix
    carbon = atoms.position[atoms.name == "CA"][5]
    nodes = carbon + np.array([[0.5, 0, 0], [0.2, 0, 0], [0, 0, 0.4]])
    found = evaluate_graph(graph_of(nodes, grid), atoms)
    assert found.residues["node"][5] == 1
    assert found.residues["distance"][5] == pytest.approx(0.2)
    assert found.summary["ca_specificity"] == 1.0


def test_nodes_far_from_the_model_lower_the_specificity(helix):
    atoms, grid = helix
    points = np.vstack([atoms.position, grid.lower + [[0, 0, 0.0], [0.1, 0, 0], [0, 0.1, 0]]])
    summary = evaluate_graph(graph_of(points, grid), atoms).summary
    n = len(atoms)
    assert summary["atom_specificity"] == pytest.approx(n / (n + 3))
    assert summary["ca_specificity"] == pytest.approx(n / (n + 3))
    assert summary["atom_sensitivity"] == 1.0


def test_atoms_outside_the_map_do_not_count(helix):
    atoms, grid = helix
    half = grid.crop((0, 0, 0), (grid.shape[0] // 2, *grid.shape[1:]))
    inside = half.contains(atoms.position)
    found = evaluate_graph(graph_of(atoms.position[inside], half), atoms)
    assert 0 < found.summary["n_atoms"] == inside.sum() < len(atoms)
    assert found.summary["atom_sensitivity"] == 1.0
    assert len(found.atoms) == inside.sum()


def test_a_model_elsewhere_is_refused(helix):
    atoms, grid = helix
    away = atoms.moved_to(atoms.position + 500)
    with pytest.raises(MapModelMismatchError, match="do not overlap"):
        evaluate_graph(graph_of(atoms.position, grid), away)


def test_an_empty_graph_finds_nothing(helix):
    atoms, grid = helix
    summary = evaluate_graph(graph_of(np.empty((0, 3)), grid), atoms).summary
    assert summary["ca_sensitivity"] == summary["atom_sensitivity"] == 0.0
    assert np.isnan(summary[["ca_specificity", "atom_specificity", "ca_rmsd", "atom_rmsd"]]).all()


def test_nucleic_acids_have_no_alpha_carbons():
    atoms = Atoms.from_structure(phantom.dna_duplex("ATGC").structure)
    grid = Grid.around(atoms.position, 1.0, 4.0)
    summary = evaluate_graph(graph_of(atoms.position, grid), atoms).summary
    assert summary["n_ca"] == 0
    assert np.isnan(summary[["ca_sensitivity", "ca_specificity"]]).all()
    assert summary["atom_sensitivity"] == 1.0


def test_tables_are_saved(helix, tmp_path):
    atoms, grid = helix
    found = evaluate_graph(graph_of(atoms.position, grid), atoms, matching="optimal")
    folder = found.save(tmp_path / "scores")
    assert len(pd.read_csv(folder / "atoms.csv")) == len(atoms)
    assert pd.read_csv(folder / "summary.csv", index_col=0).loc["n_ca", "value"] == 12
    assert "ca_rmsd" in found._repr_html_()
    with pytest.raises(CryonbError, match="greedy or optimal"):
        match_points(atoms.position, atoms.position, radius=1.0, method="lazy")
