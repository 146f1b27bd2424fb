"""All rotations and translations of a model on a coarse grid, by Fourier transforms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import next_fast_len
from scipy.spatial.transform import Rotation
from tqdm.auto import tqdm

from cryonb.volume import Volume

__all__ = ["Candidates", "search", "spread_rotations"]

# Rotations whose maps are transformed at once.
_BATCH = 8
#: Places that each rotation may bring forward, by each of the two scores.
_EACH = 2


@dataclass(frozen=True)
class Candidates:
    """Placements that a search found, the best first.

    Attributes
    ----------
    rotation : ndarray, shape (n, 3, 3)
        About the middle of the model.
    middle : ndarray, shape (n, 3)
        Where the middle of the model comes to lie, (x, y, z) in Å.
    score : ndarray, shape (n,)
        In standard deviations over all rotations.
    """

    rotation: np.ndarray
    middle: np.ndarray
    score: np.ndarray

    def apart(self, points: np.ndarray, distance: float, most: int) -> Candidates:
        """Keep the best of those that put the model in nearly the same place.

        Parameters
        ----------
        points : ndarray, shape (p, 3)
            Some points of the model, from its middle.
        distance : float
            Root mean square distance in Å below which two placements are one.
        most : int
            How many to keep.
        """
        kept, placed = [], np.empty((0, len(points), 3))
        for row in range(len(self.score)):
            here = points @ self.rotation[row].T + self.middle[row]
            near = ((placed - here) ** 2).sum(axis=2).mean(axis=1) < distance**2
            if not near.any():
                kept.append(row)
                placed = np.concatenate([placed, here[None]])
                if len(kept) == most:
                    break
        return Candidates(self.rotation[kept], self.middle[kept], self.score[kept])


def spread_rotations(step: float) -> np.ndarray:
    """Give rotations that cover all orientations evenly.

    Parameters
    ----------
    step : float
        Degrees between neighbours, about.

    Returns
    -------
    ndarray, shape (n, 3, 3)

    References
    ----------
    M. Alexa, Super-Fibonacci spirals: fast, low-discrepancy sampling of SO(3), CVPR 2022.
    """
    # All rotations fill 8π²; a cube of the step's edge is each one's share.
    n = max(int(np.ceil(8 * np.pi**2 / np.radians(step) ** 3)), 1)
    s = np.arange(n) + 0.5
    inner, outer = np.sqrt(s / n), np.sqrt(1 - s / n)
    # The two irrational steps of the paper: √2, and the root of ψ⁴ = ψ + 4.
    alpha = 2 * np.pi * s / np.sqrt(2)
    beta = 2 * np.pi * s / 1.533751168755204
    quaternion = np.stack(
        [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)],
        axis=1,
    )
    return Rotation.from_quat(quaternion).as_matrix()


def search(
    target: Volume, points: np.ndarray, weight: np.ndarray, *, sigma: float, step: float,
    progress: bool = True,
) -> Candidates:  # fmt: skip
    """Try all rotations and translations.

    Parameters
    ----------
    target : Volume
        A coarse map, zero where there is nothing.
    points : ndarray, shape (n, 3)
        Atoms, from the middle of the model.
    weight : ndarray, shape (n,)
        What they count.
    sigma : float
        Width of the Gaussian on each atom, in Å.
    step : float
        Degrees between rotations.
    progress : bool
        Show a bar.

    Returns
    -------
    Candidates

    Notes
    -----
    Two scores bring candidates forward: the correlation of the densities, which finds the outline,
    and that of their Laplacians, which finds what is inside (Chacón and Wriggers, J. Mol. Biol.
    317, 375 (2002)).
    """
    import torch

    radius = np.linalg.norm(points, axis=1).max() + 2 * sigma
    voxel = np.array(target.voxel_size[::-1])
    # Room for a model at the border, which must not come in again on the other side.
    shape = tuple(
        next_fast_len(int(n + np.ceil(radius / v)), real=True)
        for n, v in zip(target.shape, voxel, strict=True)
    )
    axes = [np.fft.fftfreq(n, v) for n, v in zip(shape[:2], voxel, strict=False)]
    axes.append(np.fft.rfftfreq(shape[2], voxel[2]))
    s2 = sum(np.ix_(*(f**2 for f in axes)))
    # Atoms are put on the grid by linear interpolation, whose own blur is taken back.
    z, y, x = np.ix_(*(np.sinc(f * v) ** 2 for f, v in zip(axes, voxel, strict=True)))
    transfer = np.exp(-2 * np.pi**2 * sigma**2 * s2) / (z * y * x)
    wanted = torch.fft.rfftn(torch.from_numpy(target.values.astype(np.float32)), s=shape)
    filters = [
        wanted * torch.from_numpy(part.astype(np.float32)) for part in (transfer, transfer * s2**2)
    ]
    # Only where the middle of the model lies within the map.
    outside = torch.ones(shape, dtype=torch.bool)
    outside[tuple(slice(0, n) for n in target.shape)] = False
    rotations = spread_rotations(step)
    # Filled in place: small results kept between the large ones of each turn would pin these.
    best = np.empty((2, len(rotations), _EACH), dtype=np.float32)
    place = np.empty(best.shape, dtype=np.int64)
    index_of = target.grid.to_index(points) - target.grid.to_index(np.zeros((1, 3)))
    bar = tqdm(range(0, len(rotations), _BATCH), desc="rotations", disable=not progress)
    for first in bar:
        part = rotations[first : first + _BATCH]
        maps = torch.from_numpy(_put(index_of, weight, part, voxel, shape))
        transformed = torch.fft.rfftn(maps, dim=(1, 2, 3)).conj()
        for k, scores in enumerate(filters):
            score = torch.fft.irfftn(transformed * scores, s=shape, dim=(1, 2, 3))
            score[:, outside] = -np.inf
            top, where = score.reshape(len(part), -1).topk(_EACH)
            best[k, first : first + len(part)] = top
            place[k, first : first + len(part)] = where
    spread = np.maximum(best.std(axis=(1, 2), keepdims=True), 1e-9)
    score = ((best - best.mean(axis=(1, 2), keepdims=True)) / spread).ravel()
    middle = target.grid.to_points(np.stack(np.unravel_index(place.ravel(), shape), axis=1))
    rotation = np.tile(np.repeat(rotations, _EACH, axis=0), (2, 1, 1))
    order = np.argsort(-score, kind="stable")
    return Candidates(rotation[order], middle[order], score[order])


def _put(index, weight, rotations, voxel, shape) -> np.ndarray:
    """Put rotated points on grids around voxel (0, 0, 0), which wrap: float32, (r, z, y, x)."""
    # Rotations act on (x, y, z) in Å; the same in voxels of (z, y, x).
    turned = rotations[:, ::-1, ::-1] * (voxel[None, None, :] / voxel[None, :, None])
    place = np.einsum("rij,nj->rni", turned, index)
    low = np.floor(place).astype(np.int64)
    share = place - low
    total = np.zeros(len(rotations) * np.prod(shape))
    row = np.arange(len(rotations))[:, None] * np.prod(shape)
    for corner in np.ndindex(2, 2, 2):
        at = (low + corner) % shape
        flat = row + np.ravel_multi_index(tuple(np.moveaxis(at, -1, 0)), shape)
        part = np.prod(np.where(corner, share, 1 - share), axis=-1) * weight
        total += np.bincount(flat.ravel(), part.ravel(), len(total))
    return total.reshape(len(rotations), *shape).astype(np.float32)
