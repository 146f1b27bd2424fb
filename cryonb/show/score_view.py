"""A model coloured by how well it fits, over the map that it was judged by."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
import pandas as pd

from cryonb.show.colourings import STEPS, patch
from cryonb.show.controls import MapView

__all__ = ["ScoreView", "score_colours"]

#: Columns of a validation's residues that a model is coloured by, where they are there.
_COLUMNS = (
    "q", "q_above_expected", "q_backbone", "q_sidechain", "cc", "cc_main_chain", "cc_side_chain",
    "smoc", "b_iso", "occupancy",
)  # fmt: skip


def score_colours(residues: pd.DataFrame, column: str) -> tuple[dict[tuple, str], list[float]]:
    """Give colours of residues by a score, in five steps from low to high.

    Parameters
    ----------
    residues : pandas.DataFrame
        `Validation.residues`, or any table with chain, number, icode and the column.
    column : str
        A column of numbers.

    Returns
    -------
    colours : dict
        (chain, number, insertion code): "#RRGGBB"; residues without a score are left out.
    edges : list of float
        Six limits of the five steps, the 5th to the 95th percentile in equal parts; what lies
        beyond has the colour of the end.
    """
    value = residues[column].to_numpy(dtype=float)
    there = np.isfinite(value)
    low, high = np.percentile(value[there], (5, 95)) if there.any() else (0.0, 1.0)
    edges = np.linspace(low, max(high, low + 1e-6), len(STEPS) + 1)
    step = np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(STEPS) - 1)
    keys = zip(residues["chain"], residues["number"], residues["icode"], strict=True)
    colours = {key: STEPS[k] for key, k, good in zip(keys, step, there, strict=True) if good}
    return colours, edges.tolist()


class ScoreView(MapView):
    """A model coloured by any score of its validation, with its worst stretches to jump to.

    Parameters
    ----------
    validation : Validation
        From `m.evaluate(model)`.
    density : Volume
        The map.
    model : gemmi.Structure
        The model.
    height : int
        Of the view in pixels.
    """

    def __init__(self, validation, density, model, *, height: int = 440):
        self._validation = validation
        table = validation.residues
        if {"q", "q_expected"} <= set(table):
            table = table.assign(q_above_expected=table["q"] - table["q_expected"])
        self._residues = table
        super().__init__(density, model, height=height)

    def _fill(self, model) -> list:
        controls = super()._fill(model)
        self._edges = {}
        for column in _COLUMNS:
            if column in self._residues and self._residues[column].notna().any():
                colours, self._edges[column] = score_colours(self._residues, column)
                self.scene.add_colours(column, colours)
        self.colour.options = [*self._edges, *self.colour.options]
        self.legend = widgets.HTML()
        self.colour.observe(lambda change: self._set_legend(change["new"]), "value")
        self.worst = widgets.Dropdown(
            description="worst stretches", layout=widgets.Layout(width="340px"),
            style={"description_width": "110px"},
        )  # fmt: skip
        self.worst.observe(lambda change: self._jump(change["new"]), "value")
        self.colour.value = next(iter(self._edges))
        self._set_legend(self.colour.value)
        return [self.worst, *controls, self.legend]

    def _set_legend(self, column: str) -> None:
        edges = self._edges.get(column)
        if edges is None:
            self.legend.value = ""
            return
        ranges = zip(edges, edges[1:], STEPS, strict=False)
        self.legend.value = "".join(f"{patch(c)}{a:.2f}–{b:.2f} " for a, b, c in ranges)
        low_is_bad = column not in ("b_iso", "q_above_expected", "occupancy")
        worst = self._validation.worst(column, count=12) if low_is_bad else None
        rows = [] if worst is None else worst.itertuples()
        self.worst.options = [
            ("…", None),
            *((f"{w.chain} {w.first}–{w.last}: {w.mean:.2f}", (w.chain, w.first, w.last))
              for w in rows),
        ]  # fmt: skip

    def _jump(self, stretch) -> None:
        if stretch is None:
            return
        chain, first, last = stretch
        table = self._residues
        there = np.flatnonzero((table["chain"] == chain) & (table["number"] >= first)
                               & (table["number"] <= last))  # fmt: skip
        self.residue.value = int(there[len(there) // 2])
