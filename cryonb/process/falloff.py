"""What a map's amplitudes tell of it: how fast they fall, and how far they reach."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cryonb.errors import CryonbError
from cryonb.process.checks import require_density
from cryonb.process.fourier_shells import Shells, transform
from cryonb.volume import Volume

__all__ = ["estimate_b", "estimate_resolution", "fit_b", "known_resolution", "shell_power"]

#: Å: coarser shells tell of the molecule's outline, not of its atoms.
_COARSEST = 10.0
#: Shells that a line is drawn through, at least.
_FEWEST = 4
#: Atoms of an average residue of a protein, hydrogens left out: atomic number and count.
_RESIDUE = {6: 5.0, 7: 1.35, 8: 1.5, 16: 0.03}


def shell_power(volume: Volume) -> pd.DataFrame:
    """Give the mean squared amplitude by shell.

    Returns
    -------
    pandas.DataFrame
        Columns s (1/Å), d (Å), n (independent terms) and power, in squared units of the map times
        voxels.
    """
    shells = Shells(volume.grid)
    power = shells.power(transform(volume))
    return shells.table(power=power)


def fit_b(table: pd.DataFrame, *, resolution: float, atoms: bool = True) -> float:
    """Fit a B factor to the power of shells.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns s, n and power; see `shell_power`.
    resolution : float
        Finest shell that counts, in Å. The coarsest is at 10 Å, or 2.5 times this where that is
        coarser.
    atoms : bool
        Whether the power is first divided by that of a protein's atoms at rest (Wilson's plot);
        otherwise all that falls is B (Guinier's plot, as Rosenthal and Henderson 2003 draw it).

    Returns
    -------
    float
        B in Å²: amplitudes fall with exp(-B s²/4).

    Raises
    ------
    CryonbError
        If fewer than four shells lie between the limits, or one of them is empty.
    """
    from cryonb.simulate.scattering import electron_coefficients

    s = table["s"].to_numpy()
    coarsest = max(_COARSEST, 2.5 * resolution)
    used = (s >= 1 / coarsest) & (s <= 1 / resolution) & (table["power"].to_numpy() > 0)
    if used.sum() < _FEWEST:
        raise CryonbError(
            f"At least {_FEWEST} shells with density between {coarsest:g} and {resolution:.3g} Å "
            f"were expected to fit a B factor, but there are {used.sum()}; give a finer "
            "resolution= or a larger box."
        )
    s2 = s[used] ** 2
    level = np.log(table["power"].to_numpy()[used])
    if atoms:
        a, b = electron_coefficients(list(_RESIDUE))
        f = (a[..., None] * np.exp(-b[..., None] * s2 / 4)).sum(axis=1)
        level = level - np.log(np.array(list(_RESIDUE.values())) @ f**2)
    slope = np.polyfit(s2, level, 1, w=np.sqrt(table["n"].to_numpy()[used]))[0]
    return float(-2 * slope)


def estimate_b(volume: Volume, *, resolution: float | None = None, atoms: bool = True) -> float:
    """Estimate the B factor of a map by the falloff of its amplitudes.

    Parameters
    ----------
    volume : Volume
        A map.
    resolution : float, optional
        Å; that which a `DensityMap` knows by default, else an estimate.
    atoms : bool
        See `fit_b`.

    Returns
    -------
    float
        Å². Where noise exceeds the signal it flattens the falloff, and B is too low.
    """
    d = known_resolution(volume, resolution)
    return fit_b(shell_power(volume), resolution=d, atoms=atoms)


def estimate_resolution(volume: Volume) -> float:
    """Estimate a map's resolution without anything beside it: d₉₉.

    The resolution at which the map can be cut and still correlate with itself to 0.99 (Afonine et
    al. 2018, Acta Cryst. D74, 814). On 21 deposited maps it was 0.7 to 1.5 times what the
    depositors state; it says what the map holds, noise included, and is no finer than twice the
    voxel size.

    Parameters
    ----------
    volume : Volume
        A map.

    Returns
    -------
    float
        Å.

    Raises
    ------
    CryonbError
        If the map is flat or not finite.
    """
    require_density(volume)
    table = shell_power(volume)
    total = table["power"] * table["n"]
    kept = np.sqrt(np.cumsum(total) / total.sum())
    return float(table["d"].iloc[int(np.argmax(kept >= 0.99))])


def known_resolution(volume: Volume, resolution: float | None = None) -> float:
    """Give the resolution as asked, as the map knows it, or by estimate, but never beyond Nyquist.

    Raises
    ------
    CryonbError
        If it is not positive, or the map is flat or not finite.
    """
    require_density(volume)
    if resolution is None:
        resolution = getattr(volume, "resolution", None)
    if resolution is None:
        resolution = estimate_resolution(volume)
    if not resolution > 0:
        raise CryonbError(f"A positive resolution in Å was expected, but {resolution} was given.")
    return float(max(resolution, 2 * max(volume.voxel_size)))
