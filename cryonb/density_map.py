"""The facade: a map object whose methods hand over to the rooms below.

Imports stand inside the methods, so that `import cryonb` stays light.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryonb.errors import CryonbError
from cryonb.volume import Volume

if TYPE_CHECKING:
    from cryonb.results import BackboneMap, MapGraph, SecondaryStructureMap, TracedModel

__all__ = ["DensityMap"]


class DensityMap(Volume):
    """A cryo-EM map, with what is known about it and what can be done with it.

    Parameters
    ----------
    values : array_like, shape (z, y, x)
        Densities.
    grid : Grid
        Where the voxels are.
    resolution : float, optional
        As deposited, in Å.
    contour : float, optional
        Recommended contour level, in units of the values.
    name : str
        Shown in tables and used for file names.
    history : tuple of str
        What was done to the values.

    Attributes
    ----------
    half_maps : MapHalves or None
        The half maps that ride on the map, see `with_half_maps`. A map made of this one has none:
        they would no longer be its halves.
    """

    _carried = ("name", "resolution", "contour")

    def __init__(self, values, grid, *, resolution=None, contour=None, name="", history=()):
        self.resolution = resolution
        self.contour = contour
        self.half_maps = None
        super().__init__(values, grid, name=name, history=history)

    @classmethod
    def from_volume(cls, volume: Volume, *, resolution=None, contour=None) -> DensityMap:
        """Make a map of a volume; the values are shared, not copied."""
        return cls._adopt(
            volume.values,
            volume.grid,
            name=volume.name,
            history=volume.history,
            resolution=resolution,
            contour=contour,
        )

    def with_half_maps(self, first, second) -> DensityMap:
        """Let two half maps ride on the map.

        `sharpen`, `sharpening`, `density_modify`, `difference`, `local_resolution`, `evaluate` and
        `nb.prepare` then use them without being told.

        Parameters
        ----------
        first, second : Volume or path
            As for `nb.half_maps`; on the map's grid.

        Returns
        -------
        DensityMap
            The same values, with `.half_maps`.

        Raises
        ------
        CryonbError
            If one is flat or holds what is no number, or both are the same.
        GridError
            If they are not on the map's grid.
        """
        from cryonb.opening import half_maps
        from cryonb.process.fourier_shells import same_grid

        made = self.replace()
        made.half_maps = half_maps(first, second)
        same_grid(self, made.half_maps.first)
        return made

    def _and_halves(self, options: dict) -> dict:
        """Add the half maps that ride on the map, unless others, or none, are asked for."""
        return options if self.half_maps is None else {"half_maps": self.half_maps} | options

    def _to_sharpen(self, options: dict) -> dict:
        """Add the half maps, unless another way of sharpening is asked for."""
        other = options.get("method", "auto") not in ("auto", "half_maps")
        if other or any(options.get(name) is not None for name in ("model", "b_iso")):
            return options
        return self._and_halves(options)

    # ---- process ---------------------------------------------------------------------------------

    def resample(self, voxel_size=None, **options) -> DensityMap:
        """Put the map on another spacing: see `cryonb.process.resample`."""
        from cryonb.process.resample import resample

        return resample(self, voxel_size, **options)

    def normalize(self, *, method: str = "rms") -> DensityMap:
        """Scale the densities by a published convention: see `cryonb.process.normalize`.

        The contour level, given in the old units, is dropped.
        """
        from cryonb.process.normalize import normalize

        scaled = normalize(self, method=method)
        scaled.contour = None
        return scaled

    def crop(self, **options) -> DensityMap:
        """Cut out a box: see `cryonb.process.crop`."""
        from cryonb.process.crop import crop

        return crop(self, **options)

    def pad(self, n, **options) -> DensityMap:
        """Add voxels around the map: see `cryonb.process.pad`."""
        from cryonb.process.crop import pad

        return pad(self, n, **options)

    def mask(self, **options) -> DensityMap:
        """Keep the molecule, what is near a model or in a contour: see `cryonb.process.mask`."""
        from cryonb.process.mask import mask

        return mask(self, **options)

    def contour_level(self, **options):
        """Recommend a contour level, with the reason: see `cryonb.process.contour`."""
        from cryonb.process.contour import contour_level

        return contour_level(self, **options)

    def difference(self, other, **options):
        """Subtract a model or a map: see `cryonb.process.difference.difference`.

        Returns
        -------
        DifferenceMap
            In standard deviations, with `.peaks(model)`.
        """
        from cryonb.derived import DifferenceMap
        from cryonb.process.difference import difference

        return DifferenceMap.from_difference(
            difference(self, other, **self._and_halves(options)), other
        )

    def add_waters(self, model, **options):
        """Add water molecules to a model: see `cryonb.trace.waters.add_waters`."""
        from cryonb.trace.waters import add_waters

        return add_waters(self, model, **options)

    def box(self, **options):
        """Cut a box with a soft edge (around=, cushion=): see `cryonb.process.box.cut_box`.

        Returns
        -------
        BoxedMap
            With `.put_back(map)`.
        """
        from cryonb.derived import BoxedMap
        from cryonb.process.box import cut_box

        return BoxedMap.from_box(*cut_box(self, **options))

    def segment(self, **options):
        """Cut into segments around maxima: see `cryonb.process.segment.segment`."""
        from cryonb.process.segment import segment

        return segment(self, **options)

    # ---- continuous --------------------------------------------------------------------------

    def field(self, *, method: str = "cubic", **options):
        """Make a continuous function of the map: see `cryonb.field.field`.

        Beside what that gives, it has `.to_map(voxel_size)` and `.view(model)`.
        """
        from cryonb.field import field
        from cryonb.results import MapField

        return MapField.of(field(self, method=method, **options), self)

    def filter(self, **options) -> DensityMap:
        """Take out fine (low=) or coarse (high=) detail: see `cryonb.process.filter`.

        Without limits, what is finer than the map's resolution.
        """
        from cryonb.process.filter import band_filter

        if not options and self.resolution:
            options = {"low": self.resolution}
        return band_filter(self, **options)

    def flip_hand(self) -> DensityMap:
        """Mirror the map: see `cryonb.process.filter.flip_hand`."""
        from cryonb.process.filter import flip_hand

        return flip_hand(self)

    def confidence(self, **options) -> DensityMap:
        """Turn densities into 1 minus the false discovery rate: see `cryonb.process.confidence`."""
        from cryonb.process.confidence import confidence

        return confidence(self, **options)

    def sharpen(self, **options) -> DensityMap:
        """Bring out detail: see `cryonb.process.sharpen.sharpening`, whose arguments it takes.

        The contour level, given in the old units, is dropped; the history names method and B.
        """
        from cryonb.process.sharpen import sharpen

        return sharpen(self, **self._to_sharpen(options))

    def sharpening(self, **options):
        """Sharpen, and give B and the curve beside the map: see `cryonb.process.sharpen`.

        Returns
        -------
        ShownSharpening
            With `.map`, `.b_before`, `.b_sharpen`, `.b_iso`, `.curve` and `.plot()`.
        """
        from cryonb.process.sharpen import sharpening
        from cryonb.show.sharpening import ShownSharpening

        return ShownSharpening(**vars(sharpening(self, **self._to_sharpen(options))))

    def density_modify(self, half_maps=None, **options):
        """Improve the map by what maps of molecules share: see `cryonb.process.density_modify`.

        Parameters
        ----------
        half_maps : HalfMaps or pair of Volume, optional
            By default those that ride on the map.
        **options
            Of `density_modify`.

        Returns
        -------
        ShownDensityModification
            With `.map`, `.half_maps`, `.mask`, `.curve`, `.gain` (Å) and `.plot()`.
        """
        from cryonb.process.density_modify import density_modify
        from cryonb.show.density_modify import ShownDensityModification

        half_maps = self._halves("Density modification") if half_maps is None else half_maps
        return ShownDensityModification(**vars(density_modify(self, half_maps, **options)))

    def local_resolution(self, **options):
        """Find the resolution voxel by voxel from the half maps that ride on the map.

        Takes the arguments of `cryonb.process.local_resolution.local_resolution`.

        Returns
        -------
        LocalResolution
            With `.summary`, `.plot()` and `.save(folder)`.

        Raises
        ------
        CryonbError
            If the map has no half maps.
        """
        return self._halves("The local resolution").local_resolution(**options)

    def _halves(self, what: str):
        if self.half_maps is None:
            raise CryonbError(
                f"{what} needs half maps, but none ride on this map; give them by "
                "m.with_half_maps(a, b)."
            )
        return self.half_maps

    def find_symmetry(self, **options):
        """Find point group or helix about any axis: see `cryonb.process.symmetry`."""
        from cryonb.process.symmetry import find_symmetry

        return find_symmetry(self, **options)

    def symmetrize(self, symmetry=None) -> DensityMap:
        """Average over the operations of a symmetry: see `cryonb.process.symmetrize`.

        Without one, of that which `find_symmetry` finds; a map that has none is refused.
        """
        from cryonb.process.symmetrize import symmetrize

        if symmetry is None:
            symmetry = self.find_symmetry()
            if symmetry.name == "C1":
                raise CryonbError(
                    "A map with a symmetry was expected, but none was found; ask "
                    "find_symmetry(least=...) for a worse one, or pass that of another map."
                )
        return symmetrize(self, symmetry)

    def density_graph(self, **options) -> MapGraph:
        """Make a graph of the map's density peaks: see `cryonb.graph.build.density_graph`.

        `field=` takes a field that was made before, such as a fitted one.
        """
        from cryonb.graph import density_graph
        from cryonb.results import MapGraph

        field = options.pop("field", None)
        options.setdefault("resolution", self.resolution)
        if options.get("threshold") == "contour" and self.contour is not None:
            options["threshold"] = self.contour
        return MapGraph.of(density_graph(self if field is None else field, **options), self)

    # ---- predict ------------------------------------------------------------------------------

    def predict_sse(self, *, method: str = "unet", **options) -> SecondaryStructureMap:
        """Predict helix, strand, coil and nucleotide: see `cryonb.predict.secondary_structure`.

        Takes the arguments of `predict_sse` there; resampling and normalisation are done inside.
        """
        from cryonb.predict.secondary_structure import predict_sse
        from cryonb.results import SecondaryStructureMap

        found = predict_sse(self, method=method, **options)
        return SecondaryStructureMap._adopt(
            found.values,
            found.grid,
            classes=found.classes,
            name=self.name,
            history=found.history,
            density=self,
        )

    def predict_backbone(self, **options) -> BackboneMap:
        """Predict backbone atoms and residue types: see `cryonb.predict.backbone`.

        Returns
        -------
        BackboneMap
            With `.heat`, `.residue`, `.secondary`, `.peaks()` and `.evaluate(model)`.
        """
        from cryonb.predict.backbone import predict_backbone
        from cryonb.results import BackboneMap

        return BackboneMap(**vars(predict_backbone(self, **options)))

    def enhance(self, **options) -> DensityMap:
        """Predict the density that a model would give: see `cryonb.predict.enhance.enhance`.

        Enhanced density is a prediction, not a measurement: look at it, build in it, but judge and
        refine a model by the map itself. The contour level, given in the old units, is dropped.
        """
        from cryonb.predict.enhance import enhance

        return enhance(self, **options)

    def trace(self, sequence=None, **options) -> TracedModel:
        """Trace Cα chains, with a sequence or without: see `cryonb.trace.pipeline.trace`.

        Returns
        -------
        TracedModel
            With `.model`, `.table`, `.evaluate(truth)` and `.save(folder)`.
        """
        from cryonb.results import TracedModel
        from cryonb.trace.pipeline import trace

        return TracedModel(**vars(trace(self, sequence, **options)))

    # ---- judge ----------------------------------------------------------------------------------

    def evaluate(self, model, **options):
        """Judge a model by this map: see `cryonb.evaluate.validation.validate`.

        Parameters
        ----------
        model : gemmi.Structure or Atoms
            The model, in the map's frame.
        **options
            Of `validate`: `resolution` (the map's own by default; a map of the local resolution
            adds cc_mask_local), `method` and `sigma` of the Q-score, `radius`, `mask`, `periodic`,
            `workers`, `device`, `half_maps` (those that ride on the map by default), and
            `prediction`: what `predict_sse` gave, for its scores and `.disagreements()` with the
            model.

        Returns
        -------
        Validation
            With `.summary`, `.residues`, `.chains`, `.fsc`, `.worst()`, `.disagreements()`,
            `.plot()`, `.view()` and `.save("report.html")`.
        """
        from cryonb.evaluate.validation import validate
        from cryonb.show.scores import ShownShells, ShownValidation

        found = validate(self, model, **self._and_halves(options))
        values = vars(found) | {"fsc": ShownShells(**vars(found.fsc))}
        return ShownValidation(**values, density=self, model=model)

    def fsc(self, other, **options):
        """Correlate two half maps by shell: see `cryonb.process.fourier_shells.half_map_fsc`.

        Parameters
        ----------
        other : Volume
            The other half, on the same grid.
        **options
            Of `half_map_fsc`: `mask`, `rng`, `shell_width`.

        Returns
        -------
        FourierShells
            With `.table`, `.resolution(threshold)` and `.plot()`.
        """
        from cryonb.process.fourier_shells import half_map_fsc
        from cryonb.show.scores import ShownShells

        return ShownShells(**vars(half_map_fsc(self, other, **options)))

    # ---- show and save --------------------------------------------------------------------------

    def plot(self):
        """Draw three slices and the histogram: a matplotlib figure."""
        from cryonb.show.plot import plot_density

        return plot_density(self, contour=self.contour)

    def view(self, model=None, **options):
        """Show the map in the notebook, with controls: see `cryonb.show.controls.MapView`."""
        from cryonb.show.controls import MapView

        return MapView(self, model, **options)

    def render(self, model=None, *, level: float | None = None, **options):
        """Draw the surface, and a model's backbone, by matplotlib: see `cryonb.show.render`.

        The level is the contour level, 3 sigma where there is none.
        """
        from cryonb.show.render import Surface, render

        if level is None:
            level = self.contour if self.contour is not None else self.mean + 3 * self.std
        return render([Surface(self, level)], model, **options)

    def save(self, path) -> Path:
        """Write the map as MRC (gzipped if the name ends in .gz)."""
        from cryonb.files.mrc import write_map

        return write_map(self, path)

    def _repr_html_(self) -> str:
        from cryonb.show.repr import html_of

        facts = {}
        if self.resolution is not None:
            facts["resolution"] = f"{self.resolution:g} Å"
        if self.contour is not None:
            facts["contour level"] = f"{self.contour:g}"
        return html_of(self, facts)
