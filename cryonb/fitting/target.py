"""How well a model's map agrees with a map, differentiably: by correlation, and by likelihood."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError
from cryonb.process.filter import spatial_frequency
from cryonb.process.mask import model_mask
from cryonb.simulate.shells import image_radius, quadrature_profiles, shell_density
from cryonb.volume import Volume

__all__ = ["LEAST", "Correlation", "Likelihood"]

#: Voxels within the resolution of an atom are compared, but within these limits in Å.
LEAST, _MOST = 3.0, 10.0
# How far an atom's image is drawn, in resolutions.
_REACH = 2.0
# Beyond so many standard deviations a Gaussian is nothing; how far atoms may go meanwhile, Å.
_SPREADS, _STEP = 3.5, 0.3
# A Gaussian's terms that voxels take for others are smaller by this logarithm.
_ALIAS = 3.0
# The smallest share of what is not explained.
_FLOOR = 1e-6


class _Density:
    """The model's map on a grid, as a function of what its atoms have: fixed for one cycle.

    Where all atoms have one resolution, and voxels are fine enough for it, each is drawn as a
    Gaussian wide enough for the voxels, and Fourier terms do the rest: they cut at the resolution
    and take the width back. Otherwise images are drawn, ripples and all.
    """

    def __init__(self, run, volume: Volume, resolution: float):
        import torch

        state = run.state
        self._run, self._grid, self._around = run, volume.grid, state.position
        # A coarser map than the model's is compared with a coarser model.
        self._least = resolution if resolution > state.resolution.max() else 0.0
        d = np.maximum(state.resolution, self._least)
        self._transfer = None
        # Terms from here on show up among those that are wanted.
        finest = 1 / max(volume.voxel_size) - 1 / d.min()
        room = finest**2 - 1 / d.min() ** 2
        if np.ptp(d) > 0 or finest < 1.3 / d.min() or run.varies_resolution:
            self._radius = image_radius(d, state.b, reach=_REACH)
            return
        least = state.b.min()
        self._add = max(4 * _ALIAS / room - least, 0.0)
        s = spatial_frequency(volume.shape, volume.voxel_size).astype(np.float64)
        kept = s <= 1 / d[0]
        self._transfer = run.tensor(np.where(kept, np.exp(self._add * (s * kept) ** 2 / 4), 0.0))
        spread = np.sqrt((state.b + self._add + 25.0) / (8 * np.pi**2))
        self._radius = _SPREADS * spread + _STEP
        self._torch = torch

    def __call__(self, now):
        """Give the map as a tensor (z, y, x)."""
        a = self._run.a * now["occupancy"][:, None]
        b = self._run.b + now["b"][:, None]
        d = now["resolution"].clamp(min=self._least)
        profile = quadrature_profiles
        if self._transfer is not None:
            b, profile = b + self._add, _gaussian_profiles
        density = shell_density(
            now["position"], a, b, d, self._grid, radius=self._radius, around=self._around,
            profile=profile,
        )  # fmt: skip
        if self._transfer is None:
            return density
        fft = self._torch.fft
        return fft.irfftn(fft.rfftn(density) * self._transfer, s=density.shape)


def _gaussian_profiles(a, b, resolution, nodes: int):
    """Compute Gaussians on radii of k d / 32, as `quadrature_profiles` does their images."""
    import torch

    r = torch.arange(nodes, dtype=a.dtype, device=a.device) / 32 * resolution[:, None]
    k = 4 * np.pi / b
    total = 0
    for column in range(a.shape[1]):
        height, rate = a[:, column] * k[:, column] ** 1.5, np.pi * k[:, column]
        total = total + height[:, None] * torch.exp(-rate[:, None] * r**2)
    return total


class _Target:
    """A map where it is compared, and which voxels each atom reaches: fixed for one cycle."""

    def __init__(self, run, volume: Volume, resolution: float, soft_edge: float):
        self.density = _Density(run, volume, resolution)
        model = run.atoms.moved_to(run.state.position)
        radius = float(np.clip(resolution, LEAST, _MOST))
        self.mask = model_mask(model, volume.grid, radius=radius, soft_edge=soft_edge).values


class Correlation(_Target):
    """Pearson's correlation over the voxels within the resolution of an atom."""

    def __init__(self, run, volume: Volume, resolution: float):
        import torch

        super().__init__(run, volume, resolution, 0.0)
        inside = np.flatnonzero(self.mask > 0)
        values = volume.values.reshape(-1)[inside].astype(np.float64)
        values -= values.mean()
        _check(values)
        self._map = run.tensor(values / np.linalg.norm(values))
        self._inside = torch.as_tensor(inside, device=run.device)
        # Of a map that has terms up to the resolution, so many numbers are independent.
        self._count = 4 * np.pi / 3 * len(inside) * volume.grid.voxel_volume / resolution**3

    def correlation(self, now):
        """Pearson's correlation of the map with that of a model."""
        values = self.density(now).reshape(-1)[self._inside]
        values = values - values.mean()
        return values @ self._map / values.norm().clamp(min=1e-12)

    def misfit(self, now):
        """Negative logarithm of the likelihood, but for a constant; and the correlation."""
        import torch

        cc = self.correlation(now)
        # cc·|cc|, so that a negative correlation is no good one.
        return 0.5 * self._count * torch.log1p(_FLOOR - cc * cc.abs()), cc


class Likelihood(_Target):
    """The likelihood of the map's Fourier terms, with scale and noise of each shell unknown.

    Parameters
    ----------
    run : Descent
        Its state says where the map is compared.
    volume : Volume
        The map.
    resolution : float
        Finest spacing of the terms, in Å.
    free : bool
        Whether some shells are kept out of `misfit`, for `free_misfit`.

    Notes
    -----
    With noise in the terms of a shell that is Gaussian, of a size that is not known, and a scale
    between map and model that is not known either, the best of both leave n ln(1 - FSC²) as the
    negative logarithm of the likelihood, n the number of independent complex terms and FSC the
    shell's correlation. Shells of which the model explains nothing have no say, and neither has
    how much a map was sharpened or blurred.
    """

    def __init__(self, run, volume: Volume, resolution: float, *, free: bool = False):
        import torch

        soft = max(resolution, LEAST)
        super().__init__(run, volume, resolution, soft)
        self._torch = torch
        self._weights = run.tensor(self.mask)
        s = spatial_frequency(volume.shape, volume.voxel_size).astype(np.float64)
        inside = np.flatnonzero((s > 0).reshape(-1) & (s <= 1 / resolution).reshape(-1))
        # Terms nearer than the inverse of the size of what is masked are not independent.
        volume_inside = float((self.mask**2).sum()) * volume.grid.voxel_volume
        n = int(np.clip(volume_inside ** (1 / 3) / resolution, 4, 24))
        shell = np.minimum((s.reshape(-1)[inside] * resolution * n).astype(int), n - 1)
        # A real map's terms come in pairs, of which rfftn leaves one out, except in two planes.
        half = volume.shape[2]
        column = inside % s.shape[2]
        twice = np.where((column == 0) | (2 * column == half), 1.0, 2.0)
        box = volume.grid.n_voxels * volume.grid.voxel_volume
        count = 0.5 * np.bincount(shell, twice, n) * volume_inside / box
        self._inside = torch.as_tensor(inside, device=run.device)
        self._shell = torch.as_tensor(shell, device=run.device)
        self._twice, self._n = run.tensor(twice), n
        number = np.arange(n)
        kept_out = (number % 6 >= 3) & (number % 6 < 5) if free else np.zeros(n, dtype=bool)
        self._count = run.tensor(np.where(kept_out, 0.0, count))
        self._free_count = run.tensor(np.where(kept_out, count, 0.0))
        values = run.tensor(volume.values)
        _check(volume.values[self.mask > 0])
        self._map = self._terms(values)
        self._map_power = self._by_shell(self._map.abs() ** 2)

    def _terms(self, density):
        weights = self._weights
        density = density - (density * weights).sum() / weights.sum()
        return self._torch.fft.rfftn(density * weights).reshape(-1)[self._inside]

    def _by_shell(self, values):
        total = values.new_zeros(self._n)
        return total.index_add(0, self._shell, self._twice * values)

    def shells(self, now):
        """Fourier shell correlation of the map with that of a model, coarsest shell first."""
        terms = self._terms(self.density(now))
        cross = self._by_shell((terms * self._map.conj()).real)
        power = self._by_shell(terms.abs() ** 2)
        return cross / (power * self._map_power + 1e-24).sqrt()

    def misfit(self, now):
        """Negative logarithm of the likelihood, but for a constant; and the mean correlation."""
        fsc = self.shells(now)
        surprise = self._torch.log1p(_FLOOR - fsc * fsc.abs())
        mean = (self._count * fsc).sum() / self._count.sum()
        return (self._count * surprise).sum(), mean

    def free_misfit(self, now) -> float:
        """What `misfit` is over the shells that were kept out of it."""
        fsc = self.shells(now)
        return float((self._free_count * self._torch.log1p(_FLOOR - fsc * fsc.abs())).sum())


def _check(values) -> None:
    if not np.ptp(values) > 0:
        raise CryonbError(
            "A map that varies near the model was expected, but it is the same everywhere."
        )
