"""A density graph, judged by a model: atoms with a node, nodes with an atom, and how far."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cryonb.atoms import KIND_PROTEIN, Atoms
from cryonb.files.tables import write_tables
from cryonb.graph.density_graph import DensityGraph
from cryonb.graph.match import match_points
from cryonb.grid import no_overlap

__all__ = ["SUMMARY_KEYS", "GraphEvaluation", "evaluate_graph", "match_points"]

#: Keys of `GraphEvaluation.summary`, in order.
SUMMARY_KEYS = (
    "ca_sensitivity", "ca_specificity", "ca_rmsd", "ca_covered",
    "atom_sensitivity", "atom_specificity", "atom_rmsd",
    "n_nodes", "n_ca", "n_atoms",
)  # fmt: skip


@dataclass(frozen=True)
class GraphEvaluation:
    """A density graph judged by a model.

    Attributes
    ----------
    summary : pandas.Series
        The scores, see `evaluate_graph`.
    residues : pandas.DataFrame
        A row a Cα: chain, number, icode, name, node (its row in the graph, -1 for none) and
        distance (Å, NaN for none).
    atoms : pandas.DataFrame
        A row an atom: chain, number, icode, name, atom, node and distance.
    """

    summary: pd.Series
    residues: pd.DataFrame
    atoms: pd.DataFrame

    def save(self, folder) -> Path:
        """Write summary.csv, residues.csv and atoms.csv into a folder, and give the folder."""
        return write_tables(folder, summary=self.summary, residues=self.residues, atoms=self.atoms)

    def _repr_html_(self) -> str:
        return self.summary.to_frame("value").map(lambda value: f"{value:.4g}").to_html()


def evaluate_graph(
    graph: DensityGraph, model, *, ca_radius: float = 3.0, atom_radius: float = 1.0,
    matching: str = "greedy", waters: bool = False,
) -> GraphEvaluation:  # fmt: skip
    """Judge a density graph by a model.

    Parameters
    ----------
    graph : DensityGraph
        The graph.
    model : gemmi.Structure or Atoms
        The model, in the frame of the map. Atoms outside the map do not count, nor do hydrogens.
    ca_radius, atom_radius : float
        Within how many Å of a Cα, or of an atom, a node belongs to it.
    matching : {"greedy", "optimal"}
        How atoms and nodes are paired, one with one: see `match_points`.
    waters : bool
        Whether waters count as atoms.

    Returns
    -------
    GraphEvaluation
        `summary` has the keys `SUMMARY_KEYS`:

        * ca_sensitivity, ca_rmsd: share of Cα atoms that have a node, and how far it is. As the
          published evaluation counts: a node belongs to the Cα nearest to it alone, within
          `ca_radius`; of its nodes a Cα takes the nearest.
        * ca_covered: share of Cα atoms with any node within `ca_radius`.
        * ca_specificity: share of nodes within `ca_radius` of any Cα.
        * atom_sensitivity, atom_specificity, atom_rmsd: share of atoms and of nodes that are
          paired, one with one, within `atom_radius`, and the distance of the pairs.
        * n_nodes, n_ca, n_atoms: what was counted.

        A score is NaN where there is nothing to count.

    Raises
    ------
    MapModelMismatchError
        If no atom lies inside the map.

    References
    ----------
    Ranno & Si, BMC Bioinformatics 23, 397 (2022), Results and Table 1.
    """
    every = Atoms.from_structure(model, waters=waters)
    atoms = every.select(graph.grid.contains(every.position))
    if not len(atoms):
        raise no_overlap(graph.grid, every.lower, every.upper)
    points = graph.points
    carbons = atoms.select((atoms.name == "CA") & (atoms.kind == KIND_PROTEIN))
    carbon_node, carbon_distance = _nearest_own(carbons.position, points, ca_radius)
    atom_node, atom_distance = match_points(
        atoms.position, points, radius=atom_radius, method=matching
    )
    to_node = _distance(carbons.position, points)
    to_carbon = _distance(points, carbons.position)
    scores = {
        "ca_sensitivity": _share(carbon_node >= 0),
        "ca_specificity": _share(to_carbon <= ca_radius) if len(carbons) else np.nan,
        "ca_rmsd": _rms(carbon_distance),
        "ca_covered": _share(to_node <= ca_radius),
        "atom_sensitivity": _share(atom_node >= 0),
        "atom_specificity": (atom_node >= 0).sum() / len(points) if len(points) else np.nan,
        "atom_rmsd": _rms(atom_distance),
        "n_nodes": len(points),
        "n_ca": len(carbons),
        "n_atoms": len(atoms),
    }
    residues = _table(carbons).assign(node=carbon_node, distance=carbon_distance)
    every_atom = _table(atoms).assign(atom=atoms.name, node=atom_node, distance=atom_distance)
    return GraphEvaluation(
        pd.Series({key: scores[key] for key in SUMMARY_KEYS}, dtype=float), residues, every_atom
    )


def _nearest_own(targets, points, radius):
    """For each target its nearest point, of those points that are nearest to this target."""
    from scipy.spatial import cKDTree

    found = np.full(len(targets), -1, dtype=np.int64)
    apart = np.full(len(targets), np.nan)
    if not len(targets) or not len(points):
        return found, apart
    distance, owner = cKDTree(targets).query(points, distance_upper_bound=np.nextafter(radius, 9e9))
    rows = np.flatnonzero(np.isfinite(distance))
    # The farthest first: what is written last stays.
    rows = rows[np.argsort(-distance[rows], kind="stable")]
    found[owner[rows]] = rows
    apart[owner[rows]] = distance[rows]
    return found, apart


def _distance(points, others) -> np.ndarray:
    """Distance of each point to the nearest of the others; infinite where there is none."""
    from scipy.spatial import cKDTree

    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    return cKDTree(others).query(points)[0]


def _share(which) -> float:
    return float(which.mean()) if len(which) else np.nan


def _rms(distance) -> float:
    known = distance[~np.isnan(distance)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else np.nan


def _table(atoms: Atoms) -> pd.DataFrame:
    of = atoms.residues
    columns = {key: getattr(of, key)[atoms.residue] for key in ("chain", "number", "icode", "name")}
    return pd.DataFrame(columns)
