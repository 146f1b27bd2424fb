"""Amino acids of known structures, from which the tables of this room are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from cryonb.atoms import AMINO_ACIDS, KIND_PROTEIN, Atoms
from cryonb.errors import CryonbError

__all__ = [
    "BACKBONE",
    "CHI_GROUPS",
    "REAL_MAPS",
    "KnownResidues",
    "known_residues",
    "slot_positions",
    "slots",
]

BACKBONE = ("N", "CA", "C", "O", "CB")

#: Atoms beyond Cβ of each amino acid, by the last χ that moves them; the first of each group is the
#: atom that defines the angle.
CHI_GROUPS = {
    "ARG": (("CG",), ("CD",), ("NE",), ("CZ", "NH1", "NH2")),
    "ASN": (("CG",), ("OD1", "ND2")),
    "ASP": (("CG",), ("OD1", "OD2")),
    "CYS": (("SG",),),
    "GLN": (("CG",), ("CD",), ("OE1", "NE2")),
    "GLU": (("CG",), ("CD",), ("OE1", "OE2")),
    "HIS": (("CG",), ("ND1", "CD2", "CE1", "NE2")),
    "ILE": (("CG1", "CG2"), ("CD1",)),
    "LEU": (("CG",), ("CD1", "CD2")),
    "LYS": (("CG",), ("CD",), ("CE",), ("NZ",)),
    "MET": (("CG",), ("SD",), ("CE",)),
    "PHE": (("CG",), ("CD1", "CD2", "CE1", "CE2", "CZ")),
    "PRO": (("CG",), ("CD",)),
    "SER": (("OG",),),
    "THR": (("OG1", "CG2"),),
    "TRP": (("CG",), ("CD1", "CD2", "NE1", "CE2", "CE3", "CZ2", "CZ3", "CH2")),
    "TYR": (("CG",), ("CD1", "CD2", "CE1", "CE2", "CZ", "OH")),
    "VAL": (("CG1", "CG2"),),
}

#: Structures of real maps that serve as tests; no table is made of them or of their kin.
REAL_MAPS = ("pool_protein/7cec_A.pdb.gz", "pool_protein/4oyn_A.pdb.gz", "pool_nucleic/1sfo.pdb.gz")


def slots(name: str) -> tuple[str, ...]:
    """Name the heavy atoms of an amino acid: backbone, Cβ, then the groups of `CHI_GROUPS`."""
    side = tuple(atom for group in CHI_GROUPS.get(name, ()) for atom in group)
    return (*(BACKBONE[:4] if name == "GLY" else BACKBONE), *side)


def slot_positions(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Give the name of each residue of a model, and its atoms by `slots`: (n, 14, 3)."""
    name = atoms.residues.name.astype("U3")
    slot = np.full(len(atoms), -1)
    of_atom = np.where(atoms.kind == KIND_PROTEIN, name[atoms.residue], "")
    for amino in AMINO_ACIDS:
        rows = np.flatnonzero(of_atom == amino)
        order = {atom: k for k, atom in enumerate(slots(amino))}
        slot[rows] = [order.get(atom, -1) for atom in atoms.name[rows].tolist()]
    kept = slot >= 0
    position = np.full((len(name), 14, 3), np.nan)
    position[atoms.residue[kept], slot[kept]] = atoms.position[kept]
    return name, position


@dataclass(frozen=True)
class KnownResidues:
    """Amino acids, one after the other.

    Attributes
    ----------
    name : ndarray of str, shape (n,)
        Three-letter codes.
    position : ndarray of float64, shape (n, 14, 3)
        Å, in the order of `slots`; NaN for what lacks.
    bound : ndarray of bool, shape (n,)
        Whether the residue is bound to the one before it.
    b_iso : ndarray of float64, shape (n,)
        Highest B of the residue's atoms, Å².
    """

    name: np.ndarray
    position: np.ndarray
    bound: np.ndarray
    b_iso: np.ndarray

    def __len__(self) -> int:
        return len(self.name)

    @classmethod
    def of(cls, model) -> KnownResidues:
        """Read the amino acids of a model (gemmi.Structure or Atoms) that have N, Cα, C and O."""
        from cryonb.label.dssp import chain_breaks

        atoms = Atoms.from_structure(model)
        name, position = slot_positions(atoms)
        b_iso = np.zeros(len(name))
        np.maximum.at(b_iso, atoms.residue, atoms.b_iso)
        whole = np.flatnonzero(np.isfinite(position[:, :4]).all(axis=(1, 2)))
        position = position[whole]
        bound = ~chain_breaks(position[:, 0], position[:, 2], atoms.residues.chain[whole])
        # A residue that was left out is a break, too.
        bound[1:] &= np.diff(whole) == 1
        return cls(name[whole], position, bound, b_iso[whole])

    def stretches(self, count: int) -> np.ndarray:
        """Give the first residues of all runs of `count` bound residues."""
        first = np.arange(len(self) - count + 1)
        inside = [self.bound[first + k] for k in range(1, count)]
        return first[np.all(inside, axis=0)] if inside else first


def known_residues(folder, *, part: str = "train", coarsest: float = 2.5) -> KnownResidues:
    """Read one part of a folder of structures, as `cryonb.train.library.split` divides it.

    Parameters
    ----------
    folder : path
        With INDEX.csv and the files that it names.
    part : {"train", "validation", "test"}
        Structures akin to `REAL_MAPS` are in none.
    coarsest : float
        Structures of a coarser resolution in Å are left out, where it is known.
    """
    from cryonb.files.model import read_model
    from cryonb.train.library import split

    folder = Path(folder)
    index = pd.read_csv(folder / "INDEX.csv")
    parts = split(index, exclude=REAL_MAPS).to_numpy()
    wanted = (parts == part) & ~(index["resolution"] > coarsest) & (index["n_residues"] > 0)
    wanted &= ~index["file"].str.startswith("pool_nucleic/")
    files = index["file"][wanted].tolist()
    if not files:
        raise CryonbError(f"Structures of the part {part!r} were expected in {folder}, none is.")
    all_of = [
        KnownResidues.of(read_model(folder / name)) for name in tqdm(files, desc="structures")
    ]
    return KnownResidues(
        *(np.concatenate([getattr(one, key) for one in all_of])
          for key in KnownResidues.__dataclass_fields__)
    )  # fmt: skip
