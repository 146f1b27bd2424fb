"""Emap2sec's labels: the class of the Cα atom nearest to a window's centre."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from cryonb.atoms import KIND_PROTEIN, Atoms
from cryonb.errors import ModelError
from cryonb.label.secondary_structure import secondary_structure
from cryonb.volume import CLASSES

__all__ = ["FROM_OURS", "ORDER", "nearest_class", "window_labels", "windows_near"]

#: The original's classes: its number is the place in this tuple.
ORDER = ("coil", "strand", "helix", "background")
#: Their class of each of ours; what is neither helix nor strand is other.
FROM_OURS = np.array([ORDER.index(name) if name in ORDER else 0 for name in CLASSES])
_BACKGROUND = ORDER.index("background")


def _alpha_carbons(model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the Cα atoms, their class in the original's order and their residue."""
    atoms = Atoms.from_structure(model)
    structure = secondary_structure(atoms)
    is_ca = (atoms.name == "CA") & (atoms.residues.kind[atoms.residue] == KIND_PROTEIN)
    if not is_ca.any():
        raise ModelError("A model with protein was expected, but this one has no Cα atom.")
    residue = atoms.residue[is_ca]
    return atoms.position[is_ca], FROM_OURS[structure.state[residue]], residue


def window_labels(model, points, *, radius: float = 3.0) -> np.ndarray:
    """Label windows by the nearest Cα atom.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model. The paper takes STRIDE's assignment (H, G and I are helix, B and E strand); here
        it is DSSP's, with the same grouping.
    points : array_like, shape (n, 3)
        Window centres, (x, y, z) in Å.
    radius : float
        In Å; the paper's 3.0. The published program's default is 5.0.

    Returns
    -------
    ndarray of int, shape (n,)
        0 other, 1 strand, 2 helix; 3 background where no Cα is near.

    References
    ----------
    Maddhuri Venkata Subramaniya et al., Nature Methods 16, 911 (2019), methods.
    """
    position, label, _ = _alpha_carbons(model)
    return nearest_class(position, label, points, radius=radius)


def nearest_class(position, label, points, *, radius: float = 3.0) -> np.ndarray:
    """Give each point the class of the nearest Cα atom.

    Parameters
    ----------
    position : ndarray, shape (m, 3)
        Of the Cα atoms, (x, y, z) in Å.
    label : ndarray of int, shape (m,)
        Their classes in the original's order.
    points, radius
        As in `window_labels`.

    Returns
    -------
    ndarray of int, shape (n,)
        3, background, where none is near.
    """
    away, nearest = cKDTree(position).query(points, distance_upper_bound=radius)
    near = np.isfinite(away)
    return np.where(near, label[np.where(near, nearest, 0)], _BACKGROUND)


def windows_near(model, points, *, radius: float = 3.0):
    """Give all pairs of a residue and a window centre within reach.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model.
    points : array_like, shape (n, 3)
        Window centres, (x, y, z) in Å.
    radius : float
        In Å.

    Returns
    -------
    ca, window : ndarray of int, shape (pairs,)
        Places among the model's Cα atoms and among the windows.
    label : ndarray of int, shape (Cα atoms,)
        Class of each Cα atom, in the original's order.
    residue : ndarray of int, shape (Cα atoms,)
        Place of each in the table of residues.
    """
    position, label, residue = _alpha_carbons(model)
    pairs = cKDTree(position).sparse_distance_matrix(cKDTree(points), radius, output_type="ndarray")
    return pairs["i"], pairs["j"], label, residue
