"""The atoms of a model as columns; the model itself stays a `gemmi.Structure`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cryonb.errors import ModelError, ModelWarning

__all__ = [
    "AMINO_ACIDS",
    "KIND_LIGAND",
    "KIND_NUCLEIC",
    "KIND_PROTEIN",
    "KIND_WATER",
    "PROTEIN_BACKBONE",
    "ROLES",
    "Atoms",
    "Residues",
]

#: The twenty amino acids, alphabetically by their three-letter codes.
AMINO_ACIDS = (
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE",
    "LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL",
)  # fmt: skip

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
    aniso : ndarray of float64, shape (n, 6), optional
        Anisotropic displacements U11, U22, U33, U12, U13, U23 in Å², all zero where an atom has
        none; None unless they were asked for.
    charge : ndarray of int8, shape (n,), optional
        Formal charge as the file has it, which is rarely given.
    """

    position: np.ndarray
    element: np.ndarray
    b_iso: np.ndarray
    occupancy: np.ndarray
    name: np.ndarray
    residue: np.ndarray
    role: np.ndarray
    residues: Residues
    aniso: np.ndarray | None = None
    charge: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.position)

    @classmethod
    def from_structure(
        cls, structure, *, hydrogens: bool = False, waters: bool = False, ligands: bool = True,
        altlocs: bool = False, anisotropic: bool = False,
    ) -> Atoms:  # fmt: skip
        """Read the columns of a `gemmi.Structure`, or hand back an `Atoms` unchanged.

        The first model is read. Of alternative locations the one with the highest summed
        occupancy in its residue is kept (the first of equals), unless all are asked for.

        Parameters
        ----------
        structure : gemmi.Structure or Atoms
            The model; it is not changed.
        hydrogens, waters, ligands : bool
            Whether to keep these. A modified residue within a polymer (MSE) is part of it, not a
            ligand.
        altlocs : bool
            Whether to keep all alternative locations, each with its own occupancy.
        anisotropic : bool
            Whether to read anisotropic displacements, which takes longer than all else.

        Raises
        ------
        ModelError
            If there is no atom left.
        """
        if isinstance(structure, Atoms):
            return structure
        if not len(structure) or not structure[0].count_atom_sites():
            what = "atom" if len(structure) else "model"
            raise ModelError(
                f"A model with atoms was expected, but the structure has no {what}; open another "
                "file."
            )
        if len(structure) > 1:
            warnings.warn(
                f"The file holds {len(structure)} models; the first is used.",
                ModelWarning,
                stacklevel=2,
            )
        table = _Table(structure)
        kind = table.kinds()
        keep_residue = np.ones(len(kind), dtype=bool)
        if not waters:
            keep_residue &= kind != KIND_WATER
        if not ligands:
            keep_residue &= kind != KIND_LIGAND
        keep = keep_residue[table.residue]
        if not altlocs:
            keep = keep & table.best_altloc()
        if not hydrogens:
            keep &= table.element != 1
        if not keep.any():
            raise ModelError(
                "A model with atoms was expected, but none is left after leaving out "
                "hydrogens, waters or ligands as asked."
            )
        # Residues of which nothing is left go, too.
        used = np.zeros(len(kind), dtype=bool)
        used[table.residue[keep]] = True
        first, kind = table.first[used], kind[used]
        residue = (np.cumsum(used) - 1)[table.residue[keep]].astype(np.int32)
        name = table.name[keep]
        flat = table.flat
        return cls(
            position=flat.pos[table.model][keep],
            element=table.element[keep],
            b_iso=flat.b_iso[table.model][keep],
            occupancy=table.occupancy[keep],
            name=name,
            residue=residue,
            role=_roles(name, kind[residue]),
            residues=Residues(
                chain=table.chain[first],
                number=table.number[first].astype(np.int64),
                icode=np.char.strip(table.icode[first]),
                name=table.residue_name[first],
                kind=kind,
            ),
            aniso=_displacements(structure)[keep] if anisotropic else None,
            charge=flat.charge[table.model][keep],
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
        columns += tuple(key for key in ("aniso", "charge") if getattr(self, key) is not None)
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


class _Table:
    """Columns of the first model of a structure, an atom a row, and where its residues begin."""

    def __init__(self, structure):
        import gemmi

        self.flat = flat = gemmi.FlatStructure(structure)
        # Models follow one another, so the first one is a slice.
        self.model = slice(0, structure[0].count_atom_sites())
        self.chain = _text(flat.chain_ids[self.model])
        self.residue_name = _text(flat.residue_names[self.model])
        self.name = _text(flat.atom_names[self.model])
        self.number = flat.resnums[self.model]
        self.icode = _text(flat.icodes[self.model, None])
        self.altloc = flat.altlocs[self.model]
        self.occupancy = flat.occ[self.model]
        element = flat.elements[self.model]
        # gemmi lists deuterium after the elements, as number 119.
        deuterium = 119
        self.element = np.where(element == deuterium, 1, element).astype(np.uint8)

        new = np.ones(len(self.number), dtype=bool)
        new[1:] = False
        for column in (self.chain, self.number, self.icode, self.residue_name):
            new[1:] |= column[1:] != column[:-1]
        self.first = np.flatnonzero(new)
        self.residue = np.cumsum(new) - 1

    def best_altloc(self) -> np.ndarray:
        """Tell the atoms without label, or with the label of most occupancy in their residue."""
        best = self.altloc == 0
        labelled = np.flatnonzero(~best)
        if len(labelled):
            key = self.residue[labelled] * 256 + self.altloc[labelled].astype(np.uint8)
            labels, place, which = np.unique(key, return_index=True, return_inverse=True)
            weight = np.bincount(which, self.occupancy[labelled].astype(np.float64))
            # By residue, then falling weight, then the order of the file.
            order = np.lexsort((place, -weight, labels // 256))
            _, top = np.unique(labels[order] // 256, return_index=True)
            best[labelled] = np.isin(which, order[top])
        return best

    def kinds(self) -> np.ndarray:
        """Kind of each residue: by its name in gemmi's table or, where unknown, by its atoms."""
        import gemmi

        names, which = np.unique(self.residue_name[self.first], return_inverse=True)
        infos = [gemmi.find_tabulated_residue(str(name)) for name in names]
        # A free amino acid or nucleotide (a bound GLY or ATP) is still counted as what it is.
        of_name = np.array(
            [
                KIND_WATER if info.is_water()
                else KIND_PROTEIN if info.is_amino_acid()
                else KIND_NUCLEIC if info.is_nucleic_acid()
                else KIND_LIGAND
                for info in infos
            ],
            dtype=np.uint8,
        )  # fmt: skip
        kind = of_name[which]
        unknown = ~np.array([info.found() for info in infos])[which]
        if unknown.any():
            has = {}
            for name in ("N", "CA", "C", "C3'", "C4'", "C1'"):
                has[name] = np.zeros(len(kind), dtype=bool)
                has[name][self.residue[self.name == name]] = True
            protein = has["N"] & has["CA"] & has["C"]
            nucleic = has["C3'"] & has["C4'"] & has["C1'"] & ~protein
            kind[unknown & protein] = KIND_PROTEIN
            kind[unknown & nucleic] = KIND_NUCLEIC
        return kind


def _displacements(structure) -> np.ndarray:
    """Anisotropic displacements of the atoms of the first model; gemmi's table lacks them."""
    rows = [place.atom.aniso.elements_pdb() for place in structure[0].all()]
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def _text(codes: np.ndarray) -> np.ndarray:
    """Turn rows of character codes, padded with zeros, into strings."""
    codes = np.ascontiguousarray(codes).view(np.uint8)
    # UCS4 code points are what numpy's strings hold.
    return codes.astype(np.uint32).view(f"U{codes.shape[1]}")[:, 0]


def _roles(name: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Backbone role of atoms by name, and kind of residue: an index into `ROLES`."""
    role = np.zeros(len(name), dtype=np.uint8)
    for names, of_kind in ((_PROTEIN_ROLE, KIND_PROTEIN), (_NUCLEIC_ROLE, KIND_NUCLEIC)):
        rows = np.flatnonzero(kind == of_kind)
        part = name[rows]
        for text, code in names.items():
            role[rows[part == text]] = code
    return role
