"""Figures and a report of how a model fits its map."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cryonb.errors import CryonbError
from cryonb.evaluate.validation import Validation
from cryonb.files.atomic import written_beside
from cryonb.process.fourier_shells import FourierShells
from cryonb.show.plot import Picture

__all__ = ["ShownShells", "ShownValidation", "plot_fsc", "plot_validation", "report"]

#: Columns of the residues that are drawn, and what they are called.
_SCORES = {"cc": "CC", "smoc": "SMOC", "q": "Q-score"}
# Styles are told apart without colours, too.
_CURVES = {
    "fsc": ("0.45", "-"), "fsc_masked": ("#0072b2", "--"), "fsc_random": ("#d55e00", ":"),
    "fsc_corrected": ("black", "-"), "fsc_full": ("#009e73", "-."),
}  # fmt: skip
_GAP = 8


class ShownShells(FourierShells):
    """A Fourier shell correlation that draws itself."""

    def plot(self) -> Picture:
        """Draw the curves with both customary thresholds: a matplotlib figure."""
        return plot_fsc(self)


@dataclass(frozen=True, repr=False)
class ShownValidation(Validation):
    """A validation that draws, views and writes itself.

    Attributes
    ----------
    density : Volume or None
        The map.
    model : gemmi.Structure or None
        The model.
    """

    density: object = None
    model: object = None

    def view(self, **options):
        """Show the model coloured by any score: see `cryonb.show.score_view.ScoreView`.

        Raises
        ------
        CryonbError
            If the model was given as bare atoms, which cannot be drawn as a cartoon.
        """
        from cryonb.show.score_view import ScoreView

        if not hasattr(self.model, "make_mmcif_document"):
            raise CryonbError(
                "A model from nb.open_model was expected, to be drawn; evaluate that instead of "
                "its atoms."
            )
        return ScoreView(self, self.density, self.model, **options)

    def plot(self, *, scores=tuple(_SCORES), width: int = 300) -> Picture:
        """Draw scores along the chains and the Fourier shell correlation: see `plot_validation`."""
        return plot_validation(self, scores=scores, width=width)

    def save(self, path) -> Path:
        """Write a report as one HTML page that needs no other file: see `report`."""
        with written_beside(path) as beside:
            beside.write_text(report(self), encoding="utf-8")
        return Path(path)


def plot_fsc(shells: FourierShells, axes=None) -> Picture | None:
    """Draw Fourier shell correlations against resolution.

    Parameters
    ----------
    shells : FourierShells
        The curves.
    axes : matplotlib axes, optional
        Where to draw; a figure of its own by default.
    """
    picture = None
    if axes is None:
        picture = Picture(6, 4)
        axes = picture.subplots()
    table = shells.table
    for name in shells.curves:
        colour, line = _CURVES.get(name, ("0.2", "-"))
        axes.plot(
            table["s"], table[name], line, color=colour, label=name,
            linewidth=1.8 if name == shells.curve else 1.0,
        )  # fmt: skip
    for threshold in (0.5, 0.143):
        axes.axhline(threshold, color="0.8", linewidth=0.8, zorder=0)
        d = shells.resolution(threshold)
        if np.isfinite(d):
            axes.plot([1 / d], [threshold], "o", color="black", markersize=4)
            axes.annotate(
                f"{d:.2f} Å", (1 / d, threshold), textcoords="offset points", xytext=(5, 4),
                fontsize=8,
            )  # fmt: skip
    low = min(0.0, float(table[shells.curves].min().min()))
    axes.set(
        xlim=(0, float(table["s"].max())), ylim=(max(low, -0.3) - 0.02, 1.02),
        xlabel="resolution (Å)", ylabel="FSC", title=f"FSC of {shells.kind}",
    )  # fmt: skip
    # Ticks at evenly spaced frequencies, named by resolution.
    ticks = np.linspace(0, float(table["s"].max()), 7)[1:]
    axes.set_xticks(ticks, [f"{1 / s:.1f}" for s in ticks])
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return picture


def _lines(table: pd.DataFrame, width: int) -> list[list[tuple[int, pd.DataFrame]]]:
    """Lay pieces of chains out on lines of `width` residues, short chains beside one another."""
    lines, taken = [], width
    for _, chain in table.groupby("chain", sort=False):
        for first in range(0, len(chain), width):
            piece = chain.iloc[first : first + width]
            if taken + _GAP + len(piece) > width:
                lines.append([])
                taken = -_GAP
            lines[-1].append((taken + _GAP, piece))
            taken += _GAP + len(piece)
    return lines


def plot_validation(validation: Validation, *, scores=tuple(_SCORES), width: int = 300) -> Picture:
    """Draw scores along each chain, worst stretches marked, and the FSC with the model.

    Parameters
    ----------
    validation : Validation
        The scores.
    scores : sequence of str
        Columns of its residues. The first of them in which stretches can be bad, "q" before all
        others, decides what is marked.
    width : int
        Residues a line.

    Returns
    -------
    Picture
        A matplotlib figure. Waters, ions and ligands are not drawn. The dotted line is the Q-score
        that is expected at the resolution.
    """
    table = validation.residues
    table = table[table["kind"].isin(["protein", "nucleic"])]
    lines = _lines(table, width)
    if not lines:
        return plot_fsc(validation.fsc)
    mark = "q" if "q" in scores else scores[0]
    worst = validation.worst(mark)
    styles = dict(zip(scores, (("#0072b2", "-"), ("#009e73", "--"), ("black", "-")), strict=False))
    picture = Picture(12, 1.0 + 1.6 * len(lines) + 3.4)
    panels = picture.subplots(
        len(lines) + 1, 1, squeeze=False, height_ratios=[1.6] * len(lines) + [3.0]
    )[:, 0]
    drawn = table[list(scores)].to_numpy(dtype=float)
    lowest = np.nanmin(drawn) if np.isfinite(drawn).any() else 0.0
    for axes, line in zip(panels[:-1], lines, strict=True):
        ticks = []
        for start, piece in line:
            ticks += _draw_line(axes, start, piece, scores, styles, worst)
        axes.set(xlim=(-1, width), ylim=(min(0.0, float(lowest)), 1.0))
        axes.set_xticks(*zip(*ticks, strict=True), fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [
        panels[0].plot([], [], line, color=colour, label=_SCORES.get(name, name))[0]
        for name, (colour, line) in styles.items()
    ]
    if "q" in scores:
        handles.append(panels[0].plot([], [], ":", color="0.4", label="expected Q")[0])
    handles.append(panels[0].fill_between([], [], color="#d55e00", alpha=0.25, label="worst"))
    panels[0].legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles),
        frameon=False, fontsize=8,
    )  # fmt: skip
    plot_fsc(validation.fsc, panels[-1])
    return picture


def _draw_line(axes, start: int, piece, scores, styles, worst) -> list[tuple[int, str]]:
    """Draw a piece of a chain from x = `start` on; the ticks that it wants."""
    number = piece["number"].to_numpy()
    x = start + np.arange(len(piece))
    # A line is not drawn over a gap of the chain.
    broken = np.flatnonzero(np.diff(number) > 1) + 1
    for name in scores:
        if name in styles:
            colour, line = styles[name]
            axes.plot(
                np.insert(x.astype(float), broken, np.nan),
                np.insert(piece[name].to_numpy(dtype=float), broken, np.nan),
                line, color=colour, linewidth=0.9,
            )  # fmt: skip
    if "q" in scores:
        axes.plot(x, piece["q_expected"], ":", color="0.4", linewidth=0.8)
    chain = str(piece["chain"].iloc[0])
    for row in worst[worst["chain"] == chain].itertuples():
        inside = np.flatnonzero((number >= row.first) & (number <= row.last))
        if len(inside):
            axes.axvspan(x[inside[0]] - 0.5, x[inside[-1]] + 0.5, color="#d55e00", alpha=0.25, lw=0)
    if chain.strip():
        axes.text(start - 0.5, 1.01, f"chain {chain}", fontsize=8)
    step = max(len(piece) // 20, 1) if len(piece) > 20 else 10
    step = next(s for s in (10, 20, 25, 50, 100, 1000) if s >= step)
    return [(int(x[k]), str(number[k])) for k in range(0, len(piece), step)]


_STYLE = """
body { font-family: sans-serif; max-width: 1000px; margin: 2em auto; color: #222; }
table { border-collapse: collapse; font-size: 85%; margin: 1em 0; }
th, td { padding: 2px 8px; text-align: right; border-bottom: 1px solid #ddd; }
img { width: 100%; } details > div { max-height: 30em; overflow: auto; } small { color: #666; }
"""


def report(validation: Validation) -> str:
    """Make an HTML page of a validation: figure, summary, worst stretches, chains and residues.

    Parameters
    ----------
    validation : Validation
        The scores.

    Returns
    -------
    str
        One page that needs no other file and no network.
    """
    title = html.escape(f"Model and map{f': {validation.name}' if validation.name else ''}")
    said = html.escape("; ".join(f"{key} {value}" for key, value in validation.settings.items()))
    image = base64.b64encode(plot_validation(validation)._repr_png_()).decode()

    def shown(table: pd.DataFrame, *, index: bool = False) -> str:
        return table.to_html(index=index, float_format=lambda v: f"{v:.3f}", na_rep="", border=0)

    disagreements = ""
    if "predicted" in validation.residues:
        found = validation.disagreements()
        disagreements = (
            "<h2>Model and prediction disagree</h2><ul>"
            + "".join(f"<li>{html.escape(reason)}</li>" for reason in found["reason"])
            + ("</ul>" if len(found) else "<li>Nowhere with a probability of 0.8.</li></ul>")
        )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1><p><small>{said}</small></p>"
        f"{shown(validation.summary.to_frame('value'), index=True)}"
        f'<img alt="scores along the chains and Fourier shell correlation" '
        f'src="data:image/png;base64,{image}">'
        f"<h2>Worst stretches by Q-score</h2>{shown(validation.worst())}"
        f"{disagreements}"
        f"<h2>Chains</h2>{shown(validation.chains)}"
        f"<details><summary>Residues</summary><div>{shown(validation.residues)}</div></details>"
        "</body></html>\n"
    )
