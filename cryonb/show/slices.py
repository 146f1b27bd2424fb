"""Three slices through a point, as small pictures that are made anew in milliseconds."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.colors import to_rgb

from cryonb.files.scene import CLASS_COLOURS
from cryonb.volume import ProbabilityVolume, Volume

__all__ = ["Slices"]

#: Pixels along the longer edge of a picture, about.
_PIXELS = 220
_LINE = np.array([0.84, 0.37, 0.0])


class Slices:
    """Slices of a density, with classes over it.

    Parameters
    ----------
    density : Volume
        Drawn in grey, from its mean to six sigma above it.
    classes : ProbabilityVolume, optional
        On any grid; drawn as colours over the density.
    """

    def __init__(self, density: Volume, classes: ProbabilityVolume | None = None):
        self.grid = density.grid
        self._grey = np.clip((density.values - density.mean) / (6 * max(density.std, 1e-9)), 0, 1)
        self._classes = classes
        self.shown: set[str] = set(classes.classes[1:]) if classes is not None else set()

    def index_of(self, point) -> tuple[int, int, int]:
        """Give the voxel (z, y, x) nearest to a point, inside the map."""
        index = np.rint(self.grid.to_index(np.asarray(point, dtype=float))).astype(int)
        return tuple(np.clip(index, 0, np.array(self.grid.shape) - 1).tolist())

    def point_of(self, index) -> np.ndarray:
        """Give the point (x, y, z) in Å of a voxel (z, y, x)."""
        return self.grid.to_points(np.asarray(index, dtype=float))

    def picture(self, axis: int, index) -> bytes:
        """Draw the slice across an axis through a voxel.

        Parameters
        ----------
        axis : int
            0, 1, 2 for z, y, x.
        index : tuple of int
            (z, y, x); lines show where the other two slices are.

        Returns
        -------
        bytes
            PNG.
        """
        from matplotlib.image import imsave

        grey = 1 - np.take(self._grey, index[axis], axis=axis)[..., None]
        colours = np.repeat(grey, 3, axis=-1)
        if self._classes is not None and self.shown:
            colours = self._with_classes(colours, axis, index)
        rows, columns = (k for k in range(3) if k != axis)
        times = max(round(_PIXELS / max(colours.shape[:2])), 1)
        colours = np.kron(colours, np.ones((times, times, 1)))
        colours[index[rows] * times + times // 2] = _LINE
        colours[:, index[columns] * times + times // 2] = _LINE
        stream = io.BytesIO()
        imsave(stream, np.clip(colours, 0, 1), format="png", origin="lower")
        return stream.getvalue()

    def _with_classes(self, colours, axis, index):
        inside = [np.arange(n, dtype=float) for n in self.grid.shape]
        inside[axis] = np.array([index[axis]], dtype=float)
        places = np.stack(np.meshgrid(*inside, indexing="ij"), axis=-1).reshape(-1, 3)
        theirs = self._classes.grid.to_index(self.grid.to_points(places))
        theirs = np.rint(theirs).astype(int)
        good = ((theirs >= 0) & (theirs < self._classes.grid.shape)).all(axis=1)
        theirs = tuple(np.where(good[:, None], theirs, 0).T)
        for name in self.shown:
            row = self._classes.classes.index(name)
            share = self._classes.values[(row, *theirs)].astype(np.float32) * good * 0.75
            share = share.reshape(colours.shape[:2])[..., None]
            colours = colours * (1 - share) + np.array(to_rgb(CLASS_COLOURS[name])) * share
        return colours
