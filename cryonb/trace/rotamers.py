"""The side-chain conformations of known structures: rotamers, and how atoms follow χ angles.

Rotamers are the centres of clusters (k-means) of χ angles in known structures, each angle as a
point of the unit circle, so that -179° is near 179°; angles of groups that look the same after half
a turn (Phe, Tyr and Asp χ2, Glu χ3) are doubled. Atoms are averaged in the frame of the bond that
turns them. The library is in rotamers.npz, which ``python -m cryonb.trace.rotamers`` makes anew
from the training part of the structures in CRYONB_DATA.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from cryonb.files.atomic import written_beside
from cryonb.trace.frames import dihedral, frames
from cryonb.trace.known import CHI_GROUPS, KnownResidues, known_residues, slots

__all__ = ["SYMMETRIC", "Rotamers", "chi_angles", "load_rotamers", "make_rotamers", "place"]

_FILE = Path(__file__).with_name("rotamers.npz")
#: The χ (counted from 0) that half a turn leaves as it was.
SYMMETRIC = {"ASP": 1, "GLU": 2, "PHE": 1, "TYR": 1}
#: Number of clusters.
_CLUSTERS = {
    "ARG": 72, "ASN": 12, "ASP": 9, "CYS": 3, "GLN": 36, "GLU": 27, "HIS": 12, "ILE": 7,
    "LEU": 7, "LYS": 60, "MET": 24, "PHE": 7, "PRO": 2, "SER": 3, "THR": 3, "TRP": 9,
    "TYR": 7, "VAL": 3,
}  # fmt: skip
# Residues with an atom of a higher B may not be where the model has them.
_HIGHEST_B = 60.0


@dataclass(frozen=True)
class Rotamers:
    """Rotamers of one amino acid.

    Attributes
    ----------
    name : str
        Three-letter code.
    chi : ndarray of float64, shape (k, n_chi)
        Radians, the most frequent first.
    frequency : ndarray of float64, shape (k,)
        Share of the known residues.
    local : ndarray of float64, shape (atoms, 3)
        Each atom beyond Cβ in the frame of the bond that turns it, at χ = 0: Å along the bond from
        its end, towards the atom that defines the angle, and across.
    """

    name: str
    chi: np.ndarray
    frequency: np.ndarray
    local: np.ndarray

    @property
    def atoms(self) -> tuple[str, ...]:
        """Names of the atoms beyond Cβ."""
        return slots(self.name)[5:]


def _chain(name: str) -> list[int]:
    """Slots of the atoms that the χ angles go along: N, Cα, Cβ, and the first of each group."""
    places, first = [0, 1, 4], 5
    for group in CHI_GROUPS[name]:
        places.append(first)
        first += len(group)
    return places


def chi_angles(name: str, position) -> np.ndarray:
    """Compute χ angles in radians, (..., n_chi), of residues of one type, (..., 14, 3)."""
    chain = _chain(name)
    four = [position[..., chain[k : len(chain) - 3 + k], :] for k in range(4)]
    return dihedral(*four)


def place(rotamers: Rotamers, n, ca, cb, chi) -> np.ndarray:
    """Place the atoms beyond Cβ.

    Parameters
    ----------
    rotamers : Rotamers
        Of the residues' type.
    n, ca, cb : ndarray, shape (m, 3)
        Å.
    chi : ndarray, shape (m, k, n_chi) or (k, n_chi)
        Radians, of k conformations of each residue.

    Returns
    -------
    ndarray of float64, shape (m, k, atoms, 3)
    """
    groups = CHI_GROUPS[rotamers.name]
    chi = np.broadcast_to(chi, (len(n), *np.shape(chi)[-2:]))
    one, two, three = (np.broadcast_to(v[:, None], (*chi.shape[:2], 3)) for v in (n, ca, cb))
    found, first = [], 0
    for k, group in enumerate(groups):
        along, across, normal = np.moveaxis(frames(one, two, three), -2, 0)
        cosine, sine = np.cos(chi[..., k, None]), np.sin(chi[..., k, None])
        axis = np.stack([along, cosine * across + sine * normal, cosine * normal - sine * across],
                        axis=-2)  # fmt: skip
        local = rotamers.local[first : first + len(group)]
        found.append(three[..., None, :] + local @ axis)
        first += len(group)
        one, two, three = two, three, found[-1][..., 0, :]
    return np.concatenate(found, axis=-2)


def make_rotamers(known: KnownResidues, *, seed: int = 0) -> dict[str, Rotamers]:
    """Cluster the χ angles of known structures, and average their atoms."""
    return {name: _of_type(name, known, seed) for name in sorted(CHI_GROUPS)}


def _of_type(name: str, known: KnownResidues, seed: int) -> Rotamers:
    from sklearn.cluster import KMeans

    count = len(slots(name))
    rows = (known.name == name) & (known.b_iso < _HIGHEST_B)
    rows &= np.isfinite(known.position[:, :count]).all(axis=(1, 2))
    position = known.position[rows]
    chi = chi_angles(name, position)
    scale = np.ones(chi.shape[1])
    if name in SYMMETRIC:
        scale[SYMMETRIC[name]] = 2.0
    circle = np.concatenate([np.cos(chi * scale), np.sin(chi * scale)], axis=1)
    found = KMeans(_CLUSTERS[name], n_init=4, random_state=seed).fit(circle)
    cosine, sine = np.split(found.cluster_centers_, 2, axis=1)
    frequency = np.bincount(found.labels_, minlength=_CLUSTERS[name]) / len(chi)
    order = np.argsort(-frequency, kind="stable")
    return Rotamers(
        name, (np.arctan2(sine, cosine) / scale)[order], frequency[order],
        _average(name, position, chi),
    )  # fmt: skip


def _average(name: str, position, chi) -> np.ndarray:
    chain, first, local = _chain(name), 5, []
    for k, group in enumerate(CHI_GROUPS[name]):
        a, b, c = (position[:, chain[k + j]] for j in range(3))
        axis = frames(a, b, c)
        away = position[:, first : first + len(group)] - c[:, None]
        x, y, z = np.moveaxis(np.einsum("mij,mgj->mgi", axis, away), -1, 0)
        cosine, sine = np.cos(chi[:, k, None]), np.sin(chi[:, k, None])
        turned = np.stack([x, cosine * y + sine * z, cosine * z - sine * y], axis=-1)
        # The median: a few depositions have their atoms in other places.
        local.append(np.median(turned, axis=0))
        first += len(group)
    return np.concatenate(local)


def save_rotamers(library: dict[str, Rotamers], path=_FILE) -> Path:
    """Write a library as npz."""
    columns = {
        f"{name}_{key}": getattr(one, key).astype(np.float32)
        for name, one in library.items() for key in ("chi", "frequency", "local")
    }  # fmt: skip
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **columns)
    return Path(path)


@cache
def load_rotamers() -> dict[str, Rotamers]:
    """Read the library that comes with the package."""
    with np.load(_FILE, allow_pickle=False) as stored:
        return {
            name: Rotamers(name, *(stored[f"{name}_{key}"].astype(np.float64)
                                   for key in ("chi", "frequency", "local")))
            for name in sorted(CHI_GROUPS)
        }  # fmt: skip


def main() -> None:
    """Make the library from the training structures and write it into the package."""
    parser = argparse.ArgumentParser(description="Cluster the side chains of known structures.")
    parser.add_argument("--out", type=Path, default=_FILE)
    options = parser.parse_args()
    known = known_residues(Path(os.environ["CRYONB_DATA"]) / "structures")
    save_rotamers(make_rotamers(known), options.out)


if __name__ == "__main__":
    main()
