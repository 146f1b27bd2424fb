"""Scenes of maps and a model for other programs: ChimeraX, PyMOL and Mol* (MolViewSpec)."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside

__all__ = ["CLASS_COLOURS", "SceneFiles", "write_coloured_surface"]

#: Colours of the classes: the palette of Okabe and Ito, which colour-blind readers can tell apart.
CLASS_COLOURS = {
    "background": "#999999",
    "helix": "#D55E00",
    "strand": "#0072B2",
    "coil": "#009E73",
    "nucleotide": "#CC79A7",
}
_DENSITY, _MODEL = "#b3b3b3", "#595959"


@dataclass(frozen=True)
class SceneFiles:
    """Files that belong into one picture, and how they are drawn.

    Attributes
    ----------
    maps : mapping of str to path-like
        Name of a class to its MRC file, drawn as a surface.
    model : path-like, optional
        A PDB or mmCIF file, drawn as a cartoon.
    density : path-like, optional
        The map itself, drawn as a grey mesh.
    colours : mapping of str to str
        "#RRGGBB" for a class; `CLASS_COLOURS` for those left out, grey for names that it lacks.
    levels : float or mapping of str to float
        Contour level, one for all or one for each class (0.5 for those left out).
    density_level : float, optional
        Contour level of the density; the program chooses without it (PyMOL and Mol* 3 sigma).
    transparency : float
        Of the class surfaces, in percent.

    Raises
    ------
    CryonbError
        If there are no maps, or a colour, a level or a name cannot stand in a script.
    """

    maps: Mapping[str, object]
    model: object = None
    density: object = None
    colours: Mapping[str, str] = field(default_factory=dict)
    levels: float | Mapping[str, float] = 0.5
    density_level: float | None = None
    transparency: float = 40.0

    def __post_init__(self):
        if not self.maps:
            raise CryonbError("At least one map was expected for a scene, but none is given.")
        for name in self.maps:
            if not re.fullmatch(r"[\w.-]+", name):
                raise CryonbError(
                    "A name of letters, digits, dots and dashes was expected for a map in a "
                    f"scene, but it is {name!r}."
                )
            if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.colour_of(name)):
                raise CryonbError(
                    f'A colour such as "#D55E00" was expected, but {self.colour_of(name)!r} is '
                    "given."
                )
        for value in (*map(self.level_of, self.maps), self.density_level or 0, self.transparency):
            if not abs(float(value)) < float("inf"):
                raise CryonbError(f"A finite level was expected for a scene, but it is {value}.")

    def colour_of(self, name: str) -> str:
        """Give the colour of a class."""
        return self.colours.get(name, CLASS_COLOURS.get(name, CLASS_COLOURS["background"]))

    def level_of(self, name: str) -> float:
        """Give the contour level of a class."""
        return self.levels.get(name, 0.5) if isinstance(self.levels, Mapping) else self.levels

    # ---- writers -----------------------------------------------------------------------------

    def write_chimerax(self, path) -> Path:
        """Write a ChimeraX script: open it there, or drop it on its window.

        Parameters
        ----------
        path : path-like
            The script; its suffix should be .cxc. It names files relative to its own folder, so
            that the folder can be moved as a whole.
        """
        path = Path(path)
        lines = ["# Written by cryonb. Open this file in ChimeraX.", "set bgColor white"]
        if self.density is not None:
            lines += [
                f"open {_quoted(self.density, path)} id 1 name density",
                f"volume #1 color {_DENSITY}",
                "volume #1 style mesh",
            ]
            if self.density_level is not None:
                lines.append(f"volume #1 level {self.density_level:.6g}")
        for number, (name, file) in enumerate(self.maps.items(), start=2):
            look = f"level {self.level_of(name):.6g} color {self.colour_of(name)}"
            lines += [
                f"open {_quoted(file, path)} id {number} name {name}",
                f"volume #{number} style surface step 1 {look}",
                f"transparency #{number} {self.transparency:.6g}",
            ]
        if self.model is not None:
            number = len(self.maps) + 2
            lines += [
                f"open {_quoted(self.model, path)} id {number} name model",
                f"hide #{number} atoms",
                f"cartoon #{number}",
                f"color #{number} {_MODEL}",
            ]
        return _write(path, [*lines, "view"])

    def write_pymol(self, path) -> Path:
        """Write a PyMOL script (.pml); start PyMOL in its folder, or open it there."""
        path = Path(path)
        lines = ["# Written by cryonb. Open this file in PyMOL.", "bg_color white"]
        lines += ["set normalize_ccp4_maps, 0", "set ray_trace_mode, 1"]
        if self.density is not None:
            level = "3.0" if self.density_level is None else f"{self.density_level:.6g}"
            # Without a level of its own, the density is opened in units of sigma.
            lines += ["set normalize_ccp4_maps, 1"] if self.density_level is None else []
            lines += [
                f"load {_quoted(self.density, path)}, density_map",
                "set normalize_ccp4_maps, 0",
                f"isomesh density, density_map, {level}",
                f"color {_number(_DENSITY)}, density",
            ]
        for name, file in self.maps.items():
            lines += [
                f"load {_quoted(file, path)}, {name}_map",
                f"isosurface {name}, {name}_map, {self.level_of(name):.6g}",
                f"color {_number(self.colour_of(name))}, {name}",
                f"set transparency, {self.transparency / 100:.6g}, {name}",
            ]
        if self.model is not None:
            lines += [
                f"load {_quoted(self.model, path)}, model",
                "hide everything, model",
                "show cartoon, model",
                f"color {_number(_MODEL)}, model",
            ]
        return _write(path, [*lines, "orient"])

    def write_molviewspec(self, path) -> Path:
        """Write a MolViewSpec archive (.mvsx) with the files in it: drop it on Mol*.

        Mol* is in the browser at molstar.org/viewer. It reads MRC files that are not compressed.
        """
        path = Path(path)
        nodes, files = [], {}

        def volume(file, level, relative, wireframe, colour, opacity):
            kind = "relative_isovalue" if relative else "absolute_isovalue"
            look = {"type": "isosurface", kind: float(level), "show_wireframe": wireframe}
            leaves = [_node("color", {"color": colour}), _node("opacity", {"opacity": opacity})]
            nodes.append(
                _chain(
                    ("download", {"url": _packed(file, files)}),
                    ("parse", {"format": "map"}),
                    ("volume", {}),
                    ("volume_representation", look),
                    leaves=leaves,
                )
            )

        if self.density is not None:
            relative = self.density_level is None
            volume(self.density, 3.0 if relative else self.density_level, relative, True,
                   _DENSITY, 0.5)  # fmt: skip
        for name, file in self.maps.items():
            opacity = 1 - self.transparency / 100
            volume(file, self.level_of(name), False, False, self.colour_of(name), opacity)
        if self.model is not None:
            kind = "pdb" if Path(self.model).suffix in (".pdb", ".ent") else "mmcif"
            nodes.append(
                _chain(
                    ("download", {"url": _packed(self.model, files)}),
                    ("parse", {"format": kind}),
                    ("structure", {"type": "model"}),
                    ("component", {"selector": "polymer"}),
                    ("representation", {"type": "cartoon"}),
                    leaves=[_node("color", {"color": _MODEL})],
                )
            )
        about = {"version": "1.8", "timestamp": datetime.now(UTC).isoformat()}
        state = {"kind": "single", "root": _node("root", children=nodes), "metadata": about}
        with (
            written_beside(path) as beside,
            zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            archive.writestr("index.mvsj", json.dumps(state, indent=1))
            for name, file in files.items():
                archive.write(file, name)
        return path


#: From the finest to the coarsest resolution; the steps of viridis, which grow lighter.
_STEPS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")


def write_coloured_surface(
    path, density, values, *, low: float, high: float, level: float | None = None
) -> Path:
    """Write a ChimeraX script that colours a map's surface by the values of another map.

    Parameters
    ----------
    path : path-like
        The script; its suffix should be .cxc. It names files relative to its own folder.
    density, values : path-like
        Files of the map that is shown, and of that which gives the colours, such as local
        resolution.
    low, high : float
        Values of the first and the last colour.
    level : float, optional
        Contour level of the density; the program chooses without it.

    Returns
    -------
    Path

    Raises
    ------
    CryonbError
        If the colours' range is empty, or a name cannot stand in a script.
    """
    if not low < high < float("inf"):
        raise CryonbError(
            f"A range of colours from low to high was expected, but {low} to {high} is given."
        )
    steps = [low + (high - low) * k / (len(_STEPS) - 1) for k in range(len(_STEPS))]
    palette = ":".join(f"{value:.4g},{colour}" for value, colour in zip(steps, _STEPS, strict=True))
    key = " ".join(f"{colour}:{value:.4g}" for value, colour in zip(steps, _STEPS, strict=True))
    path = Path(path)
    shown = "volume #1 style surface step 1"
    lines = [
        "# Written by cryonb. Open this file in ChimeraX.",
        "set bgColor white",
        f"open {_quoted(density, path)} id 1 name density",
        f"open {_quoted(values, path)} id 2 name values",
        shown if level is None else f"{shown} level {level:.6g}",
        "hide #2 models",
        f"color sample #1 map #2 palette {palette}",
        f"key {key}",
    ]
    return _write(path, [*lines, "view"])


def _write(path: Path, lines) -> Path:
    with written_beside(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path


def _node(kind: str, params: dict | None = None, children=()) -> dict:
    node = {"kind": kind} | ({"params": params} if params is not None else {})
    return node | ({"children": list(children)} if children else {})


def _chain(*steps, leaves) -> dict:
    """Nest nodes, each the only child of the one before."""
    children = leaves
    for kind, params in reversed(steps):
        children = [_node(kind, params, children)]
    return children[0]


def _packed(file, files: dict[str, Path]) -> str:
    """Give a file a name in the archive."""
    file = Path(file)
    if file.suffix in (".gz", ".bz2"):
        raise CryonbError(
            f"A file that is not compressed was expected for Mol*, but {file.name} is; save it "
            "without .gz first."
        )
    name, number = file.name, 1
    while name in files and files[name] != file:
        number += 1
        name = f"{file.stem}_{number}{file.suffix}"
    files[name] = file
    return name


def _number(colour: str) -> str:
    return f"0x{colour[1:]}"


def _quoted(file, script: Path) -> str:
    """Name a file relative to the folder of the script."""
    folder = script.resolve().parent
    name = Path(os.path.relpath(Path(file).resolve(), folder)).as_posix()
    if '"' in name or "\n" in name or ";" in name:
        raise CryonbError(
            f"A file name without quotation marks, semicolons or line breaks was expected for a "
            f"script, but it is {name!r}."
        )
    return f'"{name}"'
