"""Local resolution of half maps: the resolution up to which they agree, at each voxel."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.process.falloff import known_resolution
from cryonb.process.filter import ball_transform, spatial_frequency
from cryonb.process.fourier_shells import agreed_resolution, half_map_fsc
from cryonb.process.half_maps import HalfMaps
from cryonb.volume import Volume

__all__ = ["Bands", "band_crossings", "local_resolution"]

_THRESHOLD = 0.143
# Shells of equal volume in Fourier space, and the finest, as a part of the resolution (cctbx's
# map_model_manager.local_resolution_map).
_SHELLS, _FINEST = 20, 0.833
# The grid on which band-passed maps are multiplied is no coarser than this over the finest
# frequency: what their product aliases then stays above the frequencies that local means keep.
_NYQUIST = 1.25
# Radius by method "fsc": at least this many Å and resolutions.
_RADIUS, _RADII = 14.0, 2.5


def local_resolution(
    first: Volume, second: Volume, *, method: str = "fsc", resolution: float | None = None,
    finest: float | None = None, threshold: float = _THRESHOLD, radius: float | None = None,
) -> Volume:  # fmt: skip
    """Find the resolution of a map voxel by voxel.

    Parameters
    ----------
    first, second : Volume
        Half maps on one grid, not masked.
    method : {"fsc", "bandpass"}
        "fsc": Fourier shell correlation over shells and places that blend into one another, the
        first crossing of the threshold counting. "bandpass": as cctbx does it; see the notes.
    resolution : float, optional
        Of the whole map, in Å; by default as a `DensityMap` knows it, else where the half maps' FSC
        is 0.143.
    finest : float, optional
        Nothing finer is looked at, in Å: by default twice the voxel size ("fsc"), or 0.833 times
        the resolution ("bandpass").
    threshold : float
        Correlation at which the local resolution is read.
    radius : float, optional
        Å. "fsc": that of the place over which is correlated (the ball whose variance the Gaussian
        weights have); the larger, the surer and the less local; 14 Å or 2.5 resolutions by default.
        "bandpass": that of the ball over which is correlated; the resolution by default.

    Returns
    -------
    Volume
        d in Å. What it says away from the molecule means nothing.

    Raises
    ------
    CryonbError
        If the half maps do not agree anywhere, are flat, the same or not finite, or the method is
        unknown.
    GridError
        If they are not on one grid.

    Notes
    -----
    "fsc": both maps are cut by shells that follow one another by 1/(2 radius) and overlap by half,
    falling off as squared cosines, so that a shell's tails in space end about where the place
    does. On four copies of one protein with B from 10 to 300 Å² in one box of white noise the
    medians are the resolutions of each copy by itself to a few percent where noise is low
    (`benchmarks/bench_local_resolution.py` prints them).

    "bandpass" follows cctbx's map_model_manager.local_resolution_map: 20 sharp shells of equal
    volume, correlated over a ball of one resolution; the finest shell at or above the threshold and
    the coarsest below it are interpolated linearly in the correlation, averaged where they have
    crossed, and smoothed by a Gaussian of the ball's radius. As few terms fall in so small a ball,
    chance pulls the answers of all places together. cctbx's interpolation weights the two shells
    the other way round; here that counts more whose correlation is nearer to the threshold.
    """
    halves = HalfMaps(first, second)
    if method not in ("fsc", "bandpass"):
        raise CryonbError(f"A method of fsc or bandpass was expected, but {method!r} was given.")
    for what, value in (("finest", finest), ("radius", radius), ("threshold", threshold)):
        if value is not None and not value > 0:
            raise CryonbError(f"A positive {what}= was expected, but {value!r} was given.")
    if resolution is None:
        resolution = getattr(first, "resolution", None)
    if resolution is None:
        resolution = agreed_resolution(half_map_fsc(first, second))
    d = known_resolution(first, resolution)
    nyquist = 2 * max(first.voxel_size)
    if method == "fsc":
        finest = max(nyquist, finest or 0.0)
        values = _continuous(halves, finest, threshold, radius or max(_RADIUS, _RADII * d))
    else:
        finest = max(nyquist, finest or _FINEST * d)
        values = _bandpass(halves, finest, threshold, radius or d)
    name = first.name and f"{first.name} local resolution"
    note = f"local resolution by {method} at {threshold:g}"
    return Volume._adopt(values, first.grid, name=name, history=(*first.history, note))


class Bands:
    """Half maps, of which parts of Fourier space are correlated locally.

    Parameters
    ----------
    halves : HalfMaps
        The maps.
    finest : float
        Å; nothing finer will be asked for.

    Attributes
    ----------
    work : Grid
        The maps' box, with as many voxels as products of band-passed maps need.
    s : ndarray
        1/d of its terms in 1/Å.
    """

    def __init__(self, halves: HalfMaps, finest: float):
        self.grid = grid = halves.first.grid
        sizes = []
        for n, edge in zip(grid.shape, grid.extent[::-1], strict=True):
            needed = min(int(np.ceil(2 * _NYQUIST / finest * edge)), n)
            sizes.append(next_fast_len(needed, real=True))
        self.work = Grid(tuple(sizes), tuple(grid.extent / sizes[::-1]), grid.origin)
        self.s = spatial_frequency(self.work.shape, self.work.voxel_size)
        self._terms = [
            _crop_terms(rfftn(half.values, workers=-1), grid.shape, sizes) for half in halves
        ]

    def means(self, values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """Take local means, by the transform of the weights."""
        return irfftn(rfftn(values, workers=-1) * kernel, s=self.work.shape, workers=-1)

    def correlation(self, band: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """Correlate the maps locally.

        Parameters
        ----------
        band, kernel : ndarray, of the shape of `s`
            Weights of the terms, and transform of the weights of the places.

        Returns
        -------
        ndarray of float32, shape of `work`
            -1 to 1.
        """
        a, b = (irfftn(part * band, s=self.work.shape, workers=-1) for part in self._terms)
        cross = self.means(a * b, kernel)
        np.square(a, out=a)
        np.square(b, out=b)
        norm = np.maximum(self.means(a, kernel), 0) * np.maximum(self.means(b, kernel), 0)
        np.sqrt(norm, out=norm)
        return np.clip(cross / np.maximum(norm, max(norm.max() * 1e-9, 1e-30)), -1, 1)

    def on_map(self, values: np.ndarray) -> np.ndarray:
        """Put values of the work grid on the maps' grid."""
        terms = _crop_terms(rfftn(values, workers=-1), self.work.shape, self.grid.shape)
        return irfftn(terms, s=self.grid.shape, workers=-1).astype(np.float32)


def _continuous(halves: HalfMaps, finest: float, threshold: float, radius: float) -> np.ndarray:
    bands = Bands(halves, finest)
    step = 1 / (2 * radius)
    # A Gaussian of the ball's variance along an axis.
    kernel = np.exp(-2 * np.pi**2 * radius**2 / 5 * bands.s**2)
    found = np.full(bands.work.shape, np.float32(1 / finest))
    open_still = np.ones(bands.work.shape, dtype=bool)
    before = None
    for number in range(1, max(int(1 / finest / step + 1e-6), 1) + 1):
        s = number * step
        near = np.clip(1 - np.abs(bands.s - s) / step, 0, 1)
        now = bands.correlation(np.sin(np.pi / 2 * near) ** 2, kernel)
        crossed = open_still & (now < threshold)
        if before is None:
            found[crossed] = s
        else:
            upper, lower = before[crossed], now[crossed]
            found[crossed] = s - step * (threshold - lower) / np.maximum(upper - lower, 1e-9)
        open_still &= ~crossed
        before = now
    s = bands.on_map(found)
    # What rings about a place that jumps is cut.
    return 1 / np.clip(s, found.min(), np.float32(1 / finest))


def _bandpass(halves: HalfMaps, finest: float, threshold: float, radius: float) -> np.ndarray:
    bands = Bands(halves, finest)
    (d_above, c_above), (d_below, c_below) = band_crossings(bands, finest, threshold, radius)
    gap = c_above - c_below
    share = np.clip((threshold - c_below) / np.maximum(gap, 1e-10), 0, 1)
    share[gap <= 1e-10] = 0.5
    smooth = np.exp(-2 * np.pi**2 * radius**2 * bands.s**2)
    return bands.on_map(bands.means(share * d_above + (1 - share) * d_below, smooth))


def band_crossings(bands: Bands, finest: float, threshold: float, radius: float):
    """Find between which two of 20 shells half maps cease to agree.

    Parameters
    ----------
    bands : Bands
        The maps.
    finest, radius : float
        Limit of the shells, and radius of the ball over which is correlated, in Å.
    threshold : float
        Correlation.

    Returns
    -------
    above, below : tuple of ndarray
        Mean d (Å) of the finest shell at or above the threshold and of the coarsest below it, and
        the correlations there; float32, on the work grid.
    """
    kernel = ball_transform(bands.s, radius)
    weight = np.full(bands.s.shape[2], 2.0)
    weight[0] = 1.0
    weight = np.broadcast_to(weight, bands.s.shape)
    edges = np.cbrt(np.linspace(bands.grid.extent.max() ** -3, finest**-3, _SHELLS + 1))
    # Rounding must not lose the terms at the ends.
    edges[[0, -1]] *= 1 - 1e-6, 1 + 1e-6
    shell = np.digitize(bands.s, edges)
    above = below = None
    for number in range(1, _SHELLS + 1):
        inside = shell == number
        if not inside.any():
            continue
        d = np.float32((weight[inside] / bands.s[inside]).sum() / weight[inside].sum())
        found = np.maximum(bands.correlation(inside, kernel), 0)
        if above is None:
            above = np.full_like(found, d), np.zeros_like(found)
            below = np.full_like(found, finest), np.zeros_like(found)
        agree = found >= threshold
        for (best, correlation), better in (
            (above, agree & (above[0] > d)), (below, ~agree & (below[0] < d)),
        ):  # fmt: skip
            best[better], correlation[better] = d, found[better]
    return above, below


def _crop_terms(terms: np.ndarray, old, new) -> np.ndarray:
    """Put the terms of a real transform on another grid of the same box.

    Frequencies that both have are kept, those of Nyquist left out; the scale is that of the new.
    """
    made = np.zeros((*new[:2], new[2] // 2 + 1), dtype=terms.dtype)
    most = [(min(n, m) - 1) // 2 for n, m in zip(old, new, strict=True)]
    for z in (slice(0, most[0] + 1), slice(-most[0], None)):
        for y in (slice(0, most[1] + 1), slice(-most[1], None)):
            made[z, y, : most[2] + 1] = terms[z, y, : most[2] + 1]
    return made * np.float32(np.prod(new) / np.prod(old))
