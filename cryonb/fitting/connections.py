"""Which atoms make a bond, an angle, a flat or handed group, or a bond that turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryonb.fitting.internal import distance, torsion_angles
from cryonb.fitting.topology import bonded_pairs, joined

__all__ = ["Connections"]

# A bond between C or N shorter than this (Å) does not turn where it is flat to within 30°.
_STIFF, _FLATNESS = 1.42, np.sin(np.radians(30.0))


@dataclass(frozen=True)
class Connections:
    """What restraints hold.

    Attributes
    ----------
    bonds, ends : ndarray of int, shape (m, 2)
        Bonded atoms, and atoms two bonds apart that are not bonded.
    middle : ndarray of int, shape (m,)
        The atom between each two of `ends`.
    angles : ndarray of int, shape (m, 3)
        Of each angle, the middle atom second.
    groups : ndarray of int, shape (m, 4)
        An atom and three others whose signed volume is kept: an atom with three neighbours, flat
        or not, and four atoms along a bond that does not turn, as the peptide bond.
    flat : ndarray of bool, shape (m,)
        Which of them are flat by the names of their atoms.
    torsions : ndarray of int, shape (m, 4)
        Four atoms in a row, one row for each bond that turns.
    """

    bonds: np.ndarray
    ends: np.ndarray
    middle: np.ndarray
    angles: np.ndarray
    groups: np.ndarray
    flat: np.ndarray
    torsions: np.ndarray

    @classmethod
    def of(cls, position, element, altloc=None, *, named=None) -> Connections:
        """Find them in a model; see `cryonb.fitting.topology.bonded_pairs` for the arguments."""
        n = len(position)
        bonds = bonded_pairs(position, element, altloc, named=named)
        both = np.concatenate([bonds, bonds[:, ::-1]])
        left, right = joined(both, both, n)
        three = np.column_stack([both[left], both[right, 1]])
        three = three[three[:, 0] != three[:, 2]]
        angles = three[three[:, 0] < three[:, 2]]
        # In a ring of three, atoms two bonds apart are bonded, too; in one of four, twice.
        ends, which = np.unique(angles[:, [0, 2]] @ [n, 1], return_index=True)
        which = which[~np.isin(ends, bonds @ [n, 1])]
        row = _rows_of_four(three, both, n)
        stiff = _stiff(position, element, row, named, n)
        groups = np.concatenate([_neighbours(both), row[stiff][:, [1, 0, 2, 3]]])
        # One torsion of a bond will do, since the groups hold the others.
        turns = row[~np.isin(row[:, 1:3] @ [n, 1], row[stiff][:, 1:3] @ [n, 1])]
        turns = turns[np.lexsort((turns[:, 3], turns[:, 0], turns[:, 2], turns[:, 1]))]
        turns = turns[np.unique(turns[:, 1:3] @ [n, 1], return_index=True)[1]]
        return cls(
            bonds, angles[which][:, [0, 2]], angles[which, 1], angles, groups,
            _flat(groups, named, n), turns,
        )  # fmt: skip


def _neighbours(both) -> np.ndarray:
    """An atom and of its neighbours three that follow one another in its list, shape (m, 4)."""
    around = both[np.lexsort(both.T[::-1])]
    same = around[2:, 0] == around[:-2, 0]
    return np.column_stack([around[:-2], around[1:-1, 1], around[2:, 1]])[same]


def _rows_of_four(three, both, n) -> np.ndarray:
    """Four atoms in a row, each row once: its second atom before its third."""
    left, right = joined(three, both, n)
    row = np.column_stack([three[left], both[right, 1]])
    return row[(row[:, 1] < row[:, 2]) & (row[:, 3] != row[:, 1]) & (row[:, 0] != row[:, 3])]


def _stiff(position, element, row, named, n) -> np.ndarray:
    """Which rows of four atoms lie in a plane about a bond that does not turn."""
    middle = row[:, 1:3]
    found = np.isin(element[middle], [6, 7]).all(axis=1) & (distance(position, middle) < _STIFF)
    found &= np.abs(np.sin(torsion_angles(position, row))) < _FLATNESS
    if named is not None:
        pairs, stiff, known = named
        by_name = np.isin(middle @ [n, 1], pairs[stiff] @ [n, 1])
        found = np.where(known[middle].all(axis=1), by_name, found)
    return found


def _flat(groups, named, n) -> np.ndarray:
    """Which groups are flat by the names of their atoms."""
    if named is None:
        return np.zeros(len(groups), dtype=bool)
    pairs, stiff, known = named
    # An atom at a stiff bond lies in the plane of its three neighbours; so do rows about it.
    plane = np.zeros(n, dtype=bool)
    plane[pairs[stiff].ravel()] = True
    return plane[groups[:, 0]] & known[groups].all(axis=1)
