"""What the published systems call a helix voxel: three ways to label one map."""

from __future__ import annotations

import numpy as np

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.label.cryo2struct import cryo2struct_labels
from cryonb.label.emap2sec import ORDER as EMAP2SEC_ORDER
from cryonb.label.emap2sec import window_labels
from cryonb.label.haruspex import ORDER as HARUSPEX_ORDER
from cryonb.label.haruspex import annotate
from cryonb.volume import CLASSES, LabelVolume, Volume

__all__ = ["published_labels"]


def published_labels(model, volume: Volume, scheme: str) -> LabelVolume:
    """Label the voxels of a map as a published system labels its training data.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model, in the frame of the map.
    volume : Volume
        The map, at the voxel size of the scheme: 1 Å (Haruspex 1.0 to 1.2 Å).
    scheme : {"emap2sec", "haruspex", "cryo2struct"}
        * emap2sec: every voxel whose nearest Cα atom is within 3 Å takes that residue's class
          (the paper does so for the centres of its windows, every second voxel).
        * haruspex: voxels within 3 Å of the backbone of residues with more than 2 r.m.s.d. of
          density; coil is background, and what is left out of training is "masked".
        * cryo2struct: the one voxel that holds a Cα atom, by rounding down; where atoms share a
          voxel, strand wins over helix and helix over coil (`cryonb.label.cryo2struct`, which has
          the other volumes of that data set and a convention without its faults, too).

    Returns
    -------
    LabelVolume
        In cryonb's classes; Haruspex's also have "masked".

    Raises
    ------
    CryonbError
        If the scheme is unknown.

    References
    ----------
    Maddhuri Venkata Subramaniya et al. (2019); Mostosi et al. (2020); Giri et al. (2024).
    """
    if scheme == "emap2sec":
        return _emap2sec(model, volume)
    if scheme == "haruspex":
        return _haruspex(model, volume)
    if scheme == "cryo2struct":
        return _cryo2struct(model, volume)
    raise CryonbError(
        f"A scheme of emap2sec, haruspex or cryo2struct was expected, but {scheme!r} was given."
    )


def _ours(order) -> np.ndarray:
    """Places in `CLASSES` of the classes of an original."""
    names = {"sheet": "strand", "unassigned": "background"}
    return np.array([CLASSES.index(names.get(name, name)) for name in order], dtype=np.uint8)


def _emap2sec(model, volume) -> LabelVolume:
    atoms = Atoms.from_structure(model)
    index = volume.grid.to_index(atoms.position[atoms.name == "CA"])
    # Nothing is labelled further than 3 Å from a Cα atom: the rest need not be looked at.
    near = np.zeros(volume.shape, dtype=bool)
    reach = np.ceil(3.0 / np.array(volume.voxel_size)[::-1]).astype(int)
    steps = np.stack(
        np.meshgrid(*(np.arange(-r, r + 2) for r in reach), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    around = (np.floor(index).astype(int)[:, None] + steps).reshape(-1, 3)
    inside = ((around >= 0) & (around < volume.shape)).all(axis=1)
    near[tuple(around[inside].T)] = True
    places = np.argwhere(near)
    values = np.zeros(volume.shape, dtype=np.uint8)
    labels = window_labels(atoms, volume.grid.to_points(places))
    values[tuple(places.T)] = _ours(EMAP2SEC_ORDER)[labels]
    return LabelVolume(values, volume.grid, history=("label emap2sec",))


def _haruspex(model, volume) -> LabelVolume:
    found = annotate(model, volume)
    classes = (*CLASSES, "masked")
    values = np.where(found.counts, _ours(HARUSPEX_ORDER)[found.label], len(CLASSES))
    return LabelVolume(
        values.astype(np.uint8), volume.grid, classes=classes, history=("label haruspex",)
    )


def _cryo2struct(model, volume) -> LabelVolume:
    labels = cryo2struct_labels(model, volume, convention="published")["sec_struc"]
    values = _ours(labels.classes)[labels.values]
    return LabelVolume(values, volume.grid, history=("label cryo2struct",))
