"""Labels of voxels as in Cryo2StructData: backbone atoms, amino acids, secondary structure.

Giri, Wang and Cheng (2024), Scientific Data: one voxel an atom, all others are background.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cryonb.atoms import AMINO_ACIDS, KIND_PROTEIN, Atoms
from cryonb.errors import CryonbError, ModelError
from cryonb.grid import Grid, no_overlap
from cryonb.label.secondary_structure import secondary_structure
from cryonb.volume import CLASSES, LabelVolume, Volume

__all__ = ["CONVENTIONS", "LABELS", "alpha_carbons", "cryo2struct_labels"]

CONVENTIONS = ("corrected", "published")

#: The labelled volumes, and their classes by label.
LABELS = {
    "atom": ("background", "CA", "N", "C"),
    "atom_ca": ("background", "CA"),
    "amino": ("background", *AMINO_ACIDS),
    "sec_struc": ("background", "coil", "helix", "strand"),
}
_ATOMS, _STATES = LABELS["atom"], LABELS["sec_struc"]


@dataclass(frozen=True)
class _Backbone:
    """Columns of the atoms that are labelled, in the order of the file."""

    position: np.ndarray
    occupancy: np.ndarray
    atom: np.ndarray
    amino: np.ndarray
    state: np.ndarray

    @property
    def is_ca(self) -> np.ndarray:
        return self.atom == _ATOMS.index("CA")


def cryo2struct_labels(
    model, grid: Grid | Volume, *, convention: str = "corrected"
) -> dict[str, LabelVolume]:
    """Label the voxels that hold backbone atoms.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model, in the frame of the grid.
    grid : Grid or Volume
        The voxels; those of the data set are of 1 Å.
    convention : {"corrected", "published"}
        * corrected: the voxel with the nearest centre; what is outside is left out. Amino acids of
          the first model in their most occupied alternative count, modified ones as what they were
          made from. Where atoms share a voxel, that of the highest occupancy is written; of equals
          a Cα before N and C, then the one nearest to the centre, then the first of the file.
        * published: per axis index ⌈⌊x - origin⌋ / voxel⌉, that is rounded down, half a voxel off
          on average; an index down to -n counts from the far face. All models, and every atom that
          is called CA, N or C, calcium ions included; what comes later overwrites. Residues other
          than the twenty write 0, which can erase. Coil is written first, then helix, then strand.

    Returns
    -------
    dict of LabelVolume
        atom (CA 1, N 2, C 3), atom_ca (CA 1), amino (at Cα voxels, from 1 on the order of
        `cryonb.atoms.AMINO_ACIDS`, else 0) and sec_struc (at Cα voxels: coil 1, helix 2, strand 3).

    Raises
    ------
    CryonbError
        If the convention is unknown.
    ModelError
        If the model has no Cα atom, or most of its amino acids lack N, C or O.
    MapModelMismatchError
        If no atom is labelled.

    Notes
    -----
    The original takes secondary structure from ChimeraX, that is, from the file's records or, where
    it has none, from DSSP; here it always is DSSP's.
    """
    if convention not in CONVENTIONS:
        raise CryonbError(
            f"A convention of {' or '.join(CONVENTIONS)} was expected, but {convention!r} was "
            "given."
        )
    grid = grid.grid if isinstance(grid, Volume) else grid
    found = _backbone(model, convention)
    flat, valid = (_published if convention == "published" else _nearest)(found.position, grid)
    if not valid.any():
        raise no_overlap(grid, found.position.min(axis=0), found.position.max(axis=0))
    order = np.arange(len(flat))
    if convention == "corrected":
        away = np.linalg.norm(found.position - _centres(flat, grid), axis=1)
        # The last one written stays.
        order = np.lexsort((-order, -away, found.is_ca, found.occupancy))
    order = order[valid[order]]
    alpha = order[found.is_ca[order]]
    by_state = alpha
    if convention == "published":
        by_state = alpha[np.argsort(found.state[alpha], kind="stable")]
        by_state = by_state[found.state[by_state] > 0]
    codes = {
        "atom": (order, found.atom),
        "atom_ca": (alpha, found.is_ca.astype(np.uint8)),
        "amino": (alpha, found.amino),
        "sec_struc": (by_state, found.state),
    }
    return {
        name: LabelVolume._adopt(
            _written(grid, flat[rows], code[rows]), grid, classes=LABELS[name],
            name=name, history=(f"label cryo2struct {name} ({convention})",),
        )
        for name, (rows, code) in codes.items()
    }  # fmt: skip


def alpha_carbons(model, *, convention: str = "corrected") -> np.ndarray:
    """Give the positions of the Cα atoms that a convention labels: float64 (n, 3), Å."""
    found = _backbone(model, convention, states=False)
    return found.position[found.is_ca]


def _nearest(position, grid: Grid):
    """Flat index of the voxel with the nearest centre, and which atoms lie in one."""
    # Halves go up; to even, as numpy rounds, would favour some voxels.
    index = np.floor(grid.to_index(position) + 0.5).astype(np.int64)
    valid = ((index >= 0) & (index < grid.shape)).all(axis=1)
    return _flat(index, grid), valid


def _published(position, grid: Grid):
    """Flat index by the published formula, with Python's meaning of a negative one."""
    steps = np.floor(position - grid.lower) / grid.voxel_size
    index = np.ceil(steps).astype(np.int64)[:, ::-1]
    valid = ((index >= -np.array(grid.shape)) & (index < grid.shape)).all(axis=1)
    return _flat(index, grid), valid


def _flat(index, grid: Grid) -> np.ndarray:
    return np.ravel_multi_index(tuple(index.T), grid.shape, mode="wrap")


def _centres(flat, grid: Grid) -> np.ndarray:
    return grid.to_points(np.stack(np.unravel_index(flat, grid.shape), axis=1))


def _written(grid: Grid, flat: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Write codes one after another; where several meet in a voxel the last one stays."""
    voxels, last = np.unique(flat[::-1], return_index=True)
    values = np.zeros(grid.n_voxels, dtype=np.uint8)
    values[voxels] = codes[::-1][last]
    return values.reshape(grid.shape)


def _backbone(model, convention: str, *, states: bool = True) -> _Backbone:
    parts = [_columns(atoms, convention, states) for atoms in _read(model, convention)]
    found = _Backbone(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if not found.is_ca.any():
        raise ModelError("A model with Cα atoms was expected, but this one has none.")
    return found


def _read(model, convention: str) -> Iterable[Atoms]:
    """Read the models of a structure that a convention labels."""
    if isinstance(model, Atoms) or convention == "corrected":
        return [Atoms.from_structure(model)]
    import gemmi

    found = []
    for one in model:
        alone = gemmi.Structure()
        alone.add_model(one)
        found.append(Atoms.from_structure(alone, waters=True))
    return found


def _columns(atoms: Atoms, convention: str, states: bool):
    rows = np.isin(atoms.name, _ATOMS[1:])
    if convention == "corrected":
        rows &= atoms.kind == KIND_PROTEIN
    names, which = np.unique(atoms.residues.name, return_inverse=True)
    amino = np.array([_amino(str(name), convention) for name in names], dtype=np.uint8)
    residue = atoms.residue[rows]
    state = np.zeros(len(atoms.residues), dtype=np.uint8)
    if states:
        ours = secondary_structure(atoms).state
        for name in _STATES[1:]:
            state[ours == CLASSES.index(name)] = _STATES.index(name)
    atom = np.zeros(rows.sum(), dtype=np.uint8)
    for code, name in enumerate(_ATOMS):
        atom[atoms.name[rows] == name] = code
    return (
        atoms.position[rows], atoms.occupancy[rows], atom, amino[which][residue], state[residue]
    )  # fmt: skip


def _amino(name: str, convention: str) -> int:
    """Label of a residue by its name: 0 for what is none of the twenty."""
    if convention == "corrected":
        import gemmi

        info = gemmi.find_tabulated_residue(name)
        # A modified residue has its parent's letter, in lower case.
        letter = info.one_letter_code.upper()
        if info.is_amino_acid() and letter.strip():
            name = gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) or name
    return AMINO_ACIDS.index(name) + 1 if name in AMINO_ACIDS else 0
