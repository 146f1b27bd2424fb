"""From a continuous map to a graph of its density peaks."""

from cryonb.graph.build import density_graph
from cryonb.graph.density_graph import DensityGraph

__all__ = ["DensityGraph", "density_graph"]
