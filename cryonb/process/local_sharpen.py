"""Sharpen windows of a map, each by itself, and blend them."""

from __future__ import annotations

import numpy as np

from cryonb.process.windows import Windows
from cryonb.volume import Volume

__all__ = ["match_falloff", "match_model", "weight_by_halves"]

#: A window with this part of the power of a strong one is half trusted.
_WEAK = 0.1
#: Å²: a window's falloff is corrected by no more.
_MOST = 150.0
_COARSEST = 10.0


def _trust(power: np.ndarray) -> np.ndarray:
    """How far each window's own estimate counts, 0 to 1, by its power."""
    strong = np.percentile(power, 95)
    return power / np.maximum(power + _WEAK * strong, 1e-30)


def _excess_b(power: np.ndarray, whole: np.ndarray, windows: Windows, d: float) -> np.ndarray:
    """B (Å²) by which windows (n, shell) fall faster than the whole (shell,)."""
    s = windows.shells.s
    used = (s >= 1 / max(_COARSEST, 2.5 * d)) & (s <= 1 / d)
    if used.sum() < 3:
        return np.zeros(len(power))
    s2, count = s[used] ** 2, windows.shells.count[used]
    ratio = np.log(np.maximum(power[:, used], 1e-30) / np.maximum(whole[used], 1e-30))
    # A straight line through each window's ratio, weighted by the terms of a shell.
    centred = s2 - np.average(s2, weights=count)
    slope = (ratio * (count * centred)).sum(axis=1) / (count * centred**2).sum()
    return np.clip(-2 * slope, -_MOST, _MOST)


def _powers(volume: Volume, windows: Windows) -> np.ndarray:
    """Power of each window by shell: shape (window, shell)."""
    rows = windows.transforms(volume.values)
    return np.concatenate([windows.shell_sums(terms) for _, (terms,) in rows])


def match_falloff(volume: Volume, *, resolution: float, width: float) -> Volume:
    """Give all windows of a map the falloff of the strong ones together.

    Parameters
    ----------
    volume : Volume
        A map that was sharpened as a whole.
    resolution : float
        Å; up to there the falloff is compared.
    width : float
        Edge of a window in Å.

    Returns
    -------
    Volume
        Each window's terms times exp(ΔB s²/4), ΔB being the B by which it falls faster than the
        whole, at most 150 Å² and less where the window has little density.
    """
    windows = Windows(volume.grid, width)
    power = _powers(volume, windows)
    trust = _trust(power.sum(axis=1))
    excess = trust * _excess_b(power, trust @ power, windows, resolution)
    s2 = np.minimum(windows.shells.s, 1 / resolution) ** 2
    factor = np.exp(excess[:, None] * s2 / 4)
    return _with_factors(volume, windows, factor)


def _with_factors(volume: Volume, windows: Windows, factor: np.ndarray) -> Volume:

    def changed():
        first = 0
        for index, (terms,) in windows.transforms(volume.values):
            yield index, terms * windows.on_terms(factor[first : first + len(index)])
            first += len(index)

    return volume.replace(windows.assemble(changed()))


def weight_by_halves(
    volume: Volume, halves: tuple[Volume, Volume], *, resolution: float, width: float
) -> Volume:
    """Weight each window by its own correlation of half maps, and match the falloff.

    Parameters
    ----------
    volume : Volume
        A map that was sharpened as a whole, but not weighted.
    halves : pair of Volume
        On the same grid.
    resolution, width : float
        See `match_falloff`; the resolution is the whole's, and a window that has none as fine is
        weighted down, not sharpened further.

    Returns
    -------
    Volume
    """
    windows = Windows(volume.grid, width)
    power, c_ref = [], []
    rows = windows.transforms(volume.values, halves[0].values, halves[1].values)
    for _, (terms, a, b) in rows:
        power.append(windows.shell_sums(terms))
        cross, norm = windows.shell_sums(a, b), windows.shell_sums(a) * windows.shell_sums(b)
        fsc = np.clip(_smooth(cross / np.sqrt(np.maximum(norm, 1e-30))), 0, 1)
        c_ref.append(np.sqrt(2 * fsc / (1 + fsc)))
    power, c_ref = np.concatenate(power), np.concatenate(c_ref)
    signal = power * c_ref**2
    trust = _trust(signal.sum(axis=1))
    excess = trust * _excess_b(signal, trust @ signal, windows, resolution)
    s2 = np.minimum(windows.shells.s, 1 / resolution) ** 2
    return _with_factors(volume, windows, c_ref * np.exp(excess[:, None] * s2 / 4))


def _smooth(curve: np.ndarray) -> np.ndarray:
    """Mean over a shell and its two neighbours, the shell counting twice."""
    wide = np.pad(curve, ((0, 0), (1, 1)), mode="edge")
    return (wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]) / 4


def match_model(volume: Volume, reference: Volume, *, width: float) -> Volume:
    """Bring each window as near to the model's map as a factor a shell can.

    Parameters
    ----------
    volume : Volume
        A map that was scaled to the model's as a whole.
    reference : Volume
        The model's map on the same grid.
    width : float
        Edge of a window in Å.

    Returns
    -------
    Volume
        Where the model has little density the map stays as it was.
    """
    windows = Windows(volume.grid, width)
    factor, power = [], []
    rows = windows.transforms(volume.values, reference.values)
    for _, (terms, wanted) in rows:
        own = np.maximum(windows.shell_sums(terms), 1e-30)
        factor.append(np.clip(_smooth(windows.shell_sums(terms, wanted) / own), 0, 10))
        power.append(windows.shell_sums(wanted).sum(axis=1))
    trust = _trust(np.concatenate(power))[:, None]
    return _with_factors(volume, windows, trust * np.concatenate(factor) + 1 - trust)
