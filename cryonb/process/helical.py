"""Helical symmetry: a screw, rotations about its axis, and perhaps two-fold axes across it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from cryonb.grid import Grid
from cryonb.process.operators import Symmetry, dense_voxels
from cryonb.volume import Volume

__all__ = ["HelicalSymmetry", "axis_frame", "screws"]


@dataclass(frozen=True)
class HelicalSymmetry(Symmetry):
    """A helical symmetry of a map.

    Attributes
    ----------
    name : str
        Twist, rise and axial symmetry, the three numbers by which the EMDB describes a helix:
        "H 22.03° 1.408 Å C1". The axial symmetry is Cn for an n-fold axis along the helix, Dn where
        two-fold axes stand across it.
    rotations : ndarray, shape (n, 3, 3)
        Of the operations that keep the middle of the map in its box, the identity first.
    centre : ndarray, shape (3,)
        A point on the axis, (x, y, z) in Å: the one in the middle of the density, or, where there
        are two-fold axes across, one that such an axis goes through.
    score : float
        Lowest correlation of the map with itself over the operations that keep at least 0.4 of the
        density's length within it.
    twist, rise : float
        Of the finest screw: degrees from -180 (exclusive) to 180, positive for a right-handed and
        negative for a left-handed screw, and Å along the axis. With a Cn axis the twist is the
        smallest of those that are 360°/n apart.
    order : int
        n of Cn or Dn.
    axis : ndarray, shape (3,)
        Unit vector.
    dyad : ndarray or None
        Unit vector, shape (3,), of a two-fold axis through the centre, across the helix.
    grid : Grid
        Of the map: the box that models are to fill.
    """

    twist: float = 0.0
    rise: float = 1.0
    order: int = 1
    axis: np.ndarray | None = None
    dyad: np.ndarray | None = None
    grid: Grid | None = None

    @property
    def axes(self) -> pd.DataFrame:
        """The axes: order (of the helix that of its Cn), and x, y, z of a unit vector."""
        rows = [(self.order, *self.axis)] + ([] if self.dyad is None else [(2, *self.dyad)])
        return pd.DataFrame(rows, columns=["order", *"xyz"])

    def filling(self, grid: Grid) -> HelicalSymmetry:
        """Give the same symmetry for another box, such as that of a cropped map."""
        made = replace(self, grid=grid)
        low, high = made._chord(grid)
        middle = self.centre + (low + high) / 2 * self.axis
        return replace(made, rotations=made._placed(middle)[0])

    def average_over(self, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
        """Give matrices and vectors that bring any voxel of a map into its box, and more."""
        return self._steps(volume.grid)

    def unit_of(self, volume: Volume) -> Volume:
        """Keep one asymmetric unit, about half way along the helix; the rest becomes zero."""
        here = self if volume.grid.is_close(self.grid) else self.filling(volume.grid)
        return super(HelicalSymmetry, here).unit_of(volume)

    def operators(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Give (matrix, vector) of all operations that keep the middle of the box in it.

        x becomes matrix · x + vector, in Å. The images of points and models (`images`, `apply`) are
        those that have their middle within the box.
        """
        low, high = self._chord(self.grid)
        return list(zip(*self._placed(self.centre + (low + high) / 2 * self.axis), strict=True))

    def _steps(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Matrices and vectors of all screws up to the length of a box, the shortest first."""
        corners = grid.to_points(np.argwhere(np.ones((2, 2, 2))) * (np.array(grid.shape) - 1))
        most = int(np.ceil(np.ptp(corners @ self.axis) / self.rise))
        steps = np.arange(-most, most + 1)
        steps = steps[np.argsort(np.abs(steps), kind="stable")]
        return screws(
            self.axis, self.centre, self.twist * steps, self.rise * steps,
            order=self.order, dyad=self.dyad,
        )  # fmt: skip

    def _placed(self, point) -> tuple[np.ndarray, np.ndarray]:
        matrices, vectors = self._steps(self.grid)
        # The axis within the box, half an Å more for what was computed from its very end.
        low, high = self._chord(self.grid)
        height = (matrices @ np.asarray(point) + vectors - self.centre) @ self.axis
        keep = (height >= low - 0.5) & (height <= high + 0.5)
        keep[0] = True
        return matrices[keep], vectors[keep]

    def _chord(self, grid: Grid) -> tuple[float, float]:
        """Heights, from the centre, at which the axis enters and leaves a box."""
        slope = np.where(np.abs(self.axis) < 1e-9, 1e-9, self.axis)
        ends = (np.stack([grid.lower, grid.upper]) - self.centre) / slope
        return float(np.sort(ends, axis=0)[0].max()), float(np.sort(ends, axis=0)[1].min())

    def _seed(self, volume: Volume) -> np.ndarray:
        # Half way along, so that the unit has all its neighbours.
        low, high = self._chord(volume.grid)
        middle = self.centre + (low + high) / 2 * self.axis
        points, value = _near_plane(volume, middle, self.axis, max(self.rise, 6.0))
        apart = np.linalg.norm(self.images(points)[1:] - points, axis=2).min(axis=0, initial=1e9)
        return points[(apart * value).argmax()]


def _near_plane(volume: Volume, point, axis, width: float):
    """Points and values of some dense voxels within a slice across an axis."""
    from cryonb.process.level import noise_level

    index, value = dense_voxels(volume, noise_level(volume.values), 200_000)
    points = volume.grid.to_points(index)
    away = np.abs((points - point) @ axis)
    near = np.flatnonzero(away <= max(width / 2, away.min()))[:1200]
    return points[near], value[near]


def axis_frame(axis) -> np.ndarray:
    """Give a right-handed frame whose third row is an axis: ndarray, shape (3, 3)."""
    axis = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    across = np.eye(3)[np.abs(axis).argmin()]
    first = np.cross(across, axis)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(axis, first), axis])


def screws(axis, point, twist, rise, *, order: int = 1, dyad=None):
    """Give the operations of screws about one axis.

    Parameters
    ----------
    axis, point : ndarray, shape (3,)
        Unit vector, and any point on it in Å.
    twist, rise : array_like, shape (n,)
        Degrees and Å; the identity first, if it is to come first.
    order : int
        Each also with all turns of an n-fold axis.
    dyad : ndarray, optional
        Each also after a half turn about this axis through the point.

    Returns
    -------
    matrices : ndarray, shape (m, 3, 3)
    vectors : ndarray, shape (m, 3)
        A point x becomes matrix · x + vector.
    """
    twist, rise = (np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (twist, rise))
    turn = (twist[:, None] + 360 / order * np.arange(order)).ravel()
    rise = np.repeat(rise, order)
    matrices = Rotation.from_rotvec(np.radians(turn)[:, None] * np.asarray(axis)).as_matrix()
    if dyad is not None:
        half = Rotation.from_rotvec(np.pi * np.asarray(dyad)).as_matrix()
        matrices = np.concatenate([matrices, matrices @ half])
        rise = np.tile(rise, 2)
    point = np.asarray(point, dtype=np.float64)
    return matrices, point - matrices @ point + rise[:, None] * np.asarray(axis)
