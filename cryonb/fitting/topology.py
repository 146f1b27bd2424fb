"""What is bonded in a model, and which of its bonds, angles and groups are of one kind.

Bonds are found by distance, and where a model has several of a kind (backbone, residues of one
name) the majority decides: so atoms that are displaced at random do not lose theirs.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.sparse import coo_array
from scipy.spatial import cKDTree

from cryonb.atoms import KIND_NUCLEIC, KIND_PROTEIN, Atoms

__all__ = ["atom_types", "bonded_pairs", "joined", "share_of_kind", "within_three_bonds"]

# Atoms are bonded when no farther apart than the sum of their covalent radii and this, in Å.
_SLACK = 0.3
# Bonds may be as long as this (Å) where the majority of their kind are bonds.
_LONGEST = 3.0
#: So many of a kind decide by majority, and have a mean.
FEW = 3


@cache
def _covalent_radii() -> np.ndarray:
    import gemmi

    return np.array([gemmi.Element(number).covalent_r for number in range(119)])


def atom_types(atoms: Atoms) -> np.ndarray:
    """Number atoms so that equal numbers have equal bonds: by residue name and atom name.

    Backbone atoms (N, CA, C, O, CB) count as one whatever the amino acid, apart from glycine and
    proline; so do those of sugars and phosphates, RNA and DNA apart.

    Parameters
    ----------
    atoms : Atoms
        The model.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    name, residue = atoms.name.astype(str), atoms.residues.name[atoms.residue].astype(str)
    peptide = (atoms.kind == KIND_PROTEIN) & ~np.isin(residue, ("GLY", "PRO"))
    peptide &= np.isin(name, ("N", "CA", "C", "O", "CB", "OXT"))
    sugar = np.char.endswith(name, "'") | np.char.endswith(name, "*")
    sugar |= np.isin(name, ("P", "OP1", "OP2", "OP3", "O1P", "O2P", "O3P"))
    sugar &= atoms.kind == KIND_NUCLEIC
    group = np.where(peptide, "peptide", residue)
    group = np.where(sugar, np.where(np.char.startswith(residue, "D"), "dna", "rna"), group)
    return np.unique(np.char.add(np.char.add(group, " "), name), return_inverse=True)[1].ravel()


def bonded_pairs(position, element, altloc=None, *, types=None, residue=None) -> np.ndarray:
    """Find bonds: no farther apart than the sum of the covalent radii and 0.3 Å.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        (x, y, z) in Å.
    element : ndarray of int, shape (n,)
        Atomic numbers.
    altloc : ndarray of int, shape (n,), optional
        Labels of alternative locations, 0 for none; atoms of two labels are not bonded.
    types, residue : ndarray of int, shape (n,), optional
        As `atom_types` gives, and residues numbered along the chains. Where three or more pairs
        within 3 Å are of the same two types, in one residue or in neighbours, all or none are
        bonds, as most of them are by distance.

    Returns
    -------
    ndarray of int, shape (m, 2)
        Ascending.
    """
    radius = _covalent_radii()[np.asarray(element, dtype=int)]
    reach = max(2 * radius.max() + _SLACK, _LONGEST)
    pairs = np.sort(cKDTree(position).query_pairs(reach, output_type="ndarray"), axis=1)
    if altloc is not None:
        one, two = altloc[pairs].T
        pairs = pairs[(one == two) | (one == 0) | (two == 0)]
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    one, two = pairs.T
    apart = np.linalg.norm(position[one] - position[two], axis=1)
    bonded = apart <= radius[one] + radius[two] + _SLACK
    if types is not None:
        offset = residue[two] - residue[one]
        near = (offset <= 1) & (apart <= _LONGEST)
        key = np.column_stack([types[one], types[two], offset])[near]
        bonded[near] = share_of_kind(bonded[near], key) > 0.5
    return pairs[bonded]


def share_of_kind(which: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Of all rows that are the same in `kinds`, which share is True; their own if fewer than 3."""
    _, kind, count = np.unique(kinds, axis=0, return_inverse=True, return_counts=True)
    kind = kind.ravel()
    share = np.bincount(kind, which) / count
    return np.where(count[kind] < FEW, which, share[kind])


def joined(left: np.ndarray, right: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row of left, row of right) in which left's last atom is right's first one."""
    order = np.argsort(right[:, 0], kind="stable")
    count = np.bincount(right[:, 0], minlength=n)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    each = count[left[:, -1]]
    rows = np.repeat(np.arange(len(left)), each)
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    return rows, order[first[left[:, -1]][rows] + within]


def within_three_bonds(bonds: np.ndarray, n: int) -> np.ndarray:
    """Pairs of atoms up to three bonds apart, both ways round, each as first · n + second."""
    step = coo_array((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n, n)).tocsr()
    step = step + step.T + coo_array((np.ones(n), (np.arange(n), np.arange(n))), shape=(n, n))
    one, two = (step @ step @ step).nonzero()
    return np.sort(one * np.int64(n) + two)
