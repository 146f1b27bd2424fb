"""A map made ready for building, as people do it step by step by hand: `nb.prepare`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cryonb.errors import CryonbError
from cryonb.opening import half_maps as opened_halves
from cryonb.opening import open_map
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

if TYPE_CHECKING:
    from cryonb.derived import BoxedMap
    from cryonb.process.operators import Symmetry
    from cryonb.show.sharpening import ShownSharpening

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, repr=False)
class Prepared:
    """A map that is ready for building, and how it came to be.

    Attributes
    ----------
    map : BoxedMap
        Sharpened and boxed, where it was in space, with a recommended contour level;
        `.map.put_back(prepared.sharpening.map)` undoes the box.
    steps : pandas.DataFrame
        A row a step: step, what (what it found), seconds.
    sharpening : ShownSharpening
        With `.map` (the whole map, sharpened), `.b_before`, `.b_iso`, `.curve` and `.plot()`.
    symmetry : Symmetry
        With `.name`, `.axes`, `.centre` and `.apply(model)`, which makes the whole assembly of a
        model that was built into `map`.
    """

    map: BoxedMap
    steps: pd.DataFrame
    sharpening: ShownSharpening
    symmetry: Symmetry

    @property
    def box(self):
        """The box that was cut out: Grid."""
        return self.map.grid

    def view(self, model=None, **options):
        """Show the prepared map in the notebook, with controls."""
        return self.map.view(model, **options)

    def __repr__(self) -> str:
        lines = [f"{s.step:10s} {s.seconds:6.1f} s  {s.what}" for s in self.steps.itertuples()]
        return "\n".join([f"<Prepared: {self.map!r}>", *lines])

    def _repr_html_(self) -> str:
        table = self.steps.round({"seconds": 1}).to_html(index=False)
        return f"<div><b>Prepared for building</b>{table}{self.map._repr_html_()}</div>"


def prepare(
    volume, half_maps=None, *, resolution: float | None = None, cushion: float = 5.0,
    orders=range(2, 15), progress: bool = True,
) -> Prepared:  # fmt: skip
    """Sharpen a map, find its symmetry, and box the unique part.

    Parameters
    ----------
    volume : DensityMap, Volume or path
        The whole map, best the one before anybody sharpened or masked it.
    half_maps : HalfMaps or pair of Volume or path, optional
        On the map's grid; they decide the sharpening. By default those that ride on the map;
        without any, the surface of the map decides.
    resolution : float, optional
        Å; that which the map knows by default, else the half maps' at FSC 0.143, else an estimate.
    cushion : float
        Å of the box on every side.
    orders : iterable of int
        Orders of symmetry axes that are tried.
    progress : bool
        Show a bar while axes are tried.

    Returns
    -------
    Prepared
        With `.map`, `.steps`, `.sharpening`, `.symmetry` and `.box`.

    Raises
    ------
    CryonbError
        If the map is no density, is flat or has nothing above its noise, or as `sharpening` does.
    GridError
        If the half maps are on another grid.

    Notes
    -----
    The steps are those that the authors of Phenix take before they build by hand: auto-sharpen, map
    symmetry, map box. Symmetry is looked for in the map as it was given, whose noise is lower than
    that of the sharpened one. Where there is none, the box holds all density above the contour
    level and nothing is masked; where there is, all but one unit is zero. One unit is cut by
    distance from a dense point and its images, so chains that reach into a neighbour are cut as
    well: trim the overlap after `symmetry.apply(model)`.
    """
    from cryonb.density_map import DensityMap

    if not isinstance(volume, Volume):
        volume = open_map(volume)
    if isinstance(volume, LabelVolume | ProbabilityVolume):
        raise CryonbError(f"A density was expected to prepare, but {volume!r} was given.")
    if not isinstance(volume, DensityMap):
        volume = DensityMap.from_volume(volume)
    if half_maps is not None and (isinstance(half_maps, Volume) or len(list(half_maps)) != 2):
        raise CryonbError(
            f"Two half maps were expected, but {half_maps!r} was given; give nb.half_maps(a, b)."
        )
    halves = volume.half_maps if half_maps is None else opened_halves(*half_maps)
    steps = []

    def done(step, what, begin):
        steps.append((step, what, time.perf_counter() - begin))

    begin = time.perf_counter()
    sharpening = volume.sharpening(half_maps=halves, resolution=resolution)
    whole = sharpening.map
    before, after, d = sharpening.b_before, sharpening.b_iso, sharpening.resolution
    by = "half maps" if halves else "surface"
    done("sharpen", f"by {by}: B from {before:.0f} to {after:.0f} Å² at {d:.2f} Å", begin)

    begin = time.perf_counter()
    symmetry = volume.find_symmetry(resolution=d, orders=orders, progress=progress)
    found = "none (C1)"
    if len(symmetry) > 1:
        x, y, z = symmetry.centre
        found = (
            f"{symmetry.name} about ({x:.1f}, {y:.1f}, {z:.1f}) Å, lowest correlation "
            f"{symmetry.score:.3f}"
        )
    done("symmetry", found, begin)

    begin = time.perf_counter()
    contour = whole.contour_level()
    whole.contour = contour.level
    done("contour", f"{contour.level:.3g}: {contour.reason}", begin)

    begin = time.perf_counter()
    box = whole.box(around=symmetry if len(symmetry) > 1 else "density", cushion=cushion)
    part = f"one unit of {symmetry.name}" if len(symmetry) > 1 else "the density"
    sizes = [" × ".join(str(n) for n in one.shape) for one in (box, whole)]
    share = box.grid.n_voxels / whole.grid.n_voxels
    done("box", f"{part}: {sizes[0]} voxels of {sizes[1]} ({share:.0%})", begin)

    table = pd.DataFrame(steps, columns=["step", "what", "seconds"])
    return Prepared(box, table, sharpening, symmetry)
