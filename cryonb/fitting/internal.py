"""Lengths, angles, volumes and torsions of a few atoms each, of arrays and of tensors."""

from __future__ import annotations

import numpy as np

__all__ = ["angle", "distance", "torsion_angles", "turned", "volume"]


def volume(position, four):
    """Signed volume spanned by three atoms from a fourth, the first of each row; Å³."""
    a, b, c = (position[four[:, k]] - position[four[:, 0]] for k in (1, 2, 3))
    # a · (b × c), for arrays and tensors alike
    return (
        a[:, 0] * (b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1])
        + a[:, 1] * (b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2])
        + a[:, 2] * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    )


def distance(position, pairs):
    """Distance of two atoms, of arrays and tensors alike."""
    apart = position[pairs[:, 0]] - position[pairs[:, 1]]
    return ((apart**2).sum(1) + 1e-12) ** 0.5


def angle(position, three) -> np.ndarray:
    """Angle at the middle atom, in radians."""
    a, b = (position[three[:, k]] - position[three[:, 1]] for k in (0, 2))
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1))


def torsion_angles(position, four) -> np.ndarray:
    """Torsion angles of four atoms in a row, shape (m,), in radians from -π to π."""
    first, second, third = (position[four[:, k + 1]] - position[four[:, k]] for k in range(3))
    u, v = np.cross(first, second), np.cross(second, third)
    sine = (np.cross(u, v) * second).sum(axis=1) / np.linalg.norm(second, axis=1)
    return np.arctan2(sine, (u * v).sum(axis=1))


def turned(position, four):
    """Cosine and sine of the torsion angles of four atoms in a row, of a tensor (n, 3)."""
    import torch

    a, b, c, d = (position[four[:, k]] for k in range(4))
    u, v = torch.linalg.cross(b - a, c - b), torch.linalg.cross(c - b, d - c)
    size = (((u**2).sum(1) + 1e-9) * ((v**2).sum(1) + 1e-9)) ** 0.5
    axis = ((c - b) ** 2).sum(1) ** 0.5 + 1e-9
    return (u * v).sum(1) / size, (torch.linalg.cross(u, v) * (c - b)).sum(1) / (size * axis)
