"""Predictions averaged over the rotations of a cube."""

import numpy as np
import pytest

from cryonb.errors import CryonbError
from cryonb.predict.rotations import over_rotations, rotations_of_a_cube


def turned(values, rotation):
    order, flipped = rotation
    return np.flip(values.transpose(order), flipped)


def test_there_are_24_and_each_is_a_rotation(rng):
    values = rng.random((3, 3, 3))
    made = {turned(values, rotation).tobytes() for rotation in rotations_of_a_cube()}
    assert len(made) == 24
    # numpy's own quarter turns, of which all others are made.
    for axes in ((0, 1), (1, 2), (0, 2)):
        assert np.rot90(values, 1, axes).copy().tobytes() in made
    # A mirror image is none of them.
    assert values[::-1].tobytes() not in made


def test_the_first_is_the_identity_and_the_next_take_axes_elsewhere():
    first, second, third, *_ = (order for order, _ in rotations_of_a_cube())
    assert first == (0, 1, 2)
    assert rotations_of_a_cube()[0][1] == ()
    for axis in range(3):
        assert len({first[axis], second[axis], third[axis]}) > 1
        assert {order[axis] for order, _ in rotations_of_a_cube()[1:9]} == {0, 1, 2} - {axis}


def test_a_predictor_that_knows_no_direction_stays_as_it_was(rng):
    batch = rng.random((2, 1, 4, 6, 8), dtype=np.float32)

    def predictor(values):
        return np.concatenate([values, values**2], axis=1)

    np.testing.assert_allclose(over_rotations(predictor, 24)(batch), predictor(batch), rtol=1e-5)


def test_what_depends_on_direction_is_averaged(rng):
    batch = rng.random((1, 1, 5, 5, 5), dtype=np.float32)

    def slope(values):
        return np.roll(values, 1, axis=2)

    shifts = [
        np.roll(batch, shift, axis=axis) for axis in (2, 3, 4) for shift in (-1, 1)
    ]  # fmt: skip
    np.testing.assert_allclose(over_rotations(slope, 24)(batch), np.mean(shifts, axis=0), rtol=1e-5)
    assert over_rotations(slope, 1) is slope


@pytest.mark.parametrize("count", [0, 25])
def test_other_numbers_are_refused(count):
    with pytest.raises(CryonbError, match="1 to 24"):
        over_rotations(None, count)
