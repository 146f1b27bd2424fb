"""Put values on another grid: cubic spline, linear, Fourier or nearest.

Resampling onto an orthogonal grid is separable, so each method is one small matrix an axis, and
the work is matrix products. A cubic or linear matrix is banded to within float32, and only its
band is multiplied. One slab of z is finished at a time: besides input and output only that slab
is held.
"""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError, GridError
from cryonb.grid import Grid
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

__all__ = ["on_voxels_of", "resample"]

_METHODS = ("cubic", "linear", "fourier", "nearest")
# Output planes that are worked on at a time.
_SLAB = 32
# A matrix with a larger share of weights that matter is multiplied whole.
_DENSE = 0.5
# Weights below this part of the largest one are lost in float32 anyway.
_NEGLIGIBLE = 1e-8
# A target centre this far (in source voxels) beyond the last centre is rounding, not outside.
_SLACK = 1e-5
# Half width of the low-pass edge, as a part of the Nyquist limit.
_TAPER = 0.1
_MOST_VOXELS = 2**32


def resample(
    volume: Volume,
    voxel_size=None,
    *,
    method: str | None = None,
    grid: Grid | None = None,
    antialias: bool = True,
    fill: float = 0.0,
) -> Volume:
    """Put a volume on a grid of another spacing, or on any other orthogonal grid.

    Parameters
    ----------
    volume : Volume, LabelVolume or ProbabilityVolume
        What to resample; it is not changed.
    voxel_size : float or tuple of float, optional
        New spacing along (x, y, z) in Å. The origin is kept and the last voxel centre is not
        beyond the last one of the input (`Grid.with_voxel_size`).
    method : {"cubic", "linear", "fourier", "nearest"}, optional
        By default what suits the kind of volume: cubic for densities, linear for probabilities
        (they stay within 0 to 1), nearest for labels. Probabilities can also be resampled to
        nearest; labels to nothing else.

        * "cubic": the interpolating cubic B-spline through the voxel values, which goes on past
          the faces of the box as in a mirror.
        * "linear": trilinear interpolation, as ChimeraX and EMAN2 do.
        * "fourier": trigonometric interpolation, for any ratio of spacings; the same as cropping
          or padding the transform where that is possible. It takes the box to be periodic: a map
          whose density does not fade out at the faces must be padded first (`pad`), or it rings.
    grid : Grid, optional
        The target grid, instead of `voxel_size`.
    antialias : bool
        Whether, along an axis on which the target is coarser, details finer than it can hold are
        taken out first, so that they do not come back as false coarse ones: frequencies above the
        target's Nyquist limit, by a soft edge (from 0.9 to 1.1 of it) for "cubic" and a sharp one
        for "fourier". With False the values are those of the plain interpolant at the target
        centres. "linear" and "nearest" always are plain.
    fill : float
        Density of target voxels outside the input's voxel centres. Labels are 0 there, and
        probabilities 1 for the class "background".

    Returns
    -------
    Volume
        Of the class of `volume`, with its metadata; probabilities keep their storage type.

    Raises
    ------
    GridError
        If neither or both of `voxel_size` and `grid` are given, or the target is absurdly large.
    CryonbError
        If the method is unknown or does not suit the kind of volume, or values are not finite.
    """
    if (voxel_size is None) == (grid is None):
        raise GridError(
            "Resampling needs either a voxel size or a grid, but "
            f"{'neither was' if grid is None else 'both were'} given."
        )
    source = volume.grid
    if grid is None:
        # Checked by itself first, so that the message is about the spacing.
        grid = source.with_voxel_size(Grid((1, 1, 1), voxel_size).voxel_size)
    target = grid
    method = _choose_method(volume, method)
    if target.n_voxels > _MOST_VOXELS:
        raise GridError(
            f"The resampled map would have {target.n_voxels:.3g} voxels, more than {_MOST_VOXELS}; "
            "use a larger voxel size or crop the map first."
        )
    size = " × ".join(f"{v:.4g}" for v in dict.fromkeys(target.voxel_size))
    note = f"resampled to {size} Å ({method})"
    if target.is_close(source, tolerance=1e-6):
        return volume.replace(grid=target, note=note)

    # Fractional source index of every target centre, one array an axis (z, y, x).
    positions = [
        (start + step * np.arange(n, dtype=np.float64) - start_0) / step_0
        for start, step, n, start_0, step_0 in zip(
            target.origin[::-1],
            target.voxel_size[::-1],
            target.shape,
            source.origin[::-1],
            source.voxel_size[::-1],
            strict=True,
        )
    ]
    if method == "nearest":
        values = _nearest(volume, positions, target.shape, fill)
        return volume.replace(values, target, note=note)

    matrices = [
        _axis_matrix(n, position, step / step_0, method, antialias)
        for n, position, step, step_0 in zip(
            source.shape, positions, target.voxel_size[::-1], source.voxel_size[::-1], strict=True
        )
    ]
    inside = [_inside(p, n) for p, n in zip(positions, source.shape, strict=True)]
    if isinstance(volume, ProbabilityVolume):
        values = np.empty((len(volume.classes), *target.shape), dtype=volume.values.dtype)
        for name, old, new in zip(volume.classes, volume.values, values, strict=True):
            _apply(matrices, old, new, limits=(0.0, 1.0))
            _fill_outside(new, inside, float(name == "background"))
    else:
        values = np.empty(target.shape, dtype=np.float32)
        _apply(matrices, volume.values, values)
        _fill_outside(values, inside, fill)
    return volume.replace(values, target, note=note)


def _choose_method(volume: Volume, method: str | None) -> str:
    if isinstance(volume, LabelVolume):
        allowed = ("nearest",)
    elif isinstance(volume, ProbabilityVolume):
        allowed = ("linear", "nearest")
    else:
        allowed = _METHODS
    if method is None:
        return allowed[0]
    if method not in allowed:
        raise CryonbError(
            f"The resampling method of a {type(volume).__name__} is one of "
            f"{', '.join(allowed)}, but {method!r} was asked."
        )
    return method


# ---- one matrix an axis ------------------------------------------------------------------------


def _axis_matrix(n: int, position: np.ndarray, ratio: float, method: str, antialias: bool):
    """Weights of n input values in the value at each position: float32, (len(position), n)."""
    # Rounding may put the last centre just past the end; what is truly outside is filled later.
    position = np.clip(position, 0.0, n - 1.0)
    coarser = ratio > 1 + 1e-6 and antialias
    if method == "fourier":
        matrix = _fourier_matrix(n, position, ratio if coarser else 1.0)
    elif method == "linear":
        matrix = _basis(n, position, degree=1).toarray()
    else:
        matrix = _prefilter(_basis(n, position).toarray())
        if coarser and n > 1:
            matrix = matrix @ _low_pass(n, ratio)
    return matrix.astype(np.float32)


def _basis(n: int, position: np.ndarray, degree: int = 3):
    """Values of n B-splines, mirrored at both ends, at the positions: sparse (position, n)."""
    from scipy.sparse import csr_array

    first = np.floor(position)
    t = position - first
    if degree == 1:
        weights, offset = np.stack([1 - t, t]), np.arange(2)
    else:
        s = 1 - t
        weights = np.stack([s**3, 4 - 6 * t**2 + 3 * t**3, 4 - 6 * s**2 + 3 * s**3, t**3]) / 6
        offset = np.arange(-1, 3)
    column = _mirror(first.astype(np.int64) + offset[:, None], n)
    row = np.broadcast_to(np.arange(len(position)), column.shape)
    # Entries that fold onto the same column are summed.
    return csr_array((weights.ravel(), (row.ravel(), column.ravel())), shape=(len(position), n))


def _mirror(index: np.ndarray, n: int) -> np.ndarray:
    """Fold indices into 0..n-1 by reflection at the first and the last centre."""
    if n == 1:
        return np.zeros_like(index)
    index = np.mod(index, 2 * (n - 1))
    return np.minimum(index, 2 * (n - 1) - index)


def _prefilter(matrix: np.ndarray) -> np.ndarray:
    """Turn weights of spline coefficients into weights of values: matrix @ inverse(spline)."""
    from scipy.linalg import solve_banded

    n = matrix.shape[1]
    if n == 1:
        return matrix
    # The values of mirrored cubic B-splines at the centres, transposed, in banded storage.
    band = np.empty((3, n))
    band[0], band[1], band[2] = 1 / 6, 4 / 6, 1 / 6
    band[2, 0] = 2 / 6
    band[0, n - 1] = 2 / 6
    return solve_banded((1, 1), band, matrix.T, check_finite=False).T


def _low_pass(n: int, ratio: float) -> np.ndarray:
    """Matrix (n, n) that takes out what a spacing `ratio` as wide cannot hold.

    A cosine transform, since the values go on as in a mirror. Its weights fall from 1 to 0 as half
    a cosine wave about the coarse Nyquist limit: a sharp step would ring farther.
    """
    k = np.arange(n)
    waves = np.cos(np.pi / (n - 1) * np.outer(k, k))
    # Ends count half in the transform of mirrored values (DCT-I), forward and back.
    ends = np.where((k == 0) | (k == n - 1), 0.5, 1.0)
    frequency = k * ratio / (n - 1)  # 1 is the coarse limit
    t = np.clip((frequency - 1 + _TAPER) / (2 * _TAPER), 0, 1)
    keep = 0.5 + 0.5 * np.cos(np.pi * t)
    return (waves * (ends * keep)) @ (waves.T * ends) * 2 / (n - 1)


def _fourier_matrix(n: int, position: np.ndarray, ratio: float) -> np.ndarray:
    """Trigonometric interpolation with the frequencies that a spacing `ratio` as wide can hold."""
    highest = int(np.floor(n / 2 / ratio + 1e-9))
    k = np.arange(highest + 1)
    weight = np.where(k == 0, 1.0, 2.0)
    if 2 * highest == n:
        weight[-1] = 1.0  # the input's own Nyquist term stands for both signs
    out = 2 * np.pi / n * np.outer(position, k)
    into = 2 * np.pi / n * np.outer(np.arange(n), k)
    return (np.cos(out) * weight @ np.cos(into).T + np.sin(out) * weight @ np.sin(into).T) / n


# ---- products ----------------------------------------------------------------------------------


def _compact(matrix: np.ndarray):
    """Keep the band of a matrix that has one, as a sparse array.

    A threaded BLAS waits in each product where other programs keep the cores busy; the product of
    a sparse array does not, and has ten times less to do.
    """
    from scipy.sparse import csr_array

    size = np.abs(matrix)
    matters = size > _NEGLIGIBLE * size.max()
    if matters.mean() > _DENSE:
        return matrix
    return csr_array(np.where(matters, matrix, np.float32(0)))


def _slabs(matrix: np.ndarray):
    """Cut a matrix into blocks of rows: (rows, columns that matter, weights)."""
    matters = np.abs(matrix) > _NEGLIGIBLE * np.abs(matrix).max()
    for first in range(0, len(matrix), _SLAB):
        rows = slice(first, min(first + _SLAB, len(matrix)))
        used = np.flatnonzero(matters[rows].any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        yield rows, columns, _compact(matrix[rows, columns])


def _apply(matrices, values: np.ndarray, out: np.ndarray, limits=None) -> None:
    """Multiply each axis of `values` with its matrix, into `out`, a slab of z at a time."""
    along_y, along_x = _compact(matrices[1]), _compact(matrices[2])
    for z_out, z_in, weights in _slabs(matrices[0]):
        rows = np.ascontiguousarray(values[z_in], dtype=np.float32)
        slab = weights @ rows.reshape(len(rows), -1)
        # Each product takes the last axis and puts the new one first, so that it is one large
        # product: (z, y, x) -> (new x, z, y) -> (new y, new x, z).
        slab = along_x @ np.ascontiguousarray(slab.reshape(-1, values.shape[2]).T)
        slab = along_y @ np.ascontiguousarray(slab.reshape(-1, values.shape[1]).T)
        if not np.isfinite(slab.sum(dtype=np.float64)):
            raise CryonbError(
                "Resampling expects finite values, but the volume holds NaN or infinite ones; "
                "replace them first, for example with numpy.nan_to_num."
            )
        if limits is not None:
            np.clip(slab, *limits, out=slab)
        out[z_out] = slab.reshape(*out.shape[1:], -1).transpose(2, 0, 1)


# ---- nearest, and what lies outside --------------------------------------------------------------


def _inside(position: np.ndarray, n: int) -> np.ndarray:
    return (position >= -_SLACK) & (position <= n - 1 + _SLACK)


def _fill_outside(values: np.ndarray, inside, fill: float) -> None:
    """Set the voxels whose centre is outside along any axis, in place."""
    for axis, keep in enumerate(inside):
        if not keep.all():
            np.moveaxis(values, axis, 0)[~keep] = fill


def _nearest(volume: Volume, positions, shape, fill: float) -> np.ndarray:
    """Take the nearest voxel; half way, the one with the lower index."""
    source = volume.grid.shape
    index = [
        np.clip(np.ceil(p - 0.5 - _SLACK).astype(np.int64), 0, n - 1)
        for p, n in zip(positions, source, strict=True)
    ]
    inside = [_inside(p, n) for p, n in zip(positions, source, strict=True)]
    chosen = np.ix_(*index)
    if isinstance(volume, ProbabilityVolume):
        values = np.empty((len(volume.classes), *shape), dtype=volume.values.dtype)
        for name, old, new in zip(volume.classes, volume.values, values, strict=True):
            new[...] = old[chosen]
            _fill_outside(new, inside, float(name == "background"))
        return values
    values = volume.values[chosen]
    _fill_outside(values, inside, 0 if isinstance(volume, LabelVolume) else fill)
    return values


def on_voxels_of(volume: Volume, size: float, *, method: str = "cubic") -> Volume:
    """Resample a map to a voxel size in Å, unless it has that already."""
    if np.abs(np.array(volume.voxel_size) - size).max() > 1e-3:
        return resample(volume, size, method=method)
    return volume
