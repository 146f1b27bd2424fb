"""The atoms of a model as columns; the model itself stays a `gemmi.Structure`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cryonb.errors import ModelError, ModelWarning

__all__ = [
    "KIND_LIGAND",
    "KIND_NUCLEIC",
    "KIND_PROTEIN",
    "KIND_WATER",
    "PROTEIN_BACKBONE",
    "ROLES",
    "Atoms",
    "Residues",
]

KIND_PROTEIN, KIND_NUCLEIC, KIND_LIGAND, KIND_WATER = range(4)

#: Backbone roles of an atom; the index is what `Atoms.role` holds. "" is not backbone.
ROLES = ("", "N", "CA", "C", "O", "P", "O5'", "C5'", "C4'", "C3'", "O3'")
PROTEIN_BACKBONE = (1, 2, 3, 4)
_PROTEIN_ROLE = {name: code for code, name in enumerate(ROLES) if code in PROTEIN_BACKBONE}
_NUCLEIC_ROLE = {name: code for code, name in enumerate(ROLES) if code > 4}
# Old files write the primes of a sugar as asterisks.
_NUCLEIC_ROLE |= {name.replace("'", "*"): code for name, code in _NUCLEIC_ROLE.items()}


@dataclass(frozen=True)
class Residues:
    """Columns of the residues of a model, one row each (all arrays of shape (n,)).

    Attributes
    ----------
    chain, name, icode : ndarray of str
        Chain name, residue name, insertion code ("" for none).
    number : ndarray of int
        Sequence number as the file has it.
    kind : ndarray of uint8
        KIND_PROTEIN, KIND_NUCLEIC, KIND_LIGAND or KIND_WATER.
    """

    chain: np.ndarray
    number: np.ndarray
    icode: np.ndarray
    name: np.ndarray
    kind: np.ndarray

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class Atoms:
    """Columns of the atoms of a model.

    Attributes
    ----------
    position : ndarray of float64, shape (n, 3)
        (x, y, z) in Å.
    element : ndarray of uint8, shape (n,)
        Atomic number.
    b_iso, occupancy : ndarray of float32, shape (n,)
        Isotropic displacement (Å²) and occupancy.
    name : ndarray of str, shape (n,)
        Atom names.
    residue : ndarray of int32, shape (n,)
        Index into `residues`.
    role : ndarray of uint8, shape (n,)
        Backbone role, an index into `ROLES`.
    residues : Residues
        The residues.
    """

    position: np.ndarray
    element: np.ndarray
    b_iso: np.ndarray
    occupancy: np.ndarray
    name: np.ndarray
    residue: np.ndarray
    role: np.ndarray
    residues: Residues

    def __len__(self) -> int:
        return len(self.position)

    @classmethod
    def from_structure(
        cls, structure, *, hydrogens: bool = False, waters: bool = False, ligands: bool = True
    ) -> Atoms:
        """Read the columns of a `gemmi.Structure`, or hand back an `Atoms` unchanged.

        The first model is read. Of alternative locations the one with the highest summed
        occupancy in its residue is kept (the first of equals).

        Parameters
        ----------
        structure : gemmi.Structure or Atoms
            The model; it is not changed.
        hydrogens, waters, ligands : bool
            Whether to keep these. A modified residue within a polymer (MSE) is part of it, not a
            ligand.

        Raises
        ------
        ModelError
            If there is no atom left.
        """
        if isinstance(structure, Atoms):
            return structure
        if not len(structure):
            raise ModelError("A model with atoms was expected, but the structure has no model.")
        if len(structure) > 1:
            warnings.warn(
                f"The file holds {len(structure)} models; the first is used.",
                ModelWarning,
                stacklevel=2,
            )
        kinds = _KindLookup()
        rows, residue_rows = [], []
        for chain in structure[0]:
            for residue in chain:
                kind = kinds(residue)
                if (kind == KIND_WATER and not waters) or (kind == KIND_LIGAND and not ligands):
                    continue
                keep = _best_altloc(residue)
                index = len(residue_rows)
                roles = _ROLES_OF_KIND[kind]
                before = len(rows)
                for atom in residue:
                    if atom.altloc not in keep or (not hydrogens and atom.is_hydrogen()):
                        continue
                    pos = atom.pos
                    rows.append(
                        (pos.x, pos.y, pos.z, atom.element.atomic_number, atom.b_iso, atom.occ,
                         atom.name, index, roles.get(atom.name, 0))
                    )  # fmt: skip
                if len(rows) > before:
                    seqid = residue.seqid
                    residue_rows.append(
                        (chain.name, seqid.num, seqid.icode.strip(), residue.name, kind)
                    )
        if not rows:
            raise ModelError(
                "A model with atoms was expected, but none is left after leaving out "
                "hydrogens, waters or ligands as asked."
            )
        x, y, z, element, b_iso, occupancy, name, residue, role = zip(*rows, strict=True)
        chain, number, icode, residue_name, kind = zip(*residue_rows, strict=True)
        return cls(
            position=np.array([x, y, z], dtype=np.float64).T.copy(),
            element=np.array(element, dtype=np.uint8),
            b_iso=np.array(b_iso, dtype=np.float32),
            occupancy=np.array(occupancy, dtype=np.float32),
            name=np.array(name),
            residue=np.array(residue, dtype=np.int32),
            role=np.array(role, dtype=np.uint8),
            residues=Residues(
                chain=np.array(chain),
                number=np.array(number, dtype=np.int64),
                icode=np.array(icode),
                name=np.array(residue_name),
                kind=np.array(kind, dtype=np.uint8),
            ),
        )

    @property
    def backbone(self) -> np.ndarray:
        """Which atoms have a backbone role: bool, shape (n,)."""
        return self.role > 0

    @cached_property
    def kind(self) -> np.ndarray:
        """Kind of each atom's residue: uint8, shape (n,)."""
        return self.residues.kind[self.residue]

    @property
    def lower(self) -> np.ndarray:
        """Lower corner of the bounding box, (x, y, z) in Å."""
        return self.position.min(axis=0)

    @property
    def upper(self) -> np.ndarray:
        """Upper corner of the bounding box, (x, y, z) in Å."""
        return self.position.max(axis=0)

    def select(self, which) -> Atoms:
        """Take the atoms that a bool array or indices name; the residue table stays whole."""
        columns = ("position", "element", "b_iso", "occupancy", "name", "residue", "role")
        return replace(self, **{key: getattr(self, key)[which] for key in columns})

    def moved_to(self, position) -> Atoms:
        """Take the same atoms at other positions, (n, 3) in Å."""
        position = np.asarray(position, dtype=np.float64)
        if position.shape != self.position.shape:
            raise ModelError(
                f"Positions of shape {self.position.shape} were expected, "
                f"but {position.shape} was given."
            )
        return replace(self, position=position)


_ROLES_OF_KIND = {
    KIND_PROTEIN: _PROTEIN_ROLE,
    KIND_NUCLEIC: _NUCLEIC_ROLE,
    KIND_LIGAND: {},
    KIND_WATER: {},
}


class _KindLookup:
    """Kind of a residue, by its name in gemmi's table or, where unknown, by its atoms."""

    def __init__(self):
        self._known: dict[str, int | None] = {}

    def __call__(self, residue) -> int:
        name = residue.name
        if name not in self._known:
            import gemmi

            info = gemmi.find_tabulated_residue(name)
            if info.is_water():
                kind = KIND_WATER
            elif info.is_amino_acid():
                kind = KIND_PROTEIN
            elif info.is_nucleic_acid():
                kind = KIND_NUCLEIC
            elif info.found():
                kind = KIND_LIGAND
            else:
                kind = None
            self._known[name] = kind
        kind = self._known[name]
        if kind is None:
            names = {atom.name for atom in residue}
            if {"N", "CA", "C"} <= names:
                return KIND_PROTEIN
            return KIND_NUCLEIC if {"C3'", "C4'", "C1'"} <= names else KIND_LIGAND
        # A free amino acid or nucleotide (a bound GLY or ATP) is still counted as what it is
        # unless the file says otherwise.
        return kind


def _best_altloc(residue) -> tuple[str, ...]:
    """Alternative-location labels to keep: none, and the one with most occupancy."""
    weight: dict[str, float] = {}
    for atom in residue:
        if atom.altloc != "\0":
            weight[atom.altloc] = weight.get(atom.altloc, 0.0) + atom.occ
    if not weight:
        return ("\0",)
    return ("\0", max(weight, key=weight.get))
