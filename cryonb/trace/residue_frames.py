"""Density around residues, read in frames that move with the chain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from cryonb.atoms import KIND_PROTEIN, Atoms, Residues
from cryonb.errors import CryonbError, ModelError
from cryonb.trace.frames import across
from cryonb.volume import Volume

__all__ = ["ResidueFrames", "half_ball", "path_frames", "read_frames", "side_lattice"]

#: Cβ beyond Cα in terms of N→Cα, Cα→C and their cross product, for ideal geometry.
_BETA = (0.568028, -0.540675, -0.582734)
#: Mean direction of Cβ in the frame that Cα atoms alone define, of 40 training structures.
_BETA_OF_TRACE = (0.76, 0.63, 0.11)
#: Å between neighbours in a chain, at most.
_LINK = 4.6
#: Å between the points of the lattices.
_SPACING = 1.2
#: The density at Cα atoms that values are told in parts of is averaged over a Gaussian of this
#: standard deviation, in residues.
_SMOOTH = 6.0


@dataclass(frozen=True)
class ResidueFrames:
    """A right-handed frame at each Cα atom of a model's proteins.

    Attributes
    ----------
    position : ndarray of float64, shape (n, 3)
        Cα atoms in Å.
    axes : ndarray of float64, shape (n, 3, 3)
        Rows are the axes. Of whole backbones the first goes from Cα to the ideal Cβ and the third
        lies in the plane of it and N→C; of Cα traces the first is the bisector away from both
        neighbours, the third goes along the chain. NaN where there is none.
    stretch : ndarray of int, shape (n,)
        Counts the uninterrupted stretches of chain.
    row : ndarray of int, shape (n,)
        Rows of `residues`.
    residues : Residues
        Of the model.
    backbone : bool
        Whether N and C were used.
    """

    position: np.ndarray
    axes: np.ndarray
    stretch: np.ndarray
    row: np.ndarray
    residues: Residues
    backbone: bool

    def __len__(self) -> int:
        return len(self.position)

    @property
    def known(self) -> np.ndarray:
        """Which residues have a frame: bool, shape (n,)."""
        return np.isfinite(self.axes).all(axis=(1, 2))

    @property
    def names(self) -> np.ndarray:
        """Names of the residues."""
        return self.residues.name[self.row]

    def reversed(self) -> ResidueFrames:
        """Give the frames of the same Cα trace read backwards; residues keep their order."""
        return replace(self, axes=self.axes * np.array([1.0, -1.0, -1.0])[:, None])

    def read(self, volume: Volume, points: np.ndarray) -> np.ndarray:
        """Read a map at points (m, 3) of every frame, in parts of the density at Cα atoms nearby.

        Returns
        -------
        ndarray of float32, shape (n, m)
            0 outside the map; NaN where there is no frame.
        """
        level = self._level(volume)
        where = self.position[:, None] + np.einsum("mk,nkx->nmx", points, self.axes)
        known = self.known
        found = np.full(where.shape[:2], np.nan, dtype=np.float32)
        values = volume.sample(where[known].reshape(-1, 3)).reshape(-1, len(points))
        found[known] = np.nan_to_num(values) / level[known, None]
        return found

    def _level(self, volume) -> np.ndarray:
        """Density at Cα atoms, averaged along each stretch; never far below that of all."""
        from scipy.ndimage import gaussian_filter1d

        # `cryonb.trace.density` has one scale, above the mean of the map, for a whole model, whose
        # parts it weighs against each other. Here each residue is judged for itself, so the scale
        # follows the density as it fades along a chain; the classifiers have learned with it.
        at = np.nan_to_num(volume.sample(self.position)).astype(np.float64)
        middle = float(np.median(at))
        if not middle > 0:
            raise CryonbError(
                f"A map with positive density at the Cα atoms was expected, but its median there "
                f"is {middle:.3g}; check that map and model are in one frame."
            )
        level = np.empty(len(at))
        for stretch in np.unique(self.stretch):
            rows = np.flatnonzero(self.stretch == stretch)
            level[rows] = gaussian_filter1d(at[rows], _SMOOTH, mode="nearest")
        return np.maximum(level, 0.2 * middle)


def read_frames(model, *, backbone: bool | None = None) -> ResidueFrames:
    """Put a frame at each Cα atom of a model.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        Its proteins count.
    backbone : bool, optional
        Whether N and C make the frames; by default where three of four residues have them.

    Raises
    ------
    ModelError
        If there is no Cα atom.
    """
    atoms = Atoms.from_structure(model)
    protein = atoms.kind == KIND_PROTEIN
    alpha = np.flatnonzero(protein & (atoms.name == "CA"))
    if not len(alpha):
        raise ModelError("Protein residues with a CA atom were expected, but the model has none.")
    position, row = atoms.position[alpha], atoms.residue[alpha]
    place = {}
    for name in ("N", "C"):
        place[name] = np.full((len(atoms.residues), 3), np.nan)
        of = protein & (atoms.name == name)
        place[name][atoms.residue[of]] = atoms.position[of]
    first, last = place["N"][row], place["C"][row]
    if backbone is None:
        backbone = bool(np.isfinite(first + last).all(axis=1).mean() >= 0.75)
    chain = atoms.residues.chain[row]
    linked = (np.linalg.norm(np.diff(position, axis=0), axis=1) <= _LINK) & (
        chain[1:] == chain[:-1]
    )
    stretch = np.cumsum(np.append(0, ~linked))
    if backbone:
        out, along = position - first, last - position
        beta = _BETA[0] * out + _BETA[1] * along + _BETA[2] * np.cross(out, along)
        axes = _axes(beta, last - first)
    else:
        axes = _trace_axes(position, linked)
    return ResidueFrames(position, axes, stretch, row, atoms.residues, backbone)


def path_frames(position: np.ndarray) -> ResidueFrames:
    """Put frames at Cα positions (n, 3) that follow one another in one chain."""
    n = len(position)
    text = np.full(n, "A")
    residues = Residues(
        text, np.arange(1, n + 1), np.full(n, ""), np.full(n, "UNK"), np.full(n, KIND_PROTEIN)
    )
    axes = _trace_axes(position, np.ones(n - 1, dtype=bool))
    return ResidueFrames(position, axes, np.zeros(n, int), np.arange(n), residues, False)


def _trace_axes(position, linked) -> np.ndarray:
    """Frames of Cα atoms that have a neighbour on both sides."""
    before, after = np.full_like(position, np.nan), np.full_like(position, np.nan)
    before[1:][linked] = position[:-1][linked]
    after[:-1][linked] = position[1:][linked]
    return _axes(2 * position - before - after, after - before)


def _axes(main, along) -> np.ndarray:
    """Frames whose first axis is along `main`, and whose third is as near to `along` as may be."""
    # `cryonb.trace.frames.frames` completes a frame on a straight line arbitrarily, since it places
    # atoms. A residue that lacks neighbours or a side has NaN here, and is not read.
    with np.errstate(invalid="ignore", divide="ignore"):
        first = main / np.linalg.norm(main, axis=1, keepdims=True)
        third = across(along, first)
        third /= np.linalg.norm(third, axis=1, keepdims=True)
    return np.stack([first, np.cross(third, first), third], axis=1)


@cache
def side_lattice(backbone: bool) -> np.ndarray:
    """Points of a frame at which a side chain may be: (m, 3) in Å, 1.2 Å apart, up to 7 Å away."""
    axis = np.array([1.0, 0.0, 0.0] if backbone else _BETA_OF_TRACE)
    points = _cube(7.2)
    away = np.linalg.norm(points, axis=1)
    cosine = points @ (axis / np.linalg.norm(axis)) / np.maximum(away, 1e-9)
    wide = np.cos(np.radians(60.0 if backbone else 65.0))
    return points[((away <= 7.2) & (cosine >= wide)) | ((away <= 2.6) & (cosine >= -0.4))]


@cache
def half_ball() -> np.ndarray:
    """Points within 4.3 Å, one of each pair that a half turn about the first axis exchanges."""
    points = _cube(4.3)
    upper = (points[:, 2] > 0) | ((points[:, 2] == 0) & (points[:, 1] > 0))
    return points[(np.linalg.norm(points, axis=1) <= 4.3) & upper]


def _cube(reach: float) -> np.ndarray:
    steps = np.arange(-np.ceil(reach / _SPACING), np.ceil(reach / _SPACING) + 1) * _SPACING
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
