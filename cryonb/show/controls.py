"""Sliders, switches and lists around a scene: what `.view()` gives."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets
import numpy as np

from cryonb.files.scene import CLASS_COLOURS
from cryonb.show.colourings import AGREES, FOUND, SURE, TRUTH, colourings, legend, patch
from cryonb.show.plot import plot_stretch
from cryonb.show.slices import Slices
from cryonb.show.view import SCHEMES, Scene
from cryonb.volume import ProbabilityVolume, Volume

__all__ = ["GraphView", "MapView", "StructureView", "checkbox", "observe", "slider"]

_WIDTH = "340px"
#: Voxels of a map up to which a surface follows a slider while it moves.
_QUICK = 100**3


def slider(text: str, value, low, high, step, *, live: bool = True):
    """A float slider of the panel."""
    return widgets.FloatSlider(
        value=float(np.clip(value, low, high)), min=low, max=high, step=step, description=text,
        continuous_update=live, readout_format=".3g", layout=widgets.Layout(width=_WIDTH),
        style={"description_width": "90px"},
    )  # fmt: skip


def checkbox(text: str, value: bool):
    """A box to tick, as wide as its text."""
    layout = widgets.Layout(width="auto", margin="0 10px 0 0")
    return widgets.Checkbox(value=value, description=text, indent=False, layout=layout)


def observe(widget, function):
    """Call a function of a widget's new value."""
    widget.observe(lambda change: function(change["new"]), "value")


class _Panel:
    """A scene with controls at its left."""

    def __init__(self, density: Volume, classes: ProbabilityVolume | None, height: int):
        self.scene = Scene(height=height)
        self.density = density
        self.slices = Slices(density, classes)
        self._live = density.grid.n_voxels <= _QUICK

    def _density_controls(self, opacity: float = 0.35) -> list:
        """Add the density to the scene, and make what changes it."""
        density = self.density
        level = getattr(density, "contour", None)
        level = density.mean + 3 * density.std if level is None else float(level)
        low = density.mean + 0.5 * density.std
        high = max(density.max, low + density.std)
        self.scene.add_map(density, "density", level=level, opacity=opacity, limits=(low, high))
        sigmas = [(v - density.mean) / density.std for v in (level, low, high)]
        self.sigma = slider("level (σ)", *sigmas, 0.05, live=self._live)
        self.level = widgets.FloatText(
            value=level, step=density.std / 10, description="absolute",
            layout=widgets.Layout(width="220px"), style={"description_width": "90px"},
        )  # fmt: skip
        self.visible, self.mesh = checkbox("density", True), checkbox("mesh", False)
        self.opacity = slider("opacity", opacity, 0, 1, 0.05, live=self._live)
        self.zone = slider("zone (Å)", 0, 0, 60, 5, live=self._live)
        self.zone.tooltip = "edge of a box around the middle of the view; 0 for all"
        observe(self.sigma, self._set_sigma)
        observe(self.level, self._set_level)
        observe(self.visible, lambda v: self.scene.set_visible("density", v))
        observe(self.mesh, lambda v: self.scene.set_style("density", mesh=v))
        observe(self.opacity, lambda v: self.scene.set_style("density", opacity=v))
        observe(self.zone, lambda v: self.scene.set_style("density", zone=v))
        row = widgets.HBox([self.visible, self.mesh])
        return [row, self.sigma, self.level, self.opacity, self.zone]

    def show_all(self) -> None:
        """Bring into the view what is above the contour level."""
        index = np.argwhere(self.density.values > self.level.value)
        ends = self.density.grid.to_points(np.stack([index.min(axis=0), index.max(axis=0)]))
        # Seen along z, y is the height of the view and x may be half as long again.
        x, y, _ = ends[1] - ends[0]
        self.scene.focus(ends.mean(axis=0), width=max(y, x / 1.5, 10.0))

    def _set_sigma(self, sigma: float) -> None:
        level = self.density.mean + sigma * self.density.std
        if abs(level - self.level.value) > 1e-3 * self.density.std:
            self.level.value = float(f"{level:.6g}")

    def _set_level(self, level: float) -> None:
        self.scene.set_level("density", level)
        sigma = (level - self.density.mean) / self.density.std
        if abs(sigma - self.sigma.value) > self.sigma.step:
            self.sigma.value = sigma

    def _slice_controls(self) -> list:
        """Make the three slices, which go through one voxel."""
        shape = self.density.shape
        self._index = tuple(n // 2 for n in shape)
        self.pictures = [widgets.Image(format="png", layout=widgets.Layout(max_width="105px"))
                         for _ in range(3)]  # fmt: skip
        self.places = [
            widgets.IntSlider(
                value=self._index[k], min=0, max=n - 1, description=f"slice {'zyx'[k]}",
                layout=widgets.Layout(width=_WIDTH), style={"description_width": "90px"},
            )
            for k, n in enumerate(shape)
        ]  # fmt: skip
        self.follow = checkbox("slices follow the view", True)
        self._moving = False
        for one in self.places:
            observe(one, lambda _: self._slices_moved())
        self.scene.on_move(self._view_moved)
        self._draw_slices()
        return [widgets.HBox(self.pictures), *self.places, self.follow]

    def _slices_moved(self) -> None:
        if not self._moving:
            self._index = tuple(one.value for one in self.places)
            self._draw_slices()

    def _view_moved(self, centre) -> None:
        if self.follow.value and centre is not None:
            self.go_to_voxel(self.slices.index_of(centre))

    def go_to_voxel(self, index) -> None:
        """Bring the three slices to a voxel (z, y, x)."""
        if tuple(index) == self._index:
            return
        self._index, self._moving = tuple(index), True
        for one, place in zip(self.places, index, strict=True):
            one.value = place
        self._moving = False
        self._draw_slices()

    def _draw_slices(self) -> None:
        for axis, picture in enumerate(self.pictures):
            picture.value = self.slices.picture(axis, self._index)

    def _lay_out(self, controls, below=()) -> widgets.Widget:
        notes = [widgets.HTML(f"<small>{note}</small>") for note in self.scene.notes]
        left = widgets.VBox([*controls, *notes], layout=widgets.Layout(min_width="350px"))
        right = widgets.Box([self.scene.widget], layout=widgets.Layout(flex="1 1 auto"))
        return widgets.VBox([widgets.HBox([left, right]), *below])

    def _fly(self, point, residue) -> None:
        self.scene.mark("model", residue)
        self.scene.focus(point, width=25)
        self.go_to_voxel(self.slices.index_of(point))

    def snapshot(self, path, **options) -> Path:
        """Write what the browser shows: see `Scene.snapshot`."""
        return self.scene.snapshot(path, **options)

    def _ipython_display_(self):
        from IPython.display import display

        display(self.widget)


class MapView(_Panel):
    """A map, with a model if there is one.

    Parameters
    ----------
    density : Volume
        The map; its contour level is where the surface begins, 3 sigma without one.
    model : gemmi.Structure, optional
        Shown as a cartoon.
    height : int
        Of the view in pixels.
    """

    # Of the density's surface; less where something within it is to be seen.
    _opacity = 0.35

    def __init__(self, density: Volume, model=None, *, height: int = 440):
        super().__init__(density, None, height)
        with self.scene.hold():
            controls = self._fill(model)
        self.widget = self._lay_out(controls)

    def _fill(self, model) -> list:
        controls = []
        if model is not None:
            self.scene.add_model(model)
            self.colour = widgets.Dropdown(
                options=SCHEMES, description="model", layout=widgets.Layout(width="240px"),
                style={"description_width": "90px"},
            )  # fmt: skip
            observe(self.colour, lambda name: self.scene.set_colour("model", name))
            controls += [self.colour, self._residue_control(model)]
        density = self._density_controls(self._opacity)
        controls = [*density, *controls, *self._slice_controls()]
        self.show_all()
        return controls

    def _residue_control(self, model) -> widgets.Widget:
        from cryonb.atoms import Atoms

        atoms = Atoms.from_structure(model)
        n = len(atoms.residues)
        counts = np.maximum(np.bincount(atoms.residue, minlength=n), 1)
        middle = np.stack(
            [np.bincount(atoms.residue, atoms.position[:, k], n) / counts for k in range(3)], axis=1
        )
        residues = atoms.residues
        names = zip(residues.chain, residues.name, residues.number, strict=True)
        self.residue = widgets.SelectionSlider(
            options=[(f"{c} {name} {number}", k) for k, (c, name, number) in enumerate(names)],
            description="residue",
            continuous_update=False, layout=widgets.Layout(width=_WIDTH),
            style={"description_width": "90px"},
        )  # fmt: skip
        keys = list(zip(residues.chain, residues.number, residues.icode, strict=True))
        observe(self.residue, lambda row: self._fly(middle[row], keys[row]))
        return self.residue


class GraphView(MapView):
    """A density graph over its map, coloured by density, with a model if there is one.

    Parameters
    ----------
    graph : DensityGraph
        The graph.
    density : Volume
        The map that it came from.
    model : gemmi.Structure, optional
        Shown as a cartoon.
    height : int
        Of the view in pixels.
    """

    def __init__(self, graph, density: Volume, model=None, *, height: int = 440):
        self._graph = graph
        super().__init__(density, model, height=height)

    def _fill(self, model) -> list:
        from matplotlib import colormaps

        controls = super()._fill(model)
        density = self._graph.nodes["density"].to_numpy(dtype=float)
        span = max(np.ptp(density), 1e-9) if len(density) else 1.0
        colours = colormaps["viridis"]((density - density.min(initial=np.inf)) / span)[:, :3]
        self.scene.add_points(
            self._graph.points, "graph", colours=colours, links=self._graph.edges, radius=0.4
        )
        self.graph_shown = checkbox(f"graph: {len(self._graph)} nodes", True)
        observe(self.graph_shown, lambda v: self.scene.set_visible("graph", v))
        about = widgets.HTML("<small>nodes: dark low density, yellow high</small>")
        return [widgets.HBox([self.graph_shown, about]), *controls]


class StructureView(_Panel):
    """Class probabilities over the density and a model that judges them.

    Parameters
    ----------
    probabilities : SecondaryStructureMap
        With its density.
    model : gemmi.Structure, optional
        In the map's frame; without one there is nothing to agree with.
    judged : Evaluation, optional
        Of the probabilities by the model; made if it is not given.
    height : int
        Of the view in pixels.
    """

    def __init__(self, probabilities, model=None, *, judged=None, height: int = 440):
        super().__init__(probabilities.density, probabilities, height)
        self.probabilities = probabilities
        self.judged = judged
        if model is not None and judged is None:
            self.judged = probabilities.evaluate(model)
        with self.scene.hold():
            controls = self._fill(model)
        self.widget = self._lay_out(controls, self._residue_controls() if model else [])

    def _fill(self, model) -> list:
        controls = self._class_controls()
        if model is not None:
            self.scene.add_model(model)
            controls += self._model_controls()
        # Faint, since the classes are within it.
        controls += [*self._density_controls(0.2), *self._slice_controls()]
        self.show_all()
        return controls

    def _class_controls(self) -> list:
        self.threshold = slider("probability", 0.5, 0.05, 0.95, 0.05, live=self._live)
        self.classes = {}
        for name in self.probabilities.classes[1:]:
            volume = self.probabilities[name]
            if volume.max < self.threshold.min:
                continue
            self.scene.add_map(
                volume, name, level=0.5, colour=CLASS_COLOURS[name], opacity=0.75, limits=(0.0, 1.0)
            )
            # Coil would hide the rest.
            self.classes[name] = checkbox(name, name != "coil")
            observe(self.classes[name], lambda v, name=name: self._show_class(name, v))
            if name == "coil":
                self.scene.set_visible(name, False)
                self.slices.shown.discard(name)
        observe(self.threshold, self._set_threshold)
        legend = [
            widgets.HBox([widgets.HTML(patch(CLASS_COLOURS[name])), box])
            for name, box in self.classes.items()
        ]
        row = widgets.HBox(legend, layout=widgets.Layout(flex_flow="row wrap", width="350px"))
        return [row, self.threshold]

    def _show_class(self, name: str, shown: bool) -> None:
        self.scene.set_visible(name, shown)
        (self.slices.shown.add if shown else self.slices.shown.discard)(name)
        self._draw_slices()

    def _set_threshold(self, level: float) -> None:
        for name in self.classes:
            self.scene.set_level(name, level)

    def _model_controls(self) -> list:
        for name, colours in colourings(self.judged.residues).items():
            self.scene.add_colours(name, colours)
        self.scene.set_colour("model", FOUND)
        self.colour = widgets.Dropdown(
            options=[FOUND, TRUTH, AGREES, SURE, *SCHEMES], description="model",
            layout=widgets.Layout(width="240px"), style={"description_width": "90px"},
        )  # fmt: skip
        self.legend = widgets.HTML(legend(FOUND))
        observe(self.colour, self._set_colouring)
        self.model_shown = checkbox("model", True)
        observe(self.model_shown, lambda v: self.scene.set_visible("model", v))
        return [widgets.HBox([self.colour, self.model_shown]), self.legend]

    def _set_colouring(self, name: str) -> None:
        self.scene.set_colour("model", name)
        self.legend.value = legend(name)

    def _residue_controls(self) -> list:
        table = self.judged.residues
        self.residue = widgets.IntSlider(
            value=0, min=0, max=len(table) - 1, description="residue", readout=False,
            layout=widgets.Layout(width="98%"), style={"description_width": "60px"},
        )  # fmt: skip
        self.strip = widgets.Image(format="png", layout=widgets.Layout(width="98%"))
        self.about = widgets.HTML()
        worst = self.judged.worst(12)
        options = [
            (f"{row.chain} {row.first}–{row.last}: {row.truth}, called {row.predicted}", row.row)
            for row in worst.itertuples()
        ]
        self.worst = widgets.Dropdown(
            options=[("…", None), *options], description="worst stretches",
            layout=widgets.Layout(width="420px"), style={"description_width": "110px"},
        )  # fmt: skip
        observe(self.residue, self.go_to_residue)
        observe(self.worst, lambda row: row is not None and self._jump(row))
        self._draw_strip(0)
        return [widgets.HBox([self.worst, self.about]), self.strip, self.residue]

    def _jump(self, row: int) -> None:
        self.residue.value = int(row)

    def go_to_residue(self, row: int) -> None:
        """Fly to a residue: a row of `judged.residues`."""
        point = self.judged.residues.loc[row, ["x", "y", "z"]].to_numpy(dtype=float)
        keys = self.judged.residues.loc[row, ["chain", "number", "icode"]]
        self._fly(point, tuple(keys))
        self._draw_strip(row)

    def _draw_strip(self, row: int) -> None:
        table = self.judged.residues
        self.strip.value = plot_stretch(table, row)._repr_png_()
        this = table.loc[row]
        self.about.value = (
            f"&nbsp; <b>{this['chain']} {this['name']} {this['number']}</b>: {this['truth']}, "
            f"called {this['predicted']} ({this[this['predicted']]:.2f})"
        )
