"""From a map to its density graph."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError
from cryonb.field.choose import field as make_field
from cryonb.field.protocol import Field
from cryonb.graph.density_graph import DensityGraph
from cryonb.graph.passes import refine_passes
from cryonb.graph.peaks import (
    candidate_points,
    distinct_points,
    find_peaks,
    has_seed,
    is_inner,
)
from cryonb.graph.prune import prune_nodes
from cryonb.graph.walk import CLUSTER_RADIUS, climb, cluster_centres, seed_points
from cryonb.volume import Volume

__all__ = ["METHODS", "default_threshold", "density_graph"]

#: How `density_graph` finds peaks.
METHODS = ("newton", "paper")
# The paper's seeds and edges.
_SEED_SPACING = 0.5
_DEVIATIONS = 3.0
_EDGE_RESOLUTIONS = 2.0
# The part of the molecule's typical density that threshold="molecule" takes. Of 0.3, 0.5, 0.7 and
# 0.9 on 15 real maps of 1.75 to 4 Å, 0.5 to 0.7 had the best sum of sensitivity and specificity.
_MOLECULE_SHARE = 0.6


def default_threshold(field: Field) -> float:
    """Give the paper's least density of a seed: mean + 3 standard deviations.

    Both of all voxels of the map, negative ones taken as zero, which is what the paper's
    normalisation does; in units of the map.
    """
    return field.statistics.mean + _DEVIATIONS * field.statistics.std


def density_graph(
    density: Volume | Field, *, resolution: float | None = None, method: str = "newton",
    threshold: float | str | None = None, seed_spacing: float = _SEED_SPACING,
    edge_length: float | None = None, least_component: int = 1, isolated: bool = False,
    passes: bool = False, prune: dict | None = None,
) -> DensityGraph:  # fmt: skip
    """Make a graph of the peaks of a map's density.

    Parameters
    ----------
    density : Volume or Field
        The map; a volume is read through its cubic spline.
    resolution : float, optional
        In Å; by default the map's own.
    method : {"newton", "paper"}
        "newton" (default): Newton's method on the field, from the voxels that can lie near a
        peak. "paper": a walk uphill in steps of 0.05 Å from each seed until the density falls,
        then clusters of the ends (0.2 Å) and their centroids. On ridges such a walk can end
        before it has reached the peak, and its graph has a node there; Newton's has not.
    threshold : float, "contour" or "molecule", optional
        Least density of a seed: a number in units of the map; the map's contour level; 0.6 times
        the molecule's typical density, which does not depend on how much of the box is empty
        (`Statistics.scale`); or, by default, mean + 3 standard deviations, which does (see
        `default_threshold`).
    seed_spacing : float
        Of the lattice of seeds, in Å. Newton's method leaves out peaks that no seed is near, as
        the walk would.
    edge_length : float, optional
        Nodes at most so far apart, in Å, are joined; by default twice the resolution.
    least_component : int
        Connected components with fewer nodes are dropped.
    isolated : bool
        Whether nodes without an edge stay (the paper drops them).
    passes : bool
        Whether the lowest points of the ridges between peaks become nodes, too: where a chain
        runs on without a peak for each residue, beyond about 2 Å, they fill the gaps. The column
        `kind` of the nodes is then "peak" or "pass".
    prune : dict, optional
        Least values of measures of a peak, by name: see `cryonb.graph.prune.prune_nodes`.

    Returns
    -------
    DensityGraph
        No node is within half a voxel of the border: what climbs to there leaves the map, and is
        dropped.

    Raises
    ------
    CryonbError
        If the resolution is needed and not known, or an argument is none of its kind.

    References
    ----------
    Ranno & Si, BMC Bioinformatics 23, 397 (2022), "Cryo-EM density graphs".
    """
    if method not in METHODS:
        raise CryonbError(
            f"A method of {', '.join(METHODS)} was expected for a density graph, but {method!r} "
            "was asked."
        )
    if resolution is None:
        resolution = getattr(density, "resolution", None)
    if edge_length is None:
        if resolution is None:
            raise CryonbError(
                "Edges of a density graph are as long as twice the resolution, but the map's is "
                "not known; give resolution= or edge_length=, in Å."
            )
        edge_length = _EDGE_RESOLUTIONS * resolution
    for name, value in (("seed_spacing", seed_spacing), ("edge_length", edge_length)):
        if not value > 0:
            raise CryonbError(f"A positive length in Å was expected as {name}=, not {value!r}.")
    field = density if isinstance(density, Field) else make_field(density)
    level = _level(threshold, density, field)
    if method == "paper":
        seeds = seed_points(field, spacing=seed_spacing, threshold=level)
        ends, _ = climb(field, seeds)
        points = cluster_centres(ends[is_inner(field, ends)])
        points = points[is_inner(field, points)]
        values = field.value(points)
    else:
        points, values = _newton_peaks(field, level, seed_spacing)
    kinds = np.full(len(points), "peak")
    if passes:
        more, more_values = _passes(field, level, points)
        kinds = np.concatenate([kinds, np.full(len(more), "pass")])
        points, values = np.concatenate([points, more]), np.concatenate([values, more_values])
    nodes, edges = _joined(points, values, edge_length)
    if passes:
        nodes["kind"] = kinds[nodes["row"]]
    graph = DensityGraph(
        nodes.drop(columns="row"),
        edges,
        grid=field.grid,
        threshold=level,
        resolution=resolution,
        name=getattr(density, "name", ""),
        method=method,
    )
    if prune:
        graph = prune_nodes(graph, field, **prune)
    if not isolated:
        graph = graph.select(np.bincount(graph.edges.ravel(), minlength=len(graph)) > 0)
    if least_component > 1:
        component = graph.components()
        graph = graph.select(np.bincount(component, minlength=1)[component] >= least_component)
    return graph


def _level(threshold, density, field) -> float:
    if threshold is None:
        return default_threshold(field)
    if not isinstance(threshold, str):
        return float(threshold)
    if threshold == "molecule":
        return _MOLECULE_SHARE * field.statistics.scale
    level = getattr(density, "contour", None)
    if threshold != "contour" or level is None:
        raise CryonbError(
            'A threshold in units of the map, "molecule", or "contour" for a map whose contour '
            f"level is known, was expected, but {threshold!r} was given."
        )
    return float(level)


def _newton_peaks(field, level, seed_spacing):
    peaks, values = find_peaks(field, threshold=level, radius=CLUSTER_RADIUS)
    reached = has_seed(field, peaks, spacing=seed_spacing, threshold=level)
    return peaks[reached], values[reached]


def _passes(field, level, peaks):
    """Passes that are dense enough and no cluster with a peak."""
    from scipy.spatial import cKDTree

    starts = candidate_points(field, threshold=level, rising=1)
    found, values = refine_passes(field, starts)
    found, values = distinct_points(found, values, level=level, radius=CLUSTER_RADIUS)
    inner = is_inner(field, found)
    found, values = found[inner], values[inner]
    if len(peaks):
        apart = cKDTree(peaks).query(found)[0] > CLUSTER_RADIUS
        found, values = found[apart], values[apart]
    return found, values


def _joined(points, values, edge_length):
    """Nodes in the order of space, with the row that each came from, and edges among them."""
    import pandas as pd
    from scipy.spatial import cKDTree

    # So that equal peaks get equal numbers whatever the seeds were.
    order = np.lexsort(np.round(points, 2).T)
    nodes = pd.DataFrame(points[order], columns=["x", "y", "z"])
    nodes["density"] = values[order]
    nodes["row"] = order
    edges = np.empty((0, 2), dtype=np.int64)
    if len(nodes):
        edges = cKDTree(points[order]).query_pairs(edge_length, output_type="ndarray")
        edges = edges[np.lexsort(edges.T[::-1])]
    return nodes, edges
