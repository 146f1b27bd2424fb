"""Classes of the voxels around a model: the class of the nearest backbone atom."""

from __future__ import annotations

import numpy as np

from cryonb.atoms import KIND_NUCLEIC, KIND_PROTEIN, Atoms
from cryonb.errors import CryonbError, ModelError
from cryonb.grid import Grid
from cryonb.label.secondary_structure import SecondaryStructure, secondary_structure
from cryonb.volume import CLASSES, LabelVolume

__all__ = ["label_volume", "nearest_labels"]

_SLAB = 8_000_000  # voxels whose nearest atom is kept at a time (8 bytes each)
_CHUNK = 500_000  # pairs of atom and voxel looked at together


def label_volume(
    model,
    grid: Grid,
    *,
    radius: float = 3.0,
    nucleotide_atoms: str = "all",
    secondary: SecondaryStructure | None = None,
) -> LabelVolume:
    """Give each voxel the class of the nearest backbone atom, or background.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model, in the frame of the grid.
    grid : Grid
        The voxels. A grid that no atom is near to is all background.
    radius : float
        Largest distance in Å from a voxel's centre to an atom (inclusive).
    nucleotide_atoms : {"all", "backbone"}
        Whether bases mark voxels as well, or sugar and phosphate (P, O5', C5', C4', C3', O3') only.
    secondary : SecondaryStructure, optional
        The secondary structure of the same model, where it is known already.

    Returns
    -------
    LabelVolume
        Classes in the order of `CLASSES`. Residues without secondary structure count as coil;
        ligands and waters mark nothing.

    Raises
    ------
    ModelError
        If the model lacks a full backbone, or `secondary` belongs to another model.
    CryonbError
        If the radius is not positive or `nucleotide_atoms` is none of the above.

    Examples
    --------
    >>> labels = label_volume(structure, volume.grid)  # doctest: +SKIP
    >>> labels.mask("helix").sum()  # doctest: +SKIP
    """
    if nucleotide_atoms not in ("all", "backbone"):
        raise CryonbError(
            f"nucleotide_atoms must be 'all' or 'backbone', but {nucleotide_atoms!r} was given."
        )
    atoms = Atoms.from_structure(model)
    if secondary is None:
        secondary = secondary_structure(atoms)
    elif len(secondary) != len(atoms.residues):
        raise ModelError(
            f"Secondary structure of the model's {len(atoms.residues)} residues was expected, but "
            f"it has {len(secondary)}; compute it from the same model."
        )
    kind = atoms.residues.kind[atoms.residue]
    marks = (kind == KIND_PROTEIN) & atoms.backbone
    nucleic = kind == KIND_NUCLEIC
    marks |= nucleic if nucleotide_atoms == "all" else nucleic & atoms.backbone
    labels = nearest_labels(
        atoms.position[marks], secondary.state[atoms.residue[marks]], grid, radius
    )
    return LabelVolume(labels, grid, classes=CLASSES, history=(f"label radius={radius:g}",))


def nearest_labels(points, states, grid: Grid, radius: float = 3.0) -> np.ndarray:
    """Give each voxel the state of the nearest point within a radius, 0 where there is none.

    Parameters
    ----------
    points : array_like, shape (n, 3)
        (x, y, z) in Å.
    states : array_like of int, shape (n,)
        0 to 255.
    grid : Grid
        The voxels.
    radius : float
        In Å, inclusive.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    CryonbError
        If the radius is not positive, the arrays do not fit together or a state does not fit.

    Notes
    -----
    Every point looks at the voxels of a block around it, and each voxel keeps the smallest distance
    seen. The work grows with the number of points and the memory is bounded, whatever the grid's
    size. Of points equally near (within float32), the first one wins.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    states = np.asarray(states)
    if not (np.isfinite(radius) and radius > 0):
        raise CryonbError(f"The radius must be a positive number of Å, but {radius!r} was given.")
    if states.shape != (len(points),):
        raise CryonbError(
            f"One state for each of {len(points)} points was expected, but the states' shape is "
            f"{states.shape}."
        )
    if not np.isfinite(points).all():
        raise CryonbError("Finite points were expected, but some coordinates are not numbers.")
    if len(states) and (states.min() < 0 or states.max() > 255):
        raise CryonbError("States from 0 to 255 were expected, but some are beyond.")
    labels = np.zeros(grid.shape, dtype=np.uint8)
    index = grid.to_index(points)
    spacing = np.array(grid.voxel_size[::-1])
    reach = np.floor(radius / spacing + 0.5)
    near = ((index > -reach - 1) & (index < np.array(grid.shape) + reach)).all(axis=1)
    index, states = index[near], states[near].astype(np.uint8)
    # In slabs along z, so that the table of nearest points stays small.
    thickness = max(1, _SLAB // (grid.shape[1] * grid.shape[2]))
    for first in range(0, grid.shape[0], thickness):
        slab = labels[first : first + thickness]
        z = index[:, 0] - first
        inside = (z > -reach[0] - 1) & (z < len(slab) + reach[0])
        if inside.any():
            local = index[inside] - (first, 0, 0)
            _mark_nearest(slab, local, states[inside], spacing, reach, radius)
    return labels


def _mark_nearest(slab, index, states, spacing, reach, radius) -> None:
    """Write states into a slab. `index` (n, 3) and `spacing` are in order (z, y, x)."""
    block = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1)
    block = block.reshape(-1, 3)
    # A point lies up to half a voxel from the middle voxel of its block, along each axis.
    least = np.maximum(np.abs(block) - 0.5, 0.0) * spacing
    block = block[(least * least).sum(axis=1) <= radius * radius].astype(np.int64)

    shape = np.array(slab.shape)
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    middle = np.rint(index).astype(np.int64)
    offset = (middle - index) * spacing
    # A positive float32 sorts as its bits do: distance in the upper half of a key, point below.
    empty = np.iinfo(np.uint64).max
    nearest = np.full(slab.size, empty, dtype=np.uint64)
    step = max(1, _CHUNK // len(block))
    shift = block * spacing
    for first in range(0, len(index), step):
        part = slice(first, first + step)
        square = np.zeros((len(index[part]), len(block)))
        valid = np.ones(square.shape, dtype=bool)
        for axis in range(3):
            delta = offset[part, axis, None] + shift[:, axis]
            square += delta * delta
            voxel = middle[part, axis, None] + block[:, axis]
            valid &= (voxel >= 0) & (voxel < shape[axis])
        valid &= square <= radius * radius
        point, place = np.nonzero(valid)
        target = (middle[part] @ strides)[point] + (block @ strides)[place]
        distance = square[valid].astype(np.float32).view(np.uint32)
        key = (distance.astype(np.uint64) << np.uint64(32)) | (point + first).astype(np.uint64)
        np.minimum.at(nearest, target, key)
    seen = np.flatnonzero(nearest != empty)
    slab.reshape(-1)[seen] = states[(nearest[seen] & np.uint64(0xFFFFFFFF)).astype(np.int64)]
