"""Belts of detergent or lipid around simulated molecules: smooth density that is no structure."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from cryonb.simulate.gaussian import sigma_of

__all__ = ["belt"]

#: Å from atoms within which there is nothing else.
_BARE = 2.5
#: Half thickness of a belt, how far it reaches from the molecule, and its softness, in Å.
_HALF, _REACH, _SOFT = (10.0, 18.0), (8.0, 40.0), (1.0, 2.5)
#: Its density over that of the molecule at 10 Å, and by how much its middle plane is emptier.
_LEVEL, _HOLLOW = (0.15, 0.7), 0.7
#: How much its density varies, over so many Å.
_UNEVEN, _PATCH = 0.25, 6.0


def belt(index: np.ndarray, density: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a belt around atoms, as micelles, discs and membranes leave in maps.

    Parameters
    ----------
    index : ndarray, shape (n, 3)
        Fractional (z, y, x) of the atoms on voxels of 1 Å.
    density : ndarray, shape (z, y, x)
        Of the molecule, which tells how dense it is.
    rng : numpy.random.Generator
        Of plane, size, density and unevenness.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        To be added to the density; none if no atom is inside.
    """
    shape = np.array(density.shape)
    voxel = np.rint(index).astype(int)
    voxel = voxel[((voxel >= 0) & (voxel < shape)).all(axis=1)]
    if not len(voxel):
        return np.zeros(density.shape, dtype=np.float32)
    atoms = np.zeros(density.shape, dtype=bool)
    atoms[tuple(voxel.T)] = True
    away = distance_transform_edt(~atoms)
    normal = rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    middle = voxel[rng.integers(len(voxel))]
    axes = (np.arange(n) - m for n, m in zip(shape, middle, strict=True))
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    height = np.abs(z * normal[0] + y * normal[1] + x * normal[2])
    half, reach = rng.uniform(*_HALF), rng.uniform(*_REACH)
    inside = (away > _BARE) & (away < reach) & (height < half)
    # Heads are denser than tails.
    profile = 1 - rng.uniform(0, _HOLLOW) * (1 - np.minimum(height / half, 1) ** 2)
    patches = gaussian_filter(rng.standard_normal(density.shape, dtype=np.float32), _PATCH)
    patches *= _UNEVEN / max(float(patches.std()), 1e-6)
    made = gaussian_filter(
        (inside * profile * (1 + patches)).astype(np.float32), rng.uniform(*_SOFT)
    )
    typical = np.median(gaussian_filter(density, sigma_of(10.0))[tuple(voxel.T)])
    return made * np.float32(rng.uniform(*_LEVEL) * max(typical, 0.0))
