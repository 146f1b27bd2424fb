"""A folder of structures as a few arrays: what training reads, wherever it runs.

The file needs neither gemmi nor the structures any more, so it can travel to another machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from cryonb.errors import CryonbError, ModelError
from cryonb.files.atomic import written_beside

__all__ = ["UNLABELLED", "Library", "build_library", "model_columns", "split"]

#: Label of an atom that marks no voxel (side chains, ligands).
UNLABELLED = 255
_COLUMNS = ("position", "element", "b_iso", "acid", "label", "residue", "alpha", "extended",
            "role", "amino")  # fmt: skip


@dataclass(frozen=True)
class Library:
    """Atoms of many structures, one after the other.

    Attributes
    ----------
    position : ndarray of float32, shape (n, 3)
        (x, y, z) in Å.
    element : ndarray of uint8, shape (n,)
        Atomic numbers.
    b_iso : ndarray of float32, shape (n,)
        Å².
    acid : ndarray of bool, shape (n,)
        Carboxylate oxygens, whose density is weak in maps from electrons.
    label : ndarray of uint8, shape (n,)
        Class that the atom marks voxels with, or UNLABELLED.
    residue : ndarray of int32, shape (n,)
        Residue of each atom, counted within its structure.
    alpha : ndarray of bool, shape (n,)
        Cα atoms.
    extended : ndarray of uint8, shape (n,)
        Class of the atom's residue with Haruspex's extended elements, where the atom is backbone;
        or UNLABELLED.
    role : ndarray of uint8, shape (n,)
        Backbone role, an index into `cryonb.atoms.ROLES`.
    amino : ndarray of uint8, shape (n,)
        Place of the atom's residue in `cryonb.atoms.AMINO_ACIDS`, or UNLABELLED.
    start : ndarray of int64, shape (structures + 1,)
        Where each structure begins.
    files : ndarray of str, shape (structures,)
        Paths within the folder.
    coefficients : ndarray, shape (2, 119, 5)
        Electron scattering factors by atomic number.
    """

    position: np.ndarray
    element: np.ndarray
    b_iso: np.ndarray
    acid: np.ndarray
    label: np.ndarray
    residue: np.ndarray
    alpha: np.ndarray
    extended: np.ndarray
    role: np.ndarray
    amino: np.ndarray
    start: np.ndarray
    files: np.ndarray
    coefficients: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def part(self, number: int) -> dict[str, np.ndarray]:
        """Give the columns of one structure."""
        rows = slice(self.start[number], self.start[number + 1])
        return {key: getattr(self, key)[rows] for key in _COLUMNS}

    def save(self, path) -> None:
        """Write everything to one npz file."""
        with written_beside(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **{k: getattr(self, k) for k in self.__dataclass_fields__})

    @classmethod
    def is_current(cls, path) -> bool:
        """Tell whether a file holds all columns; one that an older cryonb wrote may not."""
        with np.load(path, allow_pickle=False) as stored:
            return set(cls.__dataclass_fields__) <= set(stored.files)

    @classmethod
    def load(cls, path) -> Library:
        """Read a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{key: stored[key] for key in cls.__dataclass_fields__})


def model_columns(model) -> dict[str, np.ndarray]:
    """Read the columns of one model that a `Library` holds."""
    from cryonb.atoms import AMINO_ACIDS, KIND_NUCLEIC, KIND_PROTEIN, PROTEIN_BACKBONE, Atoms
    from cryonb.label.haruspex import extended_states
    from cryonb.label.secondary_structure import secondary_structure

    atoms = Atoms.from_structure(model)
    extended = extended_states(atoms)[atoms.residue]
    state = secondary_structure(atoms).state[atoms.residue]
    # Selenomethionine is methionine to the ribosome, and nearly so to the density.
    names = np.where(atoms.residues.name == "MSE", "MET", atoms.residues.name)
    place = np.searchsorted(AMINO_ACIDS, names).clip(max=len(AMINO_ACIDS) - 1)
    known = np.array(AMINO_ACIDS)[place] == names
    amino = np.where(known, place, UNLABELLED).astype(np.uint8)
    marks = np.isin(atoms.role, PROTEIN_BACKBONE) | (atoms.kind == KIND_NUCLEIC)
    return {
        "position": atoms.position.astype(np.float32),
        "element": atoms.element,
        "b_iso": atoms.b_iso,
        "acid": np.isin(atoms.name, ["OD1", "OD2", "OE1", "OE2"])
        & np.isin(atoms.residues.name[atoms.residue], ["ASP", "GLU"]),
        "label": np.where(marks & (state > 0), state, UNLABELLED).astype(np.uint8),
        "residue": atoms.residue.astype(np.int32),
        "alpha": (atoms.name == "CA") & (atoms.kind == KIND_PROTEIN),
        "extended": np.where(atoms.backbone & (extended > 0), extended, UNLABELLED).astype(
            np.uint8
        ),
        "role": atoms.role,
        "amino": amino[atoms.residue],
    }


def random_phantom(rng: np.random.Generator):
    """Put ideal helices, sheets and now and then a duplex side by side, as a `gemmi.Structure`.

    What folds of real proteins never show, and beginners try first: elements that stand alone.
    """
    from scipy.spatial import cKDTree
    from scipy.spatial.transform import Rotation

    from cryonb.simulate import phantom

    def element():
        kind = rng.choice(["helix", "sheet", "duplex"], p=[0.5, 0.35, 0.15])
        if kind == "helix":
            return phantom.alpha_helix(int(rng.integers(8, 28)))
        if kind == "sheet":
            length = int(rng.integers(6, 11))
            return phantom.beta_sheet(
                int(rng.integers(2, 6)), length=length, parallel=bool(rng.random() < 0.4)
            )
        sequence = "".join(rng.choice(list("ACG"), int(rng.integers(5, 14))))
        return phantom.dna_duplex(sequence) if rng.random() < 0.5 else phantom.rna_duplex(sequence)

    def positions(made):
        return np.array([site.atom.pos.tolist() for site in made.structure[0].all()])

    placed, taken = [], np.empty((0, 3))
    for _ in range(int(rng.integers(2, 7))):
        turned = element().moved(rotation=Rotation.random(random_state=rng))
        points, direction = positions(turned), rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        for away in np.arange(0, 80, 1.5):
            if not len(taken) or cKDTree(taken).query(points + away * direction)[0].min() > 5:
                break
        placed.append(turned.moved(translation=away * direction))
        taken = np.concatenate([taken, points + away * direction])
    return phantom.combine(placed).structure


def build_library(folder, files, *, phantoms: int = 0, progress: bool = True) -> Library:
    """Read structures of a folder into a library.

    Parameters
    ----------
    folder : path
        Where the files are.
    files : sequence of str
        Paths within it. Structures without full backbone are left out.
    phantoms : int
        Number of random compositions of ideal elements to add, as "phantom/<number>".
    progress : bool
        Show a bar.
    """
    from cryonb.files.model import read_model
    from cryonb.simulate.scattering import electron_coefficients

    folder = Path(folder)
    parts, kept = [], []
    for name in tqdm(list(files), desc="structures", disable=not progress):
        try:
            parts.append(model_columns(read_model(folder / name)))
        except ModelError:
            continue
        kept.append(name)
    if not kept and not phantoms:
        raise CryonbError(f"Structures with full backbone were expected in {folder}, none is.")
    rng = np.random.default_rng(phantoms)
    for number in range(phantoms):
        parts.append(model_columns(random_phantom(rng)))
        kept.append(f"phantom/{number}")
    numbers = np.arange(119)
    a, b = electron_coefficients(numbers)
    return Library(
        **{key: np.concatenate([part[key] for part in parts]) for key in _COLUMNS},
        start=np.cumsum([0, *(len(part["element"]) for part in parts)]),
        files=np.array(kept),
        coefficients=np.stack([a, b]),
    )


def _order(seed: int, name: str) -> str:
    """Sort key that draws names in an order which other entries do not change."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def split(index: pd.DataFrame, *, n_test: int = 15, exclude=(), seed: int = 1) -> pd.Series:
    """Divide structures into train, validation and test by SCOPe superfamily and cluster.

    Parameters
    ----------
    index : DataFrame
        Columns file, pdb_id, scope_class, scope_sf, cluster_id.
    n_test : int
        Test domains a SCOPe class; whole superfamilies are taken until there are as many. A third
        as many go to validation, and half as many clusters of nucleic acids.
    exclude : sequence of str
        Files to leave out altogether, with all that shares a cluster or an entry with them.
    seed : int
        Order in which superfamilies are drawn.

    Returns
    -------
    Series of str, indexed by file
        "train", "validation", "test" or "excluded". Nothing in train shares a superfamily, a
        sequence cluster or a PDB entry with anything in the other parts.
    """
    table = index.copy()
    family = table["scope_sf"].fillna("").str.split(".").str[:3].str.join(".")
    part = pd.Series("train", index=table.index)
    part[table["file"].str.startswith("emap2sec_test/")] = "test"
    for _, group in table.groupby("scope_class"):
        names = sorted(set(family[group.index]), key=lambda name: _order(seed, name))
        quota = {"test": n_test, "validation": n_test // 3}
        for name in names:
            members = group.index[family[group.index] == name]
            for target in quota:
                if quota[target] > 0 and len(members) <= max(quota[target], 3):
                    part[members] = target
                    quota[target] -= len(members)
                    break
    # Nucleic acids have no superfamily; some clusters are for validation.
    nucleic = table[table["file"].str.startswith("pool_nucleic/")]
    names = sorted(set(nucleic["cluster_id"].dropna()), key=lambda name: _order(seed, name))
    part[nucleic.index[nucleic["cluster_id"].isin(names[: n_test // 2])]] = "validation"
    part[table["file"].isin(exclude)] = "excluded"
    # Then whatever is akin to a held-out structure leaves the training set.
    held = part != "train"
    # An entry of several chains names a cluster each, joined by semicolons.
    clusters = table["cluster_id"].str.split(";").explode().dropna()
    shared = clusters[clusters.isin(set(clusters[held[clusters.index]]))].index
    akin = (
        table.index.isin(shared)
        | table["pdb_id"].isin(set(table["pdb_id"][held].dropna()))
        | (family.isin(set(family[held]) - {""}))
    )
    part[akin & ~held] = "excluded"
    return pd.Series(part.to_numpy(), index=table["file"])
