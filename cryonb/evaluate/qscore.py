"""Q-score: how much the density around each atom looks like that of an atom.

Points on spheres around an atom, on the side where no other atom is nearer, are read from the map
and correlated with a Gaussian of the radius (Pintilie et al. 2020, Nature Methods 17, 328).

A point r u from an atom is nearer than c r to a neighbour at w from that atom where
2 r u·w - w² > (1 - c²) r². So, instead of a search tree for each point, the few neighbours of each
atom are listed once, and a product of matrices tells all points of a sphere at a time.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cryonb.atoms import KIND_LIGAND, KIND_NUCLEIC, KIND_PROTEIN, KIND_WATER, Atoms
from cryonb.errors import CryonbError
from cryonb.grid import no_overlap
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

__all__ = ["METHODS", "QScore", "atom_q", "expected_q", "qscore"]

METHODS = ("mapq", "cctbx")
#: Radii of the spheres in Å.
_RADII = np.arange(1, 21) * 0.1
# MapQ's rule: this many points on each sphere, sought among 8, 10, ... 106 of them; a point counts
# where no other atom is nearer than this part of the radius.
_POINTS, _TRIES, _SHARE = 8, 50, 0.9
# cctbx's: this many, of which those count that are nearest to their own atom.
_CCTBX_POINTS = 32
# Atoms that are looked at together: few enough that their points stay in a core's cache.
_BATCH = 512
# Expected Q = slope × resolution + constant, for sigma = 0.6, by kind (MapQ, qscores.py).
_EXPECTED = {
    "protein": (-0.1775, 1.1192),
    "nucleic": (-0.1377, 0.9973),
    "ion": (-0.1103, 1.0795),
    "water": (-0.0895, 1.0001),
}
_KINDS = {KIND_PROTEIN: "protein", KIND_NUCLEIC: "nucleic", KIND_WATER: "water"}


@dataclass(frozen=True)
class QScore:
    """Q-scores of a model in a map.

    Attributes
    ----------
    atoms : pandas.DataFrame
        A row an atom: chain, number, icode, name, atom, q.
    residues : pandas.DataFrame
        A row a residue: chain, number, icode, name, kind (protein, nucleic, water, ion, ligand),
        q (mean over its atoms), q_backbone, q_sidechain, q_expected.
    chains : pandas.DataFrame
        A row a chain: chain, n_atoms, q (mean over its atoms), q_expected.
    sigma : float
        Width of the Gaussian, in Å: scores with different ones must not be compared.
    method : {"mapq", "cctbx"}
        The rule by which points were chosen.
    resolution : float or None
        That of the expected scores.
    """

    atoms: pd.DataFrame
    residues: pd.DataFrame
    chains: pd.DataFrame
    sigma: float
    method: str
    resolution: float | None

    @property
    def summary(self) -> pd.Series:
        """Means over all atoms: q_mean, q_expected; sigma and n_atoms."""
        count = self.atoms.groupby(["residue"]).size()
        expected = self.residues["q_expected"].reindex(count.index)
        known = expected.notna()
        return pd.Series(
            {
                "q_mean": float(self.atoms["q"].mean()),
                "q_expected": float(np.average(expected[known], weights=count[known]))
                if known.any()
                else np.nan,
                "sigma": self.sigma,
                "n_atoms": float(len(self.atoms)),
            }
        )

    def __repr__(self) -> str:
        values = self.summary
        expected = "" if np.isnan(values["q_expected"]) else (
            f", expected {values['q_expected']:.3f} at {self.resolution:g} Å"
        )  # fmt: skip
        return (
            f"<QScore: mean {values['q_mean']:.3f} over {len(self.atoms)} atoms{expected}; "
            f"σ = {self.sigma:g} Å, points by the rule of {self.method}>"
        )

    def _repr_html_(self) -> str:
        table = self.summary.to_frame("value").map(lambda value: f"{value:.3f}")
        table.loc["n_atoms"] = str(len(self.atoms))
        table.loc["rule of points"] = self.method
        return table.to_html()


def expected_q(resolution: float, kind: str = "protein") -> float:
    """Give the Q-score (sigma 0.6 Å) that models have on average at a resolution, as MapQ does.

    Parameters
    ----------
    resolution : float
        d in Å.
    kind : {"protein", "nucleic", "ion", "water"}
        What the atoms belong to.

    Raises
    ------
    CryonbError
        If the kind is another one.
    """
    if kind not in _EXPECTED:
        known = ", ".join(_EXPECTED)
        raise CryonbError(f"A kind of {known} was expected, but {kind!r} was given.")
    slope, constant = _EXPECTED[kind]
    return slope * resolution + constant


def qscore(
    volume: Volume, model, *, resolution: float | None = None, method: str = "mapq",
    sigma: float = 0.6, workers: int | None = None,
) -> QScore:  # fmt: skip
    """Compute Q-scores of a model's atoms, residues and chains.

    Parameters
    ----------
    volume : Volume
        The map.
    model : gemmi.Structure or Atoms
        The model in the map's frame; of a structure waters and ligands count, hydrogens and minor
        alternative locations do not.
    resolution : float, optional
        For the expected scores, in Å; that which a `DensityMap` knows by default.
    method : {"mapq", "cctbx"}
        "mapq": on spheres of 0.1 to 2 Å at least 8 points that are not nearer than 0.9 r to another
        atom, sought among ever more of them, and the atom's centre counted 8 times; "cctbx": 32
        points, of which those that are nearest to their own atom count, and no centre.
    sigma : float
        Width of the Gaussian, in Å.
    workers : int, optional
        Threads; all cores by default.

    Returns
    -------
    QScore
        Expected scores are NaN without a resolution, for ligands, and for a sigma other than 0.6.
        A score is NaN where the density around an atom is constant.

    Raises
    ------
    CryonbError
        If the method is unknown, sigma is not positive, or the volume is no density.
    MapModelMismatchError
        If no atom lies inside the map.
    """
    if isinstance(volume, LabelVolume | ProbabilityVolume):
        raise CryonbError(f"A density was expected, but {volume!r} was given.")
    if resolution is None:
        resolution = getattr(volume, "resolution", None)
    atoms = Atoms.from_structure(model, waters=True)
    atoms = atoms.select(atoms.element > 1)
    q = atom_q(volume, atoms.position, method=method, sigma=sigma, workers=workers)
    residues, owner = atoms.residues, atoms.residue
    n = len(residues)
    count = np.bincount(owner, minlength=n)
    kind = np.array([_KINDS.get(code, "ligand") for code in residues.kind], dtype=object)
    kind[(residues.kind == KIND_LIGAND) & (count == 1)] = "ion"
    known = resolution is not None and sigma == 0.6
    expected = {
        name: expected_q(resolution, name) if known and name in _EXPECTED else np.nan
        for name in set(kind)
    }
    of_residue = pd.DataFrame(
        {
            "chain": residues.chain, "number": residues.number, "icode": residues.icode,
            "name": residues.name, "kind": kind, "q": _means(q, owner, n),
            "q_backbone": _means(np.where(atoms.backbone, q, np.nan), owner, n),
            "q_sidechain": _means(np.where(atoms.backbone, np.nan, q), owner, n),
            "q_expected": [expected[name] for name in kind],
        }
    )  # fmt: skip
    of_atom = pd.DataFrame(
        {
            "chain": residues.chain[owner], "number": residues.number[owner],
            "icode": residues.icode[owner], "name": residues.name[owner], "atom": atoms.name,
            "residue": owner, "q": q,
        }
    )  # fmt: skip
    by_chain = of_atom.assign(q_expected=of_residue["q_expected"].to_numpy()[owner]).groupby(
        "chain", sort=False
    )
    of_chain = by_chain.agg(
        n_atoms=("q", "size"), q=("q", "mean"), q_expected=("q_expected", "mean")
    ).reset_index()
    return QScore(of_atom, of_residue, of_chain, float(sigma), method, resolution)


def _means(values: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """Mean of what is not NaN, by owner."""
    good = ~np.isnan(values)
    count = np.bincount(owner[good], minlength=n)
    total = np.bincount(owner[good], values[good], n)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@cache
def spiral(count: int) -> np.ndarray:
    """Give points spread over the unit sphere, on a spiral from pole to pole: (count, 3)."""
    height = -1 + 2 * np.arange(count) / (count - 1)
    turn = np.zeros(count)
    turn[1:-1] = np.cumsum(3.6 / np.sqrt(count * (1 - height[1:-1] ** 2)))
    ring = np.sqrt(np.maximum(1 - height**2, 0))
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)


def atom_q(
    volume: Volume, position, *, method: str = "mapq", sigma: float = 0.6,
    workers: int | None = None,
) -> np.ndarray:  # fmt: skip
    """Compute the Q-score of each of a set of atoms: see `qscore`.

    Parameters
    ----------
    volume : Volume
        The map; it counts as zero outside its box.
    position : array_like, shape (n, 3)
        All atoms that may claim a point, (x, y, z) in Å.
    method, sigma, workers
        As for `qscore`.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    if method not in METHODS:
        raise CryonbError(
            f"A method of {', '.join(METHODS)} was expected, but {method!r} was given."
        )
    if not sigma > 0:
        raise CryonbError(f"A positive sigma in Å was expected, but {sigma} was given.")
    position = np.asarray(position, dtype=np.float64).reshape(-1, 3)
    if not volume.grid.contains(position).any():
        raise no_overlap(volume.grid, position.min(axis=0), position.max(axis=0))
    share = _SHARE if method == "mapq" else 1.0
    neighbours, count = _neighbours(position, (1 + share) * _RADII[-1])
    reader = _Reader(volume)
    # Atoms with as many neighbours as one another waste no work on filling up.
    order = np.argsort(count, kind="stable")
    batches = np.split(order, range(_BATCH, len(order), _BATCH))

    def score(batch):
        # Atoms on the last axis: sums and maxima then run over them as vectors.
        near = neighbours[batch, : max(count[batch].max(), 1)].transpose(2, 1, 0)
        return _scores(reader, position[batch], np.ascontiguousarray(near), method, sigma)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        found = list(pool.map(score, batches))
    q = np.empty(len(position))
    q[order] = np.concatenate(found)
    return q


def _neighbours(position: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """List the neighbours of each atom within reach, nearest first.

    Returns
    -------
    vectors : ndarray of float32, shape (n, most, 4)
        From the atom to each, and the square of the distance; far away where there are fewer.
    count : ndarray of int, shape (n,)
    """
    pairs = cKDTree(position).query_pairs(reach, output_type="ndarray")
    first = np.concatenate([pairs[:, 0], pairs[:, 1]])
    second = np.concatenate([pairs[:, 1], pairs[:, 0]])
    vector = position[second] - position[first]
    square = (vector**2).sum(axis=1)
    order = np.lexsort((square, first))
    count = np.bincount(first, minlength=len(position))
    place = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    out = np.zeros((len(position), max(int(count.max(initial=0)), 1), 4), dtype=np.float32)
    out[..., 3] = 1e6
    out[first[order], place, :3] = vector[order]
    out[first[order], place, 3] = square[order]
    return out, count


class _Reader:
    """Reads a map by trilinear interpolation; zero outside, with no test for it at each point."""

    def __init__(self, volume: Volume):
        # A rim of zeros on each side takes in all that is outside.
        self.values = np.pad(volume.values, 2).ravel()
        z, y, x = (n + 4 for n in volume.shape)
        self.shape = np.array([z, y, x])
        self.grid = volume.grid.pad(2)
        self.strides = np.array([y * x, x, 1])

    def index(self, position: np.ndarray) -> np.ndarray:
        """Fractional indices (z, y, x) in the widened array."""
        return self.grid.to_index(position)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """Values at fractional indices (3, n), float32."""
        base, weight = [], []
        for axis in range(3):
            at = np.clip(index[axis], 0, self.shape[axis] - 1.001)
            low = at.astype(np.int32)
            weight.append((at - low).astype(np.float32))
            base.append(low)
        flat = base[0] * self.strides[0] + base[1] * self.strides[1] + base[2]
        z, y, x = weight
        _, row, _ = self.strides
        planes = []
        for section in (0, self.strides[0]):
            lines = []
            for line in (section, section + row):
                low = self.values[flat + line]
                lines.append(low + x * (self.values[flat + (line + 1)] - low))
            planes.append(lines[0] + y * (lines[1] - lines[0]))
        return planes[0] + z * (planes[1] - planes[0])


def _scores(reader: _Reader, position, neighbours, method: str, sigma: float) -> np.ndarray:
    """Q of a batch of atoms (m,)."""
    m = len(position)
    index = reader.index(position)
    rows, columns, heights = [], [], []
    if method == "mapq":
        rows.append(np.arange(m))
        columns.append(index.T)
        heights.append(np.ones(m))
    share = _SHARE if method == "mapq" else 1.0
    step = 1 / np.array(reader.grid.voxel_size)
    for radius in _RADII:
        reached = neighbours[3] <= ((1 + share) * radius) ** 2
        near = neighbours[:, : max(1, int(reached.any(axis=1).sum()))]
        # Coordinates of the product: [2 r w, w²] with [u, -1].
        scaled = near * np.float32([2 * radius, 2 * radius, 2 * radius, 1])[:, None, None]
        limit = np.float32((1 - share**2) * radius**2)
        left = np.arange(m)
        height = np.exp(-0.5 * (radius / sigma) ** 2)
        for attempt in range(_TRIES if method == "mapq" else 1):
            points = spiral(_POINTS + 2 * attempt if method == "mapq" else _CCTBX_POINTS)
            free = _free(scaled if len(left) == m else np.take(scaled, left, axis=2), points, limit)
            enough = free.sum(axis=0) >= (_POINTS if method == "mapq" else 0)
            point, which = np.nonzero(free & enough)
            atom = left[which]
            rows.append(atom)
            moved = (points * (radius * step))[:, ::-1]
            columns.append(np.take(index, atom, axis=0).T + np.take(moved, point, axis=0).T)
            heights.append(np.full(len(atom), height))
            left = left[~enough]
            if not len(left):
                break
    row = np.concatenate(rows)
    density = reader(np.concatenate(columns, axis=1)).astype(np.float64)
    height = np.concatenate(heights)
    # The centre stands for as many points as a sphere has.
    weight = np.ones(len(row))
    if method == "mapq":
        weight[:m] = _POINTS
    return _weighted_correlation(row, density, height, weight, m)


def _free(near: np.ndarray, points: np.ndarray, limit) -> np.ndarray:
    """Tell which points no neighbour claims: bool, shape (point, atom)."""
    test = np.empty((len(points), 4), dtype=np.float32)
    test[:, :3], test[:, 3] = points, -1
    product = test @ near.reshape(4, -1)
    return product.reshape(len(points), *near.shape[1:]).max(axis=1) <= limit


def _weighted_correlation(row, a, b, weight, n) -> np.ndarray:
    """Pearson's correlation of a and b by row, with weights; NaN where one is constant."""
    total = np.bincount(row, weight, n)
    mean = [np.bincount(row, weight * part, n) / np.maximum(total, 1e-30) for part in (a, b)]
    a, b = a - mean[0][row], b - mean[1][row]
    aa, bb, ab = (np.bincount(row, weight * part, n) for part in (a * a, b * b, a * b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(aa * bb > 0, ab / np.sqrt(aa * bb), np.nan)
