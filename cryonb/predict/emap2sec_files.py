"""The files that Emap2sec's own program writes, of the windows of a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryonb.files.atomic import written_beside
from cryonb.predict.emap2sec import Windows

__all__ = ["write_windows"]

_PYMOL = """load {stem}.pdb
hide everything, {stem}
show spheres, {stem} and chain A+B+C
set sphere_scale, 0.5, {stem}
color green, {stem} and chain A
color yellow, {stem} and chain B
color magenta, {stem} and chain C
"""


def write_windows(windows: Windows, folder, stem: str, *, truth=None) -> list[Path]:
    """Write `outputP1_<stem>`, `outputP2_<stem>`, `<stem>.pdb` and `<stem>.pml`.

    Parameters
    ----------
    windows : Windows
        The answer of both phases.
    folder : path
        Made if need be.
    stem : str
        Name of the map.
    truth : ndarray of int, shape (n,), optional
        True class of each window, in the original's order; 0 where none is given, as there.

    Returns
    -------
    list of Path
        The texts hold the map's name, the true and the predicted labels, and a list of
        probabilities a window. The PDB file has one Cα atom at each window's centre: chain A
        other (green), B strand (yellow), C helix (magenta), D background. `<stem>.pml` colours it
        in PyMOL.
    """
    folder = Path(folder)
    truth = np.zeros(len(windows), dtype=int) if truth is None else np.asarray(truth)
    label_one, label_two = windows.label_one, windows.label_two
    texts = {
        f"outputP1_{stem}": _text(stem, truth.astype(float), label_one, windows.one),
        f"outputP2_{stem}": _text(stem, truth, label_two, windows.two),
        f"{stem}.pdb": _spheres(windows.points, label_two),
        f"{stem}.pml": _PYMOL.format(stem=stem),
    }
    for name, text in texts.items():
        with written_beside(folder / name) as beside:
            beside.write_text(text)
    return [folder / name for name in texts]


def _text(stem, truth, label, probabilities) -> str:
    rows = [str([float(f"{p:.8g}") for p in row]) for row in probabilities]
    lines = [f"#{stem}", *("".join(f"{v};" for v in values.tolist()) for values in (truth, label))]
    return "\n".join([*lines, *rows]) + "\n"


def _spheres(points, label) -> str:
    """One Cα a window; the numbers start again in each chain, and after 9,999."""
    lines, serial = [], 0
    for number, chain in enumerate("ABCD"):
        for row, (x, y, z) in enumerate(points[label == number].tolist()):
            serial += 1
            lines.append(
                f"ATOM  {serial % 100000:5d}  CA  ALA {chain}{row % 9999 + 1:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  1.00           C  "
            )
        lines.append("TER")
    return "\n".join([*lines, "END"]) + "\n"
