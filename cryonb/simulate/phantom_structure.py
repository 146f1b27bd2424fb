"""A phantom: a structure with the state of each residue, and how it is put together."""

from __future__ import annotations

import string
from dataclasses import dataclass, field

import gemmi
import numpy as np
from scipy.spatial.transform import Rotation

from cryonb.errors import ModelError
from cryonb.volume import CLASSES

__all__ = ["CHAIN_NAMES", "Phantom", "as_phantom", "from_chains"]

CHAIN_NAMES = string.ascii_uppercase + string.ascii_lowercase + string.digits
_ELEMENT = {name: gemmi.Element(name) for name in "CNOP"}


@dataclass(frozen=True)
class Phantom:
    """A model and its secondary structure.

    Attributes
    ----------
    structure : gemmi.Structure
        One model; every strand, helix or nucleic acid strand is a chain of its own. Its mean
        position is the origin. Take a `structure.clone()` before you change it.
    states : ndarray of uint8, shape (n_residues,)
        Index into `cryonb.volume.CLASSES` of each residue, in the order of the structure.
        Read-only.
    name : str
        What it is, in words.
    """

    structure: gemmi.Structure = field(repr=False)
    states: np.ndarray = field(repr=False)
    name: str

    @property
    def classes(self) -> np.ndarray:
        """The state of each residue by its name: str, shape (n_residues,)."""
        return np.array(CLASSES)[self.states]

    def moved(self, *, rotation: Rotation | None = None, translation=(0.0, 0.0, 0.0)) -> Phantom:
        """Turn the phantom about the origin, then shift it.

        Parameters
        ----------
        rotation : scipy.spatial.transform.Rotation, optional
            Acts on (x, y, z).
        translation : array_like, shape (3,)
            (x, y, z) in Å.
        """
        shift = np.asarray(translation, dtype=np.float64)
        if shift.shape != (3,) or not np.isfinite(shift).all():
            raise ModelError(
                f"A translation of three finite numbers (x, y, z) in Å was expected, "
                f"but {translation!r} was given."
            )
        matrix = np.eye(3) if rotation is None else rotation.as_matrix()
        structure = self.structure.clone()
        structure[0].transform_pos_and_adp(
            gemmi.Transform(gemmi.Mat33(matrix.tolist()), gemmi.Vec3(*shift.tolist()))
        )
        return Phantom(structure, self.states, self.name)


def from_chains(name: str, chains, states: np.ndarray, b_iso: float) -> Phantom:
    """Build the structure from (residue name, atom names, positions) of each chain."""
    centre = np.concatenate([atoms for chain in chains for _, _, atoms in chain]).mean(axis=0)
    model = gemmi.Model(1)
    for letter, rows in zip(CHAIN_NAMES, chains, strict=False):
        chain = gemmi.Chain(letter)
        for number, (residue_name, names, positions) in enumerate(rows, start=1):
            residue = gemmi.Residue()
            residue.name = residue_name
            residue.seqid = gemmi.SeqId(number, " ")
            residue.entity_type = gemmi.EntityType.Polymer
            residue.het_flag = "A"
            for atom_name, position in zip(names, (positions - centre).tolist(), strict=True):
                atom = gemmi.Atom()
                atom.name = atom_name
                atom.element = _ELEMENT[atom_name[0]]
                atom.pos = gemmi.Position(*position)
                atom.occ = 1.0
                atom.b_iso = b_iso
                residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
    return as_phantom(model, states, name)


def as_phantom(model: gemmi.Model, states: np.ndarray, name: str) -> Phantom:
    """Make a phantom of a model that is complete, and the state of each residue."""
    structure = gemmi.Structure()
    structure.name = name
    structure.add_model(model)
    structure.setup_entities()
    structure.assign_label_seq_id()
    states = states.astype(np.uint8)
    states.flags.writeable = False
    return Phantom(structure, states, name)
