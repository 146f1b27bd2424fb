"""Correlation of a map with the map of its model: the whole, its chains and its residues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cryonb.atoms import KIND_PROTEIN, Atoms
from cryonb.errors import CryonbError
from cryonb.evaluate.overlap import check_grid, overlap, overlap_along_chain
from cryonb.evaluate.residue_voxels import blocks_of, distinct_keys
from cryonb.grid import Grid
from cryonb.process.spheres import molecular_mask, voxels_within
from cryonb.simulate.fourier import fourier_map
from cryonb.simulate.gaussian import gaussian_map
from cryonb.simulate.scattering import electron_coefficients
from cryonb.simulate.shells import shell_map
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

__all__ = ["Correlation", "carbon_radius", "correlate", "usable_resolution"]

# cctbx's main chain of a protein; everything else counts as side chain.
_MAIN = ("N", "CA", "C", "O", "CB")


@dataclass(frozen=True)
class Correlation:
    """How a map agrees with the map of a model.

    Attributes
    ----------
    summary : pandas.Series
        cc_mask, cc_volume, cc_peaks, cc_box, cc_image, cc_main_chain, cc_side_chain, ccc, smoc
        (mean over residues), resolution (of the model map), radius (of the sums around atoms) and
        n_mask (voxels of the molecule), and cc_mask_local where a local resolution was given; see
        `correlate`.
    residues : pandas.DataFrame
        A row a residue: chain, number, icode, name, n_atoms, b_iso, occupancy, cc, cc_main_chain,
        cc_side_chain, smoc; where a local resolution was given also resolution (mean of its atoms).
    chains : pandas.DataFrame
        A row a chain: chain, n_residues, n_atoms, b_iso, cc, smoc.
    model_map : Volume
        The map of the model that was compared.
    """

    summary: pd.Series
    residues: pd.DataFrame
    chains: pd.DataFrame
    model_map: Volume

    def _repr_html_(self) -> str:
        return self.summary.to_frame("value").map(lambda value: f"{value:.3f}").to_html()


def usable_resolution(resolution: float | None, grid: Grid) -> float:
    """Give the resolution of a model map: as asked, but no finer than the voxels can hold.

    Raises
    ------
    CryonbError
        If no resolution is known, or it is not positive.
    """
    if resolution is None:
        raise CryonbError(
            "Comparing a map with a model needs the map's resolution, but none is known; give "
            "resolution= in Å."
        )
    if not resolution > 0:
        raise CryonbError(f"A positive resolution in Å was expected, but {resolution} was given.")
    return float(max(resolution, 2 * max(grid.voxel_size)))


def carbon_radius(resolution: float, b_iso: float, *, step: float = 0.01) -> float:
    """Give the radius of a carbon atom's central peak in a map, in Å.

    Twice the distance of the first point of inflection of its Fourier image at the resolution, as
    cctbx has it.

    Parameters
    ----------
    resolution : float
        d in Å.
    b_iso : float
        Å².
    step : float
        Spacing of the radii that are looked at, in Å.
    """
    a, b = electron_coefficients([6])
    s = np.linspace(0, 1 / resolution, 801)
    f = (a * np.exp(-(b + b_iso) * s[:, None] ** 2 / 4)).sum(axis=1)
    weight = np.full(len(s), s[1])
    weight[[0, -1]] /= 2
    weight *= 4 * np.pi * s**2 * f
    r = np.arange(0, max(15.0, resolution), step)
    # The point lies within one resolution or not far behind; no need to look at all radii.
    for first in range(0, len(r) - 2, 100):
        image = np.sinc(2 * r[first : first + 102, None] * s) @ weight
        bent = np.flatnonzero(image[2:] + image[:-2] - 2 * image[1:-1] > 0)
        if len(bent):
            return float(2 * (r[first + bent[0] + 1] - step / 2))
    return float(2 * (r[1] - step / 2))


def correlate(
    volume: Volume, model, *, resolution=None, radius: float | None = None,
    overlaps: bool = True, window: int = 11, periodic: bool = True,
    model_map: Volume | None = None, device: str | None = None,
) -> Correlation:  # fmt: skip
    """Correlate a map with the map of a model.

    Parameters
    ----------
    volume : Volume
        The map.
    model : gemmi.Structure or Atoms
        The model in the map's frame. Of a structure waters, ligands and all alternative locations
        count, hydrogens do not.
    resolution : float, array_like of shape (n,) or Volume, optional
        Of the map, in Å; that which a `DensityMap` knows by default. Where the voxels are too
        coarse for it, twice their size is taken. One for each of the atoms that count (such as
        `Refinement.table["resolution"]`), or a map of the local resolution, adds cc_mask_local; all
        others are then at the resolution that the map knows, or else at the median over the atoms.
    radius : float, optional
        Voxels within this distance of an atom belong to its residue and chain. By default the
        resolution or the radius of a carbon atom in the map, whichever is larger, within 3 to
        10 Å.
    overlaps : bool
        Whether to compute ccc and smoc, too, which have model maps of their own; else they are NaN.
    window : int
        Residues of a window of SMOC, odd.
    periodic : bool
        Whether the model's map wraps around at the faces of the box, as in cctbx.
    model_map : Volume, optional
        A map of the model on the grid of `volume` to take instead, such as one with a resolution
        for each atom (`cryonb.simulate.shells.shell_map`).
    device : str, optional
        Where torch computes.

    Returns
    -------
    Correlation
        The model's map has electron scattering factors, the model's B and occupancy, and a sharp
        limit at the resolution, unless one is given. All cc are Pearson's, each over other voxels
        (Afonine et al. 2018, Acta Cryst. D74, 814):

        * cc_mask: within the molecule (`molecular_mask`).
        * cc_mask_local (only where a local resolution is given): cc_mask with a model's map in
          which each atom has its own resolution (`cryonb.simulate.shells.shell_map`, after
          Urzhumtsev and Lunin 2022): a region that is resolved coarsely is not blamed for lacking
          the details of the best one. Resolutions that are wrong lower it. With one resolution
          everywhere it is cc_mask, but for ripples that come in at the opposite face
          (`periodic`): some parts in 10⁴.
        * cc_volume: as many voxels as that, the highest of the model's map.
        * cc_peaks: the highest of the map and the highest of the model's, as many of each.
        * cc_box: all voxels.
        * cc_image: within the central peak of a carbon atom (`carbon_radius`) around any atom.
        * cc_main_chain: near N, CA, C, O and CB of protein residues; cc_side_chain: near all
          other atoms.

        Not centred about the mean are

        * ccc: Σ mc / √(Σ m² Σ c²) over all voxels, c a Gaussian of σ = d/2 on each atom
          (CryoFit: Kirmizialtin et al. 2015, Methods Enzymol. 558, 497).
        * smoc: the same over the voxels near a window of consecutive residues, see
          `cryonb.evaluate.overlap.overlap_along_chain`.

        Values are NaN where there is nothing to correlate.

    Raises
    ------
    CryonbError
        If the resolution is neither given nor known, or there are not as many as atoms, or the
        volume is no density.
    MapModelMismatchError
        If map and model do not overlap.
    """
    if isinstance(volume, LabelVolume | ProbabilityVolume):
        raise CryonbError(f"A density was expected, but {volume!r} was given.")
    grid = volume.grid
    atoms = Atoms.from_structure(model, waters=True, altlocs=True)
    local = None
    if isinstance(resolution, Volume) or np.ndim(resolution):
        local = _local_resolution(resolution, atoms, grid)
        resolution = getattr(volume, "resolution", None) or float(np.median(local))
    elif resolution is None:
        resolution = getattr(volume, "resolution", None)
    d = usable_resolution(resolution, grid)
    inside = molecular_mask(atoms, grid).values.ravel() > 0
    if model_map is None:
        model_map = fourier_map(atoms, grid, resolution=d, periodic=periodic, device=device)
    check_grid(volume, model_map)
    pair = _Pair(volume, model_map)
    top_map, top_model = (_highest(values, int(inside.sum())) for values in (pair.m, pair.c))
    b_iso = float(atoms.b_iso.mean())
    if radius is None:
        # cctbx's step, which makes the radius a multiple of it
        radius = float(np.clip(max(d, carbon_radius(d, b_iso, step=0.1)), 3.0, 10.0))
    main = np.isin(atoms.name, _MAIN) & (atoms.kind == KIND_PROTEIN)
    residues, marks = _residue_table(pair, atoms, radius, main)
    residues["smoc"] = ccc = np.nan
    if overlaps:
        residues["smoc"] = overlap_along_chain(volume, atoms, resolution=d, window=window)
        blurred = gaussian_map(atoms, grid, resolution=d, recipe="cryofit", device=device)
        ccc = overlap(volume.values, blurred.values)
    chains = _chain_table(pair, atoms, radius, residues, marks[0] | marks[1])
    values = {
        "cc_mask": pair.over(inside),
        "cc_volume": pair.over(top_model),
        "cc_peaks": pair.over(top_map | top_model),
        "cc_box": pair.over(slice(None)),
        "cc_image": pair.over(_near(grid, atoms.position, carbon_radius(d, b_iso))),
        "cc_main_chain": pair.over(marks[0]),
        "cc_side_chain": pair.over(marks[1]),
        "ccc": ccc,
        "smoc": float(residues["smoc"].mean()),
        "resolution": d,
        "radius": radius,
        "n_mask": float(inside.sum()),
    }
    if local is not None:
        each = shell_map(atoms, grid, resolution=local, device=device)
        values["cc_mask_local"] = _Pair(volume, each).over(inside)
        n = len(residues)
        count = np.maximum(residues["n_atoms"], 1)
        residues["resolution"] = np.bincount(atoms.residue, local, n) / count
    return Correlation(pd.Series(values), residues, chains, model_map)


def _local_resolution(resolution, atoms: Atoms, grid: Grid) -> np.ndarray:
    """One usable resolution an atom, from as many or from a map of the local resolution."""
    if isinstance(resolution, Volume):
        found = resolution.sample(atoms.position, order=1).astype(float)
        # Outside the map, and where it says zero for what was not determined
        known = np.isfinite(found) & (found > 0)
        if not known.any():
            raise CryonbError(
                f"A map of the local resolution at the atoms was expected, but {resolution!r} has "
                "no positive value there."
            )
        found[~known] = np.median(found[known])
    else:
        found = np.asarray(resolution, dtype=float)
    if found.shape != (len(atoms),) or not (np.isfinite(found).all() and (found > 0).all()):
        raise CryonbError(
            f"A positive resolution in Å was expected for each of the {len(atoms)} atoms that "
            f"count, but an array of shape {found.shape} was given."
        )
    return np.maximum(found, 2 * max(grid.voxel_size))


class _Pair:
    """Two maps on one grid, flattened and centred, so that sums of squares keep their digits."""

    def __init__(self, volume: Volume, model_map: Volume):
        self.grid = volume.grid
        self.m = volume.values.ravel() - np.float32(volume.mean)
        self.c = model_map.values.ravel() - np.float32(model_map.mean)

    def over(self, which) -> float:
        """Pearson's correlation over voxels."""
        m, c = self.m[which].astype(np.float64), self.c[which].astype(np.float64)
        if len(m) < 2:
            return np.nan
        m, c = m - m.mean(), c - c.mean()
        return overlap(m, c)

    def by_residue(self, atoms: Atoms, radius: float, main) -> tuple[np.ndarray, np.ndarray]:
        """Correlate near all, the main-chain and the other atoms of each residue, in one go.

        Returns
        -------
        cc : ndarray, shape (3, residue)
            Pearson's correlations, NaN where there is nothing.
        marks : ndarray of bool, shape (2, voxel)
            What is near any main-chain and any other atom.
        """
        grid, n = self.grid, len(atoms.residues)
        sums = np.zeros((3, 6, n))
        marks = np.zeros((2, grid.n_voxels), dtype=bool)
        other = (~main).astype(np.int64)
        for first, stop in blocks_of(atoms.residue, radius, grid, n):
            mine = np.flatnonzero((atoms.residue >= first) & (atoms.residue < stop))
            # The last bit of a key tells the kind of atom, so that one sorting serves all three.
            block = atoms.residue[mine].astype(np.int64) - first
            owner = 2 * block * grid.n_voxels + other[mine]
            keys = distinct_keys(grid, atoms.position[mine], owner, radius, 2)
            if not len(keys):
                continue
            cell = keys >> 1
            start = np.flatnonzero(cell[1:] != cell[:-1]) + 1
            start = np.concatenate([[0], start])
            # 1 of a voxel near the main chain, 2 of one near other atoms, 3 of one near both.
            near = np.add.reduceat((keys & 1) + 1, start)
            cell = cell[start]
            edge = np.searchsorted(cell, np.arange(stop - first + 1) * np.int64(grid.n_voxels))
            held = np.diff(edge)
            voxel = cell - np.repeat(np.arange(stop - first) * np.int64(grid.n_voxels), held)
            marks[0, voxel[near != 2]] = True
            marks[1, voxel[near != 1]] = True
            m, c = self.m[voxel].astype(np.float64), self.c[voxel].astype(np.float64)
            weights = np.stack([np.ones(len(m)), m, c, m * m, c * c, m * c])
            some = np.flatnonzero(held)
            sums[:, :, first + some] = np.add.reduceat(weights, edge[some], axis=1)
            # Of one kind of atom: less what is near the other kind only.
            for k, only in ((1, 2), (2, 1)):
                at = np.flatnonzero(near == only)
                edge_at = np.searchsorted(at, edge)
                some = np.flatnonzero(np.diff(edge_at))
                if len(some):
                    less = np.add.reduceat(weights[:, at], edge_at[some], axis=1)
                    sums[k][:, first + some] -= less
        count, m, c, mm, cc, mc = sums.transpose(1, 0, 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.sqrt((mm - m * m / count) * (cc - c * c / count))
            return np.where(count > 1, (mc - m * c / count) / spread, np.nan), marks


def _highest(values: np.ndarray, n: int) -> np.ndarray:
    """Mark the values not below that of rank n, counted from 0."""
    if n >= values.size:
        return np.ones(values.size, dtype=bool)
    return values >= np.partition(values, values.size - n - 1)[values.size - n - 1]


def _near(grid: Grid, points, radius: float) -> np.ndarray:
    """Mark the voxels within a radius of points: bool, flat."""
    marks = np.zeros(grid.n_voxels, dtype=bool)
    for _, voxel in voxels_within(grid, points, radius):
        marks[voxel] = True
    return marks


def _residue_table(pair: _Pair, atoms: Atoms, radius: float, main):
    residues, owner = atoms.residues, atoms.residue
    n = len(residues)
    count = np.bincount(owner, minlength=n)
    table = pd.DataFrame(
        {
            "chain": residues.chain, "number": residues.number, "icode": residues.icode,
            "name": residues.name, "n_atoms": count,
            "b_iso": np.bincount(owner, atoms.b_iso, n) / np.maximum(count, 1),
            "occupancy": np.bincount(owner, atoms.occupancy, n) / np.maximum(count, 1),
        }
    )  # fmt: skip
    cc, marks = pair.by_residue(atoms, radius, main)
    protein = residues.kind == KIND_PROTEIN
    table["cc"], table["cc_main_chain"] = cc[0], cc[1]
    table["cc_side_chain"] = np.where(protein, cc[2], np.nan)
    return table, marks


def _chain_table(pair: _Pair, atoms: Atoms, radius: float, residues, whole) -> pd.DataFrame:
    names, first = np.unique(atoms.residues.chain, return_index=True)
    rows = []
    for name in names[np.argsort(first)]:
        of_chain = atoms.residues.chain == name
        mine = of_chain[atoms.residue]
        near = whole if mine.all() else _near(pair.grid, atoms.position[mine], radius)
        rows.append(
            {
                "chain": name, "n_residues": int(of_chain.sum()), "n_atoms": int(mine.sum()),
                "b_iso": float(atoms.b_iso[mine].mean()), "cc": pair.over(near),
                "smoc": float(residues["smoc"][of_chain].mean()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
