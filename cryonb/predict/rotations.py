"""Answers of a network averaged over rotations of what it is shown."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from cryonb.errors import CryonbError

__all__ = ["over_rotations", "rotations_of_a_cube"]


def rotations_of_a_cube() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Give the 24 rotations that map a cube to itself, those that differ most first.

    Returns
    -------
    list of (order, flipped)
        Axes as `numpy.transpose` takes them, and the axes that are reversed then. The first is the
        identity; the first four take each axis to all three, the next ones fill in.
    """
    found = []
    for order, flips in product(permutations(range(3)), product((0, 1), repeat=3)):
        matrix = np.eye(3)[list(order)] * (1 - 2 * np.array(flips))[:, None]
        if np.linalg.det(matrix) > 0:
            found.append((order, tuple(axis for axis in range(3) if flips[axis])))
    identity = found.index(((0, 1, 2), ()))
    chosen = [found.pop(identity)]
    while found:
        # Farthest from those before: the fewest axes that stay where and as they were.
        shared = [sum(_alike(one, other) for other in chosen) for one in found]
        chosen.append(found.pop(int(np.argmin(shared))))
    return chosen


def _alike(one, other) -> int:
    """Axes that both rotations take to the same axis in the same sense, squared."""
    (order, flips), (order2, flips2) = one, other
    same = sum(
        order[axis] == order2[axis] and (axis in flips) == (axis in flips2) for axis in range(3)
    )
    return same**2


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
