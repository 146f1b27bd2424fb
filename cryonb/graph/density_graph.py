"""A map as a graph: nodes on the peaks of its density, edges between peaks that are close."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from cryonb.errors import CryonbError
from cryonb.grid import Grid

__all__ = ["DensityGraph"]


class DensityGraph:
    """Peaks of a density, and which of them are close.

    Made by `density_graph`.

    Parameters
    ----------
    nodes : pandas.DataFrame
        A row a node: x, y, z (Å), density, and what was measured of the peak.
    edges : ndarray of int, shape (m, 2)
        Rows of `nodes`, the smaller one first.
    grid : Grid
        Of the map.
    threshold : float
        Least density of a seed, in units of the map.
    resolution : float or None
        Of the map, in Å.
    name : str
        Of the map.
    method : str
        How the peaks were found.
    """

    def __init__(self, nodes, edges, *, grid: Grid, threshold, resolution=None, name="", method=""):
        self.nodes = nodes.reset_index(drop=True)
        self.edges = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
        self.grid = grid
        self.threshold = float(threshold)
        self.resolution = resolution
        self.name = name
        self.method = method

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<{type(self).__name__}{name}: {len(self.nodes)} nodes, {len(self.edges)} edges>"

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def points(self) -> np.ndarray:
        """Positions of the nodes: float64, (n, 3), (x, y, z) in Å."""
        return self.nodes[["x", "y", "z"]].to_numpy(dtype=np.float64)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Lengths of the edges in Å: float64, (m,)."""
        points = self.points
        return np.linalg.norm(points[self.edges[:, 0]] - points[self.edges[:, 1]], axis=1)

    @cached_property
    def graph(self):
        """The `networkx.Graph`: columns of `nodes` on its nodes, `length` (Å) on its edges."""
        import networkx as nx

        made = nx.Graph(
            name=self.name, resolution=float(self.resolution or np.nan), threshold=self.threshold
        )
        # Through Python's own numbers, which every writer of graphs knows.
        columns = {name: self.nodes[name].tolist() for name in self.nodes}
        rows = zip(*columns.values(), strict=True)
        made.add_nodes_from((n, dict(zip(columns, row, strict=True))) for n, row in enumerate(rows))
        made.add_weighted_edges_from(
            zip(*self.edges.T.tolist(), self.lengths.tolist(), strict=True), weight="length"
        )
        return made

    def components(self) -> np.ndarray:
        """Number of the connected component of each node, the largest component being 0."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        n = len(self)
        links = csr_array((np.ones(len(self.edges), bool), tuple(self.edges.T)), (n, n))
        _, labels = connected_components(links, directed=False)
        rank = np.argsort(np.argsort(-np.bincount(labels, minlength=1), kind="stable"))
        return rank[labels]

    def select(self, which) -> DensityGraph:
        """Keep some nodes, and the edges among them.

        Parameters
        ----------
        which : ndarray of bool, shape (n,)
            Which nodes stay. Nodes that lose their last edge stay as well.

        Returns
        -------
        DensityGraph
        """
        which = np.asarray(which)
        if which.dtype != bool or which.shape != (len(self),):
            raise CryonbError(
                f"A bool for each of {len(self)} nodes was expected, but an array of "
                f"{which.dtype} of shape {which.shape} was given."
            )
        number = np.cumsum(which) - 1
        kept = which[self.edges].all(axis=1)
        return type(self)(
            self.nodes[which],
            number[self.edges[kept]],
            grid=self.grid,
            threshold=self.threshold,
            resolution=self.resolution,
            name=self.name,
            method=self.method,
        )

    # ---- hand over -----------------------------------------------------------------------------

    def tensors(self) -> dict:
        """Give what a `torch_geometric.data.Data` is made of: `Data(**graph.tensors())`.

        Returns
        -------
        dict of torch.Tensor
            * pos: float32, (n, 3), (x, y, z) in Å
            * x: float32, (n, 1), the density (the paper's four features are pos and x)
            * edge_index: int64, (2, 2m), each edge both ways
            * edge_attr: float32, (2m, 1), length in Å
        """
        import torch

        edges = np.concatenate([self.edges, self.edges[:, ::-1]])
        lengths = np.concatenate([self.lengths, self.lengths])
        density = np.array(self.nodes[["density"]], dtype=np.float32)
        return {
            "x": torch.from_numpy(density),
            "pos": torch.from_numpy(self.points.astype(np.float32)),
            "edge_index": torch.from_numpy(np.ascontiguousarray(edges.T)),
            "edge_attr": torch.from_numpy(lengths.astype(np.float32)[:, None]),
        }

    def structure(self):
        """Give the nodes as a `gemmi.Structure` of pseudo atoms, to be drawn over the map.

        An atom X a node, each in a residue DUM of its own; the column of B factors holds the
        density, as a percentage of the densest node's. Edges are not part of it.
        """
        import gemmi

        densities = self.nodes["density"].to_numpy(dtype=float)
        percent = 100 * densities / densities.max() if len(densities) else densities
        made, model, chain = gemmi.Structure(), gemmi.Model(1), gemmi.Chain("A")
        made.name = self.name or "density graph"
        atom = gemmi.Atom()
        atom.name, atom.element, atom.occ = "X", gemmi.Element("X"), 1.0
        residue = gemmi.Residue()
        residue.name, residue.het_flag = "DUM", "H"
        residue.add_atom(atom)
        for number, (point, value) in enumerate(zip(self.points, percent, strict=True), start=1):
            residue.seqid = gemmi.SeqId(number, " ")
            residue[0].pos, residue[0].b_iso = gemmi.Position(*point), value
            chain.add_residue(residue)
        model.add_chain(chain)
        made.add_model(model)
        made.setup_entities()
        return made

    def save(self, path) -> Path:
        """Write the graph; the suffix chooses the format.

        Parameters
        ----------
        path : path-like
            .cif or .mmcif: the nodes as pseudo atoms (see `structure`), for viewers; .graphml:
            nodes and edges with all they carry.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        CryonbError
            If the suffix is another one.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix in (".cif", ".mmcif"):
            from cryonb.files.model import write_model

            return write_model(self.structure(), path)
        if suffix == ".graphml":
            import networkx as nx

            from cryonb.files.atomic import written_beside

            with written_beside(path) as beside:
                nx.write_graphml(self.graph, beside)
            return path
        raise CryonbError(
            f"A suffix of .cif, .mmcif or .graphml was expected for a density graph, but the file "
            f"was to be called {path.name}."
        )
