"""The facade: a map object whose methods hand over to the rooms below.

Imports stand inside the methods, so that `import cryonb` stays light.
"""

from __future__ import annotations

from pathlib import Path

from cryonb.errors import CryonbError
from cryonb.graph.density_graph import DensityGraph
from cryonb.volume import CLASSES, ProbabilityVolume, Volume

__all__ = [
    "DensityMap",
    "MapGraph",
    "SecondaryStructureMap",
    "example",
    "example_model",
    "fetch",
    "fetch_map",
    "fetch_model",
    "open_map",
    "open_model",
]


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
    """

    _carried = ("name", "resolution", "contour")

    def __init__(self, values, grid, *, resolution=None, contour=None, name="", history=()):
        self.resolution = resolution
        self.contour = contour
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
        """Keep what is near a model or above a contour: see `cryonb.process.mask`."""
        from cryonb.process.mask import mask

        return mask(self, **options)

    # ---- continuous --------------------------------------------------------------------------

    def field(self, *, method: str = "cubic", **options):
        """Make a continuous function of the map: see `cryonb.field.field`."""
        from cryonb.field import field

        return field(self, method=method, **options)

    def filter(self, **options) -> DensityMap:
        """Take out fine (low=) or coarse (high=) detail: see `cryonb.process.filter`."""
        from cryonb.process.filter import band_filter

        return band_filter(self, **options)

    def flip_hand(self) -> DensityMap:
        """Mirror the map: see `cryonb.process.filter.flip_hand`."""
        from cryonb.process.filter import flip_hand

        return flip_hand(self)

    def confidence(self, **options) -> DensityMap:
        """Turn densities into 1 minus the false discovery rate: see `cryonb.process.confidence`."""
        from cryonb.process.confidence import confidence

        return confidence(self, **options)

    def find_symmetry(self, **options):
        """Find the point group, about any axes: see `cryonb.process.symmetry.find_symmetry`."""
        from cryonb.process.symmetry import find_symmetry

        return find_symmetry(self, **options)

    def symmetrize(self, symmetry) -> DensityMap:
        """Average over the operations of a symmetry: see `cryonb.process.symmetry.symmetrize`."""
        from cryonb.process.symmetry import symmetrize

        return symmetrize(self, symmetry)

    def density_graph(self, **options) -> MapGraph:
        """Make a graph of the map's density peaks: see `cryonb.graph.build.density_graph`.

        `field=` takes a field that was made before, such as a fitted one.
        """
        from cryonb.graph import density_graph

        field = options.pop("field", None)
        options.setdefault("resolution", self.resolution)
        if options.get("threshold") == "contour" and self.contour is not None:
            options["threshold"] = self.contour
        found = density_graph(self if field is None else field, **options)
        return MapGraph(
            found.nodes,
            found.edges,
            grid=found.grid,
            threshold=found.threshold,
            resolution=found.resolution,
            name=self.name,
            method=found.method,
        )

    # ---- predict ------------------------------------------------------------------------------

    def predict_sse(self, *, method: str = "unet", **options) -> SecondaryStructureMap:
        """Predict helix, strand, coil and nucleotide: see `cryonb.predict.secondary_structure`.

        Takes the arguments of `predict_sse` there; resampling and normalisation are done inside.
        """
        from cryonb.predict.secondary_structure import predict_sse

        found = predict_sse(self, method=method, **options)
        return SecondaryStructureMap._adopt(
            found.values,
            found.grid,
            classes=found.classes,
            name=self.name,
            history=found.history,
            density=self,
        )

    # ---- judge ----------------------------------------------------------------------------------

    def evaluate(self, model, **options):
        """Judge a model by this map: see `cryonb.evaluate.validation.validate`.

        Parameters
        ----------
        model : gemmi.Structure or Atoms
            The model, in the map's frame.
        **options
            Of `validate`: `resolution` (the map's own by default), `method` and `sigma` of the
            Q-score, `radius`, `mask`, `periodic`, `workers`, `device`.

        Returns
        -------
        Validation
            With `.summary`, `.residues`, `.chains`, `.fsc`, `.worst()`, `.plot()` and
            `.save("report.html")`.
        """
        from cryonb.evaluate.validation import validate
        from cryonb.show.scores import ShownShells, ShownValidation

        found = validate(self, model, **options)
        values = vars(found) | {"fsc": ShownShells(**vars(found.fsc))}
        return ShownValidation(**values)

    def fsc(self, other, **options):
        """Correlate two half maps by resolution: see `cryonb.evaluate.fourier_shell.half_map_fsc`.

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
        from cryonb.evaluate.fourier_shell import half_map_fsc
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


class SecondaryStructureMap(ProbabilityVolume):
    """Probabilities of helix, strand, coil and nucleotide, with the map that they came from.

    Parameters
    ----------
    values, grid, classes, name, history
        As for `ProbabilityVolume`.
    density : Volume, optional
        The map.
    """

    _carried = ("name", "classes", "density")

    def __init__(self, values, grid, *, classes=CLASSES, name="", history=(), density=None):
        self.density = density
        super().__init__(values, grid, classes=classes, name=name, history=history)

    def evaluate(self, model, **options):
        """Judge the prediction by a model: see `cryonb.evaluate.secondary_structure`.

        Returns
        -------
        DrawnEvaluation
            With `.summary`, `.residues`, `.segments`, `.worst()`, `.calibration()`, `.confusion()`,
            `.plot(kind)` and `.save(folder)`.
        """
        from cryonb.evaluate.secondary_structure import evaluate_sse
        from cryonb.show.evaluation import DrawnEvaluation

        options.setdefault("density", self.density)
        found = evaluate_sse(self, model, **options)
        return DrawnEvaluation(found.summary, found.residues, found.segments)

    def plot(self):
        """Draw three slices with the classes over the density, and each class's share."""
        from cryonb.show.plot import plot_sse

        same = self.density is not None and self.density.grid.is_close(self.grid)
        return plot_sse(self, self.density if same else None)

    def view(self, model=None, **options):
        """Show classes, density and model with controls: `cryonb.show.controls.StructureView`."""
        from cryonb.show.controls import StructureView

        return StructureView(self, model, **options)

    def render(self, model=None, *, level: float = 0.5, **options):
        """Draw surfaces of the classes, and a model's backbone: see `cryonb.show.render`.

        Coil is left out, since it would hide the rest.
        """
        from cryonb.files.scene import CLASS_COLOURS
        from cryonb.show.render import Surface, render

        shown = [name for name in self.classes[1:] if name != "coil"]
        surfaces = [Surface(self[name], level, CLASS_COLOURS[name], 0.35, name) for name in shown]
        return render(surfaces, model, **options)

    def save(self, folder, *, stem: str | None = None) -> list[Path]:
        """Write one MRC a class, all probabilities as npz, and scenes for other programs.

        Parameters
        ----------
        folder : path
            Made if it is not there.
        stem : str, optional
            Beginning of the file names; the map's name by default.

        Returns
        -------
        list of Path
            What was written: `<stem>_helix.mrc`, ..., `<stem>_sse.npz` (probabilities of shape
            (class, z, y, x), classes, voxel_size and origin in (x, y, z)), `<stem>_sse.cxc` for
            ChimeraX, `<stem>_sse.pml` for PyMOL, `<stem>_sse.mvsx` for Mol* in a browser.
        """
        import numpy as np

        from cryonb.files.atomic import written_beside
        from cryonb.files.mrc import write_map
        from cryonb.files.scene import SceneFiles

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stem = stem or self.name or "map"
        maps = {
            name: write_map(self[name], folder / f"{stem}_{name}.mrc")
            for name in self.classes
            if name != "background"
        }
        archive = folder / f"{stem}_sse.npz"
        with written_beside(archive) as beside, beside.open("wb") as file:
            np.savez_compressed(
                file,
                probabilities=self.values.astype(np.float16),
                classes=np.array(self.classes),
                voxel_size=self.voxel_size,
                origin=self.origin,
            )
        scene = SceneFiles(maps)
        scripts = [
            scene.write_chimerax(folder / f"{stem}_sse.cxc"),
            scene.write_pymol(folder / f"{stem}_sse.pml"),
            scene.write_molviewspec(folder / f"{stem}_sse.mvsx"),
        ]
        return [*maps.values(), archive, *scripts]

    def _repr_html_(self) -> str:
        from cryonb.show.repr import html_of

        return html_of(self)


class MapGraph(DensityGraph):
    """A density graph that is judged by a model, and draws itself."""

    def evaluate(self, model, **options):
        """Judge the graph by a model: see `cryonb.evaluate.graph.evaluate_graph`.

        Returns
        -------
        GraphEvaluation
            With `.summary`, `.residues`, `.atoms` and `.save(folder)`.
        """
        from cryonb.evaluate.graph import evaluate_graph

        return evaluate_graph(self, model, **options)

    def plot(self, model=None):
        """Draw the nodes from three sides, and their distances: a matplotlib figure."""
        from cryonb.show.graph import plot_graph

        return plot_graph(self, model)


def open_map(path, *, resolution=None, contour=None, **options) -> DensityMap:
    """Open a map file (MRC, CCP4; .gz and .bz2 too).

    Parameters
    ----------
    path : path
        The file.
    resolution, contour : float, optional
        What is known about the map.
    **options
        Of `cryonb.files.mrc.read_map`: `frame`, `reorthogonalize`.

    Returns
    -------
    DensityMap
    """
    from cryonb.files.mrc import read_map

    volume = read_map(path, **options)
    return DensityMap.from_volume(volume, resolution=resolution, contour=contour)


def open_model(path):
    """Open a model file (PDB or mmCIF; .gz too) as a `gemmi.Structure`."""
    from cryonb.files.model import read_model

    return read_model(path)


def fetch_map(entry, **options) -> DensityMap:
    """Fetch a map from the EMDB, with its resolution and recommended contour level.

    Parameters
    ----------
    entry : str
        Such as "EMD-30342".
    **options
        Of `cryonb.files.archive.fetch_entry`: addresses, `cache`, `progress`, `retries`.
    """
    from cryonb.files.archive import fetch_entry

    found = fetch_entry(entry, model=False, **options)
    return open_map(found.map_path, resolution=found.resolution, contour=found.contour)


def fetch_model(entry, **options):
    """Fetch a model from the PDB, such as "7CEC", as a `gemmi.Structure`."""
    from cryonb.files.archive import fetch_model as fetch_path

    return open_model(fetch_path(entry, **options))


def fetch(entry, **options):
    """Fetch an EMDB entry: the map and the first model fitted to it.

    Returns
    -------
    map : DensityMap
        With resolution and recommended contour level.
    model : gemmi.Structure or None
        None if no model is fitted to the map.
    """
    from cryonb.files.archive import fetch_entry

    found = fetch_entry(entry, **options)
    m = open_map(found.map_path, resolution=found.resolution, contour=found.contour)
    return m, None if found.model_path is None else open_model(found.model_path)


def example_model(name: str = "phantom"):
    """Give an embedded model as a `gemmi.Structure`.

    Parameters
    ----------
    name : {"phantom", "rhodopsin"}
        "phantom": ideal helices, sheets and a short duplex; "rhodopsin": the model that
        comes with nglview, which must be installed.
    """
    if name == "phantom":
        from cryonb.simulate.phantom import example as phantom

        return phantom().structure
    if name == "rhodopsin":
        from importlib.util import find_spec

        # Importing nglview is the viewer's business (`cryonb.show.view.import_nglview`).
        home = find_spec("nglview")
        if home is None:
            raise CryonbError(
                "The rhodopsin model comes with nglview, which is not installed; install "
                'cryonb\'s extra "notebook" or use the example "phantom".'
            )
        return open_model(Path(home.origin).parent / "datafiles" / "md_1u19.pdb")
    raise CryonbError(f"An example of phantom or rhodopsin was expected, but {name!r} was asked.")


def example(name: str = "phantom", *, resolution: float = 4.0, seed: int = 1) -> DensityMap:
    """Simulate the map of an embedded model as an experiment would give it.

    Parameters
    ----------
    name : {"phantom", "rhodopsin"}
        See `example_model`.
    resolution : float
        In Å.
    seed : int
        Of the noise.

    Returns
    -------
    DensityMap
        On 1 Å voxels.
    """
    import numpy as np

    from cryonb.atoms import Atoms
    from cryonb.grid import Grid
    from cryonb.simulate.experiment import Experiment, experimental_map

    atoms = Atoms.from_structure(example_model(name))
    grid = Grid.around(atoms.position, 1.0, 14.0)
    decay = 8 * resolution**2
    experiment = Experiment(
        resolution, b_overall=decay, b_sharpen=0.7 * decay, noise=0.5, solvent=0.6, weighted=True
    )
    volume = experimental_map(
        atoms, grid, experiment=experiment, rng=np.random.default_rng(seed)
    ).replace(note=f"the embedded example {name}")
    scale = volume.values.std()
    made = volume.replace(values=volume.values / scale)
    return DensityMap._adopt(
        made.values, grid, name=name, history=made.history, resolution=resolution, contour=3.0
    )
