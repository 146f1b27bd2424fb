"""Cut an array into overlapping tiles, run any callable on them, stitch what comes back.

Nothing here knows of networks: the predictor is any function of a batch of tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from tqdm.auto import tqdm

from cryonb.errors import CryonbError

__all__ = ["Axis", "predict_tiles", "tile_axis"]


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis.

    Attributes
    ----------
    starts : tuple of int
        First voxel of each tile; it may lie before the array, which is then padded.
    edge : int
        Voxels of a tile.
    rim : int
        Voxels at each end of a tile that lack context.
    size : int
        Voxels of the array.
    """

    starts: tuple[int, ...]
    edge: int
    rim: int
    size: int

    def ramps(self, number: int) -> np.ndarray:
        """Weight of each voxel of tile `number`; over all tiles they sum to one inside the array.

        Each tile hands over to the next in the middle of what they share, by a linear ramp that
        stays clear of both rims.
        """
        position = self.starts[number] + np.arange(self.edge)
        inside = (position >= 0) & (position < self.size)
        return (self._begun(number, position) - self._begun(number + 1, position)) * inside

    def _begun(self, number: int, position: np.ndarray) -> np.ndarray:
        """Ramp from 0 to 1 where tile `number` takes over from the one before."""
        if number == 0:
            return np.ones(len(position), dtype=np.float32)
        if number == len(self.starts):
            return np.zeros(len(position), dtype=np.float32)
        width = max(self.edge - 2 * self.rim - int(np.diff(self.starts).max()), 1)
        middle = (self.starts[number] + self.starts[number - 1] + self.edge) / 2
        ramp = (position + 0.5 - middle) / width + 0.5
        return np.clip(ramp, 0, 1).astype(np.float32)


def tile_axis(
    size: int, *, edge: int, rim: int, multiple: int = 1, align: int = 1, blend: int | None = None
) -> Axis:
    """Lay tiles along an axis.

    Parameters
    ----------
    size : int
        Voxels of the array.
    edge : int
        Voxels of a tile; made smaller where the array is.
    rim : int
        Voxels at each end of a tile, inside the array, whose output is dropped.
    multiple : int
        A tile's edge is a multiple of this.
    align : int
        A tile's first voxel is a multiple of this, so that poolings fall on the same voxels in
        tiles of any size. The last tile may then reach beyond the array.
    blend : int, optional
        Voxels over which neighbours are blended, half the rim by default. 0 is for predictors whose
        output beyond the rim does not depend on the tile; tiles are then made as small as their
        number allows.

    Raises
    ------
    CryonbError
        If a tile would be all rim.
    """
    edge = -(-edge // multiple) * multiple
    if size <= edge:
        return Axis((0,), -(-size // multiple) * multiple, rim, size)
    if edge <= 2 * rim + align:
        raise CryonbError(
            f"Tiles of more than {2 * rim + align} voxels are needed for a rim of {rim}, "
            f"but {edge} was given."
        )
    # The rims overlap, and a few voxels more, over which neighbours are blended.
    exact = blend == 0
    blend = 0 if exact else min(max(rim // 2, 1), edge - 2 * rim - align)
    step = (edge - 2 * rim - blend) // align
    if exact:
        count = -(-(size - 2 * rim) // (step * align))
        step = -(-(size - 2 * rim) // (count * align)) * align
        edge = -(-(step + 2 * rim) // multiple) * multiple
        return Axis(tuple(range(0, count * step, step)), edge, rim, size)
    last = -(-(size - edge) // align)
    count = -(-last // step) + 1
    # As many tiles, but no larger than they must be.
    least = -(-(size + (count - 1) * (2 * rim + blend + align - 1)) // count)
    edge = min(-(-least // multiple) * multiple, edge)
    last = -(-(size - edge) // align)
    starts = align * np.round(np.linspace(0, last, count)).astype(int)
    return Axis(tuple(starts.tolist()), edge, rim, size)


def predict_tiles(
    values: np.ndarray, predictor, *, n_classes: int, edge: int = 160, rim: int = 16,
    multiple: int = 16, align: int = 1, blend: int | None = None, batch: int = 1,
    noise: float = 0.0, margin: int = 4, background: bool = True, progress: bool = True,
) -> np.ndarray:  # fmt: skip
    """Run a predictor over an array of any shape and size.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Normalised density.
    predictor : callable
        Takes float32 (n, 1, d, h, w), gives probabilities (n, class, d, h, w).
    n_classes : int
        Number of classes.
    edge, rim, multiple, align, blend : int
        Tile geometry, see `tile_axis`.
    batch : int
        Tiles a call.
    noise : float
        What is farther than `margin` from the box that holds all values above this one is empty,
        as are tiles inside that box in which nothing is above it.
    margin : int
        Voxels around density that get an answer, too; the rim is seen beyond them.
    background : bool
        Whether class 0 is what empty voxels are given; else all classes are zero there.
    progress : bool
        Show a bar.

    Returns
    -------
    ndarray of float16, shape (class, z, y, x)
        Working memory beside it is that of a few tiles.
    """
    whole = np.zeros((n_classes, *values.shape), dtype=np.float16)
    empty = slice(0, int(background))
    whole[empty] = 1
    box = _occupied(values, noise, rim + margin, align)
    if box is None:
        return whole
    values, out = values[box], whole[(slice(None), *box)]
    out[empty] = 0
    axes = [
        tile_axis(size, edge=edge, rim=rim, multiple=multiple, align=align, blend=blend)
        for size in values.shape
    ]
    tiles = list(product(*(range(len(axis.starts)) for axis in axes)))
    waiting = []

    def run():
        shape = tuple(axis.edge for axis in axes)
        block = np.zeros((len(waiting), 1, *shape), dtype=np.float32)
        for row, tile in enumerate(waiting):
            part = values[_inside(axes, tile)]
            block[(row, 0, *(slice(0, n) for n in part.shape))] = part
        found = predictor(block)
        for probabilities, tile in zip(found, waiting, strict=True):
            _add(out, axes, tile, probabilities)
        waiting.clear()

    for tile in tqdm(tiles, desc="tiles", disable=not progress, leave=False):
        if values[_inside(axes, tile)].max() <= noise:
            nothing = np.zeros((n_classes, *(axis.edge for axis in axes)), dtype=np.float16)
            nothing[empty] = 1
            _add(out, axes, tile, nothing)
            continue
        waiting.append(tile)
        if len(waiting) == batch:
            run()
    if waiting:
        run()
    # Where the box was cut, its last voxels lacked what is beyond.
    for axis, (side, size) in enumerate(zip(box, whole.shape[1:], strict=True)):
        lines = np.moveaxis(out, axis + 1, 1)
        for cut, end in ((side.start > 0, slice(rim)), (side.stop < size, slice(-rim, None))):
            if cut and rim:
                lines[:, end] = 0
                lines[empty, end] = 1
    return whole


def _occupied(values, noise: float, margin: int, align: int) -> tuple[slice, ...] | None:
    """Box of all values above the noise with a margin; none if there are none."""
    above = values > noise
    box = []
    for axis, size in enumerate(values.shape):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(above.any(axis=others))
        if not len(places):
            return None
        start = max(int(places[0]) - margin, 0) // align * align
        box.append(slice(start, min(int(places[-1]) + 1 + margin, size)))
    return tuple(box)


def _inside(axes, tile) -> tuple[slice, ...]:
    return tuple(
        slice(axis.starts[number], min(axis.starts[number] + axis.edge, axis.size))
        for axis, number in zip(axes, tile, strict=True)
    )


def _add(out, axes, tile, probabilities) -> None:
    """Add a tile's output with its weight, leaving out voxels that weigh nothing."""
    # By torch, since numpy takes 40 ns to round a number to float16.
    import torch

    where = _inside(axes, tile)
    weights, kept, target = [], [], []
    for axis, number, place in zip(axes, tile, where, strict=True):
        weight = axis.ramps(number)[: place.stop - place.start]
        used = np.flatnonzero(weight)
        first, last = used[0], used[-1] + 1
        kept.append(slice(first, last))
        target.append(slice(place.start + first, place.start + last))
        weights.append(weight[first:last])
    z, y, x = weights
    weight = (z[:, None, None] * y[None, :, None] * x[None, None, :]).astype(np.float32)
    for channel, values in enumerate(probabilities):
        part = torch.from_numpy(out[(channel, *target)])
        part += torch.from_numpy(values[tuple(kept)] * weight).half()
