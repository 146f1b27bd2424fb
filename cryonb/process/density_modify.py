"""Density modification: what maps of molecules share improves the Fourier terms of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.fft import irfftn, rfftn
from scipy.ndimage import gaussian_filter1d
from scipy.special import chdtri
from tqdm.auto import tqdm

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.process.checks import require_density
from cryonb.process.filter import spatial_frequency
from cryonb.process.fourier_shells import (
    FourierShells,
    Shells,
    agreed_resolution,
    half_map_fsc,
    same_grid,
)
from cryonb.process.half_maps import HalfMaps
from cryonb.process.map_likelihood import likelihood_slope, molecule_probability
from cryonb.process.mask import contour_mask
from cryonb.volume import Volume

__all__ = ["DensityModification", "density_modify"]

# Radius of the local variance in resolutions: to find the mask, and within a cycle.
_MASK_RADIUS, _CYCLE_RADIUS = 2.0, 1.5
# Shells are evened out by this power of their power, weighted by this power of the FSC, and left
# out from the first one on whose FSC is lower than this.
_WEIGHT, _LEAST = 0.25, 0.05
# Sums over shells are smoothed with a Gaussian of this many shells; of correlation matrices this
# much is added to the diagonal.
_SHELLS, _RIDGE = 1.5, 1e-3
# A shell is modified if chance would give its gain less often than this.
_CHANCE = 0.01
# Shells that correlate less than this with the truth are weighted down; those without any signal
# have this weight, so that nothing is lost.
_LEAST_CORRELATION, _FLOOR = 0.1, 1e-3


@dataclass(frozen=True)
class DensityModification:
    """A map whose Fourier terms were improved, and what was gained.

    Attributes
    ----------
    map : Volume
        The map, of the class of that which was given: of all sums of original and modified
        terms, shell by shell, the one that correlates best with the truth by estimate, with as
        much power as the truth. It is not sharpened, and a contour level is dropped.
    half_maps : HalfMaps
        The same of either half. Their errors are no longer independent, and their FSC is too high:
        judge by `curve`.
    mask : Volume
        Weights from 0 to 1 within which errors were estimated.
    curve : pandas.DataFrame
        A row a shell: s (1/Å), d (Å), n; fsc, that of the original half maps within the mask;
        fsc_before and fsc_after, the estimated correlation with the true map of the original mean
        and of the new map; modified, whether the shell was modified at all; and factor, the
        weight of the original terms. The mean times fsc_before is the map without modification.
    cycles : int
        Of map-probability phasing; fewer than were asked for if they were interrupted.
    """

    map: Volume
    half_maps: HalfMaps
    mask: Volume
    curve: pd.DataFrame
    cycles: int

    @property
    def resolution_before(self) -> float:
        """Å; where the estimated correlation of the original mean with the truth is 0.5."""
        return self._resolution("fsc_before")

    @property
    def resolution_after(self) -> float:
        """Å; where the estimated correlation of the new map with the truth is 0.5."""
        return self._resolution("fsc_after")

    @property
    def gain(self) -> float:
        """Å; by how much the second is finer than the first."""
        return self.resolution_before - self.resolution_after

    def _resolution(self, name: str) -> float:
        return FourierShells(self.curve, "half maps", name).resolution(0.5, curve=name)

    def __repr__(self) -> str:
        return (
            f"<DensityModification: estimated FSC to the truth 0.5 at "
            f"{self.resolution_before:.2f} Å before, {self.resolution_after:.2f} Å after; "
            f"{int(self.curve['modified'].sum())} of {len(self.curve)} shells modified>"
        )


def density_modify(
    volume: Volume, half_maps, *, mask: Volume | None = None, cycles: int = 2,
    progress: bool = True,
) -> DensityModification:  # fmt: skip
    """Improve a map by what maps of molecules have in common.

    Parameters
    ----------
    volume : Volume
        The map, of which only class, name and grid count: the densities are those of the half
        maps, since a map may have been sharpened or masked since.
    half_maps : HalfMaps or pair of Volume
        Of one reconstruction, best neither masked nor filtered nor sharpened.
    mask : Volume, optional
        Weights from 0 to 1 of where the molecule is; found by the local variance by default.
    cycles : int
        Of map-probability phasing. More than two gain little.
    progress : bool
        Show a bar. To interrupt it (KeyboardInterrupt) ends with the cycles that are done.

    Returns
    -------
    DensityModification
        With `.map`, `.half_maps`, `.mask`, `.curve` and `.gain`.

    Raises
    ------
    CryonbError
        If the half maps are flat, not finite, the same, or do not agree even at the coarsest
        shells; the mask is empty; or cycles is not 1 or more.
    GridError
        If map, half maps and mask are not on one grid.

    Notes
    -----
    The recipe is that of Terwilliger, Ludtke, Read, Adams and Afonine 2020 (Nat. Methods 17, 923):
    half maps weighted by FSC and evened out by resolution; molecule and solvent by local variance;
    the slope of the log likelihood of each half map given the histograms of both regions,
    transformed to Fourier terms; and the sum of original and modified terms with weights by shell
    from correlations of half maps. Their program is closed; here it was chosen on purpose

    * to take the histograms from the map itself, in place of those of ideal maps: what is needed
      is the distribution of noisy densities, and the map has it at its own noise and composition;
    * to keep the slope's terms of each cycle beside the original ones, in place of a modified map
      (which is a sum of both, so nothing is lost), and to start the next cycle from the best sum;
    * to find the weights by least squares and not by a model of correlated errors. What was made
      of one half has no part in the noise of the other, so ⟨modified₁ original₂*⟩ is the
      covariance with the truth, whatever the errors of the modification are;
    * to estimate within a soft mask around the molecule (the whole box, where no solvent can be
      told from it), and to use the weights everywhere;
    * to modify a shell only if the half maps show a gain that chance would give in less than one
      case in a hundred. Elsewhere the terms stay the original ones, weighted by √(2 F / (1 + F)),
      F = fsc.

    On simulated half maps of 12 proteins with three levels of noise FSC to the truth of 0.5, near
    the model, moved by 0.15 Å on average (0.00 to 0.37; benchmarks/bench_density_modify.py), and no
    shell fell by more than its error. In the whole box the gain is much larger, since noise in the
    solvent goes; the estimate lies between, because the mask holds a rim of solvent.

    Terms in the corners of the transform, beyond the limit of an axis, are dropped. The weights,
    and the mask, are common to both half maps. Errors that both half maps share (of alignment, or
    from a mask that was applied before) count as truth.
    """
    if not (isinstance(cycles, int | np.integer) and cycles >= 1):
        raise CryonbError(f"One cycle or more was expected, but cycles={cycles!r} was given.")
    halves = half_maps if isinstance(half_maps, HalfMaps) else HalfMaps(*half_maps)
    first, second = halves
    same_grid(volume, first, mask)
    require_density(volume)
    agreed_resolution(half_map_fsc(first, second))
    terms = [rfftn(half.values, workers=-1) for half in halves]
    run = _Run.of(first.grid, terms, mask)
    bar = tqdm(total=2 * cycles, desc="density modification", disable=not progress)
    try:
        for _ in range(cycles):
            run.cycle(bar)
    except KeyboardInterrupt:
        bar.set_description("interrupted")
    bar.close()
    return run.result(volume, halves)


class _Run:
    """Original terms of two halves, those of the cycles, and both within the mask."""

    def __init__(self, grid: Grid, terms: list[np.ndarray], weights: np.ndarray | None):
        self.grid, self.weights = grid, weights
        self.shells = Shells(grid)
        self.s = spatial_frequency(grid.shape, grid.voxel_size)
        share = 1.0 if weights is None else float(np.mean(weights**2))
        #: Independent numbers in a shell, of which a mask leaves its share.
        self.free = np.maximum(self.shells.count * share, 1.0)
        self.terms = [[a] for a in terms]
        self.masked = [[self._within(a)] for a in terms]
        self.current = terms
        #: Root mean square of the terms of each kind by shell, in the mean of both halves.
        self.size = [self._size([masked[0] for masked in self.masked])]
        self.power = self.size[0] ** 2
        self.signal = self._truth()[:, 0]
        self.fsc = np.clip(self.signal / self.power, 0, 1)
        low = np.flatnonzero(self.fsc < _LEAST)
        self.last = max(int(low[0]) if len(low) else len(self.fsc), 2)
        self.d = float(1 / self.shells.s[self.last - 1])
        # A mask lessens the power of all terms alike.
        flat = self.fsc**_WEIGHT / np.sqrt(self.power / share)
        flat[self.last :] = 0
        self.flat = self._spread(flat)
        noise = (self.power - self.signal) / share * flat**2 * self.shells.count
        self.noise = float(np.sqrt(max(noise.sum(), 0.0))) / grid.n_voxels

    @classmethod
    def of(cls, grid: Grid, terms: list[np.ndarray], mask: Volume | None) -> _Run:
        """Start within a mask, which is found first unless it is given."""
        if mask is None:
            whole = cls(grid, terms, None)
            values = whole._density((terms[0] + terms[1]) / 2)
            found = molecule_probability(values, whole.s, _MASK_RADIUS * whole.d)
            probable = Volume._adopt(found, grid, name="molecule")
            mask = contour_mask(probable, 0.5, radius=whole.d, soft_edge=whole.d)
        weights = np.clip(mask.values, 0, 1)
        if not weights.any():
            raise CryonbError(
                "A mask with weights above zero was expected, but all are zero; leave mask= out."
            )
        return cls(grid, terms, weights)

    def cycle(self, bar) -> None:
        """Add the terms of the slope of the log likelihood, and take the best sum."""
        made = []
        for current in self.current:
            values = self._density(current)
            molecule = molecule_probability(values, self.s, _CYCLE_RADIUS * self.d)
            made.append(rfftn(likelihood_slope(values, molecule, self.noise), workers=-1))
            bar.update()
        within = [self._within(terms) for terms in made]
        size = self._size(within)
        # All at once, so that an interruption finds nothing half done.
        for h in (0, 1):
            self.terms[h].append(made[h])
            self.masked[h].append(within[h])
        self.size.append(size)
        weight = self._weights(self._half_matrix())[0]
        self.current = [self._sum(terms, weight) for terms in self.terms]

    def result(self, volume: Volume, halves: HalfMaps) -> DensityModification:
        cycles = len(self.size) - 1
        whole = [(a + b) / 2 for a, b in zip(*self.terms, strict=True)]
        within = [(a + b) / 2 for a, b in zip(*self.masked, strict=True)]
        weight, before, after, modified = self._weights(self._matrix(within))
        half_weight, _, half_after, _ = self._weights(self._half_matrix(), only=modified)
        weight, half_weight = _scaled(weight, after), _scaled(half_weight, half_after)
        note = f"density modified in {cycles} cycles ({int(modified.sum())} shells)"
        mean = _replaced(volume, self._density_of(self._sum(whole, weight)), note)
        new = [
            _replaced(half, self._density_of(self._sum(terms, half_weight)), note)
            for half, terms in zip(halves, self.terms, strict=True)
        ]
        curve = self.shells.table(
            fsc=self.signal / self.power, fsc_before=before, fsc_after=after, modified=modified,
            factor=weight[:, 0],
        )  # fmt: skip
        mask = Volume._adopt(self.weights.astype(np.float32), self.grid, name="mask")
        return DensityModification(mean, type(halves)(*new), mask, curve, cycles)

    def _weights(self, matrix, only: np.ndarray | None = None):
        """Find by shell the weights of the sum nearest to the truth, and what they gain.

        Parameters
        ----------
        matrix : ndarray, shape (shells, k, k)
            Covariances of the terms, the original ones first.
        only : ndarray of bool, optional
            Shells that may be modified; those with a gain beyond chance by default.

        Returns
        -------
        weight : ndarray, shape (shells, k)
        before, after : ndarray
            Correlation with the truth that is estimated of original terms, and of the sum.
        modified : ndarray of bool
        """
        truth = self._truth()
        k = truth.shape[1]
        scale = np.stack(self.size, axis=1)
        unit = matrix / (scale[:, :, None] * scale[:, None, :]) + _RIDGE * np.eye(k)
        weight = np.linalg.solve(unit, (truth / scale)[..., None])[..., 0] / scale
        signal = np.maximum(truth[:, 0], 1e-30 * self.power.max())
        alone = truth[:, 0] / matrix[:, 0, 0]
        old = alone * truth[:, 0]
        new = np.einsum("ni,ni->n", weight, truth)
        if only is None:
            # How much more of the other half's terms the sum explains, in units of what stays
            # unexplained: as chi squared, where there is nothing to gain.
            beyond = self.free * (new - old) / np.maximum(self.power - new, 1e-30)
            limit = chdtri(k - 1, _CHANCE) if k > 1 else np.inf
            only = (beyond > limit) & (truth[:, 0] > 0)
        kept = np.zeros_like(weight)
        kept[:, 0] = np.maximum(alone, 0)
        weight = np.where(only[:, None], weight, kept)
        before = np.sqrt(np.clip(old / signal, 0, 1)) * (truth[:, 0] > 0)
        after = np.where(only, np.sqrt(np.clip(new / signal, 0, 1)), before)
        return weight, before, after, only

    def _truth(self) -> np.ndarray:
        """Covariances of the terms with the truth, (shells, k): those with the other half."""
        first, second = self.masked
        return np.stack(
            [
                self._smooth(
                    (self._cross(a, second[0]) + self._cross(b, first[0])) / 2, size, self.size[0]
                )
                for a, b, size in zip(first, second, self.size, strict=True)
            ],
            axis=1,
        )

    def _half_matrix(self) -> np.ndarray:
        return (self._matrix(self.masked[0]) + self._matrix(self.masked[1])) / 2

    def _matrix(self, terms: list[np.ndarray]) -> np.ndarray:
        k = len(terms)
        made = np.empty((self.shells.n - 1, k, k))
        for i in range(k):
            for j in range(i + 1):
                raw = self._cross(terms[i], terms[j])
                made[:, i, j] = made[:, j, i] = self._smooth(raw, self.size[i], self.size[j])
        return made

    def _cross(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Covariance by shell."""
        a, b = a.ravel(), b.ravel()
        total = self.shells.sums(a.real * b.real + a.imag * b.imag)
        return total / np.maximum(self.shells.count, 1)

    def _smooth(self, covariance: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Smooth a covariance over shells as a correlation, weighted by their terms.

        As a covariance, it would let two kinds of terms that fall differently with resolution
        together follow the signal from shell to shell, which looks like a gain.
        """
        total = self.shells.count * covariance / (a * b)
        count = gaussian_filter1d(self.shells.count, _SHELLS, mode="nearest")
        smooth = gaussian_filter1d(total, _SHELLS, mode="nearest")
        return a * b * smooth / np.maximum(count, 1e-30)

    def _size(self, within: list[np.ndarray]) -> np.ndarray:
        power = sum(self._cross(terms, terms) for terms in within) / 2
        return np.sqrt(np.maximum(power, 1e-30 * power.max()))

    def _within(self, terms: np.ndarray) -> np.ndarray:
        if self.weights is None:
            return terms
        return rfftn(self._density_of(terms) * self.weights, workers=-1)

    def _spread(self, factor: np.ndarray) -> np.ndarray:
        """Interpolate a factor of each shell to all terms."""
        return np.interp(self.s, self.shells.s, factor, right=0.0).astype(np.float32)

    def _sum(self, terms: list[np.ndarray], weight: np.ndarray) -> np.ndarray:
        made = np.zeros_like(terms[0])
        for part, factor in zip(terms, weight.T, strict=True):
            made += part * self._spread(factor)
        return made

    def _density(self, terms: np.ndarray) -> np.ndarray:
        """The map that densities are judged in."""
        return self._density_of(terms * self.flat)

    def _density_of(self, terms: np.ndarray) -> np.ndarray:
        return irfftn(terms, s=self.grid.shape, workers=-1)


def _scaled(weight: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Give the sum of each shell the truth's power, and shells without any a little."""
    made = weight / np.maximum(correlation, _LEAST_CORRELATION)[:, None]
    made[:, 0] = np.where(made.any(axis=1), made[:, 0], _FLOOR)
    return made


def _replaced(volume: Volume, values: np.ndarray, note: str) -> Volume:
    """Give a volume new densities; its contour level was in the old units."""
    made = volume.replace(values.astype(np.float32), note=note)
    if hasattr(made, "contour"):
        made.contour = None
    return made
