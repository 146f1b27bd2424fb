"""Local frames, torsion angles and what they place; everything broadcasts over leading axes."""

from __future__ import annotations

import numpy as np

__all__ = ["across", "dihedral", "frames", "unit"]


def unit(vector) -> np.ndarray:
    """Scale vectors (..., 3) to length one; a zero vector stays zero."""
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    return vector / np.maximum(length, 1e-9)


def across(vector, axis) -> np.ndarray:
    """Take the part of vectors (..., 3) that is at a right angle to unit vectors (..., 3)."""
    return vector - (vector * axis).sum(axis=-1, keepdims=True) * axis


def frames(a, b, c) -> np.ndarray:
    """Give the frame of a bond b-c and the atom a before it.

    Parameters
    ----------
    a, b, c : ndarray, shape (..., 3)
        Positions in Å. Where the three lie on a line the frame is turned arbitrarily about it.

    Returns
    -------
    ndarray of float64, shape (..., 3, 3)
        Rows are the axes: along b → c, towards a at a right angle to it, and their cross product.
    """
    along = unit(c - b)
    side = across(a - b, along)
    straight = np.linalg.norm(side, axis=-1, keepdims=True) < 1e-6
    spare = np.where(np.abs(along[..., :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    side = unit(np.where(straight, np.cross(along, spare), side))
    return np.stack([along, side, np.cross(along, side)], axis=-2)


def dihedral(a, b, c, d) -> np.ndarray:
    """Compute torsion angles a-b-c-d, in radians from -π to π."""
    axis = unit(c - b)
    first, second = np.cross(axis, a - b), np.cross(axis, d - c)
    sine = (np.cross(first, second) * axis).sum(axis=-1)
    return np.arctan2(sine, (first * second).sum(axis=-1))
