"""Answers of a network averaged over rotations of what it is shown."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from cryonb.errors import CryonbError

__all__ = ["over_rotations", "rotations_of_a_cube"]


def rotations_of_a_cube() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Give the 24 rotations that map a cube to itself.

    Returns
    -------
    list of (order, flipped)
        Axes as `numpy.transpose` takes them, and the axes that are reversed then. First the
        identity, then the eight that leave no axis where it was, then the others.
    """
    matrices = Rotation.create_group("O").as_matrix().round().astype(int)
    trace = matrices.trace(axis1=1, axis2=2)
    matrices = matrices[np.argsort(np.where(trace == 3, -1, abs(trace)), kind="stable")]
    order = abs(matrices).argmax(axis=2)
    flipped = matrices.sum(axis=2) < 0
    return [
        (tuple(axes.tolist()), tuple(np.flatnonzero(flips).tolist()))
        for axes, flips in zip(order, flipped, strict=True)
    ]


def over_rotations(predictor, count: int):
    """Make a predictor that averages another's answers over rotations of its input.

    Parameters
    ----------
    predictor : callable
        Takes float32 (n, 1, d, h, w), gives probabilities (n, class, d, h, w).
    count : int
        Of rotations, 1 to 24; the time grows with it.

    Raises
    ------
    CryonbError
        If there are not as many.
    """
    if not 1 <= count <= 24:
        raise CryonbError(f"1 to 24 rotations of a cube were expected, but {count} were asked for.")
    if count == 1:
        return predictor
    rotations = rotations_of_a_cube()[:count]

    def average(batch: np.ndarray) -> np.ndarray:
        total = 0
        for order, flipped in rotations:
            flips = tuple(axis + 2 for axis in flipped)
            axes = (0, 1, *(axis + 2 for axis in order))
            answer = predictor(np.ascontiguousarray(np.flip(batch.transpose(axes), flips)))
            total = total + np.flip(answer, flips).transpose(np.argsort(axes))
        return total / np.float32(count)

    return average
