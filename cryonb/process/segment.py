"""Cut a map into segments, each around a maximum of the density."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.ndimage import fourier_gaussian

from cryonb.errors import CryonbError
from cryonb.process.checks import require_density
from cryonb.process.contour import VOLUME_PER_DALTON, contour_level
from cryonb.volume import LabelVolume, Volume

__all__ = ["Segments", "segment"]

# Smoothing never goes beyond this, in voxels.
_WIDEST = 60
# Voxels around what is segmented that are smoothed with it.
_MARGIN = 30


@dataclass(frozen=True, repr=False)
class Segments:
    """Segments of a map, the largest first.

    Attributes
    ----------
    labels : LabelVolume
        0 outside, else the number of the segment.
    table : pandas.DataFrame
        A row a segment: segment (its number), voxels, volume (Å³), mass (kDa of protein that would
        fill it), x, y, z of the centre of its density, density (its maximum).
    density : Volume
        The map.
    contour : float
        The level above which voxels belong to a segment.
    """

    labels: LabelVolume
    table: pd.DataFrame
    density: Volume
    contour: float

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"<Segments: {len(self)} above {self.contour:.4g}>"

    def _repr_html_(self) -> str:
        return self.table.round(2).to_html(index=False)

    def map(self, *numbers: int) -> Volume:
        """Give the density of one segment, or of several together; the rest is zero."""
        wrong = [n for n in numbers if not 1 <= n <= len(self)]
        if wrong or not numbers:
            raise CryonbError(
                f"Numbers of segments from 1 to {len(self)} were expected, but {numbers} was given."
            )
        inside = np.isin(self.labels.values, numbers)
        text = ", ".join(str(n) for n in numbers)
        return self.density.replace(
            np.where(inside, self.density.values, np.float32(0)), note=f"segment {text}"
        )


def segment(
    volume: Volume, *, contour: float | None = None, count: int | None = None, steps: int = 4,
    step: float = 1.0, least_volume: float = 100.0,
) -> Segments:  # fmt: skip
    """Cut a map into segments, by a watershed with merging in scale space.

    Parameters
    ----------
    volume : Volume
        A density.
    contour : float, optional
        What is below it belongs to no segment; by default the map's own contour level or, where it
        has none, the recommended one.
    count : int, optional
        Merge until at most so many reach `least_volume`; `steps` then does not count. Parts that do
        not touch may stay apart, and be more.
    steps : int
        How often the map is smoothed; 0 for the plain watershed, with a segment a maximum.
    step : float
        By how much more, in voxels of standard deviation, each time.
    least_volume : float
        Å³; smaller segments are left out.

    Returns
    -------
    Segments

    Raises
    ------
    CryonbError
        If the map is flat or not finite, nothing is above the contour, or an argument is out of
        range.

    Notes
    -----
    From each voxel the path of steepest ascent, over its 26 neighbours, leads to a maximum; voxels
    with one maximum are one segment. Then the map is smoothed step by step: segments whose maxima
    ascend to one maximum of the smoothed map are merged (Pintilie, Zhang, Goddard, Chiu and
    Gossard, J. Struct. Biol. 170, 427 (2010)). Written here, since the watershed of scipy wants
    integers, and scikit-image is installed for notebooks only.
    """
    if (count is not None and count < 1) or steps < 0 or not step > 0:
        raise CryonbError(
            f"At least one segment, no negative steps and a positive step were expected, but "
            f"count={count}, steps={steps} and step={step} were given."
        )
    require_density(volume)
    if contour is None:
        known = getattr(volume, "contour", None)
        contour = contour_level(volume).level if known is None else known
    inside = volume.values >= contour
    if not inside.any():
        raise CryonbError(
            f"Voxels at or above the contour {contour:g} were expected, but the largest value is "
            f"{volume.max:g}; lower the contour."
        )
    place = np.flatnonzero(inside)
    neighbours = _neighbours(inside, place)
    values = volume.values.ravel()[place]
    top, owner = np.unique(_summits(values, neighbours), return_inverse=True)
    number, smoothing = 0, None
    least = least_volume / volume.grid.voxel_volume
    while len(top) > 1 and number * step < _WIDEST:
        # Specks that touch nothing never merge, and must not count.
        if number >= steps if count is None else (np.bincount(owner) >= least).sum() <= count:
            break
        number += 1
        smoothing = smoothing or _Smoothing(volume.values, inside)
        summit = _summits(smoothing(number * step), neighbours)
        _, group = np.unique(summit[top], return_inverse=True)
        # The highest of the merged maxima stands for the group.
        order = np.lexsort((-values[top], group))
        first = np.unique(group[order], return_index=True)[1]
        top, owner = top[order[first]], group[owner]
    return _gathered(volume, place, owner, float(contour), least_volume)


class _Smoothing:
    """Gaussians over the marked voxels of an array, as wide as one asks, at one price.

    What is farther than `_MARGIN` voxels from the box of the marked ones does not count.
    """

    def __init__(self, values: np.ndarray, inside: np.ndarray):
        spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {k}))) for k in range(3)]
        box = tuple(slice(max(s[0] - _MARGIN, 0), s[-1] + 1 + _MARGIN) for s in spans)
        self._marked = inside[box]
        # Behind the box there are zeros enough that one face does not see the other.
        self._shape = [next_fast_len(n + _MARGIN, real=True) for n in self._marked.shape]
        self._transform = rfftn(values[box], s=self._shape)

    def __call__(self, sigma: float) -> np.ndarray:
        """Give the smoothed values of the marked voxels."""
        smooth = fourier_gaussian(self._transform, sigma, n=self._shape[-1])
        smooth = irfftn(smooth, s=self._shape)
        return smooth[tuple(slice(n) for n in self._marked.shape)][self._marked]


def _neighbours(inside: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Rows of each marked voxel's 26 neighbours, of its own where there is none: (26, n)."""
    shape = inside.shape
    row = np.full(np.array(shape) + 2, -1, dtype=np.int32)
    index = np.array(np.unravel_index(place, shape)) + 1
    own = np.arange(len(place), dtype=np.int32)
    row[tuple(index)] = own
    found = []
    for offset in product((-1, 0, 1), repeat=3):
        if any(offset):
            near = row[tuple(index + np.array(offset)[:, None])]
            found.append(np.where(near < 0, own, near))
    return np.stack(found)


def _summits(values: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Row of the maximum that the steepest ascent from each voxel leads to."""
    own = np.arange(len(values))
    best, height = own.copy(), values.copy()
    for near in neighbours:
        # Of equal voxels the one of the lower row counts as higher, so that no path goes round.
        there = values[near]
        higher = (there > height) | ((there == height) & (near < best))
        best = np.where(higher, near, best)
        height = np.where(higher, there, height)
    while True:
        further = best[best]
        if np.array_equal(further, best):
            return best
        best = further


def _gathered(volume, place, owner, contour, least_volume) -> Segments:
    """Number the segments by size and make their table."""
    size = np.bincount(owner)
    order = np.argsort(-size, kind="stable")
    order = order[size[order] * volume.grid.voxel_volume >= least_volume]
    number = np.zeros(len(size), dtype=np.int32)
    number[order] = np.arange(1, len(order) + 1)
    labels = np.zeros(volume.grid.n_voxels, dtype=np.int32)
    labels[place] = number[owner]
    values = volume.values.ravel()[place].astype(np.float64)
    weight = np.maximum(values, 1e-30)
    points = volume.grid.to_points(np.stack(np.unravel_index(place, volume.shape), axis=1))
    total = np.bincount(owner, weight)
    centre = [np.bincount(owner, weight * p)[order] / total[order] for p in points.T]
    highest = np.full(len(size), -np.inf)
    np.maximum.at(highest, owner, values)
    filled = size[order] * volume.grid.voxel_volume
    table = pd.DataFrame(
        {
            "segment": np.arange(1, len(order) + 1), "voxels": size[order], "volume": filled,
            "mass": filled / VOLUME_PER_DALTON / 1000,
            **dict(zip("xyz", centre, strict=True)), "density": highest[order],
        }
    )  # fmt: skip
    classes = ("outside", *(str(n) for n in table["segment"]))
    found = LabelVolume._adopt(
        labels.reshape(volume.shape), volume.grid, classes=classes, name=volume.name
    )
    return Segments(found, table, volume, contour)
