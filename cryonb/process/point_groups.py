"""Point groups as lists of rotations."""

from __future__ import annotations

import re

import numpy as np
from scipy.spatial.transform import Rotation

from cryonb.errors import CryonbError

__all__ = ["axes_of", "group_rotations"]

_NAME = re.compile(r"([CD])([1-9]\d*)|([TOI])")


def group_rotations(name: str) -> np.ndarray:
    """Give the rotations of a point group in its standard frame.

    Parameters
    ----------
    name : str
        "C1", "C2", ...; "D2", "D3", ...; "T", "O" or "I". The main axis is z; the two-fold axes of
        D groups lie on x and those of T, O and I on x, y and z.

    Returns
    -------
    ndarray, shape (n, 3, 3)
        The identity first.

    Raises
    ------
    CryonbError
        If there is no such group.
    """
    match = _NAME.fullmatch(str(name).strip().upper())
    if match is None:
        raise CryonbError(f"A point group such as C4, D2, T, O or I was expected, not {name!r}.")
    kind, order, high = match.groups()
    if high:
        return np.array(Rotation.create_group(high).as_matrix()[_identity_first(high)])
    turns = Rotation.from_rotvec(
        np.outer(np.arange(int(order)) * 2 * np.pi / int(order), [0, 0, 1])
    ).as_matrix()
    if kind == "C":
        return turns
    return np.concatenate([turns, turns @ np.diag([1.0, -1.0, -1.0])])


def _identity_first(name: str) -> np.ndarray:
    magnitude = Rotation.create_group(name).magnitude()
    return np.argsort(magnitude, kind="stable")


def axes_of(rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the axes of a group and their orders, the highest order first.

    Parameters
    ----------
    rotations : ndarray, shape (n, 3, 3)
        A whole group.

    Returns
    -------
    axis : ndarray, shape (m, 3)
        Unit vectors, one for each axis (not two for its two ends).
    order : ndarray of int, shape (m,)
    """
    vectors = Rotation.from_matrix(rotations).as_rotvec()
    angle = np.linalg.norm(vectors, axis=1)
    unit = vectors[angle > 1e-6] / angle[angle > 1e-6, None]
    axes, counts = [], []
    for one in unit:
        along = [k for k, other in enumerate(axes) if abs(abs(other @ one) - 1) < 1e-6]
        if along:
            counts[along[0]] += 1
        else:
            axes.append(one)
            counts.append(1)
    order = np.array(counts, dtype=int) + 1
    rank = np.argsort(-order, kind="stable")
    return np.array(axes).reshape(-1, 3)[rank], order[rank]
