"""How peptide planes stand between the Cα atoms of known structures.

The plane between two Cα atoms has one degree of freedom, its turn about the line that joins them.
The table gives the probability of each turn for what four consecutive Cα atoms look like: the
distances r(i-1, i+1) and r(i, i+2) and the torsion angle, which with them stands for the signed
r(i-1, i+2) that BBQ bins by (Gront, Kmiecik & Kolinski 2007, J. Comput. Chem. 28, 1593). A torsion
angle goes round, where the signed distance jumps; and probabilities keep apart what means of
positions would mix, the two ways that a peptide often stands in one place.

The table is in peptides.npz, which ``python -m cryonb.trace.peptides`` makes anew from the training
part of the structures in CRYONB_DATA.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from cryonb.files.atomic import written_beside
from cryonb.trace.frames import across, dihedral, frames, unit
from cryonb.trace.known import KnownResidues, known_residues

__all__ = ["CIS_BELOW", "TURNS", "PeptideTable", "describe", "load_table", "make_table"]

_FILE = Path(__file__).with_name("peptides.npz")
#: Turns of a peptide plane that the table tells apart.
TURNS = 36
#: Å between the Cα atoms of a cis peptide (2.9) and of a trans one (3.8), divided here.
CIS_BELOW = 3.35
# Cells: distances from 4.6 to 7.4 Å, torsion angles by 15°.
_FIRST, _STEP, _DISTANCES, _TORSIONS = 4.6, 0.28, 11, 24
# Classes of the Ramachandran tables.
_GENERAL, _GLYCINE, _PROLINE, _BEFORE_PROLINE = range(4)
# Observations that a smoother table counts as, where a finer one has few of its own.
_PRIOR = 4.0


@dataclass(frozen=True)
class PeptideTable:
    """What is known of peptide planes.

    Attributes
    ----------
    turn : ndarray of uint8, shape (11, 11, 24, 36)
        Probability of each turn in each cell, as 255 √p.
    cis_turn : ndarray of uint8, shape (24, 36)
        The same for cis peptides, by the torsion angle alone.
    ramachandran : ndarray of float16, shape (4, 36, 36)
        Logarithm of the density at φ, ψ over the uniform one, for what is not glycine or proline
        nor before proline, for glycine, proline, and what is before proline.
    plane : ndarray of float64, shape (2, 3, 2)
        C, O and N of a trans and a cis peptide: Å along the line of the two Cα atoms from its
        middle, and across it.
    apart : ndarray of float64, shape (2,)
        Å between the two Cα atoms.
    beta : ndarray of float64, shape (2,)
        Å from Cα to Cβ along the line that halves N-Cα-C, away from it, and across their plane.
    """

    turn: np.ndarray
    cis_turn: np.ndarray
    ramachandran: np.ndarray
    plane: np.ndarray
    apart: np.ndarray
    beta: np.ndarray

    def save(self, path=_FILE) -> Path:
        """Write the table as npz."""
        with written_beside(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **{k: getattr(self, k) for k in self.__dataclass_fields__})
        return Path(path)

    def log_turns(self, quads, cis) -> np.ndarray:
        """Interpolate the logarithm of the probability of each turn: (m, 36).

        Parameters
        ----------
        quads : ndarray, shape (m, 4, 3)
            Four consecutive Cα atoms; the peptide is between the middle two.
        cis : ndarray of bool, shape (m,)
            Which peptides are cis.
        """
        first, second, torsion = describe(quads)
        cell = np.stack([(first - _FIRST) / _STEP, (second - _FIRST) / _STEP])
        low, high = np.zeros((2, 1)), np.full((2, 1), _DISTANCES - 1.0)
        cell = np.clip(cell, low, high)
        around = (torsion / (2 * np.pi) * _TORSIONS) % _TORSIONS
        roots = np.concatenate([self.turn, self.turn[:, :, :1]], axis=2).astype(np.float64)
        wanted = np.arange(TURNS, dtype=np.float64)
        grid = np.broadcast_arrays(*(v[:, None] for v in (*cell, around)), wanted)
        log = map_coordinates(roots, np.stack(grid), order=1, mode="nearest")
        if cis.any():
            nearest = np.round(around[cis]).astype(int) % _TORSIONS
            log[cis] = self.cis_turn[nearest]
        return 2 * np.log(np.maximum(log, 1.0) / 255)

    def beta_carbon(self, n, ca, c) -> np.ndarray:
        """Place Cβ atoms (m, 3) at their mean place beside N, Cα and C, as in L-amino acids."""
        back, side = unit(unit(n - ca) + unit(c - ca)), unit(np.cross(n - ca, c - ca))
        return ca - self.beta[0] * back + self.beta[1] * side


def describe(quads) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give r(i-1, i+1), r(i, i+2) in Å and the torsion angle in radians of four Cα atoms each."""
    quads = np.asarray(quads)
    return (
        np.linalg.norm(quads[:, 2] - quads[:, 0], axis=1),
        np.linalg.norm(quads[:, 3] - quads[:, 1], axis=1),
        dihedral(quads[:, 0], quads[:, 1], quads[:, 2], quads[:, 3]),
    )


@cache
def load_table() -> PeptideTable:
    """Read the table that comes with the package."""
    with np.load(_FILE, allow_pickle=False) as stored:
        return PeptideTable(**{key: stored[key] for key in PeptideTable.__dataclass_fields__})


def make_table(known: KnownResidues) -> PeptideTable:
    """Count how peptides stand in known structures."""
    n, ca, c, o, cb = (known.position[:, k] for k in range(5))
    start = known.stretches(4)
    quads = ca[start[:, None] + np.arange(4)]
    first, second, torsion = describe(quads)
    cis = np.linalg.norm(quads[:, 2] - quads[:, 1], axis=1) < CIS_BELOW
    # Where the oxygen stands about the line of the two Cα atoms.
    away = o[start + 1] - (quads[:, 1] + quads[:, 2]) / 2
    local = np.einsum("mij,mj->mi", frames(quads[:, 0], quads[:, 1], quads[:, 2]), away)
    angle = np.arctan2(local[:, 2], local[:, 1])
    turn = np.round(angle / (2 * np.pi) * TURNS).astype(int) % TURNS
    cells = [np.round((r - _FIRST) / _STEP).astype(int) for r in (first, second)]
    cells = [np.clip(index, 0, _DISTANCES - 1) for index in cells]
    cells.append(np.round(torsion / (2 * np.pi) * _TORSIONS).astype(int) % _TORSIONS)
    counts = np.zeros((_DISTANCES, _DISTANCES, _TORSIONS, TURNS))
    np.add.at(counts, tuple(index[~cis] for index in (*cells, turn)), 1.0)
    cis_counts = np.zeros((_TORSIONS, TURNS))
    np.add.at(cis_counts, (cells[2][cis], turn[cis]), 1.0)
    return PeptideTable(
        turn=_roots(_backed_off(
            counts, [(6, 6, 4, 3), (2, 2, 1.5, 1.5), (1, 1, 1, 1), (0.5, 0.5, 0.5, 0.7)],
            ["nearest", "nearest", "wrap", "wrap"],
        )),
        cis_turn=_roots(_backed_off(cis_counts, [(12, 4), (2, 2), (1, 1)], ["wrap", "wrap"])),
        ramachandran=_ramachandran(known).astype(np.float16),
        **_planes(ca, c, o, n, known.stretches(2)),
        beta=_beta(n, ca, c, cb),
    )  # fmt: skip


def _roots(probability) -> np.ndarray:
    return np.round(255 * np.sqrt(probability)).astype(np.uint8)


def _backed_off(counts, widths, modes) -> np.ndarray:
    """Turn counts into probabilities of the last axis, the coarser a prior for the finer."""
    found = np.full(counts.shape, 1.0 / counts.shape[-1])
    for width in widths:
        # The filter keeps sums, so what it gives counts observations.
        smooth = gaussian_filter(counts, width, mode=modes, truncate=3.0) * _volume(width[:-1])
        found = (smooth + _PRIOR * found) / (smooth.sum(axis=-1, keepdims=True) + _PRIOR)
    return found


def _volume(width) -> float:
    """Number of cells that a Gaussian of these widths spreads over."""
    return float(np.prod([max(1.0, np.sqrt(4 * np.pi) * w) for w in width]))


def residue_classes(name, before_proline) -> np.ndarray:
    """Give each residue its Ramachandran table."""
    found = np.where(before_proline, _BEFORE_PROLINE, _GENERAL)
    found[name == "GLY"] = _GLYCINE
    found[name == "PRO"] = _PROLINE
    return found


def _ramachandran(known: KnownResidues) -> np.ndarray:
    n, ca, c = (known.position[:, k] for k in range(3))
    middle = known.stretches(3) + 1
    phi = dihedral(c[middle - 1], n[middle], ca[middle], c[middle])
    psi = dihedral(n[middle], ca[middle], c[middle], n[middle + 1])
    kind = residue_classes(known.name[middle], known.name[middle + 1] == "PRO")
    counts = np.zeros((4, 36, 36))
    bins = [np.round(v / (2 * np.pi) * 36).astype(int) % 36 for v in (phi, psi)]
    np.add.at(counts, (kind, *bins), 1.0)
    smooth = gaussian_filter(counts, (0, 0.7, 0.7), mode=["nearest", "wrap", "wrap"]) + 0.02
    density = smooth / smooth.mean(axis=(1, 2), keepdims=True)
    return np.maximum(np.log(density), -8.0)


def _planes(ca, c, o, n, start) -> dict[str, np.ndarray]:
    """Average trans and cis peptides in their planes."""
    line = ca[start + 1] - ca[start]
    apart = np.linalg.norm(line, axis=1)
    along, middle = unit(line), (ca[start] + ca[start + 1]) / 2
    side = unit(across(o[start] - middle, along))
    atoms = np.stack([c[start], o[start], n[start + 1]], axis=1) - middle[:, None]
    local = np.stack([np.einsum("mkj,mj->mk", atoms, axis) for axis in (along, side)], axis=-1)
    # Bonds that were broken in the deposition would spoil the few means.
    sane = (apart > 2.7) & (apart < 4.0) & ((apart < 3.1) | (apart > 3.7))
    parts = [sane & (apart >= CIS_BELOW), sane & (apart < CIS_BELOW)]
    return {
        "plane": np.stack([local[part].mean(axis=0) for part in parts]),
        "apart": np.array([apart[part].mean() for part in parts]),
    }


def _beta(n, ca, c, cb) -> np.ndarray:
    here = np.isfinite(cb).all(axis=1)
    back = unit(unit(n[here] - ca[here]) + unit(c[here] - ca[here]))
    side = unit(np.cross(n[here] - ca[here], c[here] - ca[here]))
    bond = cb[here] - ca[here]
    return np.array([-(bond * back).sum(axis=1).mean(), (bond * side).sum(axis=1).mean()])


def main() -> None:
    """Make the table from the training structures and write it into the package."""
    parser = argparse.ArgumentParser(description="Count how peptides stand in known structures.")
    parser.add_argument("--out", type=Path, default=_FILE)
    options = parser.parse_args()
    known = known_residues(Path(os.environ["CRYONB_DATA"]) / "structures")
    make_table(known).save(options.out)


if __name__ == "__main__":
    main()
