"""Maps and models as a browser's viewer reads them: small, and true to position and level."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass

import numpy as np

from cryonb.grid import Grid
from cryonb.volume import Volume

__all__ = ["DisplayMap", "display_map", "model_text"]

#: Most voxels along an edge that a viewer is given.
MOST = 200
#: Voxels around what is shown that stay, so that surfaces close.
_MARGIN = 3


@dataclass(frozen=True)
class DisplayMap:
    """A map for display.

    Attributes
    ----------
    data : bytes
        A gzipped MRC file of mode 0 (int8), whose header says how to scale it back.
    grid : Grid
        Of what is shown.
    mean, sigma : float
        Of the whole map, which the levels in sigma go by.
    note : str
        What was left out, in one line; "" if nothing was.
    """

    data: bytes
    grid: Grid
    mean: float
    sigma: float
    note: str


def display_map(
    volume: Volume, *, floor: float | None = None, ceiling: float | None = None, most: int = MOST
) -> DisplayMap:
    """Make a map small enough to send to a browser.

    Values are clipped, what lies around the molecule is cut away, maps with longer edges than
    `most` are averaged over blocks, and a voxel takes one byte.

    Parameters
    ----------
    volume : Volume
        A density or probability.
    floor, ceiling : float, optional
        Between which levels will be wanted; from half a sigma above the mean to the maximum by
        default. A level is met to 1/255 of this range.
    most : int
        Voxels along an edge.
    """
    mean, sigma = volume.mean, volume.std
    floor = mean + 0.5 * sigma if floor is None else float(floor)
    ceiling = volume.max if ceiling is None else float(ceiling)
    ceiling = ceiling if ceiling > floor else floor + 1.0
    values, start, notes = volume.values, np.zeros(3, dtype=int), []
    inside = values > floor
    if inside.any():
        box = []
        for axis in range(3):
            used = np.flatnonzero(inside.any(axis=tuple(k for k in range(3) if k != axis)))
            box.append((max(used[0] - _MARGIN, 0), used[-1] + 1 + _MARGIN))
        cut = values[tuple(slice(*ends) for ends in box)]
        if cut.size < values.size:
            notes.append(f"cut to {' × '.join(map(str, cut.shape))} of {_size(values)} voxels")
            values, start = cut, np.array([low for low, _ in box])
    step = -(-max(values.shape) // most)
    corner = volume.grid.to_points(start + (step - 1) / 2)
    if step > 1:
        values = _block_means(values, step)
        notes.append(f"averaged over {step}³ voxels")
    size = tuple(v * step for v in volume.voxel_size)
    grid = Grid(values.shape, size, tuple(corner.tolist()))
    data = _encode(values, grid, floor, ceiling, mean, sigma)
    note = f"The map is shown {' and '.join(notes)}." if notes else ""
    return DisplayMap(data, grid, mean, sigma, note)


def _size(values) -> str:
    return " × ".join(map(str, values.shape))


def _block_means(values: np.ndarray, step: int) -> np.ndarray:
    """Mean of each block of `step`³ voxels; zeros beyond the end."""
    padded = np.pad(values, [(0, -n % step) for n in values.shape])
    z, y, x = (n // step for n in padded.shape)
    return padded.reshape(z, step, y, step, x, step).mean(axis=(1, 3, 5), dtype=np.float32)


def _encode(values, grid: Grid, floor, ceiling, mean, sigma) -> bytes:
    """Write MRC as NGL reads it.

    NGL takes modes 0 and 2 only; it scales mode 0 back to the header's minimum and maximum where
    words 39 and 40 (from 0) say -128 and 127, adds NSTART to ORIGIN, and has sigma from the header.
    """
    unit = (np.asarray(values, dtype=np.float32) - np.float32(floor)) / np.float32(ceiling - floor)
    small = (np.rint(np.clip(unit, 0, 1) * 255) - 128).astype(np.int8)
    z, y, x = grid.shape
    header = bytearray(1024)
    struct.pack_into("<10i", header, 0, x, y, z, 0, 0, 0, 0, x, y, z)
    lengths = [n * v for n, v in zip((x, y, z), grid.voxel_size, strict=True)]
    struct.pack_into("<6f", header, 40, *lengths, 90, 90, 90)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    struct.pack_into("<3f", header, 76, floor, ceiling, mean)
    struct.pack_into("<2i", header, 156, -128, 127)
    struct.pack_into("<3f", header, 196, *grid.origin)
    header[208:216] = b"MAP \x44\x44\x00\x00"
    struct.pack_into("<f", header, 216, sigma)
    return gzip.compress(bytes(header) + small.tobytes(), 1)


def model_text(model) -> str:
    """Write the first model of a `gemmi.Structure` as mmCIF for a viewer."""
    shown = model.clone()
    while len(shown) > 1:
        del shown[-1]
    return shown.make_mmcif_document().as_string()
