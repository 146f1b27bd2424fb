"""One alanine of a regular polypeptide, and the screw that repeats it.

Lengths and angles: Engh & Huber, Acta Cryst. A47, 392 (1991), but for N-CA-C, which is
tetrahedral (109.5°) as in the fibre models from which the published torsion angles of ideal
helices and strands come; with 111° the α-helix of those angles would be 3 % too long.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

__all__ = ["alanine_screw"]


@cache
def alanine_screw(phi: float, psi: float) -> tuple[np.ndarray, float, float]:
    """Find the screw of a chain whose residues all have the same torsion angles; omega is 180°.

    Parameters
    ----------
    phi, psi : float
        Degrees.

    Returns
    -------
    unit : ndarray of float64, shape (5, 3)
        N, CA, C, O, CB of the residue at height 0 in Å: the axis is z, CA lies on x. Read-only.
    twist : float
        Degrees about z from one residue to the next, counterclockwise, 0 to 360.
    rise : float
        Å along z from one residue to the next, positive.
    """
    tetrahedral = np.degrees(np.arccos(-1 / 3))
    ca = np.zeros(3)
    n = np.array([1.458, 0.0, 0.0])
    c = 1.525 * np.array([-1 / 3, np.sqrt(8) / 3, 0.0])
    o = _place(n, ca, c, 1.231, 120.8, psi + 180.0)
    next_n = _place(n, ca, c, 1.329, 116.2, psi)
    next_ca = _place(ca, c, next_n, 1.458, 121.7, 180.0)
    next_c = _place(c, next_n, next_ca, 1.525, tetrahedral, phi)
    # CB at its angles to N (110.4°) and C (110.5°), on the side of an L-amino acid.
    along_n, along_c = n / 1.458, c / 1.525
    cosine = along_n @ along_c
    a, b = np.linalg.solve([[1.0, cosine], [cosine, 1.0]], np.cos(np.radians([110.4, 110.5])))
    in_plane = a * along_n + b * along_c
    normal = np.cross(along_n, along_c)
    normal /= np.linalg.norm(normal)
    cb = ca + 1.521 * (in_plane + np.sqrt(1 - in_plane @ in_plane) * normal)

    # The motion that takes this residue to the next is a screw; z becomes its axis.
    turn = Rotation.from_matrix(_frame(next_n, next_ca, next_c) @ _frame(n, ca, c).T)
    vector = turn.as_rotvec()
    axis, angle = vector / np.linalg.norm(vector), np.linalg.norm(vector)
    step = next_ca - ca
    if axis @ step < 0:
        axis, angle = -axis, -angle
    rise = float(axis @ step)
    # A point q of the axis obeys (1 - R) q = t - rise · axis; least squares gives the one whose
    # part along the axis is zero.
    point = np.linalg.lstsq(np.eye(3) - turn.as_matrix(), step - rise * axis, rcond=None)[0]
    x = -point / np.linalg.norm(point)
    basis = np.stack([x, np.cross(axis, x), axis], axis=1)
    unit = (np.stack([n, ca, c, o, cb]) - point) @ basis
    unit.flags.writeable = False
    return unit, float(np.degrees(angle)) % 360.0, rise


def _place(a, b, c, length: float, angle: float, torsion: float) -> np.ndarray:
    """Position of the atom d bonded to c, from length (Å), angle b-c-d and torsion a-b-c-d (°)."""
    angle, torsion = np.radians([angle, torsion])
    forward = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, forward)
    normal /= np.linalg.norm(normal)
    side = np.cross(normal, forward)
    across = np.cos(torsion) * side + np.sin(torsion) * normal
    return c + length * (np.sin(angle) * across - np.cos(angle) * forward)


def _frame(n, ca, c) -> np.ndarray:
    x = (c - ca) / np.linalg.norm(c - ca)
    y = (n - ca) - ((n - ca) @ x) * x
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)
