"""Calibration of a trained network on measured maps: temperatures and offsets of its classes."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from tqdm.auto import tqdm

from cryonb.atoms import KIND_NUCLEIC, KIND_PROTEIN, Atoms
from cryonb.files.model import read_model
from cryonb.files.mrc import read_map
from cryonb.label.secondary_structure import secondary_structure
from cryonb.networks.tempering import tempered
from cryonb.predict.secondary_structure import run_network
from cryonb.volume import CLASSES, ProbabilityVolume

__all__ = ["fit_tempering", "read_residues"]

#: Pulls temperatures to one and offsets to zero.
_PULL = 1e-3
#: Residues without which a class keeps its own.
_FEWEST = 100


def read_residues(network, folder, table, *, progress: bool = True):
    """Read what a network says at the backbone atoms of measured maps.

    Parameters
    ----------
    network : cryonb.networks.weights.LoadedNetwork
        The network, not tempered yet.
    folder : Path
        Of maps and models.
    table : DataFrame
        With the columns map and model.

    Returns
    -------
    found : ndarray, shape (atoms, class)
        Probabilities at backbone atoms.
    owner : ndarray of int, shape (atoms,)
        Which residue each belongs to.
    truth : ndarray of int, shape (residues,)
        Classes.
    weight : ndarray, shape (residues,)
        Each map weighs the square root of its residues.
    """
    found, owner, truth, weight = [], [], [], []
    for row in tqdm(list(table.itertuples()), desc="calibration", disable=not progress):
        probabilities, grid = run_network(read_map(folder / row.map), network, progress=False)
        volume = ProbabilityVolume(probabilities, grid, classes=network.classes)
        atoms = Atoms.from_structure(read_model(folder / row.model))
        structure = secondary_structure(atoms)
        polymer = np.isin(structure.residues.kind, [KIND_PROTEIN, KIND_NUCLEIC])
        backbone = atoms.backbone & polymer[atoms.residue]
        read = volume.sample(atoms.position[backbone])
        inside = ~np.isnan(read[:, 0])
        kept, number = np.unique(atoms.residue[backbone][inside], return_inverse=True)
        found.append(read[inside])
        owner.append(number + sum(map(len, truth)))
        truth.append(structure.state[kept])
        weight.append(np.full(len(kept), len(kept) ** -0.5))
    return tuple(np.concatenate(column) for column in (found, owner, truth, weight))


def fit_tempering(found, owner, truth, weight) -> dict[str, list[float]]:
    """Find the temperatures and offsets by which residues are likeliest.

    Parameters
    ----------
    found, owner, truth, weight : ndarray
        From `read_residues`. A residue's probabilities are the means over its atoms.

    Returns
    -------
    dict
        temperature and offset, one for each class but the background; to `tempered`. Classes with
        fewer than 100 residues have 1 and 0.
    """
    names, count = len(CLASSES), np.bincount(owner, minlength=len(truth))
    free = np.bincount(truth, minlength=names)[1:] >= _FEWEST

    def parts(x):
        logarithm, offset = np.zeros((2, names - 1))
        logarithm[free], offset[free] = x.reshape(2, -1)
        return np.exp(logarithm), offset

    def loss(x):
        p = tempered(found, *parts(x))[np.arange(len(owner)), truth[owner]]
        likely = np.bincount(owner, p, len(truth)) / count
        entropy = -(weight * np.log(np.maximum(likely, 1e-6))).sum() / weight.sum()
        return entropy + _PULL * np.square(x).sum()

    x = np.zeros(2 * free.sum())
    if len(x):
        x = minimize(loss, x, method="Powell", options={"xtol": 1e-3, "ftol": 1e-6}).x
    temperature, offset = parts(x)
    return {"temperature": temperature.round(4).tolist(), "offset": offset.round(4).tolist()}
