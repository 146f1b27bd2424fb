"""Haruspex's annotation of a map by its model, and the choice of segments to train on.

Mostosi et al., Angewandte Chemie 59, 14788 (2020), sections "Training Data Annotation" and
"Network Training". The published repository has no annotation code; the numbers are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from cryonb.atoms import KIND_NUCLEIC, KIND_PROTEIN, Atoms
from cryonb.grid import Grid
from cryonb.label.secondary_structure import ramachandran, secondary_structure
from cryonb.label.voxels import nearest_labels
from cryonb.volume import CLASSES, Volume

__all__ = [
    "ORDER", "Annotation", "annotate", "annotate_atoms", "extended_states", "segment_starts",
]  # fmt: skip

#: The network's channels.
ORDER = ("sheet", "helix", "nucleotide", "unassigned")
SHEET, HELIX, NUCLEOTIDE, UNASSIGNED = range(4)
#: Our classes, by the place in `CLASSES`, in that order.
OURS = {"strand": SHEET, "helix": HELIX, "nucleotide": NUCLEOTIDE}

#: Ramachandran regions: smallest φ and ψ, extent; ψ of strands runs on across 180°.
_REGION = {"helix": ((-160.0, -80.0), (130.0, 95.0)), "strand": ((-180.0, 60.0), (130.0, 150.0))}


@dataclass(frozen=True)
class Annotation:
    """What Haruspex trains on.

    Attributes
    ----------
    label : ndarray of uint8, shape (z, y, x)
        Place in `ORDER`.
    counts : ndarray of bool, shape (z, y, x)
        False where a voxel is masked out of training.
    grid : Grid
        Of both.
    residue_density : ndarray, shape (residues,)
        Mean density of each residue's backbone in r.m.s.d.; NaN outside the map.
    """

    label: np.ndarray
    counts: np.ndarray
    grid: Grid
    residue_density: np.ndarray


def extended_states(model, *, steps: int = 1) -> np.ndarray:
    """Assign secondary structure as Haruspex does: DSSP, and its neighbours of the same profile.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model.
    steps : int
        Residues by which each element may grow at either end, as long as their φ and ψ are in the
        element's Ramachandran region; 0 for DSSP alone. The paper gives neither the number nor the
        regions: those here are the usual broad ones (helix φ -160 to -30, ψ -80 to 15; strand
        φ -180 to -50, ψ 60 to -150 across 180).

    Returns
    -------
    ndarray of uint8, shape (residues,)
        Index into `CLASSES`. Direction of strands plays no part: parallel and antiparallel bridges
        are strands alike.

    Notes
    -----
    Annotations in the model file (HELIX, SHEET), which the paper also reads, are left out: they
    are DSSP's in most depositions, and models from elsewhere have none.
    """
    structure = secondary_structure(model)
    phi, psi = ramachandran(model)
    state = structure.state.copy()
    coil = CLASSES.index("coil")
    bound = ~structure.is_break[1:]
    for name, ((phi0, psi0), (width, height)) in _REGION.items():
        number = CLASSES.index(name)
        with np.errstate(invalid="ignore"):
            fits = ((phi - phi0) % 360 <= width) & ((psi - psi0) % 360 <= height)
        for _ in range(steps):
            beside = np.zeros(len(state), dtype=bool)
            beside[1:] |= (state[:-1] == number) & bound
            beside[:-1] |= (state[1:] == number) & bound
            state[beside & fits & (state == coil)] = number
    return state


def annotate(
    model, volume: Volume, *, marked: float = 2.0, masked: float = 1.0, radius: float = 3.0,
    unmodelled: float = 5.0, steps: int = 1,
) -> Annotation:  # fmt: skip
    """Label the voxels of a map as Haruspex's training data are labelled.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model, in the frame of the map.
    volume : Volume
        The map as deposited, on voxels of 1.0 to 1.2 Å.
    marked : float
        Residues whose mean backbone density exceeds this (in r.m.s.d.) mark voxels.
    masked : float
        Residues of secondary structure between this and `marked` are masked out.
    radius : float
        Å around backbone atoms that are marked or masked.
    unmodelled : float
        Density of more than 1 r.m.s.d. beyond this distance (Å) from any atom is masked out.
    steps : int
        See `extended_states`.

    Returns
    -------
    Annotation
    """
    atoms = Atoms.from_structure(model)
    polymer = np.isin(atoms.residues.kind, [KIND_PROTEIN, KIND_NUCLEIC])
    return annotate_atoms(
        atoms.position,
        atoms.residue,
        extended_states(atoms, steps=steps),
        atoms.backbone & polymer[atoms.residue],
        volume,
        marked=marked,
        masked=masked,
        radius=radius,
        unmodelled=unmodelled,
    )


def annotate_atoms(
    position, residue, state, backbone, volume: Volume, *, rms: float | None = None,
    marked: float = 2.0, masked: float = 1.0, radius: float = 3.0, unmodelled: float = 5.0,
) -> Annotation:  # fmt: skip
    """Label voxels as `annotate`, from columns of atoms.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        (x, y, z) in Å of all atoms.
    residue : ndarray of int, shape (n,)
        Residue of each atom.
    state : ndarray of uint8, shape (residues,)
        From `extended_states`.
    backbone : ndarray of bool, shape (n,)
        Backbone atoms of polymers.
    volume : Volume
        The map.
    rms : float, optional
        R.m.s.d. of the whole map that `volume` is cut from; its own by default.
    marked, masked, radius, unmodelled : float
        As in `annotate`.

    Returns
    -------
    Annotation
    """
    rms = volume.std if rms is None else rms
    table = np.full(len(CLASSES), UNASSIGNED, dtype=np.uint8)
    for name, number in OURS.items():
        table[CLASSES.index(name)] = number
    kinds = table[state]
    at, owner = position[backbone], residue[backbone]
    read = volume.sample(at) / rms
    inside = np.isfinite(read)
    count = np.bincount(owner[inside], minlength=len(kinds))
    density = np.bincount(owner[inside], read[inside], len(kinds)) / np.maximum(count, 1)
    density = np.where(count > 0, density, np.nan)
    with np.errstate(invalid="ignore"):
        strong, weak = density > marked, (density > masked) & (density <= marked)
    element = kinds != UNASSIGNED
    # Nearest atom decides; coil between elements must not be marked by them.
    code = np.where(element & strong, kinds + 1, np.where(element & weak, 5, 4)).astype(np.uint8)
    near = nearest_labels(at, code[owner], volume.grid, radius)
    label = np.where((near >= 1) & (near <= 3), near - 1, UNASSIGNED).astype(np.uint8)
    modelled = nearest_labels(
        position, np.ones(len(position), dtype=np.uint8), volume.grid, unmodelled
    )
    stray = (modelled == 0) & (volume.values > rms)
    return Annotation(label, (near != 5) & ~stray, volume.grid, density)


def segment_starts(
    annotation: Annotation, model, volume: Volume, *, edge: int = 70, step: int = 35,
    atoms_above: int = 100, backbone_mean: float = 3.0, annotated: float = 0.05,
) -> np.ndarray:  # fmt: skip
    """Choose the boxes of a map that are fit to train on.

    Parameters
    ----------
    annotation : Annotation
        Of the map.
    model : gemmi.Structure or Atoms
        The model.
    volume : Volume
        The map.
    edge, step : int
        Voxels of a box, and between the boxes that are looked at.
    atoms_above : int
        Atoms at more than 1 r.m.s.d. that a box must hold.
    backbone_mean : float
        Mean density of its backbone atoms, in r.m.s.d., that it must have.
    annotated : float
        Share of its voxels that must be marked.

    Returns
    -------
    ndarray of int, shape (n, 3)
        (z, y, x) of the first voxel of each. A map smaller than a box has none.
    """
    from itertools import product

    atoms = Atoms.from_structure(model)
    read = np.nan_to_num(volume.sample(atoms.position) / volume.std, nan=-np.inf)
    index = annotation.grid.to_index(atoms.position)
    marked = (annotation.label != UNASSIGNED).astype(np.float32)
    # A box's mean sits at its middle voxel.
    share = uniform_filter(marked, edge, mode="constant")
    backbone = atoms.backbone
    kept = []
    for start in product(*(range(0, n - edge + 1, step) for n in volume.shape)):
        corner = np.array(start)
        if share[tuple(corner + edge // 2)] < annotated:
            continue
        inside = ((index >= corner) & (index < corner + edge)).all(axis=1) & np.isfinite(read)
        if (read[inside] > 1).sum() < atoms_above:
            continue
        if read[inside & backbone].mean() >= backbone_mean:
            kept.append(start)
    return np.array(kept, dtype=int).reshape(-1, 3)
