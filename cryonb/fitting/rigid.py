"""A model into a map as one body: `nb.fit`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from tqdm.auto import tqdm

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, MapModelMismatchError
from cryonb.field.spline import SplineField
from cryonb.fitting.search import Candidates, search
from cryonb.grid import Grid
from cryonb.process.blur import blurred
from cryonb.process.level import noise_level
from cryonb.process.resample import resample
from cryonb.simulate.gaussian import gaussians, sigma_of
from cryonb.volume import Volume

__all__ = ["Fit", "fit"]

#: Resolution of the search in Å: finer details would need more rotations than they are worth.
_COARSE = 8.0
#: Points of the model's map that a placement is judged by, while searching and at the end.
_FEW, _MANY = 1500, 12000
#: Candidates that are polished coarsely, and of them finely.
_TRIED, _POLISHED = 60, 12


@dataclass(frozen=True, repr=False)
class Fit:
    """Placements of a model in a map, the best first.

    Attributes
    ----------
    poses : pandas.DataFrame
        A row a placement: cc (correlation of the map with the model's map where the latter is),
        turn (degrees) and shift (Å) by which the model is moved about its middle.
    rotation : ndarray, shape (n, 3, 3)
        About the middle of the model.
    shift : ndarray, shape (n, 3)
        Of the middle, (x, y, z) in Å.
    middle : ndarray, shape (3,)
        Of the model as it was given.
    structure : gemmi.Structure
        The model as it was given.
    """

    poses: pd.DataFrame
    rotation: np.ndarray
    shift: np.ndarray
    middle: np.ndarray
    structure: object

    def transform(self, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Give (matrix, vector) of a placement: x becomes matrix · x + vector."""
        matrix = self.rotation[number]
        return matrix, self.middle + self.shift[number] - matrix @ self.middle

    def model(self, number: int = 0):
        """Give the model in a placement: a new gemmi.Structure."""
        import gemmi

        matrix, vector = self.transform(number)
        moved = self.structure.clone()
        transform = gemmi.Transform(gemmi.Mat33(matrix.tolist()), gemmi.Vec3(*vector.tolist()))
        for model in moved:
            model.transform_pos_and_adp(transform)
        return moved

    def __repr__(self) -> str:
        best = self.poses.iloc[0]
        return f"<Fit: {len(self.poses)} placements, the best with cc {best['cc']:.3f}>"

    def _repr_html_(self) -> str:
        return self.poses.round(3).to_html()


def fit(
    model, volume: Volume, *, resolution: float | None = None, contour: float | None = None,
    n: int = 5, everywhere: bool = True, step: float = 15.0, progress: bool = True,
) -> Fit:  # fmt: skip
    """Place a model in a map as one rigid body.

    Parameters
    ----------
    model : gemmi.Structure
        Anywhere in space.
    volume : Volume
        The map.
    resolution : float, optional
        Å; that which a `DensityMap` knows by default.
    contour : float, optional
        What is below it counts as empty in the search; estimated from the noise by default.
    n : int
        Placements that are given.
    everywhere : bool
        Search all rotations and translations; otherwise only improve the placement as it is.
    step : float
        Degrees between the rotations that are tried.
    progress : bool
        Show bars.

    Returns
    -------
    Fit
        With `.poses`, `.model(number)` and `.transform(number)`.

    Raises
    ------
    CryonbError
        If the resolution is not known, or nothing in the map is above the contour level.
    MapModelMismatchError
        If the model is not in the map and `everywhere` is False.

    Notes
    -----
    As DEMO-EMfit and others do: a search by Fourier transforms on a coarse grid, then L-BFGS from
    the best placements that differ, here on the correlation of the map's spline with the model's
    map, first coarse, then at the resolution.
    """
    resolution = resolution or getattr(volume, "resolution", None)
    if not resolution or resolution <= 0:
        raise CryonbError(
            "Fitting needs the resolution of the map, but none is known; give resolution= in Å."
        )
    atoms = Atoms.from_structure(model)
    middle = atoms.position.mean(axis=0)
    level = noise_level(volume.values) if contour is None else contour
    if not volume.max > level:
        raise CryonbError(
            f"Density above a contour level of {level:g} was expected, but the largest is "
            f"{volume.max:g}; give a lower contour=."
        )
    coarse = max(_COARSE, resolution)
    if everywhere:
        rough = _coarse_map(volume, level, resolution, coarse)
        found = search(
            rough, atoms.position - middle, atoms.element.astype(float),
            sigma=sigma_of(coarse), step=step, progress=progress,
        )  # fmt: skip
        some = _sample(atoms.position - middle, 200)
        found = found.apart(some, coarse / 2, _TRIED)
        bar = tqdm(total=_TRIED + _POLISHED, desc="polish", disable=not progress)
        found = _polish(_Judge(rough, atoms, coarse, _FEW), found, bar).apart(some, 2.0, _POLISHED)
    else:
        found = Candidates(np.eye(3)[None], middle[None], np.zeros(1))
        bar = tqdm(total=1, desc="polish", disable=not progress)
    judge = _Judge(volume, atoms, resolution, _MANY)
    if not everywhere and not volume.grid.contains(judge.points + middle).any():
        raise MapModelMismatchError(
            "A model in the map was expected, but it lies outside of the box "
            f"({volume.grid.describe_box()}); use everywhere=True."
        )
    found = _polish(judge, found, bar)
    bar.close()
    found = found.apart(_sample(atoms.position - middle, 200), 1.0, n)
    shift = found.middle - middle
    turn = np.degrees(Rotation.from_matrix(found.rotation).magnitude())
    poses = pd.DataFrame({"cc": found.score, "turn": turn, "shift": np.linalg.norm(shift, axis=1)})
    return Fit(poses, found.rotation, shift, middle, model.clone())


def _coarse_map(volume: Volume, level: float, resolution: float, coarse: float) -> Volume:
    """The map at the resolution of the search, zero where there is nothing."""
    emptied = volume.replace(np.where(volume.values > level, volume.values, 0))
    return resample(blurred(emptied, resolution, coarse), coarse / 3)


def _sample(points: np.ndarray, most: int) -> np.ndarray:
    """Every so-manieth of some points."""
    return points[:: max(len(points) // most, 1)]


class _Judge:
    """How well a model's map agrees with a map, and which way it gets better.

    Parameters
    ----------
    volume : Volume
        The map.
    atoms : Atoms
        The model.
    resolution : float
        Of the model's map, Å.
    most : int
        Points of the model's map that are compared.
    """

    def __init__(self, volume: Volume, atoms: Atoms, resolution: float, most: int):
        self._field = SplineField(volume)
        middle = atoms.position.mean(axis=0)
        grid = Grid.around(atoms.position, resolution / 3, resolution)
        image = gaussians(atoms.position, atoms.element, grid, resolution=resolution)
        near = np.argwhere(image.values > 0.02 * image.max)
        if len(near) > most:
            near = near[np.random.default_rng(0).choice(len(near), most, replace=False)]
        self.points = grid.to_points(near) - middle
        weight = image.values[tuple(near.T)].astype(np.float64)
        weight -= weight.mean()
        self._weight = weight / np.linalg.norm(weight)
        #: What a turn by one radian moves a point by, Å: gives turns and shifts one unit.
        self.reach = float(np.sqrt((self.points**2).sum(axis=1).mean()))

    def __call__(self, rotation, middle) -> tuple[float, np.ndarray, np.ndarray]:
        """Give the correlation and its derivatives by a small turn and by a shift."""
        turned = self.points @ rotation.T
        value, slope = self._field.evaluate(turned + middle, derivatives=1)
        # There is nothing beyond the box.
        value = np.nan_to_num(value.astype(np.float64))
        slope = np.nan_to_num(slope.astype(np.float64))
        value -= value.mean()
        size = np.linalg.norm(value)
        if size < 1e-12:
            return 0.0, np.zeros(3), np.zeros(3)
        value /= size
        cc = float(value @ self._weight)
        by_point = ((self._weight - cc * value) / size)[:, None] * slope
        return cc, np.cross(turned, by_point).sum(axis=0), by_point.sum(axis=0)


def _polish(judge: _Judge, found: Candidates, bar) -> Candidates:
    """Improve placements by L-BFGS; the correlation becomes their score."""
    rows = []
    for start, middle in zip(found.rotation, found.middle, strict=True):

        def loss(x, start=start, middle=middle):
            turn = x[:3] / judge.reach
            rotation = Rotation.from_rotvec(turn).as_matrix() @ start
            cc, torque, force = judge(rotation, middle + x[3:])
            return -cc, -np.concatenate([_jacobian(turn).T @ torque / judge.reach, force])

        best = minimize(loss, np.zeros(6), jac=True, method="L-BFGS-B", options={"maxiter": 60})
        rotation = Rotation.from_rotvec(best.x[:3] / judge.reach).as_matrix() @ start
        rows.append((rotation, middle + best.x[3:], -best.fun))
        bar.update()
    rotation, middle, score = (np.array(column) for column in zip(*rows, strict=True))
    order = np.argsort(-score, kind="stable")
    return Candidates(rotation[order], middle[order], score[order])


def _jacobian(turn: np.ndarray) -> np.ndarray:
    """How a change of a rotation vector turns, in space: the left Jacobian of SO(3)."""
    angle = np.linalg.norm(turn)
    if angle < 1e-9:
        return np.eye(3)
    axis = turn / angle
    cross = np.cross(np.eye(3), axis)
    a, b = np.sin(angle) / angle, (1 - np.cos(angle)) / angle
    return a * np.eye(3) + (1 - a) * np.outer(axis, axis) + b * cross
