"""What holds a model together while its atoms move: bonds, angles, planes, handedness, torsions.

The targets are the model's own geometry, or that of good structures where the model's is not like
theirs (`cryonb.fitting.typical`), or another copy's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array

from cryonb.atoms import Atoms
from cryonb.fitting.connections import Connections
from cryonb.fitting.contacts import Contacts
from cryonb.fitting.internal import angle, distance, torsion_angles, turned, volume
from cryonb.fitting.topology import named_bonds, type_names, within_three_bonds
from cryonb.fitting.typical import aims

__all__ = ["Restraints"]

# Standard deviations: of bonds and of atoms two bonds apart (Å), of flat and other groups (Å³).
_BOND, _ANGLE, _FLAT, _CHIRAL = 0.02, 0.04, 0.1, 0.2
# Of torsions, and where their restraint levels off: both in radians.
_TORSION, _LIMIT = np.radians(5.0), np.radians(30.0)
# Standard deviation of what repels, and what counts as a clash (Å).
_SOFTNESS, _CLASH = 0.1, 0.2


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
    _contacts: Contacts

    @classmethod
    def of(
        cls,
        position,
        element,
        altloc=None,
        *,
        names=None,
        named=None,
        start=None,
        astray=False,
    ) -> Restraints:
        """Take the geometry of a model as it is, or as it should be.

        Parameters
        ----------
        position, element, altloc
            As for `cryonb.fitting.topology.bonded_pairs`; of the model whose geometry is aimed at.
        names : ndarray of str, shape (n,), optional
            As `cryonb.fitting.topology.type_names` gives. Then bonds, angles and groups that are
            not like those of good structures aim at these: `cryonb.fitting.typical.aims`. Torsions
            do not.
        named : tuple, optional
            As `cryonb.fitting.topology.named_bonds` gives: what is bonded, stiff and flat.
        start : ndarray, shape (n, 3), optional
            Where the atoms are that will move, if elsewhere; for what may collide.
        astray : bool
            That the model is not sound, whatever its bonds and angles say: see `aims`.
        """
        position = np.asarray(position, dtype=np.float64)
        element, n = np.asarray(element), len(position)
        parts = Connections.of(position, element, altloc, named=named)
        own = distance(position, parts.bonds)
        if names is None:
            length, span = own, distance(position, parts.ends)
            aim = volume(position, parts.groups)
        else:
            length, span, aim = aims(position, parts, names, astray=astray)
        start = position if start is None else np.asarray(start, dtype=np.float64)
        contacts = Contacts(start, element, altloc, within_three_bonds(parts.bonds, n))
        near, closest = contacts.around(start)
        return cls(
            parts.bonds, parts.ends, parts.angles, parts.groups, parts.torsions, near,
            length, span, aim, torsion_angles(position, parts.torsions), closest,
            np.where(np.abs(aim) < 1.0, _FLAT, _CHIRAL),
            float(np.hypot(_TORSION, _rms(own - length))), contacts,
        )  # fmt: skip

    @classmethod
    def of_atoms(
        cls, atoms: Atoms, altloc=None, *, typical=True, start=None, astray=False
    ) -> Restraints:
        """Take the geometry of a model, as it is or where it should be another: see `of`."""
        return cls.of(
            atoms.position, atoms.element, altloc, start=start, astray=astray,
            names=type_names(atoms) if typical else None, named=named_bonds(atoms, altloc),
        )  # fmt: skip

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

        too_near = torch.clamp(like(self.closest) - distance(position, self.near), min=0)
        cosine, sine = turned(position, self.torsions)
        turn = like(self.turn)
        limit = max(_LIMIT, 2 * self.looseness)
        away = 2 * (1 - cosine * turn.cos() - sine * turn.sin())
        return (
            sum_of(distance(position, self.bonds), self.length, _BOND)
            + sum_of(distance(position, self.ends), self.span, _ANGLE)
            + sum_of(volume(position, self.groups), self.volume, self.spread)
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
            cosine, sine = turned(x, four)
            return torch.atan2(sine, cosine)

        total = 0
        for found, atoms, spread in (
            (distance, self.bonds, _BOND), (distance, self.ends, _ANGLE),
            (volume, self.groups, self.spread), (torsion, self.torsions, self.looseness),
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
        bond = distance(position, self.bonds) - self.length
        # d(span)/d(angle) = product of the sides · sin(angle) / span, here for one angle a pair.
        pairs = self.angles[:, [0, 2]] @ [len(position), 1]
        order = np.searchsorted(self.ends @ [len(position), 1], pairs)
        order = np.minimum(order, max(len(self.ends) - 1, 0))
        kept = np.flatnonzero((self.ends[order] @ [len(position), 1]) == pairs)
        three, away = self.angles[kept], (distance(position, self.ends) - self.span)[order[kept]]
        sides = distance(position, three[:, :2]) * distance(position, three[:, 1:])
        slope = sides * np.sin(angle(position, three)) / distance(position, three[:, [0, 2]])
        return _rms(bond), _rms(np.degrees(away / np.maximum(slope, 0.1)))

    def deviations(self, one, other) -> tuple[float, float, float]:
        """Give r.m.s. differences of two models: bonds (Å), angles and torsions (degrees)."""
        bond = distance(one, self.bonds) - distance(other, self.bonds)
        bend = angle(one, self.angles) - angle(other, self.angles)
        turn = torsion_angles(one, self.torsions) - torsion_angles(other, self.torsions)
        turn = (turn + np.pi) % (2 * np.pi) - np.pi
        return _rms(bond), _rms(np.degrees(bend)), _rms(np.degrees(turn))

    def clashes(self, position) -> int:
        """Count pairs more than three bonds apart that overlap, whatever the start was.

        Nearer by 0.2 Å than where repulsion begins: below the sum of their van der Waals radii by
        0.5 Å, or below 2.4 Å between atoms that may share a hydrogen (N, O, S), or 1.6 Å at ions.
        """
        near, closest = self._contacts.around(np.asarray(position), free=True)
        return int((distance(np.asarray(position), near) < closest - _CLASH).sum())


def _rms(values) -> float:
    return float(np.sqrt((values**2).mean())) if len(values) else 0.0
