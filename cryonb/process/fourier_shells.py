"""Shells of resolution of a transform, and the correlation of half maps by shell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.fft import irfftn, rfftn

from cryonb.errors import CryonbError, GridError
from cryonb.grid import Grid
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

__all__ = [
    "FourierShells",
    "Shells",
    "agreed_resolution",
    "half_map_fsc",
    "same_grid",
    "shell_correlation",
    "transform",
]

# Phases are exchanged beyond the shell at which the half maps agree less than this (Chen et al.
# 2013, Ultramicroscopy 135, 24), and the correction begins two shells further on.
_RANDOM_BEYOND, _SHELLS_ON = 0.8, 2
# Correlation at the coarsest shells from which on half maps have something in common.
_CHANCE, _COARSE_TERMS = 0.25, 200


@dataclass(frozen=True)
class FourierShells:
    """Curves of correlation by resolution.

    Attributes
    ----------
    table : pandas.DataFrame
        A row a shell: s (1/Å, mean of its terms), d (Å), n (independent terms), and a column a
        curve.
    kind : {"half maps", "map and model"}
        What was compared.
    curve : str
        Name of the column that counts, unless another one is asked for.
    """

    table: pd.DataFrame
    kind: str
    curve: str

    @property
    def curves(self) -> list[str]:
        """Names of the columns that are curves."""
        return [name for name in self.table.columns if name not in ("s", "d", "n")]

    def resolution(self, threshold: float = 0.143, *, curve: str | None = None) -> float:
        """Give the resolution at which a curve first falls below a threshold.

        Parameters
        ----------
        threshold : float
            0.143 for half maps, 0.5 for a map and its model, by custom.
        curve : str, optional
            A column of the table; `self.curve` by default.

        Returns
        -------
        float
            Å, interpolated linearly in 1/d between the shells; that of the last shell if the curve
            never falls so low, NaN if it is never so high.

        Raises
        ------
        CryonbError
            If there is no such curve.
        """
        name = self.curve if curve is None else curve
        if name not in self.curves:
            raise CryonbError(
                f"A curve of {', '.join(self.curves)} was expected, but {name!r} was asked for."
            )
        s, values = self.table["s"].to_numpy(), self.table[name].to_numpy()
        above = values >= threshold
        if not above.any():
            return np.nan
        down = np.flatnonzero(above[:-1] & (values[1:] < threshold))
        if not len(down):
            return float(1 / s[-1])
        k = down[0]
        part = (values[k] - threshold) / (values[k] - values[k + 1])
        return float(1 / (s[k] + part * (s[k + 1] - s[k])))

    @property
    def summary(self) -> pd.DataFrame:
        """Resolution in Å at 0.143 and 0.5, a row a curve."""
        rows = {
            name: {t: self.resolution(t, curve=name) for t in (0.143, 0.5)} for name in self.curves
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        at = ", ".join(f"{self.resolution(t):.2f} Å at {t:g}" for t in (0.143, 0.5))
        return f"<FourierShells of {self.kind}: {at} ({self.curve}, {len(self.table)} shells)>"

    def _repr_html_(self) -> str:
        table = self.summary.map(lambda value: f"{value:.2f} Å")
        table.columns = [f"FSC = {t:g}" for t in self.summary.columns]
        return f"<div><b>Fourier shell correlation of {self.kind}</b>{table.to_html()}</div>"


class Shells:
    """The terms of a real transform on a grid, by shell of resolution.

    Parameters
    ----------
    grid : Grid
        Of the map.
    width : float, optional
        Of a shell, in 1/Å; the inverse of the longest edge of the box by default.

    Attributes
    ----------
    n : int
        Shells from 0 up to n - 1 reach the limit of the coarsest axis; shell 0 also holds all
        terms beyond, and is left out of every curve.
    which, all : ndarray of int
        Shell of each term: `which` flattened, with 0 beyond the limit, `all` (z, y, x // 2 + 1)
        counted on.
    weight : ndarray
        Of each term, flattened: 2 for a term that stands for its conjugate, too.
    s, count : ndarray, shape (n - 1,)
        Mean frequency in 1/Å and number of terms of the shells from 1 on.
    """

    def __init__(self, grid: Grid, width: float | None = None):
        z, y, x = grid.shape
        vx, vy, vz = grid.voxel_size
        axes = (np.fft.fftfreq(z, vz), np.fft.fftfreq(y, vy), np.fft.rfftfreq(x, vx))
        s = np.sqrt(
            axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2
        )
        if width is None:
            width = 1 / grid.extent.max()
        limit = 0.5 / max(grid.voxel_size)
        which = np.floor(s / width + 0.5).astype(np.int32)
        # Corners of the transform beyond the limit of an axis are left out.
        self.n = max(int(limit / width + 0.5 + 1e-9), 2)
        self.all = which.copy()
        which[which >= self.n] = 0
        self.which = which.ravel()
        # A term inside the half that is kept stands for its conjugate, too; on its faces both
        # are there already.
        both = np.full(x // 2 + 1, 2.0)
        both[0] = 1.0
        if x % 2 == 0:
            both[-1] = 1.0
        self.weight = np.broadcast_to(both, s.shape).ravel()
        self.count = self.sums(np.ones(s.size))
        self.s = self.sums(s.ravel()) / np.maximum(self.count, 1)
        self.used = self.count > 0

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum over the terms of each shell, from shell 1 on."""
        return np.bincount(self.which, self.weight * values, self.n)[1:]

    def correlation(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Correlate two sets of coefficients in each shell."""
        a, b = a.ravel(), b.ravel()
        cross = self.sums(a.real * b.real + a.imag * b.imag)
        norm = np.sqrt(self.sums(_power(a)) * self.sums(_power(b)))
        return np.where(norm > 0, cross / np.where(norm > 0, norm, 1), 0.0)

    def power(self, a: np.ndarray) -> np.ndarray:
        """Give the mean of |a|² in each shell."""
        return self.sums(_power(a.ravel())) / np.maximum(self.count, 1)

    def table(self, **curves: np.ndarray) -> pd.DataFrame:
        """Make the table of a result."""
        columns = {"s": self.s, "d": 1 / np.maximum(self.s, 1e-12), "n": self.count / 2, **curves}
        return pd.DataFrame({key: values[self.used] for key, values in columns.items()})


def _power(a: np.ndarray) -> np.ndarray:
    return a.real**2 + a.imag**2


def same_grid(first: Volume, second: Volume, mask: Volume | None = None) -> None:
    """Refuse volumes that are no densities, or not on one grid.

    Raises
    ------
    CryonbError
        If one is a volume of labels or probabilities.
    GridError
        If the grids differ.
    """
    for volume in (first, second, *([] if mask is None else [mask])):
        if isinstance(volume, LabelVolume | ProbabilityVolume):
            raise CryonbError(f"A density was expected, but {volume!r} was given.")
        if not volume.grid.is_close(first.grid):
            raise GridError(
                f"Maps on one grid were expected, but {first!r} and {volume!r} are not: resample "
                "one to the grid of the other."
            )


def shell_correlation(
    first: Volume, second: Volume, *, mask: Volume | None = None, shell_width: float | None = None
) -> pd.DataFrame:
    """Correlate two maps shell by shell.

    Parameters
    ----------
    first, second : Volume
        On one grid.
    mask : Volume, optional
        Weights by which both are multiplied.
    shell_width : float, optional
        In 1/Å; the inverse of the longest edge of the box by default.

    Returns
    -------
    pandas.DataFrame
        Columns s (1/Å), d (Å), n (independent terms) and fsc: Re Σ F G* / √(Σ |F|² Σ |G|²).

    Raises
    ------
    GridError
        If the grids differ.
    """
    same_grid(first, second, mask)
    shells = Shells(first.grid, shell_width)
    a, b = (transform(volume, mask) for volume in (first, second))
    return shells.table(fsc=shells.correlation(a, b))


def transform(volume: Volume, mask: Volume | None = None) -> np.ndarray:
    """Give the Fourier coefficients of a map, multiplied by a mask if there is one."""
    values = volume.values if mask is None else volume.values * mask.values
    return rfftn(values)


def half_map_fsc(
    first: Volume, second: Volume, *, mask: Volume | None = None,
    rng: np.random.Generator | None = None, shell_width: float | None = None,
) -> FourierShells:  # fmt: skip
    """Correlate two half maps, and tell what of it a mask feigns.

    Parameters
    ----------
    first, second : Volume
        Maps of independent halves of the images, on one grid.
    mask : Volume, optional
        Weights from 0 to 1, such as `cryonb.process.mask.model_mask` and `contour_mask` make.
    rng : numpy.random.Generator, optional
        For the random phases; a fixed seed by default.
    shell_width : float, optional
        In 1/Å; the inverse of the longest edge of the box by default.

    Returns
    -------
    FourierShells
        Curves: fsc (without mask) and fsc_full, that of the sum of both halves with the truth,
        √(2 F / (1 + F)), by which a map is weighted. With a mask also fsc_masked, fsc_random (the
        same after phases beyond the shell of 0.8 were made random) and fsc_corrected
        ((masked - random) / (1 - random) from two shells further on: Chen et al. 2013), which
        counts and of which fsc_full then is.

    Raises
    ------
    GridError
        If the grids differ.
    """
    same_grid(first, second, mask)
    shells = Shells(first.grid, shell_width)
    a, b = transform(first), transform(second)
    curves = {"fsc": shells.correlation(a, b)}
    curve = "fsc"
    if mask is not None:
        masked = shells.correlation(transform(first, mask), transform(second, mask))
        low = np.flatnonzero(curves["fsc"] < _RANDOM_BEYOND)
        start = int(low[0]) if len(low) else len(masked)
        rng = np.random.default_rng(0) if rng is None else rng
        shape = first.shape
        mixed = [
            rfftn(irfftn(_random_phases(part, shape, shells, start, rng), s=shape) * mask.values)
            for part in (a, b)
        ]
        random = shells.correlation(*mixed)
        corrected = masked.copy()
        later = slice(start + _SHELLS_ON, None)
        corrected[later] = (masked[later] - random[later]) / np.maximum(1 - random[later], 1e-6)
        curves |= {"fsc_masked": masked, "fsc_random": random, "fsc_corrected": corrected}
        curve = "fsc_corrected"
    positive = np.maximum(curves[curve], 0)
    curves["fsc_full"] = np.sqrt(2 * positive / (1 + positive))
    return FourierShells(shells.table(**curves), "half maps", curve)


def agreed_resolution(shells: FourierShells, *, threshold: float = 0.143) -> float:
    """Give the resolution of half maps, and refuse those that agree by chance only.

    Parameters
    ----------
    shells : FourierShells
        Of half maps.
    threshold : float
        See `FourierShells.resolution`.

    Returns
    -------
    float
        Å.

    Raises
    ------
    CryonbError
        If the correlation over the coarsest 200 terms is below 0.25; that of noise is 0 ± 0.07.
    """
    coarse = shells.table
    coarse = coarse[coarse["n"].cumsum().shift(fill_value=0) < _COARSE_TERMS]
    mean = float(np.average(coarse[shells.curve], weights=coarse["n"]))
    if mean < _CHANCE:
        raise CryonbError(
            f"Half maps that agree were expected, but their correlation up to "
            f"{coarse['d'].iloc[-1]:.0f} Å is {mean:.2f}; check that both are halves of one map."
        )
    return shells.resolution(threshold)


def _random_phases(a: np.ndarray, shape, shells: Shells, start: int, rng) -> np.ndarray:
    """Give terms from a shell on the phases of white noise, which keeps the map real."""
    noise = rfftn(rng.standard_normal(shape, dtype=np.float32))
    beyond = shells.all > start
    size = np.abs(noise)
    turned = np.abs(a) * noise / np.where(size > 0, size, 1)
    return np.where(beyond, turned, a)
