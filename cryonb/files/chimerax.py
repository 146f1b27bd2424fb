"""ChimeraX command scripts (.cxc) that open and colour what was predicted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside

__all__ = ["CLASS_COLOURS", "write_chimerax_script"]

#: Colours of the classes: the palette of Okabe and Ito, which colour-blind readers can tell apart.
CLASS_COLOURS = {
    "background": "#999999",
    "helix": "#D55E00",
    "strand": "#0072B2",
    "coil": "#009E73",
    "nucleotide": "#CC79A7",
}


def write_chimerax_script(
    path,
    maps: Mapping[str, object],
    *,
    model=None,
    density=None,
    colours: Mapping[str, str] | None = None,
    levels: float | Mapping[str, float] = 0.5,
    density_level: float | None = None,
    transparency: float = 40.0,
) -> Path:
    """Write a ChimeraX script that opens maps and colours them by class.

    Open the script in ChimeraX, or drop it on its window.

    Parameters
    ----------
    path : path-like
        The script; its suffix should be .cxc.
    maps : mapping of str to path-like
        Name of a class to its MRC file. The script names files relative to its own folder, so
        that the folder can be moved as a whole.
    model : path-like, optional
        A PDB or mmCIF file, shown as cartoon.
    density : path-like, optional
        The map itself, shown as a grey mesh.
    colours : mapping of str to str, optional
        "#RRGGBB" for each class. Default: `CLASS_COLOURS`; grey for names that it lacks.
    levels : float or mapping of str to float
        Contour level, one for all or one for each class (0.5 for those left out).
    density_level : float, optional
        Contour level of the density; ChimeraX chooses without it.
    transparency : float
        Of the class surfaces, in percent.

    Returns
    -------
    pathlib.Path
        The script.

    Raises
    ------
    CryonbError
        If there are no maps, or a colour, a level or a file name cannot stand in a script.
    """
    path = Path(path)
    if not maps:
        raise CryonbError("At least one map was expected for a ChimeraX script, but none is given.")
    colours = {**CLASS_COLOURS, **(colours or {})}
    lines = ["# Written by cryonb. Open this file in ChimeraX.", "set bgColor white"]
    if density is not None:
        lines += [f"open {_quoted(density, path)} id 1 name density", "volume #1 color #b3b3b3"]
        lines.append("volume #1 style mesh")
        if density_level is not None:
            lines.append(f"volume #1 level {_level(density_level)}")
    for number, (name, file) in enumerate(maps.items(), start=2):
        colour = colours.get(name, CLASS_COLOURS["background"])
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            raise CryonbError(f'A colour such as "#D55E00" was expected, but {colour!r} is given.')
        level = levels.get(name, 0.5) if isinstance(levels, Mapping) else levels
        lines += [
            f"open {_quoted(file, path)} id {number} name {_word(name)}",
            f"volume #{number} style surface step 1 level {_level(level)} color {colour}",
            f"transparency #{number} {_level(transparency)}",
        ]
    if model is not None:
        number = len(maps) + 2
        lines += [
            f"open {_quoted(model, path)} id {number} name model",
            f"hide #{number} atoms",
            f"cartoon #{number}",
            f"color #{number} #595959",
        ]
    lines.append("view")
    with written_beside(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path


def _quoted(file, script: Path) -> str:
    # Relative names are resolved against the folder of the script when ChimeraX runs it.
    folder = script.resolve().parent
    file = Path(file)
    name = os.path.relpath(file.resolve(), folder)
    name = Path(name).as_posix()
    if '"' in name or "\n" in name or ";" in name:
        raise CryonbError(
            f"A file name without quotation marks, semicolons or line breaks was expected for a "
            f"ChimeraX script, but it is {name!r}."
        )
    return f'"{name}"'


def _level(value) -> str:
    value = float(value)
    if not abs(value) < float("inf"):
        raise CryonbError(f"A finite level was expected for a ChimeraX script, but it is {value}.")
    return f"{value:.6g}"


def _word(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+", name):
        raise CryonbError(
            f"A name of letters, digits, dots and dashes was expected for a map in a ChimeraX "
            f"script, but it is {name!r}."
        )
    return name
