"""A scene of maps and models in the browser, drawn by nglview."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryonb.errors import CryonbError
from cryonb.show.display import MOST, DisplayMap, display_map, model_text
from cryonb.show.nglview_import import import_nglview
from cryonb.show.scripts import BEGIN, LOADED, MARK, POINTS, SCHEME
from cryonb.volume import Volume

__all__ = ["Scene"]

#: NGL's own colour schemes that a model may be given by name.
SCHEMES = ("sstruc", "chainid", "residueindex", "bfactor", "element", "hydrophobicity")
#: From this opacity on, a surface hides what lies behind it from surfaces that are drawn later;
#: without that, a density around it would be painted over it, its far side too.
_SOLID = 0.6
_GREY = "#999999"


@dataclass(frozen=True)
class _Added:
    """A part that was added by a script: its place among the parts of the scene."""

    _index: int


@dataclass
class _Part:
    """A map or model of the scene."""

    component: object
    representation: str
    display: DisplayMap | None = None
    visible: bool = True


class Scene:
    """Maps and models in one view, by name.

    Shows itself as the last value of a cell. Whatever is changed later goes to the browser as one
    short message: no map is sent twice.

    Parameters
    ----------
    height : int
        Of the view in pixels.

    Attributes
    ----------
    widget : nglview.NGLWidget
        The view, for what this class does not do.
    notes : list of str
        What was left out to make maps small enough, a line a map.
    """

    def __init__(self, *, height: int = 440):
        self._ngl = import_nglview()
        self.widget = self._ngl.NGLWidget()
        self.widget._view_height, self.widget._view_width = f"{height}px", "100%"
        self.widget.layout.width = "100%"
        self.widget.camera = "orthographic"
        self.widget.stage.set_parameters(background_color="white", fog_near=100, fog_far=100)
        self._keep(BEGIN)
        self.widget.on_msg(self._hide_again)
        self.notes: list[str] = []
        self._parts: dict[str, _Part] = {}

    def hold(self):
        """Send what is added within a `with` block together: without it, maps are sent twice."""
        return self.widget.hold_sync()

    # ---- what is in it --------------------------------------------------------------------------

    def add_model(self, model, name: str = "model", *, colour: str = "sstruc") -> None:
        """Add a model as a cartoon, with sticks for what is no polymer.

        Parameters
        ----------
        model : gemmi.Structure
            The model.
        name : str
            What it is called in this scene.
        colour : str
            A scheme of `SCHEMES`, "#RRGGBB", or a scheme made by `add_colours`.
        """
        self._check_new(name)
        text = self._ngl.TextStructure(model_text(model), ext="cif")
        component = self.widget.add_component(text, default=False, name=name)
        component.add_cartoon(color=colour) if colour.startswith("#") else component.add_cartoon(
            color_scheme=colour
        )
        component.add_licorice("hetero and not water")
        self._parts[name] = _Part(component, "cartoon")

    def add_map(
        self, volume: Volume, name: str = "map", *, level: float, sigma: bool = False,
        colour: str = _GREY, opacity: float = 0.5, mesh: bool = False,
        limits: tuple[float, float] | None = None, most: int = MOST,
    ) -> None:  # fmt: skip
        """Add a map as an isosurface.

        Parameters
        ----------
        volume : Volume
            A density or probability.
        name : str
            What it is called in this scene.
        level : float
            Contour level.
        sigma : bool
            The level is in sigma above the mean of the whole map.
        colour : str
            "#RRGGBB".
        opacity : float
            0 to 1.
        mesh : bool
            Draw lines instead of a surface.
        limits : tuple of float, optional
            Lowest and highest level that will be asked for; see `display_map`.
        most : int
            Voxels along an edge; larger maps are averaged.
        """
        self._check_new(name)
        floor, ceiling = limits or (None, None)
        shown = display_map(volume, floor=floor, ceiling=ceiling, most=most)
        component = self.widget.add_component(
            shown.data, ext="mrc", compressed="gz", name=name, defaultRepresentation=False
        )
        component.add_surface(
            color=colour, opacity=opacity, isolevel=level, contour=mesh, opaqueBack=False,
            isolevelType="sigma" if sigma else "value", depthWrite=opacity > _SOLID,
        )  # fmt: skip
        if shown.note:
            self.notes.append(f"{name}: {shown.note}")
        self._parts[name] = _Part(component, "surface", shown)

    def add_points(
        self, points, name: str = "points", *, colours=None, radius: float = 0.5, links=None
    ) -> None:
        """Add points as balls, and links between them as sticks; after all maps and models.

        Parameters
        ----------
        points : array_like, shape (n, 3)
            (x, y, z) in Å.
        name : str
            What they are called in this scene.
        colours : array_like, shape (n, 3), optional
            Red, green and blue of each, 0 to 1; grey by default.
        radius : float
            Of the balls in Å; sticks are a third as thick.
        links : array_like of int, shape (m, 2), optional
            Rows of points to join.
        """
        self._check_new(name)
        points = np.asarray(points, dtype=np.float32).reshape(-1, 3)
        links = np.asarray([] if links is None else links, dtype=np.int64).reshape(-1, 2)
        if colours is None:
            colours = np.full((len(points), 3), 0.6)
        colours = np.asarray(colours, dtype=np.float32).reshape(-1, 3)
        arrays = {
            "position": points,
            "color": colours,
            "from": points[links[:, 0]],
            "to": points[links[:, 1]],
            "fromColor": colours[links[:, 0]],
            "toColor": colours[links[:, 1]],
        }
        coded = {key: b64encode(a.astype("<f4").tobytes()).decode() for key, a in arrays.items()}
        script = POINTS % {"arrays": json.dumps(coded), "name": name, "radius": radius}
        self.widget._js(LOADED % {"parts": len(self._parts), "code": script}, fire_embed=True)
        # nglview counts the parts of the scene, and this is one that it was not told of.
        self.widget._ngl_component_ids.append(name)
        self.widget._ngl_component_names.append(name)
        self._parts[name] = _Part(_Added(len(self._parts)), "buffer")

    def add_colours(self, name: str, colours: dict, *, other: str = _GREY) -> None:
        """Make a colour scheme for models, residue by residue.

        Parameters
        ----------
        name : str
            What `set_colour` calls it.
        colours : dict
            (chain, number, insertion code) to "#RRGGBB".
        other : str
            Of residues that the dict lacks.
        """
        table = {f"{c}:{n}{i.strip()}": int(v[1:], 16) for (c, n, i), v in colours.items()}
        self._keep(SCHEME % {"table": json.dumps(table), "other": int(other[1:], 16), "name": name})

    # ---- what is changed ------------------------------------------------------------------------

    def set_level(self, name: str, level: float, *, sigma: bool = False) -> None:
        """Draw a map at another contour level."""
        self._update(name, isolevel=float(level), isolevelType="sigma" if sigma else "value")

    def set_visible(self, name: str, visible: bool) -> None:
        """Show or hide a map or model."""
        part = self._part(name)
        part.visible = bool(visible)
        self._call(part, "setVisibility", bool(visible))

    def set_colour(self, name: str, colour: str) -> None:
        """Colour a map ("#RRGGBB") or a model (that, or a scheme)."""
        if colour.startswith("#"):
            self._update(name, colorScheme="uniform", colorValue=int(colour[1:], 16))
        else:
            self._update(name, colorScheme=colour)

    def set_style(
        self, name: str, *, mesh: bool | None = None, opacity: float | None = None,
        zone: float | None = None,
    ) -> None:  # fmt: skip
        """Change how a map is drawn.

        Parameters
        ----------
        name : str
            Of the map.
        mesh : bool, optional
            Lines or a surface.
        opacity : float, optional
            0 to 1.
        zone : float, optional
            Draw only a box of this edge (Å) around the middle of the view; 0 for all.
        """
        wanted = {"contour": mesh, "opacity": opacity, "boxSize": zone}
        wanted = {key: value for key, value in wanted.items() if value is not None}
        if opacity is not None:
            wanted["depthWrite"] = opacity > _SOLID
        self._update(name, **wanted)

    def mark(self, name: str, residue: tuple[str, int, str]) -> None:
        """Draw the atoms of one residue of a model, and no longer those of the last.

        Parameters
        ----------
        name : str
            Of the model.
        residue : tuple
            Chain, number, insertion code.
        """
        chain, number, icode = (str(part).strip() for part in residue)
        selection = number + (f"^{icode}" if icode else "") + (f":{chain}" if chain else "")
        index = self._part(name).component._index
        self._js(MARK % {"index": index, "selection": json.dumps(selection)})

    def focus(self, point=None, *, width: float | None = None) -> None:
        """Move the camera.

        Parameters
        ----------
        point : array_like, shape (3,), optional
            (x, y, z) in Å to bring into the middle; everything by default.
        width : float, optional
            Å that should be visible around it.
        """
        if point is None:
            self._when_loaded(f"stage.autoView({self._flight});")
            return
        x, y, z = np.asarray(point, dtype=float).tolist()
        move = f"var p = new NGL.Vector3({x}, {y}, {z});"
        if width is None:
            self._when_loaded(move + f"stage.animationControls.move(p, {self._flight});")
        else:
            zoom = f"stage.animationControls.zoomMove(p, {-1.5 * width}, {self._flight});"
            self._when_loaded(move + zoom)

    @property
    def centre(self) -> np.ndarray | None:
        """Middle of the view as (x, y, z) in Å; None before a browser has drawn it."""
        matrix = self.widget._camera_orientation
        return -np.array(matrix[12:15], dtype=float) if len(matrix) == 16 else None

    def on_move(self, function) -> None:
        """Call a function of the middle of the view, (x, y, z) in Å, when the camera was moved."""
        self.widget.observe(lambda _: function(self.centre), "_camera_orientation")

    # ---- show it ---------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """What is in the scene."""
        return tuple(self._parts)

    def snapshot(self, path, *, scale: int = 2) -> Path:
        """Write what the browser shows as PNG.

        The picture comes from the browser after the cell has ended, and is written then.

        Raises
        ------
        CryonbError
            If no browser has drawn the view yet.
        """
        if not self.widget.loaded:
            raise CryonbError(
                "A view that a browser has drawn was expected, but none has; show it in a cell, "
                "wait until it is drawn and call this in the next, or use .render() of the map."
            )
        path = Path(path)
        image = self.widget.render_image(factor=scale, trim=True)

        def write(change):
            from cryonb.files.atomic import written_beside

            if change["new"]:
                with written_beside(path) as beside:
                    beside.write_bytes(change["new"])

        image.observe(write, "value")
        return path

    def _ipython_display_(self):
        from IPython.display import display

        if not self.widget.loaded:
            self.focus()
        display(self.widget)

    # ---- how it is told to the browser ---------------------------------------------------------

    def _check_new(self, name):
        if name in self._parts:
            raise CryonbError(
                f"The scene has {name!r} already; names must differ ({', '.join(self._parts)})."
            )

    def _part(self, name) -> _Part:
        if name not in self._parts:
            known = ", ".join(self._parts) or "nothing"
            raise CryonbError(f"The scene has {known}, but {name!r} was asked for.")
        return self._parts[name]

    # nglview keeps every call in an archive, maps and all, and sends it anew with each call that
    # is not marked as `fire_once`.

    def _js(self, code: str) -> None:
        self.widget._js(code, fire_once=True)

    def _keep(self, code: str) -> None:
        """Run a script now and again when the page is loaded anew."""
        self.widget._js(code, fire_embed=True)

    def _hide_again(self, widget, content, buffers) -> None:
        """Hide what was hidden, in a page that was loaded anew: nglview forgets it."""
        hidden = [p.component._index for p in self._parts.values() if not p.visible]
        if content.get("type") == "request_loaded" and self.widget.n_components and hidden:
            self._when_loaded(f"{hidden}.forEach(k => stage.compList[k].setVisibility(false));")

    @property
    def _flight(self) -> int:
        """Milliseconds of a move of the camera; the first view is there at once."""
        return 300 if self.widget.loaded else 1

    def _when_loaded(self, code: str) -> None:
        self._js(LOADED % {"parts": len(self._parts), "code": code})

    def _update(self, name, **parameters) -> None:
        part = self._part(name)
        self.widget._remote_call(
            "updateRepresentationsByName",
            target="Widget",
            args=[part.representation, part.component._index],
            kwargs=parameters,
            fire_once=True,
        )

    def _call(self, part, method, *arguments) -> None:
        self.widget._remote_call(
            method,
            target="compList",
            args=list(arguments),
            kwargs={"component_index": part.component._index},
            fire_once=True,
        )
