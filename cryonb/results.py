"""What a map's methods give: results that judge, show and save themselves."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from cryonb.graph.density_graph import DensityGraph
from cryonb.grid import Grid
from cryonb.predict.backbone import BackbonePrediction
from cryonb.trace.pipeline import Trace
from cryonb.volume import CLASSES, ProbabilityVolume

__all__ = ["BackboneMap", "MapField", "MapGraph", "SecondaryStructureMap", "TracedModel"]

#: Voxels along an edge that a field is read at to be shown: the viewer's own limit.
_SHOWN = 200


class SecondaryStructureMap(ProbabilityVolume):
    """Probabilities of helix, strand, coil and nucleotide, with the map that they came from.

    Parameters
    ----------
    values, grid, classes, name, history
        As for `ProbabilityVolume`.
    density : Volume, optional
        The map.
    """

    _carried = ("name", "classes", "density")

    def __init__(self, values, grid, *, classes=CLASSES, name="", history=(), density=None):
        self.density = density
        super().__init__(values, grid, classes=classes, name=name, history=history)

    def evaluate(self, model, **options):
        """Judge the prediction by a model: see `cryonb.evaluate.secondary_structure`.

        Returns
        -------
        DrawnEvaluation
            With `.summary`, `.residues`, `.segments`, `.worst()`, `.calibration()`, `.confusion()`,
            `.plot(kind)` and `.save(folder)`.
        """
        from cryonb.evaluate.secondary_structure import evaluate_sse
        from cryonb.show.evaluation import DrawnEvaluation

        options.setdefault("density", self.density)
        found = evaluate_sse(self, model, **options)
        return DrawnEvaluation(found.summary, found.residues, found.segments)

    def background_as_coil(self) -> SecondaryStructureMap:
        """Count background as coil, which Haruspex does not know, so that its Q3 is fair."""
        from cryonb.evaluate.benchmark import with_background_as_coil

        return with_background_as_coil(self)

    def plot(self):
        """Draw three slices with the classes over the density, and each class's share."""
        from cryonb.show.plot import plot_sse

        same = self.density is not None and self.density.grid.is_close(self.grid)
        return plot_sse(self, self.density if same else None)

    def view(self, model=None, **options):
        """Show classes, density and model with controls: `cryonb.show.controls.StructureView`."""
        from cryonb.show.controls import StructureView

        return StructureView(self, model, **options)

    def render(self, model=None, *, level: float = 0.5, **options):
        """Draw surfaces of the classes, and a model's backbone: see `cryonb.show.render`.

        Coil is left out, since it would hide the rest.
        """
        from cryonb.files.scene import CLASS_COLOURS
        from cryonb.show.render import Surface, render

        shown = [name for name in self.classes[1:] if name != "coil"]
        surfaces = [Surface(self[name], level, CLASS_COLOURS[name], 0.35, name) for name in shown]
        return render(surfaces, model, **options)

    def save(self, folder, *, stem: str | None = None) -> list[Path]:
        """Write one MRC a class, all probabilities as npz, and scenes for other programs.

        Parameters
        ----------
        folder : path
            Made if it is not there.
        stem : str, optional
            Beginning of the file names; the map's name by default.

        Returns
        -------
        list of Path
            What was written: `<stem>_helix.mrc`, ..., `<stem>_sse.npz` (probabilities of shape
            (class, z, y, x), classes, voxel_size and origin in (x, y, z)), `<stem>_sse.cxc` for
            ChimeraX, `<stem>_sse.pml` for PyMOL, `<stem>_sse.mvsx` for Mol* in a browser.
        """
        from cryonb.files.atomic import written_beside
        from cryonb.files.mrc import write_map
        from cryonb.files.scene import SceneFiles

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stem = stem or self.name or "map"
        maps = {
            name: write_map(self[name], folder / f"{stem}_{name}.mrc")
            for name in self.classes
            if name != "background"
        }
        archive = folder / f"{stem}_sse.npz"
        with written_beside(archive) as beside, beside.open("wb") as file:
            np.savez_compressed(
                file,
                probabilities=self.values.astype(np.float16),
                classes=np.array(self.classes),
                voxel_size=self.voxel_size,
                origin=self.origin,
            )
        scene = SceneFiles(maps)
        scripts = [
            scene.write_chimerax(folder / f"{stem}_sse.cxc"),
            scene.write_pymol(folder / f"{stem}_sse.pml"),
            scene.write_molviewspec(folder / f"{stem}_sse.mvsx"),
        ]
        return [*maps.values(), archive, *scripts]

    def _repr_html_(self) -> str:
        from cryonb.show.repr import html_of

        return html_of(self)


class BackboneMap(BackbonePrediction):
    """Where backbone atoms are and which residues they belong to: what `predict_backbone` gives."""

    def peaks(self, **options):
        """Find Cα candidates with the amino acids there: see `cryonb.trace.peaks.find_ca`.

        Returns
        -------
        Peaks
            With `.position` (n, 3) in Å, `.score`, `.emission` (n, 20) and `.above(threshold)`.
        """
        from cryonb.trace.peaks import find_ca

        return find_ca(self.heat["CA"], classes=self.residue, **options)

    def density_graph(self, *, threshold: float = 0.3, edge_length: float = 4.6, **options):
        """Make a graph of the peaks of the heat of Cα atoms instead of the density's.

        Parameters
        ----------
        threshold : float
            Least heat of a node.
        edge_length : float
            Å; neighbours in a chain are 3.8 Å apart.
        **options
            Of `cryonb.graph.build.density_graph`.

        Returns
        -------
        MapGraph
            As `m.density_graph()` gives; its nodes' densities are heats.
        """
        from cryonb.graph import density_graph
        from cryonb.volume import Volume

        heat = self.heat["CA"]
        heat = Volume._adopt(heat.values.astype(np.float32), heat.grid, name=self.heat.name)
        found = density_graph(heat, threshold=threshold, edge_length=edge_length, **options)
        return MapGraph.of(found, self.density)

    def evaluate(self, model, **options):
        """Judge the Cα candidates by a model: see `cryonb.evaluate.peaks.evaluate_peaks`.

        Parameters
        ----------
        model : gemmi.Structure or Atoms
            The model, in the map's frame.
        **options
            Of `peaks`: `threshold`, `radius`, `refine`, `reach`.

        Returns
        -------
        PeakEvaluation
            With `.summary`, `.residues` and `.save(folder)`; pairs lie within 2 Å.
        """
        from cryonb.evaluate.peaks import evaluate_peaks

        return evaluate_peaks(self.peaks(**options), model, grid=self.heat.grid)

    def plot(self, model=None, **options):
        """Draw slices of the heat of Cα atoms with the candidates of `peaks(**options)`."""
        from cryonb.show.trace import plot_backbone

        return plot_backbone(self, self.peaks(**options), model)

    def view(self, model=None, *, height: int = 440, **options):
        """Show heat and candidates over the map: see `cryonb.show.trace_view.BackboneView`.

        Parameters
        ----------
        model : gemmi.Structure, optional
            Shown as a cartoon.
        height : int
            Of the view in pixels.
        **options
            Of `peaks`.
        """
        from cryonb.show.trace_view import BackboneView

        return BackboneView(self, self.peaks(**options), model, height=height)

    def save(self, folder, *, stem: str | None = None) -> list[Path]:
        """Write the heat maps, `<stem>_CA.mrc` and so on, into a folder that is made if need be."""
        from cryonb.files.mrc import write_map

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stem = stem or self.heat.name or "map"
        return [
            write_map(self.heat[name], folder / f"{stem}_{name}.mrc") for name in self.heat.classes
        ]


class TracedModel(Trace):
    """Cα chains in a map: what `trace` gives."""

    def evaluate(self, truth, **options):
        """Judge the chains by the true model: see `cryonb.evaluate.chain.compare_chains`.

        Returns
        -------
        ChainComparison
            With `.summary`, `.chains`, `.residues` and `.save(folder)`.
        """
        from cryonb.evaluate.chain import compare_chains

        return compare_chains(self.model, truth, **options)

    def plot(self, truth=None):
        """Draw the chains from three sides, and their confidence: a matplotlib figure."""
        from cryonb.show.trace import plot_trace

        return plot_trace(self, truth)

    def view(self, truth=None, **options):
        """Show the chains over the map in the notebook: `cryonb.show.trace_view.TraceView`."""
        from cryonb.show.trace_view import TraceView

        return TraceView(self, truth, **options)

    def save(self, folder, *, stem: str | None = None) -> list[Path]:
        """Write `<stem>_trace.cif` and `<stem>_trace.csv` into a folder, made if need be."""
        from cryonb.files.model import write_model
        from cryonb.files.tables import write_tables

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stem = stem or self.density.name or "map"
        model = write_model(self.model, folder / f"{stem}_trace.cif")
        write_tables(folder, **{f"{stem}_trace": self.table})
        return [model, folder / f"{stem}_trace.csv"]


class MapGraph(DensityGraph):
    """A density graph that is judged by a model, and draws itself.

    Attributes
    ----------
    density : DensityMap or None
        The map that it came from.
    """

    density = None

    @classmethod
    def of(cls, found: DensityGraph, density) -> MapGraph:
        """Make the graph that of a map."""
        made = cls(
            found.nodes,
            found.edges,
            grid=found.grid,
            threshold=found.threshold,
            resolution=found.resolution,
            name=density.name,
            method=found.method,
        )
        made.density = density
        return made

    def select(self, which) -> MapGraph:
        """Keep some nodes: see `cryonb.graph.density_graph.DensityGraph.select`."""
        found = super().select(which)
        found.density = self.density
        return found

    def evaluate(self, model, **options):
        """Judge the graph by a model: see `cryonb.evaluate.graph.evaluate_graph`.

        Returns
        -------
        GraphEvaluation
            With `.summary`, `.residues`, `.atoms` and `.save(folder)`.
        """
        from cryonb.evaluate.graph import evaluate_graph

        return evaluate_graph(self, model, **options)

    def view(self, model=None, **options):
        """Show nodes and edges over the map: see `cryonb.show.controls.GraphView`."""
        from cryonb.errors import CryonbError
        from cryonb.show.controls import GraphView

        if self.density is None:
            raise CryonbError(
                "A graph that was made from a map was expected; use m.density_graph()."
            )
        return GraphView(self, self.density, model, **options)

    def plot(self, model=None):
        """Draw the nodes from three sides, and their distances: a matplotlib figure."""
        from cryonb.show.graph import plot_graph

        return plot_graph(self, model)


class MapField:
    """What a field gains by coming from a map: it can be read on finer voxels, and be shown.

    Attributes
    ----------
    density : DensityMap
        The map.
    """

    density = None

    @classmethod
    def of(cls, field, density) -> MapField:
        """Make a field of a map: of the field's own kind, which it shares its arrays with."""
        return _revived(type(field), vars(field) | {"density": density})

    def __reduce__(self):
        plain = next(kind for kind in type(self).__mro__[1:] if kind is not MapField)
        return _revived, (plain, vars(self))

    def to_map(self, voxel_size: float | None = None):
        """Read the field on a grid.

        Parameters
        ----------
        voxel_size : float, optional
            Å. By default half the map's, or what gives 200 voxels along the longest edge where
            that is more, but never more than the map's own.

        Returns
        -------
        DensityMap
            Between the middles of the map's first and last voxels.
        """
        old = self.grid
        steps = np.array(old.shape[::-1]) - 1
        if voxel_size is None:
            size = np.array(old.voxel_size)
            voxel_size = float(min(max((steps * size).max() / _SHOWN, size.min() / 2), size.min()))
        shape = np.floor(steps * old.voxel_size / voxel_size + 1e-6).astype(int)[::-1] + 1
        grid = Grid(tuple(shape.tolist()), voxel_size, old.origin)
        # The last voxel's middle may lie outside by rounding.
        values = np.nan_to_num(self.on_grid(grid))
        return self.density.replace(values, grid, note=f"read from {self!r}")

    def view(self, model=None, *, voxel_size: float | None = None, **options):
        """Show the field on fine voxels (see `to_map`) in the notebook, with controls."""
        return self.to_map(voxel_size).view(model, **options)


@cache
def _viewed(kind: type) -> type:
    return type(kind.__name__, (MapField, kind), {"__doc__": kind.__doc__, "__module__": __name__})


def _revived(kind: type, values: dict) -> MapField:
    kind = _viewed(kind)
    made = kind.__new__(kind)
    vars(made).update(values)
    return made
