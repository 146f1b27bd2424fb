"""What a map has and a model, or another map, has not."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn, rfftn
from scipy.ndimage import binary_closing, distance_transform_edt

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, GridError, MapModelMismatchError
from cryonb.grid import Grid, box_text
from cryonb.process.checks import require_density
from cryonb.process.contour import contour_level
from cryonb.process.filter import spatial_frequency
from cryonb.process.half_maps import HalfMaps
from cryonb.process.level import noise_statistics
from cryonb.process.mask import contour_mask, model_mask
from cryonb.process.resample import resample
from cryonb.volume import Volume

__all__ = ["difference", "measured_part"]

# Fewest Fourier terms of a resolution shell.
_LEAST = 60
# Soft edge at the border of what a zoned map holds, in voxels.
_BORDER = 2.0


def difference(
    volume, other, *, resolution: float | None = None, half_maps=None, mask: Volume | None = None,
    radius: float = 5.0, soft_edge: float = 3.0, flatten: bool | None = None, grid=None,
) -> Volume:  # fmt: skip
    """Subtract a model's map, or another map, from a map, in units of the noise of the difference.

    Parameters
    ----------
    volume : Volume, gemmi.Structure or Atoms
        A map; or a model, where two models are compared.
    other : gemmi.Structure, Atoms or Volume
        What to subtract. Of a structure waters, ligands and all alternative locations count.
    resolution : float, optional
        Å; that which a `DensityMap` knows by default. Finer terms are left out.
    half_maps : tuple of Volume, optional
        The two halves, on the grid of the map: terms are weighted by the signal that the
        difference has over the noise at their resolution.
    mask : Volume, optional
        Weights, 0 to 1, of where the maps are compared. By default what is near the model, or,
        between maps, what is near density of either.
    radius, soft_edge : float
        Å; of the default mask around a model. What is farther from the model is not looked at:
        take a larger radius to find a missing domain.
    flatten : bool, optional
        Whether to bring the signal to the same power at all resolutions, which sharpens. By default
        where half maps are given.
    grid : Grid, optional
        Where two models are compared; by default a box around both, on a third of the resolution.

    Returns
    -------
    Volume
        Of the class of `volume`, in standard deviations (1.4826 times the median absolute
        deviation, which the peaks themselves do not raise) within the mask; zero outside.

    Raises
    ------
    CryonbError
        If no resolution is known, the half maps are not two on the map's grid, or nothing is left
        within the mask.
    MapModelMismatchError
        If the model is not where the map is, or two models do not overlap.

    Notes
    -----
    Both maps are multiplied by one soft mask and transformed. In each resolution shell the model's
    terms are scaled by D = Re Σ F Fm* / Σ |Fm|², another map's by the ratio of the two powers;
    between the middles of the shells the scale goes linearly, so neither space nor frequency has a
    seam. With half maps the difference F - D Fm is multiplied by S / (S + N), where N is the power
    of the noise in the shell and S = <|F - D Fm|²> - N that of the signal in the difference
    (Yamashita, Palmer, Burnley and Murshudov, Acta Cryst. D77, 1282 (2021)). N comes from the
    halves relative to their own power, so that the map may have been sharpened.
    """
    if not isinstance(volume, Volume):
        volume = _model_map(volume, other, resolution, grid)
    for one in (volume, *([other] if isinstance(other, Volume) else ())):
        require_density(one)
    d = resolution if resolution is not None else getattr(volume, "resolution", None)
    if d is None or not d > 0:
        raise CryonbError(
            f"The resolution of the map in Å was expected for a difference, but it is {d}; give "
            "resolution=."
        )
    d = max(float(d), 2 * max(volume.voxel_size))
    between_maps = isinstance(other, Volume)
    weights = measured_part(volume)
    if between_maps:
        subtracted = (
            other if other.grid.is_close(volume.grid) else resample(other, grid=volume.grid)
        )
        weights = weights * measured_part(subtracted)
    else:
        from cryonb.simulate.fourier import fourier_map

        atoms = _all_atoms(other)
    if mask is not None:
        same = mask.grid.is_close(volume.grid)
        weights = weights * (mask if same else resample(mask, grid=volume.grid)).values
    elif between_maps:
        weights = weights * np.maximum(_near_density(volume), _near_density(subtracted))
    else:
        near = model_mask(atoms, volume.grid, radius=radius, soft_edge=soft_edge)
        weights = weights * near.values
    weights = weights.astype(np.float32)
    inside = weights > 0.5
    if inside.sum() < 1000:
        raise CryonbError(
            f"Density to compare was expected within the mask, but only {inside.sum()} voxels lie "
            "there; check that both are in the same frame, or give a larger radius="
        )
    if not between_maps:
        subtracted = fourier_map(atoms, volume.grid, resolution=d)
    shells = _Shells(volume.grid, d)
    f = shells.terms(volume.values * weights)
    g = shells.terms(subtracted.values * weights)
    scale = shells.mean(np.abs(f) ** 2 if between_maps else (f * g.conj()).real)
    scale = np.maximum(scale, 0) / np.maximum(shells.mean(np.abs(g) ** 2), 1e-30)
    left = f - shells.spread(np.sqrt(scale) if between_maps else scale) * g
    signal = shells.mean(np.abs(f) ** 2)
    if half_maps is not None:
        noise = signal * _noise_share(half_maps, volume, weights, shells)
        found = np.maximum(shells.mean(np.abs(left) ** 2) - noise, 0)
        left *= shells.spread(found / np.maximum(found + noise, 1e-30))
        signal = np.maximum(signal - noise, 0.01 * signal)
    if flatten or (flatten is None and half_maps is not None):
        left /= np.sqrt(np.maximum(shells.spread(signal), 1e-30))
    values = shells.back(left)
    middle = np.median(values[inside])
    sigma = 1.4826 * np.median(np.abs(values[inside] - middle))
    if not sigma > 0:
        raise CryonbError(
            "Two different densities were expected, but nothing is left of their difference."
        )
    result = volume.replace(
        ((values - middle) / sigma * weights).astype(np.float32),
        note=f"difference at {d:.3g} Å in standard deviations",
    )
    if hasattr(result, "contour"):
        result.contour = 3.0  # the map's own was in other units
    return result


def measured_part(volume: Volume) -> np.ndarray:
    """Tell what a map holds that was set to zero around the molecule: weights, 0 to 1.

    One everywhere in a map of which less than 30 % is zero. Else zero where the map is, with a soft
    edge of two voxels on the inside. Where negative density was clipped, gaps of up to six voxels
    do not count.
    """
    if noise_statistics(volume.values) is not None:
        return np.ones(volume.shape, dtype=np.float32)
    part = volume.values != 0
    if not volume.min < 0:
        part = binary_closing(np.pad(part, 3), iterations=3)[3:-3, 3:-3, 3:-3]
    if part.all():
        return np.ones(volume.shape, dtype=np.float32)
    # Beyond the faces of the box the map may go on: they are no border.
    t = np.clip(distance_transform_edt(part) / (_BORDER + 1), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * t)).astype(np.float32)


def _all_atoms(model) -> Atoms:
    return Atoms.from_structure(model, waters=True, altlocs=True)


def _model_map(model, other, resolution, grid) -> Volume:
    """Simulate the first of two models."""
    from cryonb.simulate.fourier import fourier_map

    if isinstance(other, Volume):
        raise CryonbError(
            "A map and then a model were expected for a difference, but they were given the other "
            "way round; use difference(map, model)."
        )
    if resolution is None:
        raise CryonbError("Comparing two models needs a resolution; give resolution= in Å.")
    one, two = _all_atoms(model), _all_atoms(other)
    if (one.lower > two.upper).any() or (two.lower > one.upper).any():
        raise MapModelMismatchError(
            "Two models in one place were expected, but one's box is "
            f"{box_text(one.lower, one.upper)}, the other's {box_text(two.lower, two.upper)}; "
            "superpose them first."
        )
    if grid is None:
        both = np.concatenate([one.position, two.position])
        grid = Grid.around(both, resolution / 3, 10.0)
    return fourier_map(one, grid, resolution=resolution)


def _near_density(volume: Volume) -> np.ndarray:
    level = contour_level(volume).level
    return contour_mask(volume, level, radius=3.0, soft_edge=3.0).values


class _Shells:
    """Terms of a transform up to a resolution, in shells; the box is padded to a fast size."""

    def __init__(self, grid: Grid, resolution: float):
        from scipy.fft import next_fast_len

        self._shape = grid.shape
        self._size = tuple(next_fast_len(n + 2, real=True) for n in grid.shape)
        s = spatial_frequency(self._size, grid.voxel_size)
        self._kept = s <= 1 / resolution
        self._kept[0, 0, 0] = False
        self._s = s[self._kept]
        # Equal steps of frequency, the coarsest ones joined until each shell has enough terms.
        count = max(int(max(grid.extent) / resolution), 5)
        number = np.minimum((self._s * resolution * count).astype(int), count - 1)
        joined, shell, terms = [], 0, 0
        for n in np.bincount(number, minlength=count):
            joined.append(shell)
            terms += n
            if terms >= _LEAST:
                shell, terms = shell + 1, 0
        self._number = np.minimum(joined, max(shell - 1, 0))[number]
        self._count = np.maximum(np.bincount(self._number), 1)
        self._middle = np.bincount(self._number, self._s) / self._count

    def terms(self, values: np.ndarray) -> np.ndarray:
        """Transform, and take the terms up to the resolution."""
        return rfftn(values, s=self._size, workers=-1)[self._kept]

    def back(self, terms: np.ndarray) -> np.ndarray:
        """Make the map of the terms."""
        full = np.zeros(self._kept.shape, dtype=np.complex64)
        full[self._kept] = terms
        values = irfftn(full, s=self._size, workers=-1)
        return values[tuple(slice(n) for n in self._shape)]

    def mean(self, of_terms: np.ndarray) -> np.ndarray:
        """Mean of a real number over each shell."""
        return np.bincount(self._number, of_terms.astype(np.float64)) / self._count

    def spread(self, of_shells: np.ndarray) -> np.ndarray:
        """Give each term what its shell has, linearly between the middles of the shells."""
        return np.interp(self._s, self._middle, of_shells).astype(np.float32)


def _noise_share(half_maps, volume: Volume, weights, shells: _Shells) -> np.ndarray:
    """Power of the noise over that of the mean of two halves, by shell."""
    try:
        a, b = half_maps
        fits = a.grid.is_close(volume.grid) and b.grid.is_close(volume.grid)
    except (TypeError, ValueError, AttributeError) as error:
        raise CryonbError("Two half maps were expected: half_maps=(first, second).") from error
    if not fits:
        raise GridError(
            f"Half maps on the grid of the map ({volume.grid.describe_box()}) were expected, but "
            f"theirs are {a.grid.describe_box()} and {b.grid.describe_box()}; resample them first."
        )
    one, two = (shells.terms(half.values * weights) for half in HalfMaps(a, b))
    total = shells.mean(np.abs(one + two) ** 2)
    return np.clip(shells.mean(np.abs(one - two) ** 2) / np.maximum(total, 1e-30), 0, 1)
