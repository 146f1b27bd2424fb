"""What holds a model together while its atoms move: bonds, angles, planes, handedness, torsions.

The targets are the model's own geometry, or what is typical for it, or another copy's; no
dictionary of ideal values is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.sparse import coo_array
from scipy.spatial import cKDTree

from cryonb.atoms import Atoms
from cryonb.fitting.topology import (
    atom_types,
    bonded_pairs,
    joined,
    named_bonds,
    within_three_bonds,
)

__all__ = ["Restraints", "torsion_angles"]

# Standard deviations: of bonds and of atoms two bonds apart (Å), of flat and other groups (Å³).
_BOND, _ANGLE, _FLAT, _CHIRAL = 0.02, 0.04, 0.1, 0.2
# By how much bonds (Å), ends of angles (Å) and volumes (Å³) of one kind differ in good models; the
# second is 2.5°, which the angle at Cα differs by from helix to strand.
_NATURAL = 0.02, 0.06, 0.2
# Models nearer to that than this, bonds (Å) and angles (degrees), are sound.
_SOUND = 0.01, 1.0
# Of torsions, and where their restraint levels off: both in radians.
_TORSION, _LIMIT = np.radians(5.0), np.radians(30.0)
# A bond between C or N shorter than this (Å) does not turn where it is flat to within 30°.
_STIFF, _FLATNESS = 1.42, np.sin(np.radians(30.0))
# So many of a kind have a mean.
_FEW = 3
# Atoms more than three bonds apart repel each other below the sum of their van der Waals radii less
# this (Å), or below this where both may share a hydrogen, or where one is an ion.
_OVERLAP, _POLAR, _ION = 0.3, 2.6, 1.8
# Standard deviation of that, and what counts as a clash (Å).
_SOFTNESS, _CLASH = 0.1, 0.2
# So far apart (Å) atoms can be that may come that near.
_LOOKED = 5.0


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
    torsions : ndarray of int, shape (m, 4)
        Four atoms in a row, one row for each bond that turns.
    near : ndarray of int, shape (m, 2)
        Atoms more than three bonds apart that may collide; see `renewed`.
    length, span, volume, turn, closest : ndarray, shape (m,)
        What is aimed at, Å, Å³ and radians; `closest` is a lower limit.
    spread : ndarray, shape (m,)
        Standard deviation of each volume, Å³.
    looseness : float
        Standard deviation of the torsions, in radians: 5°, and as much as the start's bonds show it
        to be astray, a radian for each Å that they differ by from what is aimed at (r.m.s.).
    """

    bonds: np.ndarray
    ends: np.ndarray
    angles: np.ndarray
    groups: np.ndarray
    torsions: np.ndarray
    near: np.ndarray
    length: np.ndarray
    span: np.ndarray
    volume: np.ndarray
    turn: np.ndarray
    closest: np.ndarray
    spread: np.ndarray
    looseness: float
    _contacts: _Contacts

    @classmethod
    def of(
        cls, position, element, altloc=None, *, types=None, named=None, start=None
    ) -> Restraints:
        """Take the geometry of a model as it is.

        Parameters
        ----------
        position, element, altloc
            As for `cryonb.fitting.topology.bonded_pairs`; of the model whose geometry is aimed at.
        types : ndarray of int, shape (n,), optional
            As `cryonb.fitting.topology.atom_types` gives. Where bonds, angles or groups of the
            same types differ more than is natural they are drawn towards their mean; see
            `_typical`. Torsions are not.
        named : tuple, optional
            As `cryonb.fitting.topology.named_bonds` gives: what is bonded, stiff and flat.
        start : ndarray, shape (n, 3), optional
            Where the atoms are that will move, if elsewhere; for what may collide.
        """
        position = np.asarray(position, dtype=np.float64)
        element = np.asarray(element)
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
        ends = angles[which][:, [0, 2]]
        length, span = _distance(position, bonds), _distance(position, ends)
        astray = 0.0
        if types is not None:
            own = length
            length = _typical(own, np.sort(types[bonds], axis=1), _NATURAL[0])
            astray = _rms(own - length)
            # The middle atom tells angles from others with the same ends.
            kinds = np.column_stack([types[angles[which, 1]], np.sort(types[ends], axis=1)])
            span = _typical(span, kinds, _NATURAL[1])
        row = _rows_of_four(three, both, n)
        stiff = _stiff(position, element, row, named, n)
        groups = np.concatenate([_neighbours(both), row[stiff][:, [1, 0, 2, 3]]])
        volume = _volume(position, groups)
        if types is not None:
            hand = np.where(_flat(groups, named, n), 0, _hand(volume, types[groups]))
            kinds = np.column_stack([types[groups], hand])
            volume = _typical(volume, kinds, _NATURAL[2], distance=False)
        # One torsion of a bond will do, since the groups hold the others.
        turns = row[~np.isin(row[:, 1:3] @ [n, 1], row[stiff][:, 1:3] @ [n, 1])]
        turns = turns[np.lexsort((turns[:, 3], turns[:, 0], turns[:, 2], turns[:, 1]))]
        turns = turns[np.unique(turns[:, 1:3] @ [n, 1], return_index=True)[1]]
        start = position if start is None else np.asarray(start, dtype=np.float64)
        contacts = _Contacts(start, element, altloc, within_three_bonds(bonds, n))
        near, closest = contacts.around(start)
        return cls(
            bonds, ends, angles, groups, turns, near, length, span, volume,
            torsion_angles(position, turns), closest,
            np.where(np.abs(volume) < 1.0, _FLAT, _CHIRAL), float(np.hypot(_TORSION, astray)),
            contacts,
        )  # fmt: skip

    @classmethod
    def of_atoms(cls, atoms: Atoms, altloc=None, *, typical=True, start=None) -> Restraints:
        """Take the geometry of a model, as it is or as is typical for it: see `of`.

        A model that is within 0.01 Å and 1° of what is typical keeps its own: what little the
        targets of thousands of bonds and angles move would add up to bends of the whole.
        """
        options = {"start": start, "named": named_bonds(atoms, altloc)}
        if typical:
            found = cls.of(
                atoms.position, atoms.element, altloc, types=atom_types(atoms), **options
            )
            bonds, angles = found.strain(atoms.position)
            if bonds > _SOUND[0] or angles > _SOUND[1]:
                return found
        return cls.of(atoms.position, atoms.element, altloc, **options)

    def renewed(self, position) -> Restraints:
        """Look up anew which atoms may collide, from where they are now."""
        near, closest = self._contacts.around(np.asarray(position))
        return replace(self, near=near, closest=closest)

    def energy(self, position):
        """Half the sum of squared deviations in standard deviations, of a tensor (n, 3).

        A torsion's deviation δ counts as τ²/2σ² (1 - exp(-2 (1 - cos δ) / τ²)) with σ of 5° (see
        `looseness`) and τ = 30°, 2 σ at least: like δ²/2σ² near the target, and the same everywhere
        far from it, so that it gives way where the map asks for another rotamer.
        """
        import torch

        def like(values):
            return torch.as_tensor(values, dtype=position.dtype, device=position.device)

        def sum_of(found, target, spread):
            return 0.5 * (((found - like(target)) / like(spread)) ** 2).sum()

        too_near = torch.clamp(like(self.closest) - _distance(position, self.near), min=0)
        cosine, sine = _turned(position, self.torsions)
        turn = like(self.turn)
        limit = max(_LIMIT, 2 * self.looseness)
        away = 2 * (1 - cosine * turn.cos() - sine * turn.sin())
        return (
            sum_of(_distance(position, self.bonds), self.length, _BOND)
            + sum_of(_distance(position, self.ends), self.span, _ANGLE)
            + sum_of(_volume(position, self.groups), self.volume, self.spread)
            + sum_of(too_near, 0.0, _SOFTNESS)
            + 0.5 * (limit / self.looseness) ** 2 * (1 - torch.exp(-away / limit**2)).sum()
        )

    def stiffness(self, position):
        """Second derivatives of the energy about the targets, but for repulsion: JᵀJ.

        J has a row a restraint: what it counts, in standard deviations, by the positions.

        Parameters
        ----------
        position : ndarray, shape (n, 3)
            Where J is taken.

        Returns
        -------
        scipy.sparse array, shape (3 n, 3 n)
        """
        import torch

        def torsion(x, four):
            cosine, sine = _turned(x, four)
            return torch.atan2(sine, cosine)

        total = 0
        for found, atoms, spread in (
            (_distance, self.bonds, _BOND), (_distance, self.ends, _ANGLE),
            (_volume, self.groups, self.spread), (torsion, self.torsions, self.looseness),
        ):  # fmt: skip
            if not len(atoms):
                continue
            # Each row with atoms of its own, so that one gradient of the sum has all rows.
            x = torch.tensor(position[atoms].reshape(-1, 3), requires_grad=True)
            own = np.arange(atoms.size).reshape(atoms.shape)
            found(x, own).sum().backward()
            rows = x.grad.numpy().reshape(len(atoms), -1) / np.reshape(spread, (-1, 1))
            column = (3 * atoms[:, :, None] + np.arange(3)).reshape(len(atoms), -1)
            row = np.repeat(np.arange(len(atoms)), column.shape[1])
            shape = (len(atoms), position.size)
            part = coo_array((rows.ravel(), (row, column.ravel())), shape=shape).tocsr()
            total = total + part.T @ part
        return total

    def strain(self, position) -> tuple[float, float]:
        """Give the r.m.s. deviation from the targets of bonds (Å) and of angles (degrees).

        An angle's deviation is that of the distance of its ends, seen from its middle: at the
        lengths of the bonds as they are.
        """
        position = np.asarray(position)
        bond = _distance(position, self.bonds) - self.length
        # d(span)/d(angle) = product of the sides · sin(angle) / span, here for one angle a pair.
        pairs = self.angles[:, [0, 2]] @ [len(position), 1]
        order = np.searchsorted(self.ends @ [len(position), 1], pairs)
        order = np.minimum(order, max(len(self.ends) - 1, 0))
        kept = np.flatnonzero((self.ends[order] @ [len(position), 1]) == pairs)
        three, away = self.angles[kept], (_distance(position, self.ends) - self.span)[order[kept]]
        sides = _distance(position, three[:, :2]) * _distance(position, three[:, 1:])
        slope = sides * np.sin(_angle(position, three)) / _distance(position, three[:, [0, 2]])
        return _rms(bond), _rms(np.degrees(away / np.maximum(slope, 0.1)))

    def deviations(self, one, other) -> tuple[float, float, float]:
        """Give r.m.s. differences of two models: bonds (Å), angles and torsions (degrees)."""
        bond = _distance(one, self.bonds) - _distance(other, self.bonds)
        angle = _angle(one, self.angles) - _angle(other, self.angles)
        turn = torsion_angles(one, self.torsions) - torsion_angles(other, self.torsions)
        turn = (turn + np.pi) % (2 * np.pi) - np.pi
        return _rms(bond), _rms(np.degrees(angle)), _rms(np.degrees(turn))

    def clashes(self, position) -> int:
        """Count pairs more than three bonds apart that overlap, whatever the start was.

        Nearer by 0.2 Å than where repulsion begins: below the sum of their van der Waals radii by
        0.5 Å, or below 2.4 Å between atoms that may share a hydrogen (N, O, S), or 1.6 Å at ions.
        """
        near, closest = self._contacts.around(np.asarray(position), free=True)
        return int((_distance(np.asarray(position), near) < closest - _CLASH).sum())


class _Contacts:
    """Which atoms repel each other, and from where on."""

    def __init__(self, start, element, altloc, excluded):
        self._start, self._altloc, self._excluded = start, altloc, excluded
        element = element.astype(int)
        self._radius = _contact_radii()[element]
        self._polar = np.isin(element, (7, 8, 16))
        self._ion = ~np.isin(element, (6, 7, 8, 9, 15, 16, 17, 34, 35, 53))

    def around(self, position, *, free=False) -> tuple[np.ndarray, np.ndarray]:
        """Give pairs within 5 Å, and the distance from which on each repels: not at the start.

        `free` counts pairs by their chemistry alone, also where the start has them nearer.
        """
        pairs = np.sort(cKDTree(position).query_pairs(_LOOKED, output_type="ndarray"), axis=1)
        if self._altloc is not None:
            one, two = self._altloc[pairs].T
            pairs = pairs[(one == two) | (one == 0) | (two == 0)]
        key = pairs @ np.array([len(position), 1])
        place = np.searchsorted(self._excluded, key).clip(max=len(self._excluded) - 1)
        pairs = pairs[self._excluded[place] != key]
        closest = self._radius[pairs].sum(axis=1) - _OVERLAP
        closest[self._polar[pairs].all(axis=1)] = _POLAR
        closest[self._ion[pairs].any(axis=1)] = _ION
        if not free:
            closest = np.minimum(closest, _distance(self._start, pairs))
        return pairs, closest


@cache
def _contact_radii() -> np.ndarray:
    import gemmi

    return np.array([gemmi.Element(number).vdw_r for number in range(119)])


def _rms(values) -> float:
    return float(np.sqrt((values**2).mean())) if len(values) else 0.0


def _typical(values, kinds, natural: float, *, distance: bool = True) -> np.ndarray:
    """Draw values of one kind together, where they differ more than is natural: _NATURAL.

    From their variance v, natural n², each becomes mean + (value - mean) min(1, n²/v): the best
    guess if the excess is error. Kinds of fewer than three stay as they are.

    Distances grow on average when atoms are displaced: with displacements of equal size in all
    directions by three variances in the mean of squares, of which one is that of the distances. So
    much is taken back: r² = <r²> - 3 (v - n²).
    """
    _, which, count = np.unique(kinds, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()
    mean = np.bincount(which, values) / count
    variance = np.bincount(which, (values - mean[which]) ** 2) / np.maximum(count - 1, 1)
    variance[count < _FEW] = 0
    excess = np.maximum(variance - natural**2, 0)
    share = 1 - excess / np.maximum(variance, natural**2)
    away = values - mean[which]
    if distance:
        mean = np.sqrt(np.maximum(mean**2 + variance - 3 * excess, (0.8 * mean) ** 2))
        mean = np.where(excess > 0, mean, np.bincount(which, values) / count)
    return mean[which] + share[which] * away


def _hand(volume, kinds) -> np.ndarray:
    """Tell -1, 0 or 1: hand of a group, by the others of its kind where it is not clear itself."""
    _, which, count = np.unique(kinds, axis=0, return_inverse=True, return_counts=True)
    mean = (np.bincount(which.ravel(), volume) / count)[which.ravel()]
    clear = np.where(np.abs(volume) < 1.0, mean, volume)
    return np.where(np.abs(clear) < 1.0, 0, np.sign(clear)).astype(int)


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


def _angle(position, three) -> np.ndarray:
    """Angle at the middle atom, in radians."""
    a, b = (position[three[:, k]] - position[three[:, 1]] for k in (0, 2))
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1))


def torsion_angles(position, four) -> np.ndarray:
    """Torsion angles of four atoms in a row, shape (m,), in radians from -π to π."""
    first, second, third = (position[four[:, k + 1]] - position[four[:, k]] for k in range(3))
    u, v = np.cross(first, second), np.cross(second, third)
    sine = (np.cross(u, v) * second).sum(axis=1) / np.linalg.norm(second, axis=1)
    return np.arctan2(sine, (u * v).sum(axis=1))


def _turned(position, four):
    """Cosine and sine of the torsion angles of four atoms in a row, of a tensor (n, 3)."""
    import torch

    a, b, c, d = (position[four[:, k]] for k in range(4))
    u, v = torch.linalg.cross(b - a, c - b), torch.linalg.cross(c - b, d - c)
    size = (((u**2).sum(1) + 1e-9) * ((v**2).sum(1) + 1e-9)) ** 0.5
    axis = ((c - b) ** 2).sum(1) ** 0.5 + 1e-9
    return (u * v).sum(1) / size, (torch.linalg.cross(u, v) * (c - b)).sum(1) / (size * axis)


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
    found = np.isin(element[middle], [6, 7]).all(axis=1) & (_distance(position, middle) < _STIFF)
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
