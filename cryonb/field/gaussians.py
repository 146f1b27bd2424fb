"""A map as a sum of many non-negative Gaussians: the voxels, and what densities can be.

Voxels a third of the resolution apart let the finest detail fold over, and no interpolation that
knows the voxels alone can tell it from coarser detail. But a density is a sum of images of atoms,
and none of them is negative: that leaves much less room for what may lie between the voxels.
"""

from __future__ import annotations

import warnings
from copy import copy
from itertools import pairwise, product

import numpy as np
import torch
from scipy.ndimage import convolve1d
from tqdm.auto import tqdm

from cryonb.errors import CryonbError, CryonbWarning
from cryonb.field.protocol import Field, Statistics, check_density
from cryonb.field.spline import SplineField
from cryonb.grid import Grid
from cryonb.process.level import noise_level
from cryonb.volume import Volume

__all__ = ["GaussianField", "fit_gaussians"]

#: Width (standard deviation) of the Gaussians by the resolution. An atom's image in a map of
#: ChimeraX's molmap has 0.225; what is wider than the Gaussians can be made of them.
_WIDTH = 0.18
#: Most widths between neighbours of the lattice, so that Gaussians may be anywhere.
_APART = 1.25
#: Widths beyond which a Gaussian is nothing.
_REACH = 5.0
#: Voxels of a block that is fitted at once, and those around it that it is fitted with.
_BLOCK, _MARGIN = 64, 5
#: Voxels by which the lattice sticks out of the map, whose atoms may lie outside.
_RIM = 2
#: Part of a map that Gaussians may leave before a warning.
_FEW = 0.1
#: Most points of the lattice.
_MOST = 1 << 28


class GaussianField(Field):
    """Non-negative Gaussians on a lattice, and a spline through the rest: see `fit_gaussians`.

    Attributes
    ----------
    weights : ndarray of float32, shape (z, y, x)
        Heights of the Gaussians, on a lattice `oversample` times as fine as the voxels that begins
        `rim` voxels before the first.
    width : float
        Standard deviation of the Gaussians in Å.
    oversample, rim : int
        Of the lattice.
    unexplained : float
        Root mean square of what the Gaussians leave, as a part of that of the map.
    """

    def __init__(
        self, grid: Grid, statistics: Statistics, weights, *, width: float, oversample: int,
        residual: np.ndarray, unexplained: float,
    ):  # fmt: skip
        super().__init__(grid, statistics)
        self.weights, self.width = weights, float(width)
        self.oversample, self.rim = int(oversample), _RIM
        self.unexplained = float(unexplained)
        self._read_as(width, residual)

    def _read_as(self, width: float, residual: np.ndarray | None = None) -> None:
        """Make the spline that is read, of Gaussians of a width and the same integral."""
        grid, narrow = self.grid, np.float32(width / self.width)
        fine = _finer(grid, self.oversample)
        values = _blurred(self.weights, grid, width, self.oversample) / narrow**3
        if residual is not None:
            values += SplineField(Volume._adopt(residual, grid)).on_grid(fine)
        self._fine = SplineField(Volume._adopt(values, fine), degree=5)

    def __repr__(self) -> str:
        return (
            f"<GaussianField of {np.count_nonzero(self.weights)} Gaussians of {self.width:.2f} Å "
            f"over {self.grid.shape} voxels (z, y, x), which leave {self.unexplained:.1%}>"
        )

    def _evaluate(self, points, derivatives):
        return self._fine.evaluate(points, derivatives=derivatives)

    def on_grid(self, grid: Grid) -> np.ndarray:
        """Give the densities at the voxel centres of a grid: float32, (z, y, x), NaN outside."""
        return self._fine.on_grid(grid)

    def deconvolved(self, narrow: float = 0.6) -> GaussianField:
        """Make each Gaussian narrower, of the same integral: a sharper map, and a guess.

        What the Gaussians leave of the map is left out. Noise is sharpened as well as signal.

        Parameters
        ----------
        narrow : float
            Width of the new Gaussians as a part of the old ones', from 0.4, below which the lattice
            shows, to 1.

        Raises
        ------
        CryonbError
            If it is another number.
        """
        if not 0.4 <= narrow <= 1:
            raise CryonbError(f"A part of the width from 0.4 to 1 was expected, not {narrow!r}.")
        made = copy(self)
        made._read_as(self.width * narrow)
        return made


def fit_gaussians(
    volume: Volume, *, resolution: float | None = None, width: float | None = None,
    iterations: int = 60, device: str | None = None, progress: bool = True,
) -> GaussianField:  # fmt: skip
    """Fit non-negative Gaussians on a lattice to a map.

    Accelerated projected gradient descent (FISTA: Beck & Teboulle, SIAM Journal on Imaging Sciences
    2, 183 (2009), started anew where it overshoots) on the squares of what is left at the voxels,
    block by block. The rest goes through a cubic spline, so that the field meets every voxel.

    On maps of ChimeraX's molmap it is several times closer to the truth between voxels than a
    spline, and its peaks are closer to the atoms. A map that ends sharply at its resolution, as
    those of experiments do, has ripples below zero that no Gaussian makes: there a spline is
    closer, and `GaussianField.unexplained` is large.

    Parameters
    ----------
    volume : Volume
        A density; solvent should be about zero.
    resolution : float, optional
        Å; that which a `DensityMap` knows by default.
    width : float, optional
        Standard deviation of the Gaussians in Å; 0.18 times the resolution by default.
    iterations : int
        Steps; more of them leave less to the spline.
    device : str, optional
        Where torch computes.
    progress : bool
        Show a bar.

    Returns
    -------
    GaussianField

    Raises
    ------
    CryonbWarning
        If Gaussians leave more than a tenth of the map.
    CryonbError
        If neither resolution nor width is known, the Gaussians are so narrow that their lattice
        would have more than 2²⁸ points, or the volume is none that can be fitted.
    """
    check_density(volume)
    if width is None:
        if resolution is None:
            resolution = getattr(volume, "resolution", None)
        if resolution is None:
            raise CryonbError(
                "Gaussians are as wide as the resolution says, but the map's is not known; give "
                "resolution= or width=, in Å."
            )
        width = _WIDTH * resolution
    if not width > 0:
        raise CryonbError(f"A positive width in Å was expected, but {width!r} was given.")
    grid = volume.grid
    oversample = max(int(np.ceil(max(grid.voxel_size) / (_APART * width))), 1)
    shape = tuple((n - 1 + 2 * _RIM) * oversample + 1 for n in grid.shape)
    if np.prod(shape, dtype=float) > _MOST:
        raise CryonbError(
            f"A lattice of at most {_MOST:.0e} points was expected, but Gaussians of {width:.2f} Å "
            f"need {np.prod(shape, dtype=float):.0e}; crop the map, or give a larger width=."
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    weights = np.zeros(shape, dtype=np.float32)
    noise = noise_level(volume.values)
    blocks = list(product(*(_blocks(n) for n in grid.shape)))
    for block in tqdm(blocks, desc="Gaussians", disable=not progress, leave=False):
        outer = tuple(
            (max(a - _MARGIN, 0), min(b + _MARGIN, n))
            for (a, b), n in zip(block, grid.shape, strict=True)
        )
        values = volume.values[tuple(slice(*ends) for ends in outer)]
        if values.max() <= noise:
            continue
        found = _fit_block(values, grid.voxel_size, width, oversample, iterations, device)
        source, target = [], []
        for (a, b), (begin, _), n in zip(block, outer, grid.shape, strict=True):
            first = 0 if a == 0 else (a + _RIM) * oversample
            last = (n - 1 + 2 * _RIM) * oversample + 1 if b == n else (b + _RIM) * oversample
            target.append(slice(first, last))
            source.append(slice(first - begin * oversample, last - begin * oversample))
        weights[tuple(target)] = found[tuple(source)]
    at_voxels = _blurred(weights, grid, width, oversample)[(slice(None, None, oversample),) * 3]
    residual = volume.values - at_voxels
    size = float(np.sqrt(np.mean(np.square(volume.values, dtype=np.float64))))
    left = float(np.sqrt(np.mean(np.square(residual, dtype=np.float64))))
    part = left / size if size > 0 else 0.0
    if part > _FEW:
        warnings.warn(
            f"Gaussians of {width:.2f} Å leave {part:.0%} of this map, which they should make up; "
            'a spline (method="cubic") is likely to be closer to it.',
            CryonbWarning,
            stacklevel=2,
        )
    return GaussianField(
        grid, Statistics.of(volume.values), weights, width=width, oversample=oversample,
        residual=residual, unexplained=part,
    )  # fmt: skip


def _finer(grid: Grid, oversample: int) -> Grid:
    """Voxels `oversample` times as fine, from the first centre to the last."""
    shape = tuple((n - 1) * oversample + 1 for n in grid.shape)
    return Grid(shape, tuple(v / oversample for v in grid.voxel_size), grid.origin)


def _blurred(weights: np.ndarray, grid: Grid, width: float, oversample: int) -> np.ndarray:
    """Sum of the Gaussians at the points of the lattice that are inside the map."""
    values = weights
    for axis, voxel in enumerate(grid.voxel_size[::-1]):
        step = voxel / oversample
        n = int(np.ceil(_REACH * width / step))
        kernel = np.exp(-0.5 * (np.arange(-n, n + 1) * step / width) ** 2)
        values = convolve1d(values, kernel, axis=axis, mode="constant")
    rim = _RIM * oversample
    return np.ascontiguousarray(values[(slice(rim, -rim),) * 3])


def _blocks(n: int) -> list[tuple[int, int]]:
    """Cut an axis into blocks of nearly one size."""
    ends = np.linspace(0, n, -(-n // _BLOCK) + 1).round().astype(int).tolist()
    return list(pairwise(ends))


def _fit_block(values, voxel_size, width, oversample, iterations, device) -> np.ndarray:
    """Heights (z, y, x) of the Gaussians of one block and of the lattice's rim around it."""
    target = torch.tensor(values, device=device)
    forward, back, bound = [], [], 1.0
    for n, voxel in zip(values.shape, voxel_size[::-1], strict=True):
        centres = np.arange(n) * voxel
        lattice = (np.arange((n - 1 + 2 * _RIM) * oversample + 1) / oversample - _RIM) * voxel
        matrix = np.exp(-0.5 * ((centres[:, None] - lattice) / width) ** 2)
        bound *= np.linalg.norm(matrix, 2) ** 2
        matrix = torch.from_numpy(matrix.astype(np.float32)).to(device)
        forward.append(matrix)
        back.append(matrix.T.contiguous())
    weights = torch.zeros([len(matrix) for matrix in back], device=device)
    ahead, pace = weights, 1.0
    for _ in range(iterations):
        gradient = _product(back, _product(forward, ahead) - target)
        new = (ahead - gradient / bound).clamp_min_(0)
        change = new - weights
        # Where the momentum leads uphill it is dropped (O'Donoghue & Candès 2015).
        if float(torch.sum((ahead - new) * change)) > 0:
            pace = 1.0
        following = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = torch.add(new, change, alpha=(pace - 1) / following)
        weights, pace = new, following
    return weights.cpu().numpy()


def _product(matrices, values):
    """Multiply each axis of an array by a matrix."""
    for matrix in matrices:
        # Each product takes the first axis and puts the new one last.
        rest = values.shape[1:]
        values = (matrix @ values.reshape(len(values), -1)).T.reshape(*rest, len(matrix))
    return values
