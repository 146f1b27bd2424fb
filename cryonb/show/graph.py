"""Figures of density graphs."""

from __future__ import annotations

import numpy as np

from cryonb.graph.density_graph import DensityGraph
from cryonb.show.plot import Picture

__all__ = ["ca_trace", "plot_graph"]

_VIEWS = (("x", "y"), ("x", "z"), ("y", "z"))


def plot_graph(graph: DensityGraph, model=None) -> Picture:
    """Draw a density graph from three sides, and the distances between neighbours.

    Parameters
    ----------
    graph : DensityGraph
        The graph.
    model : gemmi.Structure or Atoms, optional
        Its Cα trace is drawn beneath the nodes.

    Returns
    -------
    Picture
    """
    figure = Picture(12.0, 3.6)
    axes = figure.subplots(1, 4)
    points, density = graph.points, graph.nodes["density"].to_numpy(dtype=float)
    # The densest last, on top.
    order = np.argsort(density)
    trace = None if model is None else ca_trace(model)
    drawn = None
    for view, names in zip(axes, _VIEWS, strict=False):
        columns = ["xyz".index(name) for name in names]
        if trace is not None:
            view.plot(*trace[:, columns].T, color="0.6", linewidth=1.0, zorder=1)
        across = points[order][:, columns]
        drawn = view.scatter(*across.T, c=density[order], s=6, cmap="viridis", zorder=2)
        view.set_aspect("equal", adjustable="datalim")
        view.set_xlabel(f"{names[0]} (Å)")
        view.set_ylabel(f"{names[1]} (Å)")
    figure.colorbar(drawn, ax=axes[2], label="density")
    if len(graph) > 1:
        from scipy.spatial import cKDTree

        nearest = cKDTree(points).query(points, k=2)[0][:, 1]
        axes[3].hist(nearest, bins=40, color="0.4")
    axes[3].set_xlabel("distance of the nearest node (Å)")
    axes[3].set_ylabel("nodes")
    axes[0].set_title(f"{len(graph)} nodes, {len(graph.edges)} edges", fontsize=10)
    return figure


def ca_trace(model) -> np.ndarray:
    """Cα positions chain by chain, with a gap of NaN where a chain ends or leaps."""
    from cryonb.atoms import KIND_PROTEIN, Atoms

    atoms = Atoms.from_structure(model)
    carbons = atoms.select((atoms.name == "CA") & (atoms.kind == KIND_PROTEIN))
    position = carbons.position
    chain = carbons.residues.chain[carbons.residue]
    leap = np.linalg.norm(np.diff(position, axis=0), axis=1) > 4.5
    cut = np.flatnonzero(leap | (chain[1:] != chain[:-1])) + 1
    return np.insert(position, cut, np.nan, axis=0)
