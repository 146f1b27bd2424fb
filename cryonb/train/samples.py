"""Training samples: maps simulated on the fly.

Sample k of a recipe is a function of its seed and k alone, so a run that was cut off goes on with
exactly the samples that it would have had.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cryonb.grid import Grid
from cryonb.label.voxels import nearest_labels
from cryonb.process.level import density_scale
from cryonb.process.level_spectrum import level_spectrum
from cryonb.simulate.experiment import Experiment, local_b, local_occupancy, observe
from cryonb.simulate.structure_factors import structure_factors
from cryonb.train.belts import belt
from cryonb.train.fading import faded, overstated
from cryonb.train.library import UNLABELLED, Library

__all__ = [
    "CORE", "IGNORED", "Mixture", "Scenes", "SimulatedSamples", "finish", "paint",
    "structure_weights", "turn",
]  # fmt: skip

#: Label of a voxel that the loss leaves out.
IGNORED = 255
#: Bit of a label that tells that an atom is in the voxel, or next to it.
CORE = 16


def paint(
    index, label, shape, *, radius: float = 3.0, ring: float = 0.8, core: float = 0.0
) -> np.ndarray:
    """Label voxels of 1 Å by the nearest labelled atom; the ring around them is left open.

    Parameters
    ----------
    index : ndarray, shape (n, 3)
        Fractional (z, y, x) indices of labelled atoms.
    label : ndarray of uint8, shape (n,)
        Their classes.
    shape : tuple of int
        (z, y, x).
    radius, ring : float
        In voxels: within `radius` an atom labels, within the next `ring` a voxel is IGNORED.
    core : float
        Within so many voxels of an atom, labels have the bit CORE.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
    """
    grid, points = Grid(shape), np.asarray(index)[:, ::-1]
    out = nearest_labels(points, label, grid, radius)
    open_ring = (out == 0) & (nearest_labels(points, label, grid, radius + ring) > 0)
    if core:
        out = np.where(nearest_labels(points, label, grid, core) > 0, out | CORE, out)
    return np.where(open_ring, IGNORED, out).astype(np.uint8)


def turn(rng: np.random.Generator, *arrays):
    """Apply one of the 24 rotations of a cube to the last three axes of each array."""
    axes = rng.permutation(3)
    flips = rng.integers(0, 2, 3).astype(bool)
    parity = (axes[0] > axes[1]) ^ (axes[0] > axes[2]) ^ (axes[1] > axes[2])
    # An odd permutation or an odd number of flips mirrors; the two must cancel (handedness!).
    if parity ^ bool(flips.sum() % 2):
        flips[0] = not flips[0]
    turned = []
    for array in arrays:
        first = array.ndim - 3
        moved = np.transpose(array, (*range(first), *(first + axes)))
        turned.append(np.flip(moved, first + np.flatnonzero(flips)))
    return turned


def finish(rng: np.random.Generator, density, label, edge: int, *, lost: int = 0):
    """Crop a box at random, scale its density, turn it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Of the place, the scale and the turn.
    density, label : ndarray, shape (box, box, box)
        The box, at least 8 voxels wider than the crop. The labels may have axes before these.
    edge : int
        Of the crop.
    lost : int
        Voxels that the network loses on each side, which the labels lose too.

    Returns
    -------
    x : ndarray of float16, shape (edge, edge, edge)
        Density over the box's `density_scale`, give or take a fifth.
    y : ndarray, shape (edge - 2 lost, ...)
        Labels.
    """
    start = rng.integers(4, density.shape[0] - edge - 3, 3)
    jitter = np.exp(rng.normal(0, 0.2)) / (density_scale(density) or 1.0)
    x = density[tuple(slice(s, s + edge) for s in start)] * np.float32(jitter)
    y = label[(..., *(slice(s + lost, s + edge - lost) for s in start))]
    x, y = turn(rng, x, y)
    return np.ascontiguousarray(x, dtype=np.float16), np.ascontiguousarray(y)


class Scenes(torch.utils.data.Dataset):
    """Scenes of one or two molecules, each measured under several conditions.

    Parameters
    ----------
    library : Library
        The structures.
    weight : ndarray, shape (structures,)
        How often each is drawn, in proportion.
    seed : int
        Of the whole series.
    edge : int
        Edge of a crop in voxels.
    measured : int
        Crops a scene, each under its own conditions.
    finest, coarsest : float
        Between which the resolution of the maps is drawn, in Å.
    clean : float
        Share of maps without noise, solvent and mask.
    belts : float
        Share of scenes with a belt of detergent or lipid around the molecules.
    faded : float
        Share of scenes whose side chains are weak (`cryonb.train.fading`).
    overstated : float
        Share of maps with nothing but noise at the resolution that is told.
    """

    #: Å a voxel.
    voxel = 1.0

    def __init__(
        self, library: Library, weight, *, seed: int, edge: int = 48, measured: int = 3,
        finest: float = 1.6, coarsest: float = 10.5, clean: float = 0.0, belts: float = 0.0,
        faded: float = 0.0, overstated: float = 0.0,
    ):  # fmt: skip
        self.library = library
        self.finest, self.coarsest, self.clean, self.belts = finest, coarsest, clean, belts
        self.faded, self.overstated = faded, overstated
        self.weight = np.asarray(weight, dtype=np.float64) / np.sum(weight)
        self.seed, self.edge, self.measured = seed, edge, measured
        self.box = edge + 16

    def __len__(self) -> int:
        return 2**40

    def _molecule(self, rng, number=None) -> dict[str, np.ndarray]:
        number = rng.choice(len(self.weight), p=self.weight) if number is None else number
        part = self.library.part(number)
        if rng.random() < 0.1:
            # A piece of a fold, so that an element is known without its neighbours too.
            middle = part["position"][rng.integers(len(part["position"]))]
            away = np.linalg.norm(part["position"] - middle, axis=1)
            near = away < rng.uniform(8, 20)
            part = {key: value[near] for key, value in part.items()}
        position = part["position"] - part["position"].mean(axis=0)
        position = position @ Rotation.random(random_state=rng).as_matrix().T
        return part | {"position": position.astype(np.float32)}

    def scene(self, rng) -> tuple[dict[str, np.ndarray], int]:
        """Place one molecule, often with another at its side, around a random atom of the first.

        Returns
        -------
        columns : dict of ndarray
            As `Library.part`, position in Å (z, y, x) from the first voxel of the box.
        n_first : int
            Number of atoms of the first molecule.
        """
        first, width = self._molecule(rng), self.box * self.voxel
        centre = first["position"][rng.integers(len(first["position"]))] + rng.normal(0, 6, 3)
        first["position"] = first["position"] - centre
        parts = [first]
        if rng.random() < 0.5:
            other = self._molecule(rng)
            away = rng.normal(size=3)
            away /= np.linalg.norm(away)
            inside = first["position"][(np.abs(first["position"]) < width / 2).all(axis=1)]
            front = (inside @ away).max() if len(inside) else 0.0
            back = (other["position"] @ away).min()
            shift = away * (front - back + rng.uniform(1.0, 4.0))
            sideways = rng.normal(0, 10, 3)
            shift += sideways - away * (sideways @ away)
            other["position"] = other["position"] + shift
            other["residue"] = other["residue"] + first["residue"].max() + 1
            parts.append(other)
        columns = {key: np.concatenate([part[key] for part in parts]) for key in first}
        columns["position"] = columns["position"][:, ::-1] + width / 2
        near = ((columns["position"] > -8) & (columns["position"] < width + 8)).all(axis=1)
        n_first = int(near[: len(first["element"])].sum())
        return {key: value[near] for key, value in columns.items()}, n_first

    def conditions(self, rng: np.random.Generator) -> Experiment:
        """Draw the conditions of one measurement."""
        experiment = Experiment.draw(rng, finest=self.finest, coarsest=self.coarsest)
        if self.clean and rng.random() < self.clean:
            gaussian = bool(rng.random() < 0.5)
            return Experiment(experiment.resolution, gaussian=gaussian)
        if self.overstated and rng.random() < self.overstated:
            return overstated(experiment, rng)
        return experiment

    def measurements(self, number: int):
        """Measure scene `number`, `measured` times.

        Yields
        ------
        rng : numpy.random.Generator
            To go on with.
        density : ndarray of float32, shape (box, box, box)
            What an experiment would give.
        atoms : dict of ndarray
            From `scene`.
        experiment : Experiment
            The conditions.
        """
        rng = np.random.default_rng((self.seed, number))
        atoms, n_first = self.scene(rng)
        a, b = self.library.coefficients[:, atoms["element"]]
        # Acid side chains lose density to radiation, and crystal B factors are rescaled.
        occupancy, extra = np.where(atoms["acid"], rng.uniform(0.2, 1.0), 1.0), 0.0
        if self.faded and rng.random() < self.faded:
            occupancy, extra = faded(atoms, rng)
        if rng.random() < 0.4:
            least = rng.uniform(0.25, 0.8)
            occupancy = occupancy * local_occupancy(atoms["position"], rng, least=least)
        b_iso = np.clip(atoms["b_iso"], 5, 120) * rng.uniform(0.2, 1.0)
        spread = rng.uniform(0, 250) if rng.random() < 0.6 else 0.0
        b_iso = b_iso + local_b(atoms["position"], rng, largest=spread) + extra
        shape, size = (self.box,) * 3, (self.voxel,) * 3
        index = np.ascontiguousarray(atoms["position"] / self.voxel, dtype=np.float32)
        index = torch.from_numpy(index)
        coefficients = structure_factors(
            index,
            torch.from_numpy((a * occupancy[:, None]).astype(np.float32)),
            torch.from_numpy((b + b_iso[:, None]).astype(np.float32)),
            shape,
            size,
            widths=10,
        )[0]
        if self.belts and rng.random() < self.belts:
            around = belt(index.numpy(), torch.fft.irfftn(coefficients, s=shape).numpy(), rng)
            coefficients = coefficients + torch.fft.rfftn(torch.from_numpy(around))
        for _ in range(self.measured):
            experiment = self.conditions(rng)
            # A zone mask mostly follows the first molecule and cuts through its neighbour.
            kept = index if rng.random() < 0.3 else index[:n_first]
            density = observe(coefficients, shape, size, experiment, rng, index=kept).numpy()
            yield rng, density, atoms, experiment


class SimulatedSamples(Scenes):
    """Crops of simulated maps on 1 Å voxels, labelled in five classes.

    Parameters
    ----------
    levelled : bool
        Whether the maps are given one falloff (`cryonb.process.level_spectrum`).
    core : float
        As in `paint`.
    """

    def __init__(self, library, weight, *, levelled: bool = False, core: float = 0.0, **options):
        super().__init__(library, weight, **options)
        self.levelled, self.core = levelled, core

    def __getitem__(self, number: int):
        xs, ys, label = [], [], None
        for rng, density, atoms, _ in self.measurements(number):
            if label is None:
                marks = atoms["label"] != UNLABELLED
                label = paint(
                    atoms["position"][marks], atoms["label"][marks], density.shape, core=self.core
                )
            seen = np.where((label > 0) & (label != IGNORED) & (density == 0), IGNORED, label)
            if self.levelled:
                density = level_spectrum(density, pad=False)
            x, y = finish(rng, density, seen.astype(np.uint8), self.edge)
            xs.append(x)
            ys.append(y)
        return np.stack(xs), np.stack(ys)


class Mixture(torch.utils.data.Dataset):
    """Item k is simulated or real, decided by the seed and k.

    Parameters
    ----------
    simulated, real : Dataset
        Where items come from; `real` may be None.
    share : float
        Of real ones.
    seed : int
        Of the decisions.
    """

    def __init__(self, simulated, real, share: float, seed: int):
        self.simulated, self.real, self.share, self.seed = simulated, real, share, seed

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int):
        draw = np.random.default_rng((self.seed, 3, number)).random()
        if self.real is not None and draw < self.share:
            return self.real[number]
        return self.simulated[number]


def structure_weights(files: np.ndarray) -> np.ndarray:
    """Draw SCOPe classes evenly, other pools by fixed shares.

    Parameters
    ----------
    files : ndarray of str, shape (structures,)
        Paths that begin with the name of the pool.

    Returns
    -------
    ndarray, shape (structures,)
    """
    shares = {"scope_a": 0.15, "scope_b": 0.17, "scope_c": 0.15, "scope_d": 0.15,
              "pool_protein": 0.26, "pool_nucleic": 0.12, "phantom": 0.08}  # fmt: skip
    pool = np.array([name.split("/")[0] for name in files])
    weight = np.zeros(len(files))
    for name, share in shares.items():
        weight[pool == name] = share / max((pool == name).sum(), 1)
    return weight
