"""A map unrolled about an axis, and how it agrees with itself along all screws about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import map_coordinates, maximum_filter, spline_filter

from cryonb.process.helical import axis_frame
from cryonb.volume import Volume

__all__ = ["ScrewMap", "screw_maps"]

#: Part of the length that has to overlap where a screw is judged.
_OVERLAP = 0.4


@dataclass(frozen=True)
class ScrewMap:
    """Correlations over turns and shifts, periodic in both.

    Attributes
    ----------
    values : ndarray, shape (angle, height)
        From zero on; heights of the second half are negative ones. Zero where less than 0.4 of the
        length overlaps.
    step : tuple of float
        Degrees and Å between values.
    reach : float
        Largest height that was judged, Å.
    """

    values: np.ndarray
    step: tuple[float, float]
    reach: float

    def __post_init__(self):
        smooth = spline_filter(self.values, 3, mode="grid-wrap", output=np.float32)
        object.__setattr__(self, "_smooth", smooth)

    def at(self, twist, rise) -> np.ndarray:
        """Interpolate at twists in degrees and rises in Å, of any one shape."""
        place = np.stack(np.broadcast_arrays(twist / self.step[0], rise / self.step[1]))
        flat = place.reshape(2, -1)
        found = map_coordinates(self._smooth, flat, order=3, mode="grid-wrap", prefilter=False)
        return found.reshape(place.shape[1:])

    def folded(self, order: int) -> ScrewMap:
        """Average over the turns of an n-fold axis."""
        turns = np.arange(self.values.shape[0]) * self.step[0]
        rises = np.arange(self.values.shape[1]) * self.step[1]
        total = sum(self.at(turns[:, None] + 360 / order * k, rises) for k in range(order))
        return ScrewMap(total / order, self.step, self.reach)

    def peaks(self, most: int, *, beyond: float = 0.0):
        """Give twist, rise and value of local maxima at rises from 0 to `reach`, highest first.

        The origin is left out, and what lies below the rise `beyond` in Å.
        """
        n = int(self.reach / self.step[1]) + 1
        top = maximum_filter(self.values, 3, mode="wrap") == self.values
        top[:, n:] = False
        top[:, : int(np.ceil(beyond / self.step[1]))] = False
        top[0, 0] = False
        index = np.argwhere(top & (self.values > 0))
        value = self.values[tuple(index.T)]
        best = np.argsort(-value, kind="stable")[:most]
        return index[best] @ np.diag(self.step), value[best]

    @property
    def noise(self) -> float:
        """Typical size of what is no peak: the median absolute value over 0.6745."""
        part = self.values[:, : int(self.reach / self.step[1]) + 1]
        return float(np.median(np.abs(part)) / 0.6745)


def screw_maps(
    volume: Volume, axis, point, *, radius: float, low: float, high: float, spacing: float,
    dyad: bool = False,
) -> tuple[ScrewMap, ScrewMap | None]:  # fmt: skip
    """Correlate a map with itself over all screws about an axis, and with itself upside down.

    Parameters
    ----------
    volume : Volume
        A density.
    axis, point : ndarray, shape (3,)
        Of the helix.
    radius : float
        How far from the axis, Å.
    low, high : float
        From which to which height above the point along the axis, Å.
    spacing : float
        Å along and across the axis, and along the outermost circle.
    dyad : bool
        Whether to look at the map upside down, too.

    Returns
    -------
    screws : ScrewMap
        Σ f(x) f(Sx) / √(Σ f(x)² Σ f(Sx)²) over x and Sx within cylinder and box, where S turns and
        shifts, and f is the density less its mean over the circle and all heights: what is the same
        under all screws does not count.
    half_turns : ScrewMap or None
        The same for half turns about axes across: at (Φ, Z) the one at angle Φ/2 from the frame's
        first axis (`axis_frame`) and height (2 low + Z)/2 above the point.

    Notes
    -----
    On each circle angle and height are periodic once heights are padded, so that all screws take
    four Fourier transforms. Masked correlations by Fourier transforms: Padfield, IEEE Trans. Image
    Process. 21, 2706 (2012).
    """
    frame = axis_frame(axis)
    circles = (np.arange(max(int(np.ceil(radius / spacing)), 1)) + 0.5) * spacing
    n_angle = next_fast_len(max(int(np.ceil(2 * np.pi * radius / spacing)), 8))
    heights = np.arange(low, high, spacing)
    angle = 2 * np.pi * np.arange(n_angle) / n_angle
    around = np.cos(angle)[:, None] * frame[0] + np.sin(angle)[:, None] * frame[1]
    shape = (n_angle, next_fast_len(2 * len(heights), real=True))
    columns = volume.grid.to_index(point + heights[:, None] * frame[2])
    voxel = np.array(volume.voxel_size)
    terms = (shape[0], shape[1] // 2 + 1)
    sums = np.zeros((5, *terms), dtype=np.complex64)
    for r in circles:
        at = (r * around / voxel)[:, None, ::-1] + columns
        f = map_coordinates(
            volume.values, at.reshape(-1, 3).T, order=1, mode="constant", cval=np.nan
        ).reshape(n_angle, -1)
        there = np.isfinite(f)
        f = np.where(there, f - f[there].mean() if there.any() else 0, 0).astype(np.float32)
        a, b, m = (rfft2(one, s=shape, workers=-1) for one in (f, f * f, there.astype(np.float32)))
        sums[0] += r * (a.conj() * a)
        sums[1] += r * (b.conj() * m)
        sums[2] += r * (m.conj() * m)
        if dyad:
            sums[3] += r * a * a
            sums[4] += r * b * m
    step = (360 / n_angle, spacing)
    product, energy, overlap = (irfft2(one, s=shape, workers=-1) for one in sums[:3])
    back = np.roll(energy[::-1, ::-1], 1, axis=(0, 1))
    enough = overlap > _OVERLAP * overlap.max()
    screws = _ratio(product, np.sqrt(np.maximum(energy, 0) * np.maximum(back, 0)), enough)
    # Up to the first height at which some angle has too little left.
    half = enough.all(axis=0)[: len(heights)]
    reach = spacing * (len(half) if half.all() else half.argmin() - 1)
    first = ScrewMap(screws, step, reach)
    if not dyad:
        return first, None
    product, energy = (irfft2(one, s=shape, workers=-1) for one in sums[3:])
    enough = energy > _OVERLAP * energy.max()
    return first, ScrewMap(_ratio(product, energy, enough), step, 2 * (high - low))


def _ratio(product, energy, enough) -> np.ndarray:
    good = enough & (energy > 1e-6 * energy.max())
    return np.where(good, product / np.where(good, energy, 1), 0).astype(np.float32)
