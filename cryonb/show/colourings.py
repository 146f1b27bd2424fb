"""Colours of residues by what was predicted of them, and their legends."""

from __future__ import annotations

import numpy as np

from cryonb.files.scene import CLASS_COLOURS

__all__ = ["AGREES", "FOUND", "STEPS", "SURE", "TRUTH", "colourings", "legend", "patch"]

#: Names of the colourings.
TRUTH, FOUND, AGREES, SURE = "truth", "prediction", "agreement", "confidence"
#: Right and wrong, and five steps of confidence from low to high.
_RIGHT, _WRONG = "#56B4E9", "#D55E00"
STEPS = ("#440154", "#3B528B", "#21918C", "#5EC962", "#FDE725")


def colourings(residues) -> dict[str, dict[tuple, str]]:
    """Give colours of residues by truth, prediction, agreement and confidence.

    Parameters
    ----------
    residues : DataFrame
        `Evaluation.residues`.

    Returns
    -------
    dict
        Name of the colouring to {(chain, number, insertion code): "#RRGGBB"}.
    """
    keys = list(zip(residues["chain"], residues["number"], residues["icode"], strict=True))
    found = residues["predicted"]
    sure = residues.to_numpy()[np.arange(len(residues)), residues.columns.get_indexer(found)]
    steps = np.minimum((sure.astype(float) * len(STEPS)).astype(int), len(STEPS) - 1)
    columns = {
        TRUTH: residues["truth"].map(CLASS_COLOURS),
        FOUND: found.map(CLASS_COLOURS),
        AGREES: residues["correct"].map({True: _RIGHT, False: _WRONG}),
        SURE: [STEPS[k] for k in steps],
    }
    return {name: dict(zip(keys, values, strict=True)) for name, values in columns.items()}


def legend(name: str) -> str:
    """Give the legend of a colouring as HTML; "" where its name says nothing of classes."""
    if name in (TRUTH, FOUND):
        entries = {key: CLASS_COLOURS[key] for key in ("helix", "strand", "coil", "nucleotide")}
    elif name == AGREES:
        entries = {"right": _RIGHT, "wrong": _WRONG}
    elif name == SURE:
        edges = np.linspace(0, 1, len(STEPS) + 1)
        entries = {f"{a:.1f}–{b:.1f}": c for a, b, c in zip(edges, edges[1:], STEPS, strict=False)}
    else:
        return ""
    return "".join(f"{patch(colour)}{text}&emsp;" for text, colour in entries.items())


def patch(colour: str) -> str:
    """Give a patch of a colour as HTML."""
    return f"<span style='background:{colour};padding:0 9px'></span>&nbsp;"
