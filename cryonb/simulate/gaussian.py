"""Model maps by the published single-Gaussian recipes."""

from __future__ import annotations

import numpy as np

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.fourier import gaussian_sum
from cryonb.volume import Volume

__all__ = ["gaussian_map", "gaussians", "sigma_of"]

# Width of the Gaussian in Å at a resolution d.
_SIGMA = {
    "molmap": lambda d: d / (np.pi * np.sqrt(2)),
    "emready": lambda d: (1.2 + 0.6 * d) / (np.pi * np.sqrt(2)),
}


def sigma_of(resolution: float, recipe: str = "molmap") -> float:
    """Give the width of the Gaussian, in Å, by a recipe of `gaussian_map`.

    Raises
    ------
    CryonbError
        If the recipe is unknown or the resolution is not positive.
    """
    if recipe not in _SIGMA:
        known = ", ".join(_SIGMA)
        raise CryonbError(f"A recipe of {known} was expected, but {recipe!r} was given.")
    if not resolution > 0:
        raise CryonbError(f"A positive resolution in Å was expected, but {resolution} was given.")
    return _SIGMA[recipe](resolution)


def gaussian_map(
    model, grid: Grid | None = None, *, resolution: float, recipe: str = "molmap",
    voxel_size: float = 1.0, margin: float | None = None, device: str | None = None,
) -> Volume:  # fmt: skip
    """Put one Gaussian, weighted by atomic number, on each atom.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model; B and occupancy are not used.
    grid : Grid, optional
        Where the map is wanted; by default a box around the model.
    resolution : float
        d in Å.
    recipe : {"molmap", "emready"}
        "molmap": sigma = d / (π√2), as ChimeraX; "emready": sigma = (1.2 + 0.6 d) / (π√2), as
        EMReady and Struc2mapGAN.
    voxel_size, margin : float
        Spacing and margin in Å of the default grid (the margin is 3 d unless given).
    device : str, optional
        Where torch computes.

    Returns
    -------
    Volume
        Density in electrons per Å³; each atom integrates to its atomic number.

    Raises
    ------
    CryonbError
        If the recipe is unknown or the resolution is not positive.
    """
    sigma_of(resolution, recipe)  # refuses what would make no grid
    atoms = Atoms.from_structure(model)
    if grid is None:
        grid = Grid.around(atoms.position, voxel_size, 3 * resolution if margin is None else margin)
    volume = gaussians(
        atoms.position, atoms.element, grid, resolution=resolution, recipe=recipe, device=device
    )
    return volume.replace(note=f"simulated by {recipe} at {resolution:g} Å")


def gaussians(
    position, element, grid: Grid, *, resolution: float, recipe: str = "molmap",
    device: str | None = None,
) -> Volume:  # fmt: skip
    """Put one Gaussian on each point: `gaussian_map` of bare arrays.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        (x, y, z) in Å.
    element : ndarray of int, shape (n,)
        Atomic numbers, the weights.
    grid : Grid
        Where the map is wanted.
    resolution, recipe, device
        As in `gaussian_map`.
    """
    sigma = sigma_of(resolution, recipe)
    b = np.full((len(position), 1), 8 * np.pi**2 * sigma**2)
    a = np.asarray(element)[:, None].astype(np.float64)
    return gaussian_sum(position, a, b, grid, device=device)
