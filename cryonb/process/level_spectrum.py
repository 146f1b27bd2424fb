"""One falloff for all maps: amplitudes levelled, shell by shell, as far as there is signal.

Maps of one molecule at one resolution differ most in how steeply their amplitudes fall: by the
decay of the signal, by sharpening, by the recipe of a simulation. A filter that depends on the
frequency alone takes that away, and what the map knows stays.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.ndimage import gaussian_filter1d

__all__ = ["level_spectrum"]

#: Å² of the falloff that maps are given, and the frequency (1/Å) below which it stays their own.
_FALLOFF, _COARSE = 60.0, 0.05
#: What the molecule's shape adds at low frequencies: height, and width in 1/Å.
_SHAPE, _SHAPE_WIDTH = 1.2, 0.05
#: Width of a shell, and of the smoothing of the curve, in 1/Å.
_SHELL, _SMOOTH = 1 / 64, 1 / 64
#: The power of a shell must be this many times that of the outermost ones to be raised.
_ABOVE = 4.0
#: Voxels around the map, against what wraps around.
_MARGIN = 8


def _frequencies(shape, voxel_size):
    z, y, x = (
        frequencies(n, step)
        for frequencies, n, step in zip(
            (np.fft.fftfreq, np.fft.fftfreq, np.fft.rfftfreq), shape, voxel_size[::-1], strict=True
        )
    )
    square = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    return np.sqrt(square, dtype=np.float32)


def level_spectrum(values: np.ndarray, voxel_size=(1.0, 1.0, 1.0), *, pad: bool = True):
    """Give a map the amplitudes of a common falloff.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Densities.
    voxel_size : tuple of float
        (x, y, z) in Å.
    pad : bool
        Whether to put the map into a somewhat larger box, so that its faces do not meet.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Zero where the map is exactly zero: a mask stays one.

    Notes
    -----
    A shell of mean amplitude A at frequency s > 1/20 Å is multiplied by T/A, T being in proportion
    to exp(-B s²/4) + 1.2 exp(-(20 s)²/2) with B = 60 Å², which is about what proteins have in maps,
    and equal to A at 1/20 Å. Where that would raise it, it is raised by 1 + w (T/A - 1),
    w = 1 - 4 (N/A)², at least 0, where N is the amplitude in the outermost tenth of the
    frequencies: noise, leaks of a mask and rounding are not made signal of. Shells below 1/20 Å
    keep their proportions.
    """
    values = np.asarray(values, dtype=np.float32)
    shape = tuple(next_fast_len(n + 2 * _MARGIN * pad, real=True) for n in values.shape)
    transform = rfftn(values, s=shape)
    s = _frequencies(shape, voxel_size)
    limit = 0.5 / max(voxel_size)
    which = np.minimum((s / _SHELL).astype(np.int32), int(limit / _SHELL) - 1).ravel()
    power = np.bincount(which, (transform.real**2 + transform.imag**2).ravel().astype(np.float64))
    power = power / np.maximum(np.bincount(which), 1)
    middle = (np.arange(len(power)) + 0.5) * _SHELL
    if not power.any():
        return values
    logarithm = np.log(np.maximum(power, power.max() * 1e-16))
    logarithm = gaussian_filter1d(logarithm, _SMOOTH / _SHELL, mode="nearest")
    gain = _gain(middle, np.exp(logarithm / 2), limit)
    # From shell to shell the gain goes smoothly, so that it does not ring.
    transform *= np.interp(s, middle, gain).astype(np.float32)
    out = irfftn(transform, s=shape)[tuple(slice(n) for n in values.shape)]
    return np.where(values == 0, np.float32(0), out.astype(np.float32, copy=False))


def _falloff(s):
    return np.exp(-_FALLOFF / 4 * s**2) + _SHAPE * np.exp(-((s / _SHAPE_WIDTH) ** 2) / 2)


def _gain(s, amplitude, limit: float) -> np.ndarray:
    noise = np.sqrt((amplitude[s > 0.9 * limit] ** 2).mean())
    own = np.exp(np.interp(_COARSE, s, np.log(amplitude)))
    wanted = own * _falloff(s) / _falloff(_COARSE)
    ratio = wanted / amplitude
    signal = np.clip(1 - _ABOVE * (noise / amplitude) ** 2, 0, 1)
    ratio = np.where(ratio > 1, 1 + signal * (ratio - 1), ratio)
    return np.where(s < _COARSE, 1.0, ratio)
