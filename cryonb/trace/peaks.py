"""Cα candidates: the peaks of a map of probabilities, with what is known of their residues."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cryonb.errors import CryonbError
from cryonb.graph.match import first_of_groups
from cryonb.graph.voxel_peaks import voxel_peaks
from cryonb.volume import ProbabilityVolume, Volume

__all__ = ["Peaks", "cluster_published", "find_ca"]

#: Of the published clustering: least P(Cα), and how far from a seed a cluster reaches in Å.
THRESHOLD, REACH = 0.4, 2.0


@dataclass(frozen=True)
class Peaks:
    """Candidates of Cα atoms.

    Attributes
    ----------
    position : ndarray of float64, shape (n, 3)
        (x, y, z) in Å.
    score : ndarray of float32, shape (n,)
        Probability of a Cα atom.
    emission : ndarray of float32, shape (n, k)
        Probability of each class of residue there, each row summing to one; k is 0 where no
        classes were given.
    classes : tuple of str
        Names of the k classes.
    """

    position: np.ndarray
    score: np.ndarray
    emission: np.ndarray
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.position)

    def select(self, which) -> Peaks:
        """Keep the peaks that a bool array or indices name."""
        return replace(
            self, position=self.position[which], score=self.score[which],
            emission=self.emission[which],
        )  # fmt: skip

    def above(self, threshold: float) -> Peaks:
        """Keep the peaks whose score is at least `threshold`."""
        return self.select(self.score >= threshold)


def find_ca(
    probability: Volume, *, classes: ProbabilityVolume | None = None, threshold: float = 0.3,
    radius: float = 2.0, refine: str = "parabola", reach: float = 1.0,
) -> Peaks:  # fmt: skip
    """Find the peaks of a map of probabilities, the highest first.

    Parameters
    ----------
    probability : Volume
        Probability of a Cα atom, or a heat map with a hump on each.
    classes : ProbabilityVolume, optional
        Probabilities of the classes of residues, on any grid.
    threshold : float
        Least probability of a peak's highest voxel.
    radius : float
        Of two peaks no farther apart than this, in Å, the higher one is kept (non-maximum
        suppression, the highest first). 3.8 Å lie between neighbours in a chain, 2.9 Å at a
        cis bond.
    refine : {"parabola", "centroid", "none"}
        How a peak is placed between the voxels, see `cryonb.graph.voxel_peaks.voxel_peaks`.
    reach : float
        The classes are read, and averaged, at the peak and at points this far away along the
        axes, in Å.

    Returns
    -------
    Peaks
        A class "background" is no class of residue: its probability is shared by the others.

    Raises
    ------
    CryonbError
        If the threshold or the radius is not positive, or the refinement is unknown.

    Notes
    -----
    Suppression by rank makes thresholds exchangeable: `find_ca(p, threshold=0.2).above(0.5)` is
    `find_ca(p, threshold=0.5)`.
    """
    _need_radius(radius)
    size = np.array(probability.voxel_size[::-1])
    index, score = voxel_peaks(
        probability.values, threshold=threshold, refine=refine, reach=1.5 / size
    )
    order = np.argsort(-score, kind="stable")
    position, score = probability.grid.to_points(index[order]), score[order]
    kept, _ = first_of_groups(position, radius=radius)
    position, score = position[kept], score[kept]
    if classes is None:
        return Peaks(position, score, np.empty((len(position), 0), dtype=np.float32))
    return Peaks(position, score, *_emissions(classes, position, reach))


def cluster_published(
    atom: ProbabilityVolume, amino: ProbabilityVolume, *, threshold: float = THRESHOLD,
    radius: float = REACH,
) -> Peaks:  # fmt: skip
    """Cluster voxels into Cα candidates as Cryo2Struct does.

    A voxel qualifies where neither network's most probable class is "background" and P(Cα) is
    above the threshold. In the order of the original's file (x slowest, z fastest) the first voxel
    that is left takes all later ones within the radius; their mean is the candidate. The result
    depends on that order, and so on how the map is turned; that of `find_ca` does not
    unless probabilities are equal.

    Parameters
    ----------
    atom : ProbabilityVolume
        Of background, CA, N and C.
    amino : ProbabilityVolume
        Of background and the amino acids, on the same grid.
    threshold : float
        P(Cα) must be more.
    radius : float
        Å, inclusive.

    Returns
    -------
    Peaks
        In the order of their seeds. Scores and emissions are means over the cluster; each voxel's
        P(background) is shared evenly by the amino acids.

    Raises
    ------
    CryonbError
        If the grids differ, a class lacks or the radius is not positive.

    References
    ----------
    Giri & Cheng, Nature Communications 15, 5511 (2024); the rules are those of the program
    (threshold, order and radius are not in the paper).
    """
    _need_radius(radius)
    if not atom.grid.is_close(amino.grid):
        raise CryonbError(
            f"Probabilities of atoms and amino acids on one grid were expected, but their shapes "
            f"are {atom.shape} and {amino.shape}, or their frames differ; resample one."
        )
    for volume, needed in ((atom, ("background", "CA")), (amino, ("background",))):
        lacking = [name for name in needed if name not in volume.classes]
        if lacking:
            raise CryonbError(
                f"Probabilities with the class {lacking[0]} were expected, but the classes are "
                f"{', '.join(volume.classes)}."
            )
    alpha = atom["CA"].values
    both = ~atom.labels().mask("background") & ~amino.labels().mask("background")
    voxel = np.argwhere((both & (alpha > threshold)).T)[:, ::-1]
    where = tuple(voxel.T)
    # The program reads its coordinates from a text with three decimals.
    points = np.round(atom.grid.to_points(voxel), 3)
    seeds, group = first_of_groups(points, radius=radius)
    emission, names = _without_background(amino.values[(slice(None), *where)].T, amino.classes)
    table = np.column_stack([points, alpha[where], emission]).astype(np.float64)
    total = np.zeros((len(seeds), table.shape[1]))
    np.add.at(total, group, table)
    mean = total / np.bincount(group, minlength=len(seeds))[:, None]
    return Peaks(mean[:, :3], mean[:, 3].astype(np.float32), mean[:, 4:].astype(np.float32), names)


def _need_radius(radius) -> None:
    if not (np.isfinite(radius) and radius > 0):
        raise CryonbError(f"The radius must be a positive number of Å, but {radius!r} was given.")


def _emissions(classes, position, reach) -> tuple[np.ndarray, tuple[str, ...]]:
    """Mean class vectors around positions, background shared out; even where nothing is known."""
    steps = reach * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
    found = classes.sample((position[:, None] + steps).reshape(-1, 3))
    found = found.reshape(len(position), len(steps), len(classes.classes))
    inside = ~np.isnan(found[..., :1])
    mean = np.where(inside, found, 0).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
    emission, names = _without_background(mean, classes.classes)
    total = emission.sum(axis=1, keepdims=True)
    even = np.float32(1 / len(names))
    return np.where(total > 0, emission / np.where(total > 0, total, 1), even), names


def _without_background(rows, names) -> tuple[np.ndarray, tuple[str, ...]]:
    rows = np.asarray(rows, dtype=np.float32)
    if "background" not in names:
        return rows, tuple(names)
    place = names.index("background")
    others = np.delete(rows, place, axis=1)
    kept = tuple(name for name in names if name != "background")
    return others + rows[:, place, None] / np.float32(len(kept)), kept
