"""How probable the densities of a map are, and how they would have to change to be more so."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn, rfftn
from scipy.ndimage import gaussian_filter1d

from cryonb.process.filter import ball_transform

__all__ = ["likelihood_slope", "molecule_probability"]

# Voxels by which the two kinds of region are told apart.
_SAMPLE = 100_000
# Percentiles of the local variance where the search for solvent and molecule begins.
_START = (20, 97)
# Two normal distributions whose centres are nearer than this, in standard deviations, are one
# (Ashman, Bird and Zepf 1994, Astron. J. 108, 2348). That of solvent and molecule was 2.6 to 3.0
# in simulated maps, that of Gaussian noise 1.5 to 1.8.
_APART = 2.0
# Bins of a histogram, what it leaves out at each end, its smoothing in standard deviations of the
# noise, and what is added to every count.
_BINS, _TAIL, _SMOOTH, _COUNT = 256, 1e-5, 0.3, 1e-2


def molecule_probability(values: np.ndarray, s: np.ndarray, radius: float) -> np.ndarray:
    """Tell molecule from solvent by the local variance of a map.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Densities whose mean over the solvent is about zero.
    s : ndarray, shape (z, y, x // 2 + 1)
        1/d in 1/Å; see `cryonb.process.filter.spatial_frequency`.
    radius : float
        Å; squares are averaged over a ball of this radius.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Probability of molecule: two normal distributions are fitted to the logarithm of the mean
        square. It is 0 below the centre of the lower one and 1 above that of the higher; and 1
        everywhere if these are not two, as in a box without solvent.
    """
    from sklearn.mixture import GaussianMixture

    square = irfftn(rfftn(values**2) * ball_transform(s, radius), s=values.shape)
    # The transform of a sharp ball rings, where a mask left nothing even below zero.
    level = np.log(np.maximum(square, 1e-6 * square.mean()))[..., None]
    some = level.reshape(-1, 1)[:: max(level.size // _SAMPLE, 1)]
    start = np.percentile(some, _START)[:, None]
    mixture = GaussianMixture(2, means_init=start, random_state=0).fit(some)
    low, high = np.argsort(mixture.means_[:, 0])
    ends = mixture.means_[[low, high], 0]
    spread = np.sqrt(mixture.covariances_.mean())
    if ends[1] - ends[0] < _APART * spread:
        return np.ones(values.shape, dtype=np.float32)
    # A table is as good as the formula at every voxel. The wider of two normal distributions is
    # the more probable one on both sides, which the centres put right.
    table = np.linspace(*ends, 512)
    found = mixture.predict_proba(table[:, None])[:, high]
    return np.interp(level[..., 0], table, found, left=0.0, right=1.0).astype(np.float32)


def likelihood_slope(values: np.ndarray, probability: np.ndarray, noise: float) -> np.ndarray:
    """Give the derivative of the log likelihood of each voxel's density.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Densities.
    probability : ndarray, shape (z, y, x)
        Of molecule.
    noise : float
        Standard deviation of the noise in the densities.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        d ln[P p(v | molecule) + (1 - P) p(v | solvent)] / dv.

    Notes
    -----
    p are the histograms of the map itself, each voxel counted by its probability, smoothed by 0.3
    standard deviations of the noise. For noise of variance N, v plus N times this slope is the
    mean of what the density may have been without noise (Robbins 1956; Efron 2011, J. Am. Stat.
    Assoc. 106, 1602, who calls it Tweedie's formula).
    """
    low, high = np.quantile(values, (_TAIL, 1 - _TAIL))
    width = max((high - low) / _BINS, 1e-30)
    place = np.clip((values - low) / width, 0, _BINS - 1e-3)
    which = place.astype(np.intp).ravel()
    # Between the middles of two bins slopes and heights are linear.
    place = np.clip(place - 0.5, 0, _BINS - 1.001)
    below = place.astype(np.intp)
    part = (place - below).astype(np.float32)

    def read(table):
        table = table.astype(np.float32)
        return table[below] + part * (table[below + 1] - table[below])

    height, slope = [], []
    for weight in (probability, 1 - probability):
        count = np.bincount(which, weights=weight.ravel(), minlength=_BINS)
        smooth = max(_SMOOTH * noise / width, 1.0)
        density = gaussian_filter1d(count, smooth, mode="constant") + _COUNT
        height.append(weight * read(density / density.sum()))
        slope.append(read(np.gradient(np.log(density), width)))
    share = height[0] / np.maximum(height[0] + height[1], 1e-30)
    return (share * slope[0] + (1 - share) * slope[1]).astype(np.float32)
