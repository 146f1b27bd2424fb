"""A map as a B-spline: exact at the voxels, smooth between them, nothing to train."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

from cryonb.errors import CryonbError
from cryonb.field.protocol import Field, Statistics, check_density
from cryonb.grid import Grid
from cryonb.volume import Volume

__all__ = ["SplineField"]

# Points whose neighbours are read at once: the arrays of a chunk stay in the cache.
_CHUNK = 1 << 13


class SplineField(Field):
    """The B-spline through all voxels of a map, mirrored at its borders.

    Parameters
    ----------
    volume : Volume
        A density; it is not changed.
    degree : {3, 5}
        Cubic (default), with continuous second derivatives, or quintic.

    Raises
    ------
    CryonbError
        If the degree is another one, or the volume is none that can be fitted.

    Notes
    -----
    The coefficients (Unser, IEEE Signal Processing Magazine 16, 22 (1999)) are found once, by
    `scipy.ndimage.spline_filter`. A value is a sum over the (degree + 1)³ coefficients around a
    point; they are read once for value, gradient and second derivatives alike. By the mirror, the
    derivative across a border is zero on the border.
    """

    def __init__(self, volume: Volume, *, degree: int = 3):
        from scipy.ndimage import spline_filter

        if degree not in (3, 5):
            raise CryonbError(f"A spline of degree 3 or 5 was expected, but {degree!r} was asked.")
        check_density(volume)
        super().__init__(volume.grid, Statistics.of(volume.values))
        self.degree = degree
        coefficients = spline_filter(volume.values, degree, output=np.float32, mode="mirror")
        # The coefficients beyond the border, so that no index need be folded later.
        self._coefficients = np.pad(coefficients, degree // 2, mode="reflect")

    def __repr__(self) -> str:
        return f"<SplineField of degree {self.degree} through {self.grid.shape} voxels (z, y, x)>"

    def _evaluate(self, points, derivatives):
        import torch

        flat = torch.from_numpy(self._coefficients.reshape(-1))
        _, y, x = self._coefficients.shape
        strides = (y * x, x, 1)
        outputs = _orders(derivatives)
        found = np.empty((len(outputs), len(points)), dtype=np.float32)
        index = self.grid.to_index(points).T
        for first in range(0, len(points), _CHUNK):
            part = slice(first, first + _CHUNK)
            cell, weights = self._weights(index[:, part], derivatives)
            base = sum(c * stride for c, stride in zip(cell, strides, strict=True))
            sums = _contract(
                flat, torch.from_numpy(base), strides, torch.from_numpy(weights), derivatives
            )
            for row, order in enumerate(outputs):
                found[row, part] = sums[order].numpy()
        return self._assemble(found, outputs, derivatives)

    def _weights(self, index: np.ndarray, derivatives: int):
        """Cells (3, n) and weights (derivative, axis, degree + 1, n) of indices (3, n)."""
        sizes = np.array(self.grid.shape)[:, None]
        # The last centre is the end of the last cell.
        cell = np.clip(np.floor(index), 0, sizes - 2).astype(np.int64)
        t = (index - cell).astype(np.float32)
        weights = np.empty((derivatives + 1, 3, self.degree + 1, t.shape[1]), dtype=np.float32)
        for order in range(derivatives + 1):
            for place, polynomial in enumerate(_pieces(self.degree, order)):
                weights[order, :, place] = _horner(polynomial, t)
        return cell, weights

    def _assemble(self, found, outputs, derivatives):
        """Go from derivatives along (z, y, x) by voxel to (x, y, z) by Å."""
        by_order = dict(zip(outputs, found, strict=True))
        step = np.array(self.grid.voxel_size)
        unit = np.eye(3, dtype=int)[
            ::-1
        ]  # row a: the (z, y, x) order of a derivative along x, y, z
        results = [by_order[0, 0, 0]]
        if derivatives > 0:
            results.append(
                np.stack([by_order[tuple(unit[a])] / np.float32(step[a]) for a in range(3)], axis=1)
            )
        if derivatives > 1:
            second = np.empty((found.shape[1], 3, 3), dtype=np.float32)
            for a, b in product(range(3), repeat=2):
                second[:, a, b] = by_order[tuple(unit[a] + unit[b])] / np.float32(step[a] * step[b])
            results.append(second)
        return tuple(results)

    def on_grid(self, grid: Grid) -> np.ndarray:
        """Give the densities at the voxel centres of a grid: float32, (z, y, x), NaN outside.

        Axis by axis, which takes a few operations a voxel.
        """
        lower, upper = self.grid.to_index(grid.to_points([[0, 0, 0], np.array(grid.shape) - 1]))
        matrices, inside = [], []
        for axis in range(3):
            position = np.linspace(lower[axis], upper[axis], grid.shape[axis])
            slack = 1e-9 * self.grid.shape[axis]
            good = (position >= -slack) & (position <= self.grid.shape[axis] - 1 + slack)
            inside.append(good)
            matrices.append(self._axis_matrix(axis, position[good]))
        out = np.full(grid.shape, np.nan, dtype=np.float32)
        if not all(good.any() for good in inside):
            return out
        values = self._coefficients
        for matrix in matrices:
            # Each product takes the first axis and puts the new one last.
            rest = values.shape[1:]
            values = (matrix @ np.ascontiguousarray(values).reshape(len(values), -1)).T
            values = values.reshape(*rest, -1)
        out[np.ix_(*inside)] = values
        return out

    def _axis_matrix(self, axis: int, position: np.ndarray):
        """Weights of the padded coefficients of one axis at positions: sparse float32."""
        from scipy.sparse import csr_array

        n = self.grid.shape[axis]
        cell = np.clip(np.floor(position), 0, n - 2).astype(np.int64)
        t = position - cell
        weights = np.stack([_horner(piece, t) for piece in _pieces(self.degree, 0)])
        column = cell + np.arange(self.degree + 1)[:, None]
        row = np.broadcast_to(np.arange(len(position)), column.shape)
        size = (len(position), self._coefficients.shape[axis])
        return csr_array((weights.ravel().astype(np.float32), (row.ravel(), column.ravel())), size)


@cache
def _pieces(degree: int, order: int) -> np.ndarray:
    """Polynomials of the B-splines over one cell, differentiated: (neighbour, power, high first).

    Row j weighs the j-th of the degree + 1 neighbours, as a function of the place in the cell.
    """
    from scipy.interpolate import BSpline, PPoly

    spline = PPoly.from_spline(BSpline.basis_element(np.arange(degree + 2.0), extrapolate=False))
    for _ in range(order):
        spline = spline.derivative()
    # scipy adds pieces beyond the ends; each piece is in powers from its own start.
    kept = (spline.x[:-1] >= 0) & (spline.x[:-1] <= degree) & (np.diff(spline.x) > 0)
    return np.ascontiguousarray(spline.c[:, kept].T[::-1])


def _horner(polynomial: np.ndarray, t: np.ndarray) -> np.ndarray:
    total = np.full_like(t, polynomial[0])
    for factor in polynomial[1:]:
        total *= t
        total += t.dtype.type(factor)
    return total


@cache
def _orders(derivatives: int, axes: int = 3) -> tuple[tuple[int, ...], ...]:
    """Orders of differentiation along each axis that sum to at most `derivatives`."""
    every = product(range(derivatives + 1), repeat=axes)
    return tuple(sorted((o for o in every if sum(o) <= derivatives), key=sum))


def _contract(flat, base, strides, weights, derivatives: int) -> dict:
    """Sum the neighbours of each point, axis after axis, x first.

    Parameters
    ----------
    flat : Tensor, shape (coefficients,)
        All coefficients.
    base : Tensor of int64, shape (n,)
        Place in `flat` of each point's first neighbour.
    strides : tuple of int
        Of (z, y, x) in `flat`.
    weights : Tensor, shape (derivatives + 1, 3, degree + 1, n)
        Of the neighbours along (z, y, x).

    Returns
    -------
    dict
        A tensor (n,) for each order of differentiation along (z, y, x).
    """
    import torch

    width = weights.shape[2]
    # The first of the neighbours along x, for all those along z and y: (width², n) places.
    rows = torch.arange(width)
    rows = (rows[:, None] * strides[0] + rows * strides[1]).reshape(-1, 1)
    place = (rows + base).reshape(-1)

    def add(sums, order, value, weight):
        if order in sums:
            sums[order].addcmul_(value, weight)
        else:
            sums[order] = value * weight

    line, plane, total = {}, {}, {}
    for i in range(width):
        value = torch.index_select(flat[i:], 0, place).reshape(width, width, -1)
        for (order,) in _orders(derivatives, 1):
            add(line, order, value, weights[order, 2, i])
    for j in range(width):
        for along_y, along_x in _orders(derivatives, 2):
            add(plane, (along_y, along_x), line[along_x][:, j], weights[along_y, 1, j])
    for k in range(width):
        for order in _orders(derivatives):
            add(total, order, plane[order[1:]][k], weights[order[0], 0, k])
    return total
