"""Figures of a benchmark's table, as in the papers of Emap2sec and Haruspex."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cryonb.errors import CryonbError
from cryonb.show.plot import Picture

__all__ = [
    "plot_groups", "plot_methods", "plot_phases", "plot_precision_recall", "plot_resolution",
]  # fmt: skip

#: Told apart in black and white as well.
_MARKS = "os^Dv*Px"
_HATCHES = ("", "//", "..", "xx", "--", "\\\\")


def _columns(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    lacking = [name for name in names if name not in table]
    if lacking:
        raise CryonbError(
            f"This figure needs the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}, which "
            "the table has not."
        )
    return table.dropna(subset=list(names))


def _diagonal(axes) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", lw=0.8, zorder=0)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")


def _marks(axes, table: pd.DataFrame, x: str, y: str) -> None:
    """One mark a map, one kind of mark a method."""
    for k, (method, part) in enumerate(table.groupby("method")):
        axes.plot(part[x], part[y], _MARKS[k % len(_MARKS)], label=method, alpha=0.8)
    axes.legend(frameon=False)


def plot_groups(table: pd.DataFrame, *, score: str = "q3", published=None) -> Picture:
    """Draw box plots of a score by group, one box a method.

    Parameters
    ----------
    table : DataFrame
        Columns group, method and the score.
    score : str
        A column.
    published : dict, optional
        {label: {group: (lower quartile, median, upper quartile)}} to draw beside.
    """
    table = _columns(table, "group", "method", score)
    groups, methods = sorted(table["group"].unique()), sorted(table["method"].unique())
    published = published or {}
    each = len(methods) + len(published)
    picture = Picture(2.5 + 0.45 * each * len(groups), 4)
    axes = picture.subplots()
    for k, method in enumerate(methods):
        mine = table[table["method"] == method]
        values = [mine.loc[mine["group"] == group, score] for group in groups]
        at = np.arange(len(groups)) * (each + 1) + k
        axes.boxplot(
            values, positions=at, widths=0.7, patch_artist=True, label=method, manage_ticks=False,
            boxprops={"facecolor": f"C{k}", "alpha": 0.6, "hatch": _HATCHES[k % len(_HATCHES)]},
            medianprops={"color": "black"},
        )  # fmt: skip
    for k, (label, quartiles) in enumerate(published.items(), start=len(methods)):
        at = np.arange(len(groups)) * (each + 1) + k
        known = [(x, quartiles[g]) for x, g in zip(at, groups, strict=True) if g in quartiles]
        x = [place for place, _ in known]
        low, middle, high = np.array([q for _, q in known], dtype=float).reshape(-1, 3).T
        axes.errorbar(
            x, middle, yerr=[middle - low, high - middle], fmt="D", color="black", capsize=4,
            label=f"{label} (quartiles)",
        )  # fmt: skip
    axes.set(ylabel=score, ylim=(0, 1))
    axes.set_xticks(np.arange(len(groups)) * (each + 1) + (each - 1) / 2, groups)
    picture.legend(loc="outside upper center", ncols=min(each, 4), frameon=False)
    return picture


def plot_resolution(table: pd.DataFrame, *, score: str = "q3") -> Picture:
    """Draw a score against the resolution, one mark a map."""
    table = _columns(table, "resolution", "method", score)
    picture = Picture(6, 4)
    axes = picture.subplots()
    _marks(axes, table, "resolution", score)
    axes.set(xlabel="resolution (Å)", ylabel=score, ylim=(0, 1))
    return picture


def plot_phases(table: pd.DataFrame, *, score: str = "window_q3") -> Picture:
    """Draw Emap2sec's score after the second phase against that after the first."""
    table = _columns(table, f"{score}_one", score)
    picture = Picture(4.5, 4.5)
    axes = picture.subplots()
    _marks(axes, table, f"{score}_one", score)
    _diagonal(axes)
    axes.set(xlabel=f"{score}, phase 1", ylabel=f"{score}, phase 2")
    return picture


def plot_precision_recall(table: pd.DataFrame) -> Picture:
    """Draw Haruspex's precision against its recall, one mark a map."""
    table = _columns(table, "haruspex_recall", "haruspex_precision")
    picture = Picture(4.5, 4.5)
    axes = picture.subplots()
    _marks(axes, table, "haruspex_recall", "haruspex_precision")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="recall", ylabel="precision")
    return picture


def plot_methods(
    table: pd.DataFrame, *, score: str = "q3", x: str | None = None, y: str | None = None
) -> Picture:
    """Draw one method's score against another's, one mark a map.

    Parameters
    ----------
    table : DataFrame
        Columns name, method and the score.
    score : str
        A column.
    x, y : str, optional
        The methods; the first two of the table by default.
    """
    table = _columns(table, "name", "method", score)
    methods = list(dict.fromkeys(table["method"]))
    if x is None or y is None:
        if len(methods) < 2:
            raise CryonbError(f"Two methods were expected to compare, but the table has {methods}.")
        x, y = methods[:2]
    keys = [key for key in ("name", "resolution") if key in table]
    wide = table.pivot_table(score, index=keys, columns="method").dropna(subset=[x, y])
    picture = Picture(4.5, 4.5)
    axes = picture.subplots()
    axes.plot(wide[x], wide[y], "o", color="0.25", alpha=0.7)
    _diagonal(axes)
    better = int((wide[y] > wide[x]).sum())
    axes.set(xlabel=f"{score}, {x}", ylabel=f"{score}, {y}",
             title=f"{y} is better on {better} of {len(wide)}")  # fmt: skip
    return picture
