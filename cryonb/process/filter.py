"""Filters in Fourier space, and the other hand."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError
from cryonb.process.checks import require_density
from cryonb.volume import Volume

__all__ = ["ball_transform", "band_filter", "flip_hand", "soft_step", "spatial_frequency"]


def spatial_frequency(shape, voxel_size) -> np.ndarray:
    """Give 1/d in 1/Å at each term of `scipy.fft.rfftn`.

    Parameters
    ----------
    shape : tuple of int
        Of the map, (z, y, x).
    voxel_size : tuple of float
        (x, y, z) in Å.

    Returns
    -------
    ndarray of float32, shape (z, y, x // 2 + 1)
    """
    size = tuple(voxel_size)[::-1]
    z, y = (np.fft.fftfreq(n, v).astype(np.float32) for n, v in zip(shape, size[:2], strict=False))
    x = np.fft.rfftfreq(shape[2], size[2]).astype(np.float32)
    return np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)


def ball_transform(s: np.ndarray, radius: float) -> np.ndarray:
    """Give the Fourier transform of a ball, 1 at s = 0: a factor that takes means over it.

    Parameters
    ----------
    s : ndarray
        In 1/Å.
    radius : float
        Of the ball, in Å.

    Returns
    -------
    ndarray
        3 (sin x - x cos x) / x³ with x = 2π s radius.
    """
    x = 2 * np.pi * radius * s.astype(np.float64)
    # Below 0.03 the series 1 - x²/10 is the more exact.
    safe = np.maximum(x, 0.03)
    far = 3 * (np.sin(safe) - safe * np.cos(safe)) / safe**3
    return np.where(x < 0.03, 1 - x**2 / 10, far).astype(s.dtype)


def soft_step(s: np.ndarray, cut: float, edge: float) -> np.ndarray:
    """Give 1 below a frequency, 0 above, half a cosine wave of width `edge` (1/Å) between."""
    place = np.clip((s - (cut - edge / 2)) / max(edge, 1e-12), 0, 1)
    return 0.5 * (1 + np.cos(np.pi * place))


def band_filter(
    volume: Volume, *, low: float | None = None, high: float | None = None, edge: float = 0.1
) -> Volume:
    """Take fine or coarse detail out of a map.

    Parameters
    ----------
    volume : Volume
        A map.
    low : float, optional
        Low-pass: nothing finer than this resolution, in Å, stays.
    high : float, optional
        High-pass: nothing coarser than this resolution, in Å, stays, the mean included.
    edge : float
        Width of the soft edge, as a part of the frequency where the filter cuts.

    Returns
    -------
    Volume

    Raises
    ------
    CryonbError
        If no limit is given, one is not positive, or the low-pass limit is the coarser one.
    """
    from scipy.fft import irfftn, rfftn

    limits = [limit for limit in (low, high) if limit is not None]
    if not limits or min(limits) <= 0:
        raise CryonbError(
            f"A positive limit in Å for low= or high= was expected, but low={low} and high={high} "
            "were given."
        )
    if len(limits) == 2 and low >= high:
        raise CryonbError(
            f"Details between low= and high= stay, so low must be finer than high, but low={low:g} "
            f"and high={high:g} Å were given."
        )
    require_density(volume, flat=True)
    s = spatial_frequency(volume.shape, volume.voxel_size)
    keep = np.ones_like(s)
    if low is not None:
        keep *= soft_step(s, 1 / low, edge / low)
    if high is not None:
        keep *= 1 - soft_step(s, 1 / high, edge / high)
    terms = rfftn(volume.values, workers=-1)
    values = irfftn(terms * keep, s=volume.shape, workers=-1).astype(np.float32)
    named = {"low-pass": low, "high-pass": high}
    words = [f"{limit:g} Å {name}" for name, limit in named.items() if limit is not None]
    result = volume.replace(values, note="filtered: " + ", ".join(words))
    if low is not None and getattr(result, "resolution", None) is not None:
        result.resolution = max(result.resolution, low)
    return result


def flip_hand(volume: Volume) -> Volume:
    """Mirror a map along z, about the middle of its box: the other hand.

    A map that was reconstructed in the wrong hand has left-handed helices; this makes them
    right-handed. The box stays where it is.
    """
    return volume.replace(np.ascontiguousarray(volume.values[::-1]), note="hand flipped")
