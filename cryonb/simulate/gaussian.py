"""Model maps by the published single-Gaussian recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cryonb.atoms import ROLES, Atoms
from cryonb.errors import CryonbError, ModelError
from cryonb.grid import Grid
from cryonb.volume import Volume

__all__ = ["RECIPES", "Recipe", "gaussian_map", "gaussians", "sigma_of"]

# Pairs of atom and voxel that are added at a time.
_PAIRS = 4_000_000


@dataclass(frozen=True)
class Recipe:
    """How a program turns atoms into a map.

    Attributes
    ----------
    sigma : callable
        Width of the Gaussian in Å at a resolution d.
    weight : {"number", "mass", "one"}
        What an atom counts: its atomic number, its mass in Da, or one.
    peak : bool
        Whether the weight is the Gaussian's height rather than its integral.
    trace : bool
        Whether only the Cα of proteins (C4' of nucleotides) count.
    """

    sigma: Callable[[float], float]
    weight: str = "number"
    peak: bool = False
    trace: bool = False


#: The recipes of `gaussian_map`, by name.
RECIPES = {
    # ChimeraX, command molmap: d/(π√2); its B factors and occupancies are not used.
    "molmap": Recipe(lambda d: d / (np.pi * np.sqrt(2))),
    # EMReady and Struc2mapGAN: k = (π / (1.2 + 0.6 d))², σ² = 1/(2k).
    "emready": Recipe(lambda d: (1.2 + 0.6 * d) / (np.pi * np.sqrt(2))),
    # CryoFit (Kirmizialtin et al. 2015, eq. 3): exp(-r²/(2σ²)) with 2σ = d.
    "cryofit": Recipe(lambda d: d / 2, weight="one", peak=True),
    # DEMO-EMfit: k = (π / (2.4 + 0.8 d))², on Cα atoms, weighted by mass.
    "demo-emfit": Recipe(
        lambda d: (2.4 + 0.8 * d) / (np.pi * np.sqrt(2)), weight="mass", trace=True
    ),
    # TEMPy's StructureBlurrer with its default coefficient.
    "tempy": Recipe(lambda d: 0.356 * d, weight="mass"),
    # The profile to which a Q-score compares (Pintilie et al. 2020); the same at every resolution.
    "qscore": Recipe(lambda d: 0.6, weight="one", peak=True),
}


def _recipe(name: str, resolution: float) -> Recipe:
    if name not in RECIPES:
        known = ", ".join(RECIPES)
        raise CryonbError(f"A recipe of {known} was expected, but {name!r} was given.")
    if not resolution > 0:
        raise CryonbError(f"A positive resolution in Å was expected, but {resolution} was given.")
    return RECIPES[name]


def sigma_of(resolution: float, recipe: str = "molmap") -> float:
    """Give the width of the Gaussian, in Å, by a recipe of `gaussian_map`.

    Raises
    ------
    CryonbError
        If the recipe is unknown or the resolution is not positive.
    """
    return _recipe(recipe, resolution).sigma(resolution)


def gaussian_map(
    model, grid: Grid | None = None, *, resolution: float, recipe: str = "molmap",
    voxel_size: float = 1.0, margin: float | None = None, device: str | None = None,
) -> Volume:  # fmt: skip
    """Put one Gaussian on each atom, by a published recipe.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model; B and occupancy are not used.
    grid : Grid, optional
        Where the map is wanted; by default a box around the model.
    resolution : float
        d in Å.
    recipe : {"molmap", "emready", "cryofit", "demo-emfit", "tempy", "qscore"}
        See `RECIPES`: ChimeraX, EMReady and Struc2mapGAN, CryoFit, DEMO-EMfit, TEMPy, and the
        reference of the Q-score (which is the same at every resolution).
    voxel_size, margin : float
        Spacing and margin in Å of the default grid (the margin is 3 d unless given).
    device : str, optional
        Where torch computes.

    Returns
    -------
    Volume
        Each atom integrates to its atomic number ("molmap", "emready") or mass ("demo-emfit",
        "tempy"), per Å³, or has a height of 1 ("cryofit", "qscore").

    Raises
    ------
    CryonbError
        If the recipe is unknown or the resolution is not positive.
    ModelError
        If the recipe takes only the trace of a chain, and the model has none.
    """
    made_by = _recipe(recipe, resolution)
    atoms = Atoms.from_structure(model)
    if made_by.trace:
        trace = np.isin(atoms.role, [ROLES.index("CA"), ROLES.index("C4'")])
        if not trace.any():
            raise ModelError(f"The recipe {recipe} needs Cα or C4' atoms, but there are none.")
        atoms = atoms.select(trace)
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
        Atomic numbers.
    grid : Grid
        Where the map is wanted.
    resolution, recipe, device
        As in `gaussian_map`.
    """
    made_by = _recipe(recipe, resolution)
    sigma = made_by.sigma(resolution)
    weight = _weights(np.asarray(element), made_by.weight)
    if made_by.peak:
        weight = weight * (2 * np.pi * sigma**2) ** 1.5
    if device is None and sigma < 1.4 * max(grid.voxel_size):
        return _direct_sum(position, weight, sigma, grid)
    b = np.full((len(position), 1), 8 * np.pi**2 * sigma**2)
    # A wide Gaussian has nothing beyond this limit, and a narrow one all within the grid's own.
    limit = np.sqrt(np.log(1e5) / 2) / (np.pi * sigma)
    coarse = limit < 0.5 / max(grid.voxel_size)
    s_max = limit if coarse else None
    reach = 4.5 * sigma if coarse else None
    # It loads torch, which a width of a Gaussian does not need.
    from cryonb.simulate.fourier import gaussian_sum

    return gaussian_sum(position, weight[:, None], b, grid, s_max=s_max, reach=reach, device=device)


def _direct_sum(position, weight, sigma: float, grid: Grid) -> Volume:
    """Add up normalised Gaussians, each over the cube of voxels within 5 sigma: for narrow ones."""
    reach = 5 * sigma
    voxel = np.array(grid.voxel_size[::-1])
    steps = np.ceil(reach / voxel + 0.5).astype(int)
    # Room for whole cubes, also those of atoms outside the map that reach into it.
    wide = grid.pad(2 * steps)
    index = wide.to_index(position)
    base = np.rint(index).astype(np.int64)
    inside = ((base >= steps) & (base < np.array(wide.shape) - steps)).all(axis=1)
    index, base = index[inside], base[inside]
    weight = np.asarray(weight)[inside] / (2 * np.pi * sigma**2) ** 1.5
    total = np.zeros(wide.n_voxels)
    lines = [np.arange(-step, step + 1) for step in steps]
    cube = len(lines[0]) * len(lines[1]) * len(lines[2])
    for first in range(0, len(base), max(1, _PAIRS // cube)):
        part = slice(first, first + max(1, _PAIRS // cube))
        z, y, x = (
            np.exp(
                -(((base[part, k, None] + line - index[part, k, None]) * voxel[k] / sigma) ** 2) / 2
            )
            for k, line in enumerate(lines)
        )
        z *= weight[part, None]
        plane = (z[:, :, None] * y[:, None, :]).reshape(len(z), -1)
        at = [base[part, k, None] + line for k, line in enumerate(lines)]
        row = (at[0][:, :, None] * wide.shape[1] + at[1][:, None, :]) * wide.shape[2]
        flat = row.reshape(len(z), -1)[:, :, None] + at[2][:, None, :]
        total += np.bincount(
            flat.ravel(), (plane[:, :, None] * x[:, None, :]).ravel(), wide.n_voxels
        )
    inner = tuple(slice(2 * s, 2 * s + n) for s, n in zip(steps, grid.shape, strict=True))
    return Volume._adopt(total.reshape(wide.shape)[inner].astype(np.float32), grid)


def _weights(element: np.ndarray, weight: str) -> np.ndarray:
    """What each atom counts, float64."""
    if weight == "one":
        return np.ones(len(element))
    if weight == "number":
        return element.astype(np.float64)
    import gemmi

    kinds, inverse = np.unique(element, return_inverse=True)
    return np.array([gemmi.Element(int(kind)).weight for kind in kinds])[inverse]
