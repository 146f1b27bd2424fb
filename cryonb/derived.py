"""Maps that a map's methods give, and half maps, with what can be done with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryonb.density_map import DensityMap
from cryonb.process.half_maps import HalfMaps
from cryonb.volume import Volume

__all__ = ["BoxedMap", "DifferenceMap", "LocalResolution", "MapHalves"]


class BoxedMap(DensityMap):
    """A box that was cut out of a map and knows its way back.

    Attributes
    ----------
    weights : Volume or None
        By which the map was multiplied, on the grid of the box.
    """

    _carried = (*DensityMap._carried, "weights")

    def __init__(self, values, grid, *, weights=None, **metadata):
        self.weights = weights
        super().__init__(values, grid, **metadata)

    @classmethod
    def from_box(cls, volume, weights) -> BoxedMap:
        """Make one of what `cryonb.process.box.cut_box` gives."""
        return cls._adopt(volume.values, volume.grid, weights=weights, **_metadata(volume))

    def put_back(self, whole):
        """Put the box back into the map: see `cryonb.process.box.put_back`."""
        from cryonb.process.box import put_back

        return put_back(self, whole, self.weights)


class DifferenceMap(DensityMap):
    """A difference in standard deviations, whose contour level is 3 of them.

    Attributes
    ----------
    model : gemmi.Structure, Atoms or None
        What was subtracted, if it was a model.
    """

    _carried = (*DensityMap._carried, "model")

    def __init__(self, values, grid, *, model=None, **metadata):
        self.model = model
        super().__init__(values, grid, **metadata)

    @classmethod
    def from_difference(cls, volume, other) -> DifferenceMap:
        """Make one of the volume that `difference` gives, and what was subtracted."""
        model = None if isinstance(other, Volume) else other
        return cls._adopt(volume.values, volume.grid, model=model, **_metadata(volume))

    def peaks(self, model=None, **options):
        """List peaks and holes: see `cryonb.evaluate.difference.difference_peaks`.

        The nearest residues are those of the subtracted model, where no other is given.
        """
        from cryonb.evaluate.difference import difference_peaks

        return difference_peaks(self, self.model if model is None else model, **options)


def _metadata(volume) -> dict:
    """What a volume, a map or not, knows about itself."""
    return {
        "name": volume.name,
        "history": volume.history,
        "resolution": getattr(volume, "resolution", None),
        "contour": getattr(volume, "contour", None),
    }


class MapHalves(HalfMaps):
    """Two half maps with what can be done with them; `nb.half_maps` makes it.

    `.mean` is the whole map, a `DensityMap`.
    """

    def fsc(self, **options):
        """Correlate the halves by resolution: see `cryonb.process.fourier_shells.half_map_fsc`.

        Returns
        -------
        FourierShells
            With `.table`, `.resolution(threshold)` and `.plot()`.
        """
        return self.first.fsc(self.second, **options)

    def sharpen(self, **options):
        """Sharpen the mean by the halves' agreement: see `cryonb.process.sharpen.sharpening`."""
        return self.mean.sharpen(half_maps=self, **options)

    def density_modify(self, **options):
        """Improve both and their mean: see `cryonb.process.density_modify.density_modify`."""
        return self.mean.density_modify(self, **options)

    def local_resolution(self, **options) -> LocalResolution:
        """Find the resolution voxel by voxel: see `cryonb.process.local_resolution`.

        Takes the arguments of `local_resolution` there.
        """
        from cryonb.process.local_resolution import local_resolution

        found = local_resolution(self.first, self.second, **options)
        return LocalResolution._adopt(
            found.values, found.grid, name=found.name, history=found.history, density=self.mean
        )


class LocalResolution(Volume):
    """Resolution at each voxel, with the map that it is of.

    Parameters
    ----------
    values, grid, name, history
        As for `Volume`; values in Å.
    density : DensityMap, optional
        The map, on the same grid.
    """

    _carried = ("name", "density")

    def __init__(self, values, grid, *, name="", history=(), density=None):
        self.density = density
        super().__init__(values, grid, name=name, history=history)

    def level(self) -> float:
        """Give the density from which on a voxel counts as molecule.

        The map's contour level, else the level of its noise; see
        `cryonb.process.level.noise_level`.
        """
        from cryonb.process.level import noise_level

        if self.density.contour is not None:
            return self.density.contour
        return noise_level(self.density.values)

    def inside(self):
        """Give the values within the molecule, in Å: ndarray, shape (n,)."""
        return self.values[self.density.values >= self.level()]

    @property
    def summary(self):
        """Finest, quartiles, coarsest (Å) and number of voxels within the molecule: a Series."""
        import pandas as pd

        inside = self.inside()
        names = ("finest", "quarter", "median", "three_quarters", "coarsest")
        values = np.percentile(inside, (0, 25, 50, 75, 100))
        return pd.Series(dict(zip(names, values, strict=True)) | {"n_voxels": float(inside.size)})

    def plot(self):
        """Draw slices, and the histogram within the molecule: a matplotlib figure."""
        from cryonb.show.local_resolution import plot_local_resolution

        return plot_local_resolution(self)

    def save(self, folder, *, stem: str | None = None) -> list[Path]:
        """Write local resolution and map as MRC, and a script that colours the one by the other.

        Parameters
        ----------
        folder : path
            Made if it is not there.
        stem : str, optional
            Beginning of the file names; the map's name by default.

        Returns
        -------
        list of Path
            `<stem>.mrc`, `<stem>_local_resolution.mrc` and `<stem>_local_resolution.cxc` for
            ChimeraX, whose colours go from the 2nd to the 98th percentile within the molecule.
        """
        from cryonb.files.mrc import write_map
        from cryonb.files.scene import write_coloured_surface

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stem = stem or self.density.name or "map"
        density = write_map(self.density, folder / f"{stem}.mrc")
        values = write_map(self, folder / f"{stem}_local_resolution.mrc")
        low, high = (float(v) for v in np.percentile(self.inside(), (2, 98)))
        script = write_coloured_surface(
            folder / f"{stem}_local_resolution.cxc", density, values,
            low=low, high=max(high, low + 0.1), level=self.level(),
        )  # fmt: skip
        return [density, values, script]

    def _repr_html_(self) -> str:
        from cryonb.show.repr import html_of

        facts = {"within the molecule": f"{self.summary['median']:.2f} Å (median)"}
        return html_of(self, facts)
