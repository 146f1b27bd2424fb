"""Figures of density graphs."""

from __future__ import annotations

import numpy as np

from cryonb.graph.density_graph import DensityGraph
from cryonb.show.plot import Picture

__all__ = ["ca_trace", "draw_sides", "plot_graph"]

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
    trace = None if model is None else ca_trace(model)
    drawn = draw_sides(axes, points, density, beneath=trace)
    figure.colorbar(drawn, ax=axes[2], label="density")
    if len(graph) > 1:
        from scipy.spatial import cKDTree

        nearest = cKDTree(points).query(points, k=2)[0][:, 1]
        axes[3].hist(nearest, bins=40, color="0.4")
    axes[3].set_xlabel("distance of the nearest node (Å)")
    axes[3].set_ylabel("nodes")
    axes[0].set_title(f"{len(graph)} nodes, {len(graph.edges)} edges", fontsize=10)
    return figure


def draw_sides(panels, points, values, *, beneath=None, path=None, limits=(None, None)):
    """Draw points from three sides, coloured by their values, the highest on top.

    Parameters
    ----------
    panels : sequence of matplotlib axes
        The first three are drawn on.
    points : ndarray, shape (n, 3)
        (x, y, z) in Å.
    values : ndarray, shape (n,)
        What they are coloured by.
    beneath, path : ndarray, shape (k, 3), optional
        Lines, broken where they are NaN: a broad one beneath, in grey, and a thin one.
    limits : tuple of float, optional
        Values at the ends of the colours; the least and the greatest by default.

    Returns
    -------
    matplotlib.collections.PathCollection
        The last points, for a colour bar.
    """
    order = np.argsort(values)
    drawn = None
    for panel, names in zip(panels, _VIEWS, strict=False):
        columns = ["xyz".index(name) for name in names]
        if beneath is not None:
            panel.plot(*beneath[:, columns].T, color="0.75", linewidth=2.0, zorder=1)
        if path is not None:
            panel.plot(*path[:, columns].T, color="0.2", linewidth=0.7, zorder=2)
        drawn = panel.scatter(
            *points[order][:, columns].T, c=values[order], s=6, cmap="viridis",
            vmin=limits[0], vmax=limits[1], zorder=3,
        )  # fmt: skip
        panel.set_aspect("equal", adjustable="datalim")
        panel.set(xlabel=f"{names[0]} (Å)", ylabel=f"{names[1]} (Å)")
    return drawn


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
