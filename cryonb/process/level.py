"""Densities that a map tells about itself: the molecule's and the noise's."""

from __future__ import annotations

import numpy as np

__all__ = ["density_scale", "noise_level", "noise_statistics"]


def density_scale(values: np.ndarray) -> float:
    """Give a typical density of the molecule: Σ v³ / Σ v² over positive values.

    Zeros around a masked molecule, however many, do not change it, and noise hardly does, which
    mean, sigma and percentiles cannot say.

    Parameters
    ----------
    values : ndarray
        Densities, any shape.

    Returns
    -------
    float
        Zero if nothing is positive.
    """
    square = cube = 0.0
    # Section by section, which bounds the memory and stays in the cache.
    for section in np.atleast_2d(values):
        positive = np.maximum(section.ravel(), 0).astype(np.float64)
        squares = positive * positive
        square += float(squares.sum())
        cube += float(np.dot(squares, positive))
    return cube / square if square > 0 else 0.0


#: The least and the greatest that `noise_level` gives, as parts of `density_scale`.
_LEAST, _MOST = 0.02, 0.25


def noise_level(values: np.ndarray) -> float:
    """Give the density below which there is nothing worth a network's time.

    Five standard deviations of the noise, estimated by the median absolute deviation (the molecule
    fills a small part of a box), but never more than a quarter of the molecule's typical density;
    where a mask has zeroed a good part of the map there is no noise to estimate.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Densities.

    Returns
    -------
    float
        In the units of the values; zero if nothing is positive.
    """
    scale = density_scale(values)
    noise = noise_statistics(values)
    if noise is None:
        return _LEAST * scale
    middle, deviation = noise
    return float(np.clip(middle + 5 * deviation, _LEAST * scale, _MOST * scale))


def noise_statistics(values: np.ndarray) -> tuple[float, float] | None:
    """Estimate mean and standard deviation of a map's noise, by median and median deviation.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Densities; the molecule fills a small part of them.

    Returns
    -------
    mean, deviation : float
        None where a mask has zeroed a good part of the map.
    """
    # Every few sections tell as much as all of them.
    some = values[:: max(values.shape[0] // 32, 1)]
    if (some == 0).mean() > 0.3:
        return None
    middle = np.median(some)
    return float(middle), float(1.4826 * np.median(np.abs(some - middle)))
