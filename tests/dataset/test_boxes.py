"""Boxes against a plain loop with the published numbers: pad 32, edge 32, core 20, start 26."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.dataset.boxes import box_starts, cut_boxes, join_boxes, write_boxes
from cryonb.errors import CryonbError


def loop(values):
    padded = np.zeros(tuple(n + 64 for n in values.shape))
    padded[tuple(slice(32, 32 + n) for n in values.shape)] = values
    n0, n1, n2 = (math.ceil(n / 20) for n in values.shape)
    boxes = []
    for k in range(n2):
        for j in range(n1):
            for i in range(n0):
                a, b, c = 26 + 20 * i, 26 + 20 * j, 26 + 20 * k
                boxes.append(padded[a : a + 32, b : b + 32, c : c + 32])
    return np.array(boxes)


@settings(deadline=None, max_examples=15)
@given(shape=st.tuples(*[st.integers(1, 63)] * 3), seed=st.integers(0, 99))
def test_boxes_are_those_of_a_loop_and_join_again(shape, seed):
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    boxes = np.concatenate(list(cut_boxes(values)))
    assert np.array_equal(boxes, loop(values).astype(np.float32))
    assert np.array_equal(join_boxes(boxes, shape), values)
    starts = box_starts(shape)
    assert len(starts) == len(boxes)
    z, y, x = starts[-1] + 6
    assert boxes[-1, 6, 6, 6] == values[z, y, x]


def test_a_file_of_boxes_is_the_same_every_time(tmp_path, rng):
    arrays = {"map": rng.random((30, 20, 45), dtype=np.float32)}
    arrays["atom"] = (arrays["map"] > 0.9).astype(np.uint8)
    one = write_boxes(arrays, tmp_path / "a.npz").read_bytes()
    assert one == write_boxes(arrays, tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as found:
        assert np.array_equal(join_boxes(found["atom"], (30, 20, 45)), arrays["atom"])
        assert found["map"].dtype == np.float32


def test_boxes_of_another_map_are_refused():
    with pytest.raises(CryonbError, match="8 boxes"):
        join_boxes(np.zeros((4, 32, 32, 32)), (30, 30, 30))
