"""Peaks and holes of a difference map, and the residues that they lie at."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.field.spline import SplineField
from cryonb.graph.peaks import find_peaks
from cryonb.volume import Volume

__all__ = ["difference_peaks", "nearest_atoms"]

_COLUMNS = ("chain", "number", "icode", "name", "atom", "distance")


def difference_peaks(
    volume: Volume, model=None, *, count: int = 20, least: float = 4.0, radius: float = 1.0
) -> pd.DataFrame:
    """List the highest peaks and the deepest holes of a difference map.

    Parameters
    ----------
    volume : Volume
        From `cryonb.process.difference.difference`, in standard deviations.
    model : gemmi.Structure or Atoms, optional
        Whose nearest residues are named.
    count : int
        Most rows.
    least : float
        Standard deviations that a peak is high, or a hole deep.
    radius : float
        Peaks that chains of steps of this length join count as one, Å.

    Returns
    -------
    pandas.DataFrame
        A row a peak or hole, the strongest first: kind ("peak" or "hole"), sigma (below zero for
        holes), x, y, z in Å; with a model chain, number, icode, name and atom of the nearest atom,
        and its distance in Å.

    Raises
    ------
    CryonbError
        If count or least is not positive.
    """
    if not (count > 0 and least > 0):
        raise CryonbError(
            f"A positive count and a positive least height were expected, but {count} and {least} "
            "were given."
        )
    parts = []
    for kind, sign in (("peak", 1), ("hole", -1)):
        values = volume.values if sign > 0 else -volume.values
        if not values.max() >= least:
            continue
        points, height = find_peaks(
            SplineField(Volume(values, volume.grid)), threshold=least, radius=radius
        )
        part = pd.DataFrame(points, columns=list("xyz"))
        part.insert(0, "sigma", sign * height)
        part.insert(0, "kind", kind)
        parts.append(part)
    if parts:
        table = pd.concat(parts, ignore_index=True)
    else:
        table = pd.DataFrame({name: [] for name in ("kind", "sigma", *"xyz")})
    order = np.argsort(-np.abs(table["sigma"].to_numpy(float)), kind="stable")[:count]
    table = table.iloc[order].reset_index(drop=True)
    if model is None:
        return table
    return table.join(nearest_atoms(table[list("xyz")].to_numpy(float), model))


def nearest_atoms(points: np.ndarray, model) -> pd.DataFrame:
    """Name the atom that is nearest to each point.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        (x, y, z) in Å.
    model : gemmi.Structure or Atoms
        Waters count, hydrogens do not.

    Returns
    -------
    pandas.DataFrame
        A row a point: chain, number, icode, name, atom, distance in Å.
    """
    from scipy.spatial import cKDTree

    atoms = Atoms.from_structure(model, waters=True)
    distance, which = cKDTree(atoms.position).query(points.reshape(-1, 3))
    residue = atoms.residue[which]
    columns = [getattr(atoms.residues, name)[residue] for name in _COLUMNS[:4]]
    columns += [atoms.name[which], distance]
    return pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))
