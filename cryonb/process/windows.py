"""A map seen through overlapping windows, many of them transformed at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.sparse import csr_matrix

from cryonb.grid import Grid
from cryonb.process.filter import spatial_frequency
from cryonb.process.fourier_shells import Shells

__all__ = ["Windows"]

# Voxels of windows that are held at a time.
_HELD = 4_000_000


class Windows:
    """Windows that cover a map.

    Parameters
    ----------
    grid : Grid
        Of the map.
    width : float
        Edge of a window in Å; the next number of voxels that transforms fast and is even. Windows
        follow one another by half of it, so that sin² windows add up to 1.

    Attributes
    ----------
    size, stride : tuple of int
        Voxels (z, y, x) of a window, and from one to the next.
    counts : tuple of int
        Windows along (z, y, x).
    shells : Shells
        Of a window's transform.
    """

    def __init__(self, grid: Grid, width: float):
        voxel = np.array(grid.voxel_size[::-1])
        self.grid = grid
        self.size = tuple(2 * next_fast_len(int(np.ceil(width / v / 2)), real=True) for v in voxel)
        self.stride = tuple(n // 2 for n in self.size)
        self.counts = tuple(
            -(-n // stride) + 1 for n, stride in zip(grid.shape, self.stride, strict=True)
        )
        self.shells = Shells(Grid(self.size, grid.voxel_size))
        self._sums = csr_matrix(
            (self.shells.weight, (np.arange(self.shells.which.size), self.shells.which)),
            shape=(self.shells.which.size, self.shells.n),
        )[:, 1:].T.tocsr()

        self._weights = np.einsum(
            "i,j,k->ijk", *(np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in self.size)
        ).astype(np.float32)

    def transforms(self, *maps: np.ndarray) -> Iterator[tuple]:
        """Yield the transforms of all windows, each multiplied by sines along the axes.

        Parameters
        ----------
        *maps : ndarray, shape (z, y, x)
            Continued beyond the box by their mirror image.

        Yields
        ------
        index : ndarray, shape (n, 3)
            Numbers of the windows along (z, y, x).
        terms : list of ndarray, shape (n, z, y, x // 2 + 1)
            One for each map.
        """
        pad = [
            (size // 2, stride * (count - 1) + size - size // 2 - n)
            for size, stride, count, n in zip(
                self.size, self.stride, self.counts, self.grid.shape, strict=True
            )
        ]
        views = [
            sliding_window_view(np.pad(values, pad, mode="symmetric"), self.size)[
                :: self.stride[0], :: self.stride[1], :: self.stride[2]
            ]
            for values in maps
        ]
        index = np.argwhere(np.ones(self.counts, dtype=bool))
        at_once = max(1, _HELD // int(np.prod(self.size)))
        for first in range(0, len(index), at_once):
            some = index[first : first + at_once]
            yield (
                some,
                [
                    rfftn(view[tuple(some.T)] * self._weights, axes=(1, 2, 3), workers=-1)
                    for view in views
                ],
            )

    def shell_sums(self, a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        """Sum Re a b* (b = a by default) over the shells: shape (n, shell), from shell 1 on."""
        b = a if b is None else b
        product = a.real * b.real + a.imag * b.imag
        return (self._sums @ product.reshape(len(a), -1).T).T

    def on_terms(self, factor: np.ndarray) -> np.ndarray:
        """Interpolate factors of shells (n, shell) to all terms: shape (n, z, y, x // 2 + 1)."""
        z, y, x = self.size
        s = self.shells.s
        at = spatial_frequency(self.size, self.grid.voxel_size).ravel()
        place = np.interp(at, s, np.arange(len(s)))
        low = np.minimum(place.astype(int), len(s) - 2)
        part = (place - low).astype(np.float32)
        factor = factor.astype(np.float32)
        made = factor[:, low] * (1 - part) + factor[:, low + 1] * part
        return made.reshape(len(factor), z, y, x // 2 + 1)

    def assemble(self, parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Turn changed transforms back, multiply by the sines again and add the windows up.

        Parameters
        ----------
        parts : iterable of (index, terms)
            See `transforms`; every window once.

        Returns
        -------
        ndarray of float32, shape (z, y, x)
        """
        shape = [
            s * (c - 1) + n for s, c, n in zip(self.stride, self.counts, self.size, strict=True)
        ]
        total = np.zeros(shape, dtype=np.float32)
        for index, terms in parts:
            windows = irfftn(terms, s=self.size, axes=(1, 2, 3), workers=-1) * self._weights
            for corner, window in zip(index * self.stride, windows, strict=True):
                box = tuple(slice(a, a + n) for a, n in zip(corner, self.size, strict=True))
                total[box] += window
        inner = tuple(
            slice(size // 2, size // 2 + n)
            for size, n in zip(self.size, self.grid.shape, strict=True)
        )
        return np.ascontiguousarray(total[inner])
