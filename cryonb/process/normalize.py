"""Bring the values of a map to a scale of their own, by the conventions in use."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError
from cryonb.volume import Volume

__all__ = ["normalize"]


def normalize(volume: Volume, *, method: str = "rms") -> Volume:
    """Scale the values of a whole map by a published convention.

    Parameters
    ----------
    volume : Volume
        A density; it is not changed. Conventions that are defined on 1 Å voxels do not resample
        here: call `resample` first.
    method : str
        One of these.

        * "rms" (default): divided by the root mean square of all voxels, about zero. Zero stays
          zero, nothing is cut off.
        * "sigma": mean of all voxels subtracted, then divided by their standard deviation.
        * "emap2sec": negative values to 0, then min–max to [0, 1] over all voxels (the paper's
          Methods; with negatives in the map the minimum is 0). The program `map2train` also
          sets values below a contour to 0 first and takes the smallest non-zero value as the
          minimum; at its default contour of 0 the two differ by that smallest value.
        * "cryo2struct": divided by the 95th percentile of all non-zero values, negative ones
          included, then clipped to [0, 1]. This is what the program does and what the published
          data set was made by; the paper's text takes the percentile of positive values.
        * "emready": divided by the 99.999th percentile of the positive values and clipped to
          [0, 1]. The paper says percentile "of each map"; the program takes positive voxels. The
          program further multiplies by 100 for its network, which is left out here.
        * "siren": negative values to 0, then min–max to [-1, 1] (neural maps and density
          graphs).

    Returns
    -------
    Volume
        Of the class of `volume`, with its metadata.

    Raises
    ------
    CryonbError
        If the method is unknown, the volume is no density, holds NaN or infinite values, is
        empty (zero everywhere) or constant, or has nothing above zero where the method needs it.

    References
    ----------
    Maddhuri Venkata Subramaniya et al., Nature Methods 16, 911 (2019) (Emap2sec); Giri & Cheng,
    Cryo2StructData and Cryo2Struct (2024); He, Li & Huang, Nature Communications 14, 3217 (2023)
    (EMReady); Ranno & Si, neural representations of cryo-EM maps (2022) (siren).
    """
    if method not in _METHODS:
        raise CryonbError(
            f"The normalisation is one of {', '.join(_METHODS)}, but {method!r} was asked."
        )
    if type(volume)._dtypes != Volume._dtypes:
        raise CryonbError(
            f"A density was expected for normalisation, but a {type(volume).__name__} was given."
        )
    values = volume.values
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise CryonbError(
            "Normalisation expects finite values, but the volume holds NaN or infinite ones; "
            "replace them first, for example with numpy.nan_to_num."
        )
    if low == high:
        raise CryonbError(
            f"A map with contrast was expected for normalisation, but every voxel is {low:g}; "
            "open another map."
        )
    return volume.replace(_METHODS[method](values, low, high), note=f"normalised ({method})")


def _rms(values, low, high):
    return values * np.float32(1 / _root_mean_square(values))


def _sigma(values, low, high):
    mean = values.mean(dtype=np.float64)
    centred = values - np.float32(mean)
    centred *= np.float32(1 / _root_mean_square(centred))
    return centred


def _emap2sec(values, low, high):
    _need_positive(high, "emap2sec")
    low = max(low, 0.0)
    scaled = np.maximum(values, np.float32(0))
    scaled -= np.float32(low)
    scaled /= np.float32(high) - np.float32(low)
    return scaled


def _siren(values, low, high):
    scaled = _emap2sec(values, low, high)
    scaled *= 2
    scaled -= 1
    return scaled


def _cryo2struct(values, low, high):
    return _by_percentile(values, values != 0, 95.0, "cryo2struct")


def _emready(values, low, high):
    return _by_percentile(values, values > 0, 99.999, "emready")


_METHODS = {
    "rms": _rms,
    "sigma": _sigma,
    "emap2sec": _emap2sec,
    "cryo2struct": _cryo2struct,
    "emready": _emready,
    "siren": _siren,
}


def _root_mean_square(values) -> float:
    """Root mean square in float64, a z slice at a time so that the map is never widened whole."""
    total = sum(np.square(plane, dtype=np.float64).sum() for plane in values)
    return float(np.sqrt(total / values.size))


def _by_percentile(values, which, percent, method):
    chosen = values[which]
    scale = float(np.percentile(chosen, percent)) if chosen.size else 0.0
    _need_positive(scale, method)
    scaled = values / np.float32(scale)
    return np.clip(scaled, 0, 1, out=scaled)


def _need_positive(scale: float, method: str) -> None:
    if scale <= 0:
        raise CryonbError(
            f"The {method!r} normalisation needs density above zero, but its upper value in this "
            f"map is {scale:g}; check the sign of the map, or use 'sigma'."
        )
