"""What holds a model together while its atoms move: bonds, angles, planes and handedness.

The targets are the model's own geometry, or that of another copy of it; no dictionary of ideal
values is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.sparse import coo_array
from scipy.spatial import cKDTree

__all__ = ["Restraints", "bonded_pairs"]

# Atoms are bonded when no farther apart than the sum of their covalent radii and this, in Å.
_SLACK = 0.3
# Standard deviations: of bonds and of atoms two bonds apart (Å), of flat and other groups (Å³).
_BOND, _ANGLE, _FLAT, _CHIRAL = 0.02, 0.04, 0.1, 0.2
# A bond between C or N shorter than this (Å) does not turn where it is flat to within 30°.
_STIFF, _FLATNESS = 1.42, np.sin(np.radians(30.0))
# Atoms more than three bonds apart repel each other below this distance or the one that they
# start from, whichever is less; with this standard deviation, both in Å.
_CLOSEST, _SOFTNESS = 2.8, 0.1
# So far apart (Å) atoms can be that may come that near.
_LOOKED = 5.0


@cache
def _covalent_radii() -> np.ndarray:
    import gemmi

    return np.array([gemmi.Element(number).covalent_r for number in range(119)])


def bonded_pairs(position, element, altloc=None) -> np.ndarray:
    """Find bonds by distance: no farther apart than the sum of the covalent radii and 0.3 Å.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        (x, y, z) in Å.
    element : ndarray of int, shape (n,)
        Atomic numbers.
    altloc : ndarray of int, shape (n,), optional
        Labels of alternative locations, 0 for none; atoms of two labels are not bonded.

    Returns
    -------
    ndarray of int, shape (m, 2)
        Ascending.
    """
    radius = _covalent_radii()[np.asarray(element, dtype=int)]
    pairs = cKDTree(position).query_pairs(2 * radius.max() + _SLACK, output_type="ndarray")
    one, two = pairs.T
    apart = np.linalg.norm(position[one] - position[two], axis=1)
    near = apart <= radius[one] + radius[two] + _SLACK
    if altloc is not None:
        near &= (altloc[one] == altloc[two]) | (altloc[one] == 0) | (altloc[two] == 0)
    pairs = np.sort(pairs[near], axis=1)
    return pairs[np.lexsort(pairs.T[::-1])]


def _joined(left: np.ndarray, right: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row of left, row of right) in which left's last atom is right's first one."""
    order = np.argsort(right[:, 0], kind="stable")
    count = np.bincount(right[:, 0], minlength=n)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    each = count[left[:, -1]]
    rows = np.repeat(np.arange(len(left)), each)
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    return rows, order[first[left[:, -1]][rows] + within]


def _volume(position, four):
    """Signed volume spanned by three atoms from a fourth, the first of each row; Å³."""
    a, b, c = (position[four[:, k]] - position[four[:, 0]] for k in (1, 2, 3))
    # a · (b × c), for arrays and tensors alike
    return (
        a[:, 0] * (b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1])
        + a[:, 1] * (b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2])
        + a[:, 2] * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    )


def _distance(position, pairs):
    apart = position[pairs[:, 0]] - position[pairs[:, 1]]
    return ((apart**2).sum(1) + 1e-12) ** 0.5


@dataclass(frozen=True)
class Restraints:
    """Springs of a model.

    Attributes
    ----------
    bonds, ends : ndarray of int, shape (m, 2)
        Bonded atoms, and atoms two bonds apart.
    angles : ndarray of int, shape (m, 3)
        Of each angle, the middle atom second.
    groups : ndarray of int, shape (m, 4)
        An atom and three others whose signed volume is kept: an atom with three neighbours, flat
        or not, and four atoms along a bond that does not turn, as the peptide bond.
    near : ndarray of int, shape (m, 2)
        Atoms more than three bonds apart that may collide.
    length, span, volume, closest : ndarray, shape (m,)
        What is aimed at, Å and Å³; `closest` is a lower limit.
    spread : ndarray, shape (m,)
        Standard deviation of each volume, Å³.
    """

    bonds: np.ndarray
    ends: np.ndarray
    angles: np.ndarray
    groups: np.ndarray
    near: np.ndarray
    length: np.ndarray
    span: np.ndarray
    volume: np.ndarray
    closest: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, position, element, altloc=None, *, start=None) -> Restraints:
        """Take the geometry of a model as it is.

        Parameters
        ----------
        position, element, altloc
            As for `bonded_pairs`; of the model whose geometry is aimed at.
        start : ndarray, shape (n, 3), optional
            Where the atoms are that will move, if elsewhere; for what may collide.
        """
        position = np.asarray(position, dtype=np.float64)
        element = np.asarray(element)
        n = len(position)
        bonds = bonded_pairs(position, element, altloc)
        both = np.concatenate([bonds, bonds[:, ::-1]])
        left, right = _joined(both, both, n)
        three = np.column_stack([both[left], both[right, 1]])
        angles = three[three[:, 0] < three[:, 2]]
        ends = np.unique(angles[:, [0, 2]], axis=0)
        # In a ring of three, atoms two bonds apart are bonded, too.
        ends = ends[~np.isin(ends @ [n, 1], bonds @ [n, 1])]
        groups, flat = _groups(position, element, both, three, n)
        start = position if start is None else np.asarray(start, dtype=np.float64)
        near = _strangers(start, bonds, altloc, n)
        return cls(
            bonds, ends, angles, groups, near,
            _distance(position, bonds), _distance(position, ends), _volume(position, groups),
            np.minimum(_distance(start, near), _CLOSEST), np.where(flat, _FLAT, _CHIRAL),
        )  # fmt: skip

    def energy(self, position):
        """Half the sum of squared deviations in standard deviations, of a tensor (n, 3)."""
        import torch

        def sum_of(found, target, spread):
            target, spread = (
                torch.as_tensor(part, dtype=position.dtype, device=position.device)
                for part in (target, spread)
            )
            return 0.5 * (((found - target) / spread) ** 2).sum()

        too_near = torch.clamp(
            torch.as_tensor(self.closest, dtype=position.dtype, device=position.device)
            - _distance(position, self.near),
            min=0,
        )
        return (
            sum_of(_distance(position, self.bonds), self.length, _BOND)
            + sum_of(_distance(position, self.ends), self.span, _ANGLE)
            + sum_of(_volume(position, self.groups), self.volume, self.spread)
            + sum_of(too_near, 0.0, _SOFTNESS)
        )

    def deviations(self, one, other) -> tuple[float, float]:
        """Give the r.m.s. difference of bonds (Å) and of angles (degrees) of two models."""

        def rms(values):
            return float(np.sqrt((values**2).mean())) if len(values) else 0.0

        bond = _distance(one, self.bonds) - _distance(other, self.bonds)
        angle = _angle(one, self.angles) - _angle(other, self.angles)
        return rms(bond), rms(np.degrees(angle))


def _angle(position, three) -> np.ndarray:
    """Angle at the middle atom, in radians."""
    a, b = (position[three[:, k]] - position[three[:, 1]] for k in (0, 2))
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1))


def _groups(position, element, both, three, n) -> tuple[np.ndarray, np.ndarray]:
    """Groups of four atoms whose volume is kept, and which of them are flat."""
    # Of an atom's neighbours, three that follow one another in its list.
    around = both[np.lexsort(both.T[::-1])]
    same = around[2:, 0] == around[:-2, 0]
    chiral = np.column_stack([around[:-2], around[1:-1, 1], around[2:, 1]])[same]
    # Four in a row about a stiff bond, of which three span a plane for the fourth.
    left, right = _joined(three, both, n)
    row = np.column_stack([three[left], both[right, 1]])
    row = row[(row[:, 1] < row[:, 2]) & (row[:, 3] != row[:, 1]) & (row[:, 0] != row[:, 3])]
    middle = row[:, 1:3]
    stiff = np.isin(element[middle], [6, 7]).all(axis=1) & (_distance(position, middle) < _STIFF)
    row = row[stiff]
    first, second, third = (position[row[:, k + 1]] - position[row[:, k]] for k in range(3))
    u, v = np.cross(first, second), np.cross(second, third)
    size = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1) * np.linalg.norm(second, axis=1)
    sine = (np.cross(u, v) * second).sum(axis=1) / np.maximum(size, 1e-9)
    row = row[np.abs(sine) < _FLATNESS][:, [1, 0, 2, 3]]
    groups = np.concatenate([chiral, row])
    flat = np.abs(_volume(position, groups)) < 1.0
    return groups, flat


def _strangers(position, bonds, altloc, n) -> np.ndarray:
    """Pairs within reach of each other that are more than three bonds apart."""
    pairs = np.sort(cKDTree(position).query_pairs(_LOOKED, output_type="ndarray"), axis=1)
    if altloc is not None:
        one, two = altloc[pairs].T
        pairs = pairs[(one == two) | (one == 0) | (two == 0)]
    ones = np.ones(len(bonds))
    step = coo_array((ones, (bonds[:, 0], bonds[:, 1])), shape=(n, n)).tocsr()
    step = step + step.T + coo_array((np.ones(n), (np.arange(n), np.arange(n))), shape=(n, n))
    one, two = (step @ step @ step).nonzero()
    return pairs[~np.isin(pairs @ [n, 1], one * np.int64(n) + two)]
