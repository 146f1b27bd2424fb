"""A map and its labels cut into overlapping boxes, as networks are trained on them.

Cryo2StructData: boxes of 32³ voxels whose cores of 20³ tile the map; the array is padded by 32
zeros, and the first box begins at 26, so that its core begins at the first voxel.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside

__all__ = ["CORE", "EDGE", "box_starts", "cut_boxes", "join_boxes", "write_boxes"]

#: Voxels along a box, and along the core that only it is responsible for.
EDGE, CORE = 32, 20
_RIM = (EDGE - CORE) // 2


def box_starts(shape) -> np.ndarray:
    """Give the first voxel of each box, its rim included: int64, shape (n, 3), (z, y, x).

    In the published order: the first axis of the array runs fastest. Rims begin before the array.
    """
    counts = _counts(shape)
    order = np.unravel_index(np.arange(np.prod(counts)), counts, order="F")
    return np.stack(order, axis=1).astype(np.int64) * CORE - _RIM


def cut_boxes(values: np.ndarray) -> Iterator[np.ndarray]:
    """Cut an array (z, y, x) into boxes, in the order of `box_starts`, padded with zeros.

    Yields
    ------
    ndarray, shape (m, 32, 32, 32)
        The boxes of one layer along the last axis, so that only these are held.
    """
    counts = _counts(values.shape)
    padded = np.pad(
        values,
        [(_RIM, k * CORE + _RIM - n) for n, k in zip(values.shape, counts, strict=True)],
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, (EDGE,) * 3)[::CORE, ::CORE, ::CORE]
    for k in range(counts[2]):
        layer = windows[:, :, k].swapaxes(0, 1)
        yield np.ascontiguousarray(layer).reshape(-1, EDGE, EDGE, EDGE)


def join_boxes(boxes: np.ndarray, shape) -> np.ndarray:
    """Put the cores of boxes together again.

    Parameters
    ----------
    boxes : ndarray, shape (n, 32, 32, 32)
        In the order of `box_starts`.
    shape : tuple of int
        Of the array that was cut, (z, y, x).

    Raises
    ------
    CryonbError
        If there are not as many boxes as the shape needs.
    """
    counts = _counts(shape)
    if len(boxes) != np.prod(counts) or np.shape(boxes)[1:] != (EDGE,) * 3:
        raise CryonbError(
            f"{np.prod(counts)} boxes of {EDGE}³ voxels were expected for a map of shape "
            f"{tuple(shape)}, but an array of shape {np.shape(boxes)} was given."
        )
    core = np.asarray(boxes)[:, _RIM:-_RIM, _RIM:-_RIM, _RIM:-_RIM]
    # (last axis, middle, first, z, y, x) to each axis with its own
    grid = core.reshape(*counts[::-1], CORE, CORE, CORE).transpose(2, 3, 1, 4, 0, 5)
    whole = grid.reshape(tuple(np.array(counts) * CORE))
    return np.ascontiguousarray(whole[tuple(slice(n) for n in shape)])


def write_boxes(arrays: Mapping[str, np.ndarray], path) -> Path:
    """Write the boxes of arrays of one shape as a compressed .npz that is the same every time.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Each (z, y, x). `numpy.load(path)[name]` is (n, 32, 32, 32), `["start"]` is `box_starts`.
    path : path-like
        The file.

    Returns
    -------
    pathlib.Path
        The file.
    """
    path = Path(path)
    shape = next(iter(arrays.values())).shape
    starts = box_starts(shape)
    with (
        written_beside(path) as beside,
        # Level 1: maps hardly shrink more, and labels are nearly empty.
        zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        _write(archive, "start", starts.dtype, starts.shape, [starts])
        for name, values in arrays.items():
            size = (len(starts), EDGE, EDGE, EDGE)
            _write(archive, name, values.dtype, size, cut_boxes(values))
    return path


def _counts(shape) -> tuple[int, int, int]:
    return tuple(-(-int(n) // CORE) for n in shape)


def _write(archive, name: str, dtype, shape, parts) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    # A name instead of a file: the archive then has the year 1980, not the time of day.
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(part.tobytes())
