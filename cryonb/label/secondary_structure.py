"""Secondary structure of the residues of a model: DSSP, and classes of it.

The method itself, on plain coordinates, is `cryonb.label.dssp`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryonb.atoms import KIND_NUCLEIC, KIND_PROTEIN, Atoms, Residues
from cryonb.errors import ModelError
from cryonb.label.dssp import chain_breaks, dssp_codes, states_of, torsions
from cryonb.volume import CLASSES

__all__ = ["SecondaryStructure", "ramachandran", "secondary_structure"]

_BACKGROUND, _COIL, _NUCLEOTIDE = (
    CLASSES.index(name) for name in ("background", "coil", "nucleotide")
)


@dataclass(frozen=True)
class SecondaryStructure:
    """Secondary structure of the residues of a model.

    Attributes
    ----------
    dssp : ndarray of str, shape (n,)
        H α-helix, G 3₁₀-helix, I π-helix, E strand, B isolated bridge, T turn, S bend,
        P polyproline II helix, "-" none of these; "" for a residue that is no amino acid or whose
        N, Cα, C or O is missing.
    state : ndarray of uint8, shape (n,)
        Index into `cryonb.volume.CLASSES`: H, G and I are helix, E and B strand, other amino acids
        coil; nucleotides are nucleotide; ligands and waters background.
    residues : Residues
        The residues that the rows belong to.
    is_break : ndarray of bool, shape (n,)
        Whether the residue is not bound to the one before it.
    """

    dssp: np.ndarray
    state: np.ndarray
    residues: Residues
    is_break: np.ndarray

    def __len__(self) -> int:
        return len(self.state)

    @property
    def counts(self) -> dict[str, int]:
        """Number of residues of each class."""
        counts = np.bincount(self.state, minlength=len(CLASSES)).tolist()
        return dict(zip(CLASSES, counts, strict=True))

    def to_frame(self):
        """Make a table: chain, number, icode, name, dssp, state (the class's name), a row each."""
        import pandas as pd

        residues = self.residues
        return pd.DataFrame(
            {
                "chain": residues.chain,
                "number": residues.number,
                "icode": residues.icode,
                "name": residues.name,
                "dssp": self.dssp,
                "state": np.array(CLASSES)[self.state],
            }
        )

    def segments(self):
        """Make a table of the runs of bound residues of one class.

        Returns
        -------
        pandas.DataFrame
            Columns chain, first and last (residue numbers), state (the class's name), length, and
            start and stop: the rows of the run's residues are ``range(start, stop)``.
        """
        import pandas as pd

        n = len(self)
        new = self.is_break | np.r_[True, self.state[1:] != self.state[:-1]][:n]
        start = np.flatnonzero(new)
        stop = np.r_[start[1:], n][: len(start)]
        polymer = self.state[start] != _BACKGROUND
        start, stop = start[polymer], stop[polymer]
        return pd.DataFrame(
            {
                "chain": self.residues.chain[start],
                "first": self.residues.number[start],
                "last": self.residues.number[stop - 1],
                "state": np.array(CLASSES)[self.state[start]],
                "length": stop - start,
                "start": start,
                "stop": stop,
            }
        )


def secondary_structure(model) -> SecondaryStructure:
    """Assign secondary structure to the residues of a model.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model. Of a structure, the first model and the alternative location with the highest
        occupancy are read (`Atoms.from_structure`).

    Returns
    -------
    SecondaryStructure
        A row for every residue of `Atoms.residues`.

    Raises
    ------
    ModelError
        If most amino acids lack N, C or O, as in a model of Cα atoms only.

    Notes
    -----
    An amino acid without all of N, Cα, C and O is left out of the assignment and counted as coil.
    """
    atoms = Atoms.from_structure(model)
    residues = atoms.residues
    backbone, complete = _backbone(atoms)
    _check_backbone(atoms, complete)

    rows = np.flatnonzero(complete)
    n, ca, c, o = backbone[:, rows]
    chain = residues.chain[rows]
    is_break = chain_breaks(n, c, chain)
    codes = dssp_codes(n, ca, c, o, is_break=is_break, is_proline=residues.name[rows] == "PRO")

    dssp = np.full(len(residues), "", dtype="U1")
    dssp[rows] = codes
    state = np.zeros(len(residues), dtype=np.uint8)
    state[residues.kind == KIND_PROTEIN] = _COIL
    state[residues.kind == KIND_NUCLEIC] = _NUCLEOTIDE
    state[rows] = states_of(codes)

    # A residue that was left out is taken as bound to its neighbours in the file.
    all_breaks = np.ones(len(residues), dtype=bool)
    all_breaks[1:] = residues.chain[1:] != residues.chain[:-1]
    all_breaks[1:] |= residues.kind[1:] != residues.kind[:-1]
    neighbours = np.zeros(len(rows), dtype=bool)
    neighbours[1:] = np.diff(rows) == 1
    all_breaks[rows] |= is_break & neighbours
    return SecondaryStructure(dssp=dssp, state=state, residues=residues, is_break=all_breaks)


def ramachandran(model) -> tuple[np.ndarray, np.ndarray]:
    """Compute φ and ψ of every residue of a model.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model.

    Returns
    -------
    phi, psi : ndarray, shape (residues,)
        Degrees from -180 to 180; NaN at ends of chains, at gaps and in what is no amino acid.
    """
    atoms = Atoms.from_structure(model)
    backbone, complete = _backbone(atoms)
    rows = np.flatnonzero(complete)
    n, ca, c, _ = backbone[:, rows]
    bound = ~chain_breaks(n, c, atoms.residues.chain[rows])[1:] & (np.diff(rows) == 1)
    angles = np.full((2, len(complete)), np.nan)
    angles[:, rows] = torsions(n, ca, c, bound)
    return angles[0], angles[1]


def _backbone(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Positions of N, Cα, C, O as (4, residue, 3), and which residues have them all."""
    count = len(atoms.residues)
    position = np.full((4, count, 3), np.nan)
    protein = (atoms.role >= 1) & (atoms.role <= 4)
    position[atoms.role[protein] - 1, atoms.residue[protein]] = atoms.position[protein]
    return position, np.isfinite(position).all(axis=(0, 2))


def _check_backbone(atoms: Atoms, complete: np.ndarray) -> None:
    # Amino acids of which no backbone atom is left (a selection of side chains) are nobody's fault.
    has_ca = np.zeros(len(complete), dtype=bool)
    has_ca[atoms.residue[atoms.role == 2]] = True
    n_ca, n_complete = int(has_ca.sum()), int(complete.sum())
    if 2 * n_complete < n_ca:
        raise ModelError(
            "Secondary structure needs the full backbone (N, CA, C, O), but only "
            f"{n_complete} of {n_ca} amino acids have it; rebuild the backbone from the Cα atoms "
            "first, or give a model that has it."
        )
