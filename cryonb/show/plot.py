"""Figures of maps, predictions and scores; matplotlib's global state is left alone.

Classes are told apart by colour and, for black and white, by height or line style.
"""

from __future__ import annotations

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cryonb.files.scene import CLASS_COLOURS
from cryonb.volume import CLASSES, ProbabilityVolume, Volume

__all__ = [
    "Picture",
    "centre_of",
    "legend_of",
    "plot_calibration",
    "plot_density",
    "plot_fractions",
    "plot_residues",
    "plot_sse",
    "plot_stretch",
    "slice_edges",
]

_HEIGHT = {"background": 0.12, "helix": 1.0, "strand": 0.7, "coil": 0.3, "nucleotide": 0.5}
_HATCH = {"background": "", "helix": "//", "strand": "--", "coil": "..", "nucleotide": "xx"}
_LINE = {"helix": "-", "strand": "--", "coil": ":", "nucleotide": "-."}
_AXES = ("z", "y", "x")
#: Places between two chains on one line of the residue strip.
_GAP = 8


class Picture(Figure):
    """A matplotlib figure that a notebook shows without pyplot."""

    def __init__(self, width: float, height: float):
        super().__init__(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=90)
        return stream.getvalue()


def legend_of(picture: Picture, colours) -> None:
    """Put patches of colour, by name, below a picture."""
    handles = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    picture.legend(handles=handles, loc="outside lower center", ncols=len(colours), frameon=False)


def _slice(values: np.ndarray, axis: int, index: int) -> np.ndarray:
    return np.take(values, index, axis=axis).astype(np.float32)


def slice_edges(volume: Volume, axis: int) -> tuple[tuple[float, ...], tuple[str, str]]:
    """Extent in Å of a slice across `axis`, and the names of its two axes."""
    across = [k for k in range(3) if k != axis]
    lower, upper = volume.grid.lower[::-1], volume.grid.upper[::-1]
    vertical, horizontal = across
    half = np.array(volume.voxel_size)[::-1] / 2
    extent = (
        lower[horizontal] - half[horizontal], upper[horizontal] + half[horizontal],
        lower[vertical] - half[vertical], upper[vertical] + half[vertical],
    )  # fmt: skip
    return extent, (_AXES[horizontal], _AXES[vertical])


def centre_of(weight: np.ndarray) -> list[int]:
    """Index of the slice across each axis that holds most."""
    if not weight.any():
        return [n // 2 for n in weight.shape]
    return [
        int(weight.sum(axis=tuple(k for k in range(3) if k != axis), dtype=np.float64).argmax())
        for axis in range(3)
    ]


def _draw_density(axes, volume: Volume, axis: int, index: int) -> tuple:
    extent, (across, up) = slice_edges(volume, axis)
    low, high = np.percentile(volume.values[:: max(volume.shape[0] // 64, 1)], (1, 99.8))
    axes.imshow(
        _slice(volume.values, axis, index), origin="lower", cmap="gray_r", extent=extent,
        vmin=min(low, 0), vmax=max(high, low + 1e-9), interpolation="nearest",
    )  # fmt: skip
    at = volume.grid.lower[::-1][axis] + index * volume.voxel_size[2 - axis]
    axes.set(xlabel=f"{across} (Å)", ylabel=f"{up} (Å)", title=f"{_AXES[axis]} = {at:.1f} Å")
    return extent


def plot_density(volume: Volume, *, contour: float | None = None) -> Picture:
    """Draw three slices through the densest parts of a map and the histogram of its values.

    Parameters
    ----------
    volume : Volume
        The map.
    contour : float, optional
        Contour level, drawn in the slices and in the histogram.
    """
    picture = Picture(13, 3.6)
    panels = picture.subplots(1, 4)
    for axis, index in enumerate(centre_of(np.maximum(volume.values, 0))):
        extent = _draw_density(panels[axis], volume, axis, index)
        if contour is not None and volume.min < contour < volume.max:
            panels[axis].contour(
                _slice(volume.values, axis, index), [contour], colors="black", linewidths=0.7,
                extent=extent,
            )  # fmt: skip
    panels[3].hist(volume.values.ravel(), bins=100, color="0.5", log=True)
    panels[3].set(xlabel="density", ylabel="voxels", title="histogram")
    if contour is not None:
        panels[3].axvline(contour, color="black", linestyle="--", label="contour level")
        panels[3].legend(frameon=False)
    return picture


def plot_sse(probabilities: ProbabilityVolume, density: Volume | None = None) -> Picture:
    """Draw three slices with the classes over the density.

    Parameters
    ----------
    probabilities : ProbabilityVolume
        A prediction.
    density : Volume, optional
        The map, on the same grid.
    """
    picture = Picture(13, 4.2)
    panels = picture.subplots(1, 4, width_ratios=(3, 3, 3, 1.6))
    structure = 1 - probabilities.values[0].astype(np.float32)
    structure[structure < 0.5] = 0
    shown = [name for name in probabilities.classes if name != "background"]
    for axis, index in enumerate(centre_of(structure)):
        if density is not None:
            extent = _draw_density(panels[axis], density, axis, index)
        else:
            extent, (across, up) = slice_edges(probabilities, axis)
            panels[axis].set(xlabel=f"{across} (Å)", ylabel=f"{up} (Å)")
        layer = np.stack([_slice(values, axis, index) for values in probabilities.values])
        best = layer.argmax(axis=0)
        colour = np.zeros((*best.shape, 4), dtype=np.float32)
        for k, name in enumerate(probabilities.classes):
            if name != "background":
                colour[best == k] = (*to_rgb(CLASS_COLOURS[name]), 0.55)
        panels[axis].imshow(colour, origin="lower", extent=extent, interpolation="nearest")
        for name in shown:
            part = layer[probabilities.classes.index(name)]
            if part.max() > 0.5 > part.min():
                panels[axis].contour(
                    part, [0.5], colors="black", linewidths=0.6, linestyles=_LINE[name],
                    extent=extent,
                )  # fmt: skip
    counts = probabilities.labels().counts()
    _draw_fractions(panels[3], {"": {name: counts[name] for name in shown}}, "voxels")
    legend_of(picture, {name: CLASS_COLOURS[name] for name in shown})
    return picture


def _draw_fractions(axes, columns, what: str) -> None:
    """Draw one bar for each column of counts, its classes beside each other."""
    names = [n for n in CLASSES if any(counts.get(n, 0) for counts in columns.values())]
    width = 0.8 / len(columns)
    for k, counts in enumerate(columns.values()):
        total = max(sum(counts.get(name, 0) for name in names), 1)
        shares = [counts.get(name, 0) / total for name in names]
        # The first column is plain, so that the pair can be told apart.
        axes.bar(
            np.arange(len(names)) + (k + 0.5) * width - 0.4, shares, width * 0.94,
            color=[CLASS_COLOURS[name] for name in names], edgecolor="black", linewidth=0.7,
            hatch=["" if len(columns) > 1 and k == 0 else _HATCH[name] for name in names],
        )  # fmt: skip
    axes.set(ylabel=f"share of {what}", ylim=(0, 1), title=" | ".join(filter(None, columns)))
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def plot_fractions(columns, what: str) -> Picture:
    """Draw the share of each class, in one or several counts.

    Parameters
    ----------
    columns : dict of str to mapping
        A name, such as "truth", to counts by class.
    what : str
        What was counted.
    """
    picture = Picture(4.5, 3.2)
    _draw_fractions(picture.subplots(), columns, what)
    return picture


def _draw_piece(axes, piece, start: int) -> list[tuple[int, int]]:
    """Draw a stretch of one chain from x = `start` on; the ticks that it wants."""
    x = start + np.arange(len(piece))
    for column, base in (("truth", 1.15), ("predicted", 0.0)):
        names = piece[column].to_numpy()
        axes.bar(
            x, [_HEIGHT[name] for name in names], width=1.0, bottom=base,
            color=[CLASS_COLOURS[name] for name in names],
        )  # fmt: skip
    confidence = piece[list(CLASSES)].to_numpy().max(axis=1)
    axes.plot(x, confidence, color="black", linewidth=0.8)
    chain = piece["chain"].iloc[0].strip()
    axes.text(start - 0.5, 2.25, f"chain {chain}" if chain else "", fontsize=8)
    return [(start + k, piece["number"].iloc[k]) for k in range(0, len(piece), 10)]


def _finish_strip(axes, ticks, width: int) -> None:
    axes.set(xlim=(-1, width), ylim=(0, 2.2), yticks=(0.4, 1.6))
    axes.set_yticklabels(("predicted", "truth"))
    axes.set_xticks(*zip(*ticks, strict=True), fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def plot_stretch(residues, row: int, *, width: int = 120) -> Picture:
    """Draw truth over prediction along the chain around one residue, which a line marks.

    Parameters
    ----------
    residues : pandas.DataFrame
        `Evaluation.residues`.
    row : int
        Of the residue.
    width : int
        Residues at most.
    """
    chain = residues[residues["chain"] == residues["chain"].iloc[row]]
    place = chain.index.get_loc(residues.index[row])
    first = min(max(place - width // 2, 0), max(len(chain) - width, 0))
    piece = chain.iloc[first : first + width]
    picture = Picture(12, 1.15)
    axes = picture.subplots()
    ticks = _draw_piece(axes, piece, 0)
    axes.axvline(place - first, color="black", linewidth=1.5)
    _finish_strip(axes, ticks, width)
    return picture


def plot_residues(residues, *, width: int = 120) -> Picture:
    """Draw truth over prediction along each chain, with the prediction's confidence.

    Parameters
    ----------
    residues : pandas.DataFrame
        `Evaluation.residues`.
    width : int
        Residues a line.

    Notes
    -----
    Bars are as high as the class tells (helix high, strand less, coil low), so the strip can be
    read without colours. The line is the probability of the predicted class.
    """
    pieces = [
        chain.iloc[first : first + width]
        for _, chain in residues.groupby("chain", sort=False)
        for first in range(0, len(chain), width)
    ]
    # Short chains share a line.
    lines, taken = [], width
    for piece in pieces:
        if taken + _GAP + len(piece) > width:
            lines.append([])
            taken = -_GAP
        lines[-1].append((taken + _GAP, piece))
        taken += _GAP + len(piece)
    picture = Picture(12, 0.6 + 0.95 * len(lines))
    panels = picture.subplots(len(lines), 1, squeeze=False)[:, 0]
    for axes, line in zip(panels, lines, strict=True):
        ticks = []
        for start, piece in line:
            ticks += _draw_piece(axes, piece, start)
        _finish_strip(axes, ticks, width)
    both = residues[["truth", "predicted"]]
    legend_of(picture, {n: CLASS_COLOURS[n] for n in CLASSES if (both == n).any(axis=None)})
    return picture


def plot_calibration(table) -> Picture:
    """Draw how often a prediction is right against how sure it is.

    Parameters
    ----------
    table : pandas.DataFrame
        From `cryonb.evaluate.calibration.calibration`.

    Notes
    -----
    On the diagonal a prediction is as good as it says; below it is too sure of itself. The areas
    of the marks go with the number of residues.
    """
    picture = Picture(4, 4)
    axes = picture.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    axes.plot(table["confidence"], table["accuracy"], color="0.2", linewidth=0.8)
    area = 20 + 280 * table["n"] / table["n"].max()
    axes.scatter(table["confidence"], table["accuracy"], s=area, color="#0072B2", alpha=0.7)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence",
             ylabel="share that is right")  # fmt: skip
    return picture
