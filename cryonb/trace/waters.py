"""Water molecules at peaks of the difference map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cryonb.atoms import KIND_WATER, Atoms
from cryonb.errors import CryonbError
from cryonb.evaluate.difference import nearest_atoms
from cryonb.field.spline import SplineField
from cryonb.graph.peaks import find_peaks
from cryonb.process.difference import difference
from cryonb.volume import Volume

__all__ = ["Waters", "add_waters", "sphericity"]

#: Distances in Å: of a hydrogen bond, from a metal, from any atom that makes no hydrogen bond.
_BOND = (2.3, 3.5)
_METAL = (1.8, 2.8)
_CLASH = 2.9
#: Angle, in degrees, of a bond of the partner with the hydrogen bond.
_LEAST_ANGLE = 80.0
#: Peaks that are looked at are at least so high, in standard deviations.
_LOWEST = 2.0
#: A peak is one water within this distance in Å.
_APART = 0.7
_DIRECTIONS, _RADII = 32, np.arange(0, 1.01, 0.2)


@dataclass(frozen=True, repr=False)
class Waters:
    """Waters that were added to a model.

    Attributes
    ----------
    model : gemmi.Structure
        The model with the waters, in a chain of their own.
    table : pandas.DataFrame
        A row a water, the best first: water (number in the chain), x, y, z in Å, sigma (height in
        the difference map), density (in the map), sphericity, bonds (partners of hydrogen bonds,
        waters included), score (height times sphericity), and chain, number, icode, name, atom and
        distance of the nearest atom of the model that was given.
    threshold : float
        Least height, in standard deviations of the difference map.
    curve : pandas.DataFrame
        A row a threshold: peaks and holes that are as strong and stand where a water may, and
        false, their ratio: about the part of such peaks that noise makes.
    """

    model: object
    table: pd.DataFrame
    threshold: float
    curve: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"<Waters: {len(self)} at {self.threshold:.1f} standard deviations or more>"

    def _repr_html_(self) -> str:
        return self.table.round(2).to_html(index=False)


def add_waters(
    volume: Volume, model, *, resolution: float | None = None, half_maps=None,
    threshold: float | None = None, false: float = 0.25, least_sphericity: float = 0.5,
    chain: str | None = None, b_iso: float | None = None,
) -> Waters:  # fmt: skip
    """Add water molecules to a model where the map has peaks that the model does not explain.

    Parameters
    ----------
    volume : Volume
        The map.
    model : gemmi.Structure
        In the map's frame; it is not changed. Its own waters stay.
    resolution : float, optional
        Å; that which a `DensityMap` knows by default.
    half_maps : tuple of Volume, optional
        For the weights of the difference map: see `cryonb.process.difference.difference`.
    threshold : float, optional
        Least height in the difference map, in standard deviations. By default the lowest one at
        which `false` is kept; no water is added where there is none.
    false : float
        Most holes, as a part of the peaks, that stand where a water may: noise makes as many of
        either.
    least_sphericity : float
        See `sphericity`.
    chain : str, optional
        Name of the waters' chain; by default the first letter from W on that is free.
    b_iso : float, optional
        Å²; by default the median of the model's polar atoms that the waters are bound to.

    Returns
    -------
    Waters

    Raises
    ------
    CryonbError
        If the resolution is not known or coarser than 3.5 Å, where a map shows no waters; or the
        chain exists.

    Notes
    -----
    A water stands 2.3 to 3.5 Å from an oxygen, nitrogen, or another water, where the angle with the
    bonds of that atom is 80° or more (or 1.8 to 2.8 Å from a metal), 2.9 Å or more from every atom
    that makes no hydrogen bond, and its peak is round. The highest peaks come first; later ones may
    be bound to them. These are the rules of the open code of phenix.douse but for the angle and the
    threshold, which there is a multiple of the mean density at the atoms.
    """
    d = resolution if resolution is not None else getattr(volume, "resolution", None)
    if d is None or not 0 < d <= 3.5:
        raise CryonbError(
            f"A resolution of 3.5 Å or better was expected to see waters, but it is {d}; give "
            "resolution= in Å."
        )
    name = _chain_name(model, chain)
    left = difference(volume, model, resolution=d, half_maps=half_maps)
    surroundings = _Surroundings(Atoms.from_structure(model, waters=True, altlocs=True))
    peaks, height = _peaks(left, 1)
    holes, depth = _peaks(left, -1)
    allowed = surroundings.allows(peaks)
    curve = _curve(height[allowed], depth[surroundings.allows(holes)])
    if threshold is None:
        good = curve["threshold"][(curve["false"] <= false) & (curve["peaks"] > 0)]
        threshold = float(good.min()) if len(good) else np.inf
    high = height >= threshold
    peaks, height = peaks[high], height[high]
    round_ = sphericity(SplineField(volume), peaks)
    kept = round_ >= least_sphericity
    peaks, height, round_ = peaks[kept], height[kept], round_[kept]
    chosen, bonds = surroundings.choose(peaks, height * round_)
    table = pd.DataFrame(peaks[chosen], columns=list("xyz"))
    table.insert(0, "water", np.arange(1, len(table) + 1))
    table["sigma"] = height[chosen]
    table["density"] = volume.sample(peaks[chosen], order=3)
    table["sphericity"] = round_[chosen]
    table["bonds"] = bonds
    table["score"] = height[chosen] * round_[chosen]
    table = table.join(nearest_atoms(peaks[chosen], model))
    if b_iso is None:
        b_iso = surroundings.b_of_partners(peaks[chosen])
    return Waters(_with_waters(model, name, peaks[chosen], b_iso), table, float(threshold), curve)


def sphericity(field, points: np.ndarray) -> np.ndarray:
    """Tell how round peaks are: the least correlation of a profile with the mean profile.

    Profiles go 1 Å from the peak in 32 directions; cctbx's rule for waters is the same.

    Parameters
    ----------
    field : Field
        The map.
    points : ndarray, shape (n, 3)
        Peaks, (x, y, z) in Å.

    Returns
    -------
    ndarray, shape (n,)
        1 for a round peak. What is outside the map counts as empty.
    """
    i = np.arange(_DIRECTIONS) + 0.5
    z, angle = 1 - 2 * i / _DIRECTIONS, np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - z**2)
    directions = np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)
    away = directions[:, None] * _RADII[:, None]
    values = field.value((points[:, None, None] + away).reshape(-1, 3))
    profile = np.nan_to_num(values).reshape(-1, _DIRECTIONS, len(_RADII)).astype(np.float64)
    mean = profile.mean(axis=1, keepdims=True)
    mean = mean - mean.mean(axis=2, keepdims=True)
    profile -= profile.mean(axis=2, keepdims=True)
    size = np.sqrt((profile**2).sum(axis=2) * (mean**2).sum(axis=2))
    return ((profile * mean).sum(axis=2) / np.maximum(size, 1e-12)).min(axis=1)


def _peaks(left: Volume, sign: int) -> tuple[np.ndarray, np.ndarray]:
    values = left.values if sign > 0 else -left.values
    if not values.max() >= _LOWEST:
        return np.empty((0, 3)), np.empty(0)
    return find_peaks(SplineField(Volume(values, left.grid)), threshold=_LOWEST, radius=_APART)


def _curve(height: np.ndarray, depth: np.ndarray) -> pd.DataFrame:
    """Count peaks and holes by threshold."""
    threshold = np.arange(_LOWEST, max(height.max(initial=0), 5) + 0.1, 0.1)
    peaks = (height >= threshold[:, None]).sum(axis=1)
    holes = (depth >= threshold[:, None]).sum(axis=1)
    columns = {"threshold": threshold, "peaks": peaks, "holes": holes}
    return pd.DataFrame(columns).assign(false=holes / np.maximum(peaks, 1))


class _Surroundings:
    """Which places near a model a water may take."""

    def __init__(self, atoms: Atoms):
        self._position = atoms.position
        self._b = atoms.b_iso
        self._all = cKDTree(atoms.position)
        organic = np.isin(atoms.element, (1, 6, 7, 8, 9, 15, 16, 17, 34, 35, 53))
        self._metal = ~organic
        pairs = self._all.query_pairs(1.75, output_type="ndarray")
        self._bonded = np.concatenate([pairs, pairs[:, ::-1]])
        self._bonded = self._bonded[np.argsort(self._bonded[:, 0], kind="stable")]
        self._start = np.searchsorted(self._bonded[:, 0], np.arange(len(atoms) + 1))
        # A nitrogen within a chain of which nothing sticks out makes no hydrogen bond.
        full = (atoms.element == 7) & (np.diff(self._start) >= 3)
        self._polar = np.isin(atoms.element, (7, 8)) & ~full
        self._water = atoms.kind == KIND_WATER
        self._other = self._position[~self._polar & ~self._metal]

    def bonds(self, points: np.ndarray) -> np.ndarray:
        """Count the atoms of the model that each point could be bound to."""
        count = np.zeros(len(points), dtype=int)
        for which, (low, high) in ((self._polar, _BOND), (self._metal, _METAL)):
            atom = np.flatnonzero(which)
            if not (len(atom) and len(points)):
                continue
            near = cKDTree(points).sparse_distance_matrix(
                cKDTree(self._position[atom]), high, output_type="ndarray"
            )
            near = near[near["v"] >= low]
            point, partner = near["i"], atom[near["j"]]
            good = self._wide(points[point], partner)
            count += np.bincount(point[good], minlength=len(points))
        return count

    def _wide(self, points: np.ndarray, partner: np.ndarray) -> np.ndarray:
        """Tell whether the angles at the partners, with all their bonds, are wide enough."""
        number = self._start[partner + 1] - self._start[partner]
        row = np.repeat(np.arange(len(partner)), number)
        place = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number)
        neighbour = self._bonded[self._start[partner[row]] + place, 1]
        middle = self._position[partner[row]]
        one, two = points[row] - middle, self._position[neighbour] - middle
        cosine = (one * two).sum(axis=1) / (
            np.linalg.norm(one, axis=1) * np.maximum(np.linalg.norm(two, axis=1), 1e-9)
        )
        good = np.ones(len(partner), dtype=bool)
        good[row[cosine > np.cos(np.radians(_LEAST_ANGLE))]] = False
        return good

    def free(self, points: np.ndarray) -> np.ndarray:
        """Tell which points touch no atom."""
        if not len(points):
            return np.zeros(0, dtype=bool)
        free = self._all.query(points)[0] >= _METAL[0]
        if len(self._other):
            free &= cKDTree(self._other).query(points)[0] >= _CLASH
        for which, (low, _) in ((self._polar, _BOND), (self._metal, _METAL)):
            if which.any():
                free &= cKDTree(self._position[which]).query(points)[0] >= low
        return free

    def allows(self, points: np.ndarray) -> np.ndarray:
        """Tell which points touch nothing and could be bound to the model."""
        return self.free(points) & (self.bonds(points) > 0)

    def choose(self, points: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Choose waters, the best first: their indices, and how many partners each has."""
        bonds = self.bonds(points)
        open_ = self.free(points)
        order = np.argsort(-score, kind="stable")
        tree = cKDTree(points) if len(points) else None
        taken = np.zeros(len(points), dtype=bool)
        more = len(points) > 0
        while more:
            more = False
            for row in order:
                if not open_[row] or bonds[row] == 0:
                    continue
                around = np.array(tree.query_ball_point(points[row], _BOND[1]))
                distance = np.linalg.norm(points[around] - points[row], axis=1)
                open_[around[distance < _BOND[0]]] = False
                bonds[around[distance >= _BOND[0]]] += 1
                taken[row] = more = True
        chosen = order[taken[order]]
        return chosen, bonds[chosen]

    def b_of_partners(self, points: np.ndarray) -> float:
        """Give the median B of the atoms that waters are bound to."""
        which = self._polar | self._metal
        if not (len(points) and which.any()):
            return 30.0
        nearest = cKDTree(self._position[which]).query(points)[1]
        return float(np.median(self._b[which][nearest]))


def _chain_name(model, chain: str | None) -> str:
    used = {one.name for one in model[0]}
    if chain is None:
        letters = "WXYZSTUVABCDEFGHIJKLMNOPQR"
        names = [*letters, *(a + b for a in letters for b in letters)]
        return next(name for name in names if name not in used)
    if chain in used:
        raise CryonbError(
            f"A new chain was expected for the waters, but the model has a chain {chain!r}; give "
            "another chain=."
        )
    return chain


def _with_waters(model, name: str, points: np.ndarray, b_iso: float):
    """Copy a model, with waters in a chain at its end."""
    import gemmi

    made = model.clone()
    chain = gemmi.Chain(name)
    for number, point in enumerate(points, start=1):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "HOH", gemmi.SeqId(number, " ")
        residue.het_flag = "H"
        atom = gemmi.Atom()
        atom.name, atom.element = "O", gemmi.Element("O")
        atom.pos, atom.b_iso, atom.occ = gemmi.Position(*point), b_iso, 1.0
        residue.add_atom(atom)
        chain.add_residue(residue)
    if len(points):
        made[0].add_chain(chain)
        made.setup_entities()
    return made
