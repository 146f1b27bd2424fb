"""Local resolution of half maps: the resolution up to which they agree, at each voxel."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.process.falloff import known_resolution
from cryonb.process.filter import ball_transform, spatial_frequency
from cryonb.process.fourier_shells import half_map_fsc, same_grid
from cryonb.process.half_maps import HalfMaps
from cryonb.process.resample import resample
from cryonb.process.windows import Windows
from cryonb.volume import Volume

__all__ = ["local_resolution"]

_THRESHOLD = 0.143
# Shells of equal volume in Fourier space, and the finest, as a part of the resolution (cctbx's
# map_model_manager.local_resolution_map).
_SHELLS, _FINEST = 20, 0.833
# The grid on which band-passed maps are multiplied is no coarser than this over the finest
# frequency: what their product aliases then stays above the frequencies that a ball's mean keeps.
_NYQUIST = 1.25
# Width of a window by method "fsc", and the step between windows, in resolutions.
_WIDTH, _STEP = 7.0, 1.5


def local_resolution(
    first: Volume, second: Volume, *, method: str = "bandpass", resolution: float | None = None,
    finest: float | None = None, threshold: float = _THRESHOLD, radius: float | None = None,
) -> Volume:  # fmt: skip
    """Find the resolution of a map voxel by voxel.

    Parameters
    ----------
    first, second : Volume
        Half maps on one grid, not masked.
    method : {"bandpass", "fsc"}
        "bandpass": both maps are cut into 20 shells of Fourier space, and correlated over a ball
        around each voxel. "fsc": Fourier shell correlation in windows, interpolated between them.
    resolution : float, optional
        Of the whole map, in Å; by default as a `DensityMap` knows it, else where the half maps' FSC
        is 0.143.
    finest : float, optional
        Nothing finer is looked at: 0.833 times the resolution by default, or twice the voxel size.
    threshold : float
        Correlation at which the local resolution is read.
    radius : float, optional
        Of the ball ("bandpass"; the resolution by default), or half the edge of a window, which
        falls off as a squared cosine ("fsc"; 3.5 times the resolution by default), in Å.

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
    "bandpass" follows cctbx's map_model_manager.local_resolution_map: the finest shell at or above
    the threshold and the coarsest below it, interpolated linearly in the correlation, averaged
    where they have crossed, and smoothed by a Gaussian of the ball's radius. cctbx's interpolation
    weights the two the other way round, which makes it read about half a shell coarser; here the
    shell whose correlation is nearer to the threshold counts more.

    "fsc" is the scheme of Cardone, Heymann and Steven (2013, J. Struct. Biol. 184, 226), by windows
    of which each overlaps the next; the first crossing counts.
    """
    halves = HalfMaps(first, second)
    same_grid(first, second)
    if method not in ("bandpass", "fsc"):
        raise CryonbError(f"A method of bandpass or fsc was expected, but {method!r} was given.")
    if resolution is None:
        resolution = getattr(first, "resolution", None)
    if resolution is None:
        resolution = half_map_fsc(first, second).resolution(_THRESHOLD)
        if not resolution > 0:
            raise CryonbError(
                "Half maps that agree were expected, but their FSC is below 0.143 from the first "
                "shell on; check that both are halves of one map."
            )
    d = known_resolution(first, resolution)
    nyquist = 2 * max(first.voxel_size)
    finest = max(nyquist, _FINEST * d if finest is None else finest)
    if method == "bandpass":
        values = _bandpass(halves, finest, threshold, d if radius is None else radius)
    else:
        width = _WIDTH * d if radius is None else 2 * radius
        values = _windowed(halves, finest, threshold, width, _STEP * d)
    name = first.name and f"{first.name} local resolution"
    note = f"local resolution by {method} at {threshold:g}"
    return Volume._adopt(values, first.grid, name=name, history=(*first.history, note))


def _bandpass(halves: HalfMaps, finest: float, threshold: float, radius: float) -> np.ndarray:
    grid = halves.first.grid
    (d_above, c_above), (d_below, c_below), work = band_crossings(
        halves, finest=finest, threshold=threshold, radius=radius
    )
    gap = c_above - c_below
    share = np.clip((threshold - c_below) / np.maximum(gap, 1e-10), 0, 1)
    share[gap <= 1e-10] = 0.5
    values = share * d_above + (1 - share) * d_below
    s = spatial_frequency(values.shape, work.voxel_size)
    terms = rfftn(values, workers=-1) * np.exp(-2 * np.pi**2 * radius**2 * s**2)
    return _refit(terms, values.shape, grid.shape)


def band_crossings(halves: HalfMaps, *, finest: float, threshold: float, radius: float):
    """Correlate half maps in shells, and find between which two shells they stop to agree.

    Parameters
    ----------
    halves : HalfMaps
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
    work : Grid
        The same box, with as many voxels as the products of the band-passed maps need.
    """
    grid = halves.first.grid
    sizes = []
    for n, voxel in zip(grid.shape, grid.voxel_size[::-1], strict=True):
        needed = int(np.ceil(min(2 * _NYQUIST / finest, 1 / voxel) * n * voxel - 1e-6))
        sizes.append(min(next_fast_len(needed, real=True), next_fast_len(n, real=True)))
    work = Grid(tuple(sizes), tuple(grid.extent / sizes[::-1]), grid.origin)
    s = spatial_frequency(work.shape, work.voxel_size)
    a, b = (_crop_terms(rfftn(half.values, workers=-1), grid.shape, work.shape) for half in halves)
    ball = ball_transform(s, radius)
    weight = np.full(s.shape[2], 2.0)
    weight[0] = 1.0
    weight = np.broadcast_to(weight, s.shape)

    def smooth(values):
        means = irfftn(rfftn(values, workers=-1) * ball, s=work.shape, workers=-1)
        return np.maximum(means, 0)

    coarsest = 1 / grid.extent.max()
    edges = np.cbrt(np.linspace(coarsest**3, finest**-3, _SHELLS + 1))
    edges[0] *= 1 - 1e-6
    edges[-1] *= 1 + 1e-6
    shell = np.digitize(s, edges)
    d_above = c_above = d_below = c_below = None
    for number in range(1, _SHELLS + 1):
        inside = shell == number
        if not inside.any():
            continue
        d = np.float32((weight[inside] / s[inside]).sum() / weight[inside].sum())
        first, second = (irfftn(part * inside, s=work.shape, workers=-1) for part in (a, b))
        norm = np.sqrt(smooth(first**2) * smooth(second**2))
        correlation = np.clip(smooth(first * second) / np.maximum(norm, norm.max() * 1e-9), 0, 1)
        if d_above is None:
            d_above = np.full(work.shape, d)
            d_below = np.full(work.shape, np.float32(finest))
            c_above, c_below = (np.zeros(work.shape, np.float32) for _ in range(2))
        agree = correlation >= threshold
        finer = agree & (d_above > d)
        d_above[finer], c_above[finer] = d, correlation[finer]
        coarser = ~agree & (d_below < d)
        d_below[coarser], c_below[coarser] = d, correlation[coarser]
    return (d_above, c_above), (d_below, c_below), work


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


def _refit(terms: np.ndarray, old, new) -> np.ndarray:
    """Turn terms of one grid back into a map on another of the same box."""
    return irfftn(_crop_terms(terms, old, new), s=new, workers=-1).astype(np.float32)


def _windowed(
    halves: HalfMaps, finest: float, threshold: float, width: float, step: float
) -> np.ndarray:
    grid = halves.first.grid
    windows = Windows(grid, width, step)
    s = windows.shells.s
    s = s[s <= 1 / finest]
    if len(s) < 3:
        raise CryonbError(
            f"Windows of at least three shells up to {finest:.3g} Å were expected, but those of "
            f"{width:.3g} Å have {len(s)}; give a larger radius=."
        )
    found = np.empty(windows.counts, dtype=np.float32)
    weights = windows.hann()
    rows = windows.transforms(halves.first.values, halves.second.values, weights=weights)
    for index, (a, b) in rows:
        norm = windows.shell_sums(a) * windows.shell_sums(b)
        fsc = windows.shell_sums(a, b) / np.sqrt(np.maximum(norm, 1e-30))
        found[tuple(index.T)] = first_crossings(s, fsc[:, : len(s)], threshold, finest)
    # Between the centres of windows 1/d is interpolated, which resolution is even in.
    coarse = Volume._adopt(1 / found, windows.centres)
    return (1 / resample(coarse, grid=grid, method="linear").values).astype(np.float32)


def first_crossings(s: np.ndarray, curves: np.ndarray, threshold: float, finest: float):
    """Read the resolutions at which curves first fall below a threshold.

    Parameters
    ----------
    s : ndarray, shape (shell,)
        1/Å, ascending.
    curves : ndarray, shape (n, shell)
        Correlations.
    threshold, finest : float
        Correlation, and the resolution (Å) of a curve that stays above it.

    Returns
    -------
    ndarray, shape (n,)
        Å; that of the first shell where a curve is never above.
    """
    below = curves < threshold
    never = ~below.any(axis=1)
    k = np.clip(below.argmax(axis=1), 1, len(s) - 1)
    row = np.arange(len(curves))
    upper, lower = curves[row, k - 1], curves[row, k]
    part = np.clip((upper - threshold) / np.maximum(upper - lower, 1e-9), 0, 1)
    d = 1 / (s[k - 1] + part * (s[k] - s[k - 1]))
    d = np.where(below[:, 0], 1 / s[0], d)
    return np.maximum(np.where(never, finest, d), finest)
