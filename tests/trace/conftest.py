"""A small protein with waters at its carbonyl oxygens, and noisy maps of it."""

import gemmi
import numpy as np
import pytest
from scipy.spatial import cKDTree

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.grid import Grid


def water_places(model) -> np.ndarray:
    """Points 2.8 Å beyond carbonyl oxygens, 3.2 Å or more from all else and 3 Å apart."""
    places = []
    for chain in model[0]:
        for residue in chain:
            names = {atom.name: np.array(atom.pos.tolist()) for atom in residue}
            if {"C", "O"} <= names.keys():
                away = names["O"] - names["C"]
                places.append((names["O"] + 2.8 * away / np.linalg.norm(away), names["O"]))
    atoms = Atoms.from_structure(model)
    kept = []
    for place, oxygen in places:
        others = atoms.position[np.linalg.norm(atoms.position - oxygen, axis=1) > 0.01]
        if np.linalg.norm(others - place, axis=1).min() < 3.2:
            continue
        if all(np.linalg.norm(place - other) > 3 for other in kept):
            kept.append(place)
    return np.array(kept)


@pytest.fixture(scope="session")
def watered():
    """The example protein without its duplex, and the waters' places."""
    model = nb.example_model("phantom")
    for name in [c.name for c in model[0] if not any("CA" in [a.name for a in r] for r in c)]:
        model[0].remove_chain(name)
    for atom in model[0].all():
        atom.atom.b_iso = 15.0
    return model, water_places(model)


@pytest.fixture(scope="session")
def wet_map(watered):
    """A function that makes a map of model and waters at 2 Å, with noise."""
    from cryonb.simulate.fourier import fourier_map

    model, places = watered
    wet = model.clone()
    chain = gemmi.Chain("W")
    for number, place in enumerate(places, start=1):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "HOH", gemmi.SeqId(number, " ")
        atom = gemmi.Atom()
        atom.name, atom.element, atom.b_iso = "O", gemmi.Element("O"), 25.0
        atom.pos = gemmi.Position(*place)
        residue.add_atom(atom)
        chain.add_residue(residue)
    wet[0].add_chain(chain)
    atoms = Atoms.from_structure(wet, waters=True)
    grid = Grid.around(atoms.position, 0.8, 7.0)
    clean = fourier_map(atoms, grid, resolution=2.0)

    def make(noise: float, seed: int = 1):
        # Noise of no finer detail than the map, in parts of the density at the waters.
        from cryonb.process.filter import band_filter

        rough = np.random.default_rng(seed).normal(size=grid.shape)
        rough = band_filter(nb.DensityMap(rough, grid), low=2.0).values
        height = np.median(clean.sample(places))
        values = clean.values + noise * height * rough / rough.std()
        return nb.DensityMap(values.astype(np.float32), grid, resolution=2.0)

    return make


@pytest.fixture(scope="session")
def matched():
    """A function that gives recall and precision of points within 1 Å of the true ones."""

    def match(points, truth):
        return (
            (cKDTree(points).query(truth)[0] < 1).mean(),
            (cKDTree(truth).query(points)[0] < 1).mean(),
        )

    return match
