"""What symmetry is made of: operations in space, and what they do to points, models and maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cryonb.process.level import noise_level
from cryonb.process.point_groups import axes_of
from cryonb.volume import Volume

__all__ = ["TRIED", "Symmetry", "dense_voxels", "directions"]

#: Columns of what was tried.
TRIED = ("name", "lowest", "mean", "x", "y", "z")

#: Voxels among which the middle of a unit is sought.
_FEW = 1200


@dataclass(frozen=True)
class Symmetry:
    """A point group of a map.

    Attributes
    ----------
    name : str
        "C1", "C4", "D2", "T", "O", "I", ...
    rotations : ndarray, shape (n, 3, 3)
        Of (x, y, z), the identity first.
    centre : ndarray, shape (3,)
        What stays in place, (x, y, z) in Å.
    score : float
        Lowest correlation of the map with itself over the rotations; 1 for C1.
    tried : pandas.DataFrame
        A row a group that was looked at: name, lowest and mean correlation, axis (of the highest
        order).
    """

    name: str
    rotations: np.ndarray
    centre: np.ndarray
    score: float
    tried: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def axes(self) -> pd.DataFrame:
        """The axes: order, and x, y, z of a unit vector."""
        axis, order = axes_of(self.rotations)
        return pd.DataFrame(axis, columns=list("xyz")).assign(order=order)[["order", *"xyz"]]

    def operators(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Give (matrix, vector) of each operation: x becomes matrix · x + vector, in Å."""
        return list(zip(*self._placed(self.centre), strict=True))

    def images(self, points) -> np.ndarray:
        """Give all images of points (n, 3): ndarray, shape (operations, n, 3)."""
        points = np.asarray(points, dtype=np.float64)
        matrices, vectors = self._placed(points.mean(axis=0))
        return np.einsum("kij,nj->kni", matrices, points) + vectors[:, None]

    def apply(self, model):
        """Make the whole assembly of one unit's model: a new gemmi.Structure.

        Chains of further units are named by a number behind the chain's name.
        """
        import gemmi

        whole = model.clone()
        for one in whole:
            unit = one.clone()
            place = np.array([site.atom.pos.tolist() for site in unit.all()]).mean(axis=0)
            for number, (matrix, vector) in enumerate(zip(*self._placed(place), strict=True)):
                if not number:
                    continue
                image = unit.clone()
                image.transform_pos_and_adp(
                    gemmi.Transform(gemmi.Mat33(matrix.tolist()), gemmi.Vec3(*vector.tolist()))
                )
                for chain in image:
                    chain.name = f"{chain.name}{number + 1}"
                    one.add_chain(chain)
        return whole

    def unit_of(self, volume: Volume) -> Volume:
        """Keep one asymmetric unit of a map; the rest becomes zero.

        The unit is what lies nearer to a point in the densest part, away from the axes, than to any
        image of that point.
        """
        own, *others = self.images(self._seed(volume)[None])[:, 0]
        x, y, z = volume.grid.axes()
        values = np.zeros(volume.shape, dtype=np.float32)
        # |p - own|² is at most |p - other|² where p · (own - other) is at least half the difference
        # of their squares. Section by section, which bounds the memory.
        normals = own - np.array(others).reshape(-1, 3)
        limits = (own @ own - (np.array(others).reshape(-1, 3) ** 2).sum(axis=1)) / 2 - 1e-9
        for section, height, kept in zip(volume.values, z, values, strict=True):
            keep = np.ones(section.shape, dtype=bool)
            for (a, b, c), limit in zip(normals, limits, strict=True):
                keep &= (b * y)[:, None] + a * x >= limit - c * height
            kept[keep] = section[keep]
        return volume.replace(values, note=f"one unit of {self.name}")

    def average_over(self, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
        """Give matrices and vectors over which a map is averaged, the identity first."""
        return self._placed(self.centre)

    def _placed(self, point) -> tuple[np.ndarray, np.ndarray]:
        """Matrices (n, 3, 3) and vectors (n, 3) of the operations for what lies at a point."""
        return self.rotations, self.centre - self.rotations @ self.centre

    def _seed(self, volume: Volume) -> np.ndarray:
        index, value = dense_voxels(volume, noise_level(volume.values), _FEW)
        points = volume.grid.to_points(index)
        if len(self) == 1:
            return points[value.argmax()]
        apart = np.linalg.norm(self.images(points)[1:] - points, axis=2).min(axis=0)
        return points[(apart * value).argmax()]

    def _repr_html_(self) -> str:
        x, y, z = self.centre
        head = (
            f"<b>{self.name}</b> about ({x:.1f}, {y:.1f}, {z:.1f}) Å, correlation {self.score:.3f}"
        )
        return f"<div>{head}{self.axes.round(3).to_html(index=False)}</div>"


def dense_voxels(volume: Volume, level: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Give indices (z, y, x) and values of voxels above a level, some of them if there are many."""
    flat = np.flatnonzero(volume.values > level)
    if len(flat) > most:
        flat = flat[np.random.default_rng(0).choice(len(flat), most, replace=False)]
    index = np.stack(np.unravel_index(flat, volume.shape), axis=1)
    return index, volume.values.ravel()[flat].astype(np.float64)


def directions(step: float) -> np.ndarray:
    """Give unit vectors over half a sphere, about so many degrees apart: by the golden angle."""
    n = int(np.ceil(2 * np.pi / np.radians(step) ** 2))
    z = (np.arange(n) + 0.5) / n
    angle = np.pi * (1 + np.sqrt(5)) * np.arange(n)
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)
