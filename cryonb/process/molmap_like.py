"""A map as soft and as bright as those that ChimeraX's molmap simulates."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn

from cryonb.errors import CryonbError
from cryonb.process.crop import pad
from cryonb.process.filter import spatial_frequency
from cryonb.process.fourier_shells import Shells, transform
from cryonb.process.level import density_scale, noise_level
from cryonb.simulate.gaussian import sigma_of
from cryonb.volume import Volume

__all__ = ["as_molmap"]

#: Width of a shell in 1/Å; maps are padded so that each shell has terms.
_WIDTH = 1 / 80
#: Logarithm of the amplitudes of protein atoms at rest, weighted by atomic number, in the shells
#: from 1 on, and the shells (20 to 13 Å) over whose mean it is zero. Coarser shells tell of the
#: outline. Means over 60 domains for training; the spread of one is 0.1.
_AT_REST = np.array([2.29, 1.59, 0.71, 0.20, -0.03, -0.17, -0.30, -0.47, -0.63, -0.75, -0.83, -0.88,
                     -0.89, -0.85, -0.78, -0.70, -0.66, -0.66])  # fmt: skip
_COARSE = slice(3, 6)
#: `density_scale` over the maximum of the same domains' maps by molmap, at these resolutions.
_RESOLUTIONS, _SCALES = (4.0, 6.0, 10.0), (0.49, 0.61, 0.65)


def as_molmap(volume: Volume, resolution: float) -> Volume:
    """Bring a map's falloff and scale to those of a map by molmap.

    A map of an experiment, sharpened as it is and without contrast at low frequencies, is often
    crisper than a sum of Gaussians at the resolution that it is blurred to, and its highest peak
    stands out more. A network that knows nothing but such sums then takes helices for something
    else. Here no shell beyond 20 Å stays stronger, against those of 20 to 13 Å, than it is in
    proteins by molmap; none is made stronger, which would raise noise. Then the typical density of
    the molecule becomes what it is there as a part of the maximum, and what is above is cut. This
    rule is our own; no paper has it.

    Parameters
    ----------
    volume : Volume
        A density, blurred to the resolution already (`cryonb.process.blur`).
    resolution : float
        Å.

    Returns
    -------
    Volume
        On the same grid, without unit, at most 1.

    Raises
    ------
    CryonbError
        If the map has no positive density.
    """
    if not volume.max > 0:
        raise CryonbError(
            f"A map with positive density was expected, but its largest value is {volume.max:g}."
        )
    lacking = (1 / _WIDTH - volume.grid.extent) / volume.voxel_size
    spare = np.maximum(8, np.ceil(lacking / 2)).astype(int)[::-1]
    wide = pad(volume, tuple(spare))
    gain = _gain(wide, resolution)
    s = spatial_frequency(wide.shape, wide.voxel_size)
    shells = _WIDTH * np.arange(1, len(gain) + 1)
    terms = transform(wide) * np.exp(np.interp(s, shells, gain)).astype(np.float32)
    middle = tuple(slice(n, n + m) for n, m in zip(spare, volume.shape, strict=True))
    values = irfftn(terms, s=wide.shape)[middle]
    values *= np.interp(resolution, _RESOLUTIONS, _SCALES) / density_scale(values)
    note = f"falloff and scale as molmap's at {resolution:g} Å"
    return volume.replace(np.minimum(values, 1).astype(np.float32), note=note)


def _gain(volume: Volume, resolution: float) -> np.ndarray:
    """Logarithm of the factor of each shell from 1 on; zero or less."""
    shells = Shells(volume.grid, _WIDTH)
    # Noise has its own falloff.
    strong = volume.replace(volume.values * (volume.values > noise_level(volume.values)))
    power = shells.power(transform(strong))[: len(_AT_REST)]
    n = len(power)
    expected = _AT_REST[:n] - 2 * (np.pi * sigma_of(resolution) * shells.s[:n]) ** 2
    gain = expected - 0.5 * np.log(np.maximum(power, np.finfo(np.float32).tiny))
    gain -= gain[_COARSE].mean()
    gain[: _COARSE.start] = 0
    return np.minimum(gain, 0)
