"""Surfaces and a backbone drawn by matplotlib, where there is no browser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb

from cryonb.atoms import KIND_NUCLEIC, KIND_PROTEIN, Atoms
from cryonb.errors import CryonbError
from cryonb.files.scene import CLASS_COLOURS
from cryonb.label.secondary_structure import secondary_structure
from cryonb.show.plot import Picture, legend_of
from cryonb.volume import CLASSES, Volume

__all__ = ["Surface", "render"]

#: Most triangles of a picture, about; more cost time and are smaller than a pixel.
_TRIANGLES = 60_000
#: From where light comes, in the frame of the picture (right, up, towards the viewer).
_LIGHT = np.array([-0.35, 0.45, 0.82])
#: How far the colours of what is farthest away have faded into the white.
_FADE = 0.55
#: Half the width of the backbone's ribbon in Å, and the farthest two neighbours may be apart.
_HALF, _REACH = 0.55, {"CA": 4.5, "P": 9.0}


@dataclass(frozen=True)
class Surface:
    """An isosurface to draw.

    Attributes
    ----------
    volume : Volume
        A density or probability.
    level : float
        Contour level.
    colour : str
        "#RRGGBB".
    opacity : float
        0 to 1.
    name : str
        In the legend; "" for none.
    """

    volume: Volume
    level: float
    colour: str = "#999999"
    opacity: float = 0.5
    name: str = ""


def render(
    surfaces, model=None, *, turn: float = 30.0, tilt: float = 20.0, size: float = 5.0
) -> Picture:
    """Draw surfaces and the trace of a model's backbone, shaded by light and by depth.

    Parameters
    ----------
    surfaces : sequence of Surface
        What to draw; a surface whose level nothing reaches is left out.
    model : gemmi.Structure or Atoms, optional
        Its Cα and P atoms are joined, coloured by the class that the model says.
    turn, tilt : float
        Degrees by which the view is turned about the vertical (the map's z axis), and then tipped
        towards the viewer.
    size : float
        Of the picture in inches.

    Returns
    -------
    Picture
        A matplotlib figure.

    Raises
    ------
    CryonbError
        If there is nothing to draw, or scikit-image is not installed.
    """
    view = _view(turn, tilt)
    shapes, names = [], {}
    surfaces = [s for s in surfaces if s.volume.min < s.level < s.volume.max]
    for surface in surfaces:
        corners = _triangles(surface, _TRIANGLES // len(surfaces)) @ view.T
        shapes.append(_shaded(corners, surface.colour, surface.opacity))
        if surface.name:
            names[surface.name] = surface.colour
    if model is not None:
        ribbon, colours, classes = _trace(Atoms.from_structure(model), view)
        shapes.append((ribbon, np.column_stack([colours, np.ones(len(colours))])))
        names |= {name: CLASS_COLOURS[name] for name in classes}
    if not sum(len(corners) for corners, _ in shapes):
        raise CryonbError(
            "A surface or a backbone was expected, but no map reaches its level and there is no "
            "model; lower the levels."
        )
    return _draw(shapes, names, size)


def _view(turn: float, tilt: float) -> np.ndarray:
    """Rotation of points (x, y, z) to (right, up, towards the viewer)."""
    a, b = np.radians([turn, tilt])
    about = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.sin(b), np.cos(b)], [0, -np.cos(b), np.sin(b)]])
    return tip @ about


def _triangles(surface: Surface, most: int) -> np.ndarray:
    """Corners of the triangles of a surface as points, shape (n, 3, 3)."""
    try:
        from skimage.measure import marching_cubes
    except ImportError:
        raise CryonbError(
            "Drawing surfaces needs scikit-image; install it by: pip install 'cryonb[notebook]'."
        ) from None
    values = np.pad(surface.volume.values.astype(np.float32), 1)
    # A surface has about two triangles for each voxel edge that it cuts along an axis.
    above = values > surface.level
    crossings = sum(int((above != np.roll(above, 1, axis)).sum()) for axis in range(3))
    step = max(int(np.ceil(np.sqrt(crossings * 2 / most))), 1)
    corners, faces, _, _ = marching_cubes(values, surface.level, step_size=step)
    return surface.volume.grid.to_points(corners - 1)[faces]


def _shaded(corners: np.ndarray, colour: str, opacity: float):
    """Colours of triangles by the angle at which light meets them."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    light = 0.45 + 0.55 * np.abs(normal @ (_LIGHT / np.linalg.norm(_LIGHT)))
    colours = np.array(to_rgb(colour)) * light[:, None]
    return corners, np.column_stack([colours, np.full(len(colours), opacity)])


def _trace(atoms: Atoms, view: np.ndarray):
    """Ribbon pieces of the backbone, their colours, and the classes among them."""
    structure = secondary_structure(atoms)
    kind = atoms.residues.kind[atoms.residue]
    ribbons, colours, classes = [], [], set()
    for name, polymer in (("CA", KIND_PROTEIN), ("P", KIND_NUCLEIC)):
        rows = np.flatnonzero((atoms.name == name) & (kind == polymer))
        points, residue = atoms.position[rows] @ view.T, atoms.residue[rows]
        chain = atoms.residues.chain[residue]
        near = np.linalg.norm(np.diff(points, axis=0), axis=1) < _REACH[name]
        joined = near & (chain[1:] == chain[:-1])
        start, stop = points[:-1][joined], points[1:][joined]
        along = (stop - start)[:, :2]
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        side = np.column_stack([-along[:, 1], along[:, 0], np.zeros(len(along))]) * _HALF
        quads = np.stack([start - side, start + side, stop + side, stop - side], axis=1)
        states = structure.to_frame()["state"].to_numpy()[residue[:-1][joined]]
        ribbons.append(quads)
        colours += [to_rgb(CLASS_COLOURS[state]) for state in states]
        classes |= set(states.tolist())
    shown = [name for name in CLASSES if name in classes]
    return np.concatenate(ribbons), np.array(colours).reshape(-1, 3), shown


def _draw(shapes, names, size: float) -> Picture:
    depth = np.concatenate([corners[..., 2].mean(axis=1) for corners, _ in shapes])
    colours = np.concatenate([colours for _, colours in shapes])
    polygons = [polygon for corners, _ in shapes for polygon in corners[..., :2]]
    far = (depth.max() - depth) / max(np.ptp(depth), 1e-9) * _FADE
    colours[:, :3] = colours[:, :3] * (1 - far[:, None]) + far[:, None]
    # The painter's way: what is near is drawn over what is far.
    order = np.argsort(depth)
    picture = Picture(size, size)
    axes = picture.subplots()
    triangles = PolyCollection([polygons[k] for k in order], facecolors=colours[order])
    triangles.set(edgecolors="none", antialiased=False)
    axes.add_collection(triangles)
    every = np.concatenate([corners[..., :2].reshape(-1, 2) for corners, _ in shapes])
    low, high = every.min(axis=0), every.max(axis=0)
    axes.set(xlim=(low[0] - 1, high[0] + 1), ylim=(low[1] - 1, high[1] + 1), aspect="equal")
    axes.set_axis_off()
    if names:
        legend_of(picture, names)
    return picture
