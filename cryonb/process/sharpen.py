"""Bring out the detail of a map: give its amplitudes the falloff that shows most.

Amplitudes of an experiment fall with exp(-B s²/4), s = 1/d, beyond what the atoms at rest would
have; a map is sharpened by taking part of that B away. How much is decided by the surface of the
map, by a B that is asked for, by half maps or by a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.fft import irfftn

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import no_overlap
from cryonb.process.falloff import fit_b, known_resolution, shell_power
from cryonb.process.filter import soft_step, spatial_frequency
from cryonb.process.fourier_shells import (
    FourierShells,
    Shells,
    agreed_resolution,
    half_map_fsc,
    same_grid,
    transform,
)
from cryonb.process.local_sharpen import match_falloff, match_model, weight_by_halves
from cryonb.process.surface import molecule_share, surface_and_regions
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

__all__ = ["Sharpening", "sharpen", "sharpening", "transfer"]

_METHODS = ("auto", "surface", "b_iso", "half_maps", "model")
# Search, and the weight of the regions, as cctbx's auto_sharpen has them by default: B after
# sharpening, steps, where the middle of the search lies, the share that bounds of the weight keep
# from each other's, and the weight where none can be found.
_LOWEST, _HIGHEST, _STEPS, _MIDDLE, _BUFFER, _DEFAULT_WEIGHT = -100.0, 300.0, 21, 0.375, 0.1, 40.0
# Beyond the resolution the map is blurred by this much, the change being as steep as this in d;
# finer than this part of the resolution nothing is kept.
_BLUR, _STEEP, _FINEST = 200.0, 10.0, 0.833
# B after sharpening that goes with a resolution: this times d².
_PER_D2 = 5.9
# The FSC of half maps at which a map is cut, and the width of the cut as a part of its frequency.
_CUT, _EDGE = 0.143, 0.1


@dataclass(frozen=True)
class Sharpening:
    """A sharpened map, and how it came to be.

    Attributes
    ----------
    map : Volume
        The map, of the class of that which was given; a contour level is dropped.
    method : {"surface", "b_iso", "half_maps", "model"}
        What decided.
    b_before : float
        Falloff of the map's amplitudes before, in Å².
    b_sharpen : float
        What was taken from it; negative where the map was blurred. By half maps and by model, where
        each shell has a factor of its own, that of the line that fits them best.
    resolution : float
        Å; nothing finer is sharpened.
    curve : pandas.DataFrame
        By "surface" a row a B that was tried: b_sharpen, b_iso, surface, regions, score; the
        highest score won. Otherwise a row a shell: s, d, n, the correlation fsc where there is
        one, and the factor of the amplitudes.
    local : bool
        Whether windows of the map were treated each by itself afterwards.
    """

    map: Volume
    method: str
    b_before: float
    b_sharpen: float
    resolution: float
    curve: pd.DataFrame
    local: bool = False

    @property
    def b_iso(self) -> float:
        """Falloff of the amplitudes after sharpening, in Å²."""
        return self.b_before - self.b_sharpen

    def __repr__(self) -> str:
        where = ", locally" if self.local else ""
        return (
            f"<Sharpening by {self.method}{where}: B {self.b_before:.0f} to {self.b_iso:.0f} Å² "
            f"at {self.resolution:.2f} Å>"
        )


def sharpen(volume: Volume, **options) -> Volume:
    """Sharpen a map: `sharpening(volume, ...).map`; its history names method and B."""
    return sharpening(volume, **options).map


def sharpening(
    volume: Volume, *, method: str = "auto", resolution: float | None = None,
    b_iso: float | None = None, half_maps=None, model=None, mask: Volume | None = None,
    local: bool = False, window: float | None = None,
) -> Sharpening:  # fmt: skip
    """Sharpen a map, and tell how.

    Parameters
    ----------
    volume : Volume
        The map, best the one before anybody sharpened it. With half maps, their mean.
    method : {"auto", "surface", "b_iso", "half_maps", "model"}
        "auto" takes half maps, a model or b_iso if one is given, in this order, and the surface
        otherwise.
    resolution : float, optional
        Å; that which a `DensityMap` knows by default, else the half maps' at FSC 0.143, else an
        estimate (`cryonb.process.falloff.estimate_resolution`).
    b_iso : float, optional
        Falloff that method "b_iso" aims at, in Å²; 5.9 d² by default.
    half_maps : HalfMaps or pair of Volume, optional
        From `nb.half_maps`.
    model : gemmi.Structure or Atoms, optional
        A model in the map's frame.
    mask : Volume, optional
        Weights for the correlation of the half maps; see `half_map_fsc`.
    local : bool
        Whether windows of the map are then treated one by one, so that each has the falloff of the
        whole: by their own B (surface, b_iso), or by correlation with model or half map.
    window : float, optional
        Edge of a window in Å; eight times the resolution, and at least 20 Å, by default.

    Returns
    -------
    Sharpening
        With `.map`, `.b_before`, `.b_sharpen`, `.b_iso` and `.curve`.

    Raises
    ------
    CryonbError
        If the map is flat or not finite, the method is unknown or lacks what it needs, or no B can
        be fitted.
    GridError
        If the half maps are on another grid.
    MapModelMismatchError
        If the model lies outside the map.

    Notes
    -----
    "surface" is the adjusted surface area of Terwilliger et al. 2018 (Acta Cryst. D74, 545) as
    cctbx computes it: at a contour that encloses a fifth of the molecule, surface over volume less
    a weight times the number of pieces; 21 values of B between -100 and 300 Å² are scored, and the
    best is refined by a parabola through its neighbours. Unlike there, B before sharpening is the
    slope of Wilson's plot, not an anisotropic fit of maximum likelihood, and anisotropy stays.

    "half_maps" weights by √(2 FSC / (1 + FSC)), takes away the B of Guinier's plot of the weighted
    amplitudes, and cuts at FSC 0.143 (Rosenthal and Henderson 2003, J. Mol. Biol. 333, 721).

    "model" multiplies each shell by Re Σ F Fc* / Σ |F|², which brings the map as near to the
    model's as a factor a shell can; it knows of the model only by shells.
    """
    if isinstance(volume, LabelVolume | ProbabilityVolume):
        raise CryonbError(f"A density was expected to sharpen, but {volume!r} was given.")
    method = _chosen(method, {"half_maps": half_maps, "model": model, "b_iso": b_iso})
    fsc = None
    if half_maps is not None:
        first, second = half_maps
        same_grid(volume, first, mask)
        fsc = half_map_fsc(first, second, mask=mask)
        if resolution is None and getattr(volume, "resolution", None) is None:
            resolution = agreed_resolution(fsc, threshold=_CUT)
    source = _Source.of(volume, known_resolution(volume, resolution))
    reference = None
    if method == "surface":
        plan = _by_surface(source)
    elif method == "b_iso":
        plan = _to_target(source, _PER_D2 * source.d**2 if b_iso is None else float(b_iso))
    elif method == "half_maps":
        plan = _by_half_maps(source, fsc, weighted=not local)
    else:
        from cryonb.simulate.fourier import fourier_map

        model = Atoms.from_structure(model)
        if not volume.grid.overlap(model.lower, model.upper).all():
            raise no_overlap(volume.grid, model.lower, model.upper)
        reference = fourier_map(model, volume.grid, resolution=source.d, periodic=True)
        plan = _by_model(source, reference)
    values = irfftn(source.terms * plan.factor, s=volume.shape, workers=-1)
    where = " and locally" if local else ""
    words = {"b_iso": "to a target B", "half_maps": "by half maps"}.get(method, f"by {method}")
    note = (
        f"sharpened {words}{where} to {plan.d:.3g} Å: B from {plan.b_before:.0f} to "
        f"{plan.b_before - plan.b_sharpen:.0f} Å²"
    )
    made = volume.replace(values.astype(np.float32), note=note)
    if hasattr(made, "contour"):
        made.contour = None
    if hasattr(made, "resolution"):
        made.resolution = plan.d
    if local:
        width = max(8 * plan.d, 20.0) if window is None else window
        if method == "half_maps":
            made = weight_by_halves(made, (first, second), resolution=plan.d, width=width)
        elif method == "model":
            made = match_model(made, reference, width=width)
        else:
            made = match_falloff(made, resolution=plan.d, width=width)
    return Sharpening(made, method, plan.b_before, plan.b_sharpen, plan.d, plan.curve, local)


def _chosen(method: str, given: dict) -> str:
    """Say which method it is to be."""
    if method not in _METHODS:
        raise CryonbError(
            f"A method of {', '.join(_METHODS)} was expected, but {method!r} was given."
        )
    if method == "auto":
        return next((name for name, value in given.items() if value is not None), "surface")
    if method in ("half_maps", "model") and given[method] is None:
        raise CryonbError(
            f"Sharpening by {method} needs {method}=, but it was not given; give it or take "
            'method="auto".'
        )
    return method


@dataclass(frozen=True)
class _Source:
    """A map's transform, and what is asked of it often."""

    volume: Volume
    d: float
    terms: np.ndarray
    s: np.ndarray
    table: pd.DataFrame

    @classmethod
    def of(cls, volume: Volume, d: float) -> _Source:
        s = spatial_frequency(volume.shape, volume.voxel_size)
        return cls(volume, d, transform(volume), s, shell_power(volume))

    def at_terms(self, factor: np.ndarray) -> np.ndarray:
        """Interpolate a factor of each row of the table to all terms."""
        return np.interp(self.s, self.table["s"], factor).astype(np.float32)


@dataclass(frozen=True)
class _Plan:
    """What the terms are multiplied by."""

    b_before: float
    b_sharpen: float
    d: float
    factor: np.ndarray
    curve: pd.DataFrame


def transfer(s: np.ndarray, b_sharpen: float, resolution: float) -> np.ndarray:
    """Give the factor of amplitudes that sharpens up to a resolution and blurs beyond.

    Parameters
    ----------
    s : ndarray
        1/Å.
    b_sharpen : float
        Å²; where it is negative, the map is blurred evenly.
    resolution : float
        d in Å: around it the exponent turns, over some tenths of an Å, to b_sharpen - 200; beyond
        0.833 d all is cut.

    Returns
    -------
    ndarray of float32
    """
    far = 1 / np.maximum(s, 1e-6)
    beyond = 1 / (1 + np.exp(np.clip(_STEEP * (far - resolution), -20, 20)))
    b = b_sharpen - (_BLUR * beyond if b_sharpen > 0 else 0.0)
    return (np.exp(s**2 / 4 * b) * (far >= _FINEST * resolution)).astype(np.float32)


def _to_target(source: _Source, b_iso: float) -> _Plan:
    before = fit_b(source.table, resolution=source.d)
    shells = source.table[["s", "d", "n"]]
    taken = before - b_iso
    curve = shells.assign(factor=transfer(shells["s"].to_numpy(), taken, source.d))
    return _Plan(before, taken, source.d, transfer(source.s, taken, source.d), curve)


def _by_surface(source: _Source) -> _Plan:
    before = fit_b(source.table, resolution=source.d)
    share = molecule_share(source.volume, source.d)

    def measured(b_iso):
        terms = source.terms * transfer(source.s, before - b_iso, source.d)
        values = irfftn(terms, s=source.volume.shape, workers=-1)
        return surface_and_regions(values, share)

    low, high = min(before, _LOWEST), max(before, _HIGHEST)
    tried = np.linspace(low, high, _STEPS)
    surface, regions = np.array([measured(b_iso) for b_iso in tried]).T
    middle = measured(low + _MIDDLE * (high - low))
    weight = _region_weight((surface[0], regions[0]), middle, (surface[-1], regions[-1]))
    score = surface - weight * regions
    best = int(np.clip(score.argmax(), 1, _STEPS - 2))
    b_iso = float(tried[score.argmax()])
    # The top of the parabola through the best and its neighbours, which is no further off.
    left, top, right = score[best - 1 : best + 2]
    bend = left - 2 * top + right
    if score.argmax() == best and bend < 0:
        b_iso += float(0.5 * (left - right) / bend * (tried[1] - tried[0]))
    curve = pd.DataFrame(
        {
            "b_sharpen": before - tried, "b_iso": tried, "surface": surface, "regions": regions,
            "score": score,
        }
    )  # fmt: skip
    taken = before - b_iso
    return _Plan(before, taken, source.d, transfer(source.s, taken, source.d), curve)


def _region_weight(low, middle, high) -> float:
    """Give the weight of regions against surface, from both at the ends and in the middle.

    That at which the ends score alike, within bounds in which the middle scores above both.
    """
    (surface_0, regions_0), (surface_1, regions_1), (surface_2, regions_2) = low, middle, high
    if surface_0 < surface_2 or regions_0 < regions_2:
        return _DEFAULT_WEIGHT
    weight = (surface_0 - surface_2) / max(regions_0 - regions_2, 1e-10)
    least = max((surface_0 - surface_1) / max(regions_0 - regions_1, 1e-3), 1e-10)
    most = max((surface_1 - surface_2) / max(regions_1 - regions_2, 1e-3), 1e-10)
    margin = max(most - least, 0) * _BUFFER
    least, most = least + margin, most - margin
    return float(np.clip(weight, least, most)) if least < most else float(weight)


def _by_half_maps(source: _Source, fsc: FourierShells, *, weighted: bool) -> _Plan:
    d = agreed_resolution(fsc, threshold=_CUT)
    table = source.table
    c_ref = fsc.table["fsc_full"].to_numpy()
    # Before Guinier's plot is drawn, the noise is taken out of the power.
    before = fit_b(table.assign(power=table["power"] * c_ref**2), resolution=d, atoms=False)
    s = table["s"].to_numpy()
    kept = soft_step(s, (1 + _EDGE / 2) / d, _EDGE / d)
    even = np.exp(before * np.minimum(s, 1.2 / d) ** 2 / 4) * kept
    factor = even * c_ref
    curve = table[["s", "d", "n"]].assign(fsc=fsc.table[fsc.curve], factor=factor)
    return _Plan(before, before, d, source.at_terms(factor if weighted else even), curve)


def _by_model(source: _Source, reference: Volume) -> _Plan:
    shells = Shells(source.volume.grid)
    model = transform(reference)
    fsc = shells.correlation(source.terms, model)[shells.used]
    power, wanted = (shells.power(part)[shells.used] for part in (source.terms, model))
    s = source.table["s"].to_numpy()
    kept = soft_step(s, (1 + _EDGE / 2) / source.d, _EDGE / source.d)
    ratio = np.sqrt(wanted / np.maximum(power, 1e-30 * power.max()))
    factor = np.clip(fsc, 0, 1) * ratio * kept
    curve = source.table[["s", "d", "n"]].assign(fsc=fsc, factor=factor)
    before = fit_b(source.table, resolution=source.d)
    after = fit_b(source.table.assign(power=power * factor**2), resolution=source.d)
    return _Plan(before, before - after, source.d, source.at_terms(factor), curve)
