"""Maps that Emap2sec learns from, and windows drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.label.emap2sec import FROM_OURS, ORDER, nearest_class
from cryonb.predict.emap2sec import EDGE, unit_range, window_grid, windows_of
from cryonb.simulate.gaussian import gaussians
from cryonb.train.library import UNLABELLED

__all__ = ["Pool", "ScaledMap", "real_scaled_maps", "simulated_map"]


@dataclass(frozen=True)
class ScaledMap:
    """A map as Emap2sec sees it, with the Cα atoms in it.

    Attributes
    ----------
    values : ndarray of float16, shape (z, y, x)
        From 0 to 1 on 1 Å voxels, zero below the contour level.
    grid : Grid
        Where it is.
    position : ndarray, shape (n, 3)
        Cα atoms, (x, y, z) in Å.
    label : ndarray of int, shape (n,)
        Their classes in the original's order.
    """

    values: np.ndarray
    grid: Grid
    position: np.ndarray
    label: np.ndarray

    def windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Give (z, y, x) on the grid of strides and the class of each window."""
        centre = np.argwhere(self.values[::2, ::2, ::2] > 0)
        points = window_grid(self.grid).to_points(centre)
        return centre, nearest_class(self.position, self.label, points)


def simulated_map(columns: dict, recipe) -> ScaledMap:
    """Simulate a map of one structure (`Library.part`) as the paper does.

    A Gaussian on each atom, weighted by atomic number: what EMAN2's program makes.
    """
    grid = Grid.around(columns["position"], 1.0, 1.5 * recipe.resolution)
    position, resolution = columns["position"], recipe.resolution
    density = gaussians(position, columns["element"], grid, resolution=resolution).values
    scaled = unit_range(density, contour=recipe.contour * density.max())
    alpha = columns["alpha"] & (columns["label"] != UNLABELLED)
    label = FROM_OURS[columns["label"][alpha]]
    return ScaledMap(scaled.astype(np.float16), grid, columns["position"][alpha], label)


def real_scaled_maps(folder, table) -> list[ScaledMap]:
    """Read real maps and models; the contour level is estimated from the noise."""
    from cryonb.files.model import read_model
    from cryonb.files.mrc import read_map
    from cryonb.process.level import noise_level
    from cryonb.process.resample import resample
    from cryonb.train.library import model_columns

    maps = []
    for row in table.itertuples():
        volume = resample(read_map(folder / row.map), 1.0)
        scaled = unit_range(volume.values, contour=noise_level(volume.values))
        columns = model_columns(read_model(folder / row.model))
        alpha = columns["alpha"] & (columns["label"] != UNLABELLED)
        label = FROM_OURS[columns["label"][alpha]]
        maps.append(
            ScaledMap(scaled.astype(np.float16), volume.grid, columns["position"][alpha], label)
        )
    return maps


class Pool:
    """Windows of many maps, the same number of each class.

    Parameters
    ----------
    maps : list of ScaledMap
        Where they come from.
    each : int
        Windows a class; fewer where a class has not as many.
    rng : numpy.random.Generator
        Chooses them.
    """

    def __init__(self, maps, each: int, rng: np.random.Generator):
        self._views = [windows_of(entry.values) for entry in maps]
        found = [entry.windows() for entry in maps]
        owner = np.repeat(np.arange(len(maps)), [len(label) for _, label in found])
        centre = np.concatenate([centre for centre, _ in found])
        label = np.concatenate([label for _, label in found])
        rows = [np.flatnonzero(label == k) for k in range(ORDER.index("background"))]
        each = min(each, *map(len, rows))
        if not each:
            raise CryonbError(
                "Windows of all three classes were expected in the maps for training, but one "
                "class has none; give more maps."
            )
        chosen = np.concatenate([rng.choice(part, each, replace=False) for part in rows])
        self._owner, self._centre, self.label = owner[chosen], centre[chosen], label[chosen]

    def __len__(self) -> int:
        return len(self.label)

    def windows(self, rows) -> np.ndarray:
        """Gather windows: float32, shape (n, 1, 11, 11, 11)."""
        out = np.empty((len(rows), 1, EDGE, EDGE, EDGE), dtype=np.float32)
        for place, row in enumerate(rows):
            out[place, 0] = self._views[self._owner[row]][tuple(self._centre[row])]
        return out
