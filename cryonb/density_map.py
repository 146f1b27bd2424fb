"""The facade: a map object whose methods hand over to the rooms below.

Imports stand inside the methods, so that `import cryonb` stays light.
"""

from __future__ import annotations

from pathlib import Path

from cryonb.errors import CryonbError
from cryonb.volume import CLASSES, ProbabilityVolume, Volume

__all__ = [
    "DensityMap",
    "SecondaryStructureMap",
    "example",
    "example_model",
    "fetch",
    "fetch_map",
    "fetch_model",
    "open_map",
    "open_model",
    "simulate",
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
        Evaluation
            With `.summary`, `.residues`, `.segments`, `.plot()` and `.save(folder)`.
        """
        from cryonb.evaluate.secondary_structure import Evaluation, evaluate_sse
        from cryonb.show.plot import plot_residues

        class SecondaryStructureEvaluation(Evaluation):
            """An evaluation that draws itself."""

            def plot(self):
                """Draw truth over prediction along the chains: a matplotlib figure."""
                return plot_residues(self.residues)

        options.setdefault("density", self.density)
        found = evaluate_sse(self, model, **options)
        return SecondaryStructureEvaluation(found.summary, found.residues, found.segments)

    def plot(self):
        """Draw three slices with the classes over the density: a matplotlib figure."""
        from cryonb.show.plot import plot_sse

        same = self.density is not None and self.density.grid.is_close(self.grid)
        return plot_sse(self, self.density if same else None)

    def save(self, folder, *, stem: str | None = None) -> list[Path]:
        """Write one MRC a class, all probabilities as npz, and a ChimeraX script.

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
            (class, z, y, x), classes, voxel_size and origin in (x, y, z)), `<stem>_sse.cxc`.
        """
        import numpy as np

        from cryonb.files.atomic import written_beside
        from cryonb.files.chimerax import write_chimerax_script
        from cryonb.files.mrc import write_map

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
        script = write_chimerax_script(folder / f"{stem}_sse.cxc", maps)
        return [*maps.values(), archive, script]

    def _repr_html_(self) -> str:
        from cryonb.show.repr import html_of

        return html_of(self)


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


def simulate(model, *, resolution, method: str = "fourier", grid=None, **options) -> DensityMap:
    """Simulate the map of a model.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model.
    resolution : float or array_like
        d in Å; with method "shells" also one for each atom.
    method : str
        "fourier": electron scattering factors, B and occupancy, sharp limit
        (`cryonb.simulate.fourier.fourier_map`); "shells": the same atom by atom
        (`cryonb.simulate.shells.shell_map`); or a recipe of Gaussians: "molmap", "emready",
        "cryofit", "demo-emfit", "tempy", "qscore" (`cryonb.simulate.gaussian.gaussian_map`).
    grid : Grid or Volume, optional
        Where the map is wanted, such as a map to compare with; by default a box around the model.
    **options
        Of the method's function: `voxel_size`, `margin`, `device`, ...

    Returns
    -------
    DensityMap
        With the resolution (the mean, where each atom has its own).

    Raises
    ------
    CryonbError
        If the method is unknown.
    """
    import numpy as np

    from cryonb.simulate.gaussian import RECIPES

    grid = grid.grid if isinstance(grid, Volume) else grid
    if method == "fourier":
        from cryonb.simulate.fourier import fourier_map

        volume = fourier_map(model, grid, resolution=resolution, **options)
    elif method == "shells":
        from cryonb.simulate.shells import shell_map

        volume = shell_map(model, grid, resolution=resolution, **options)
    elif method in RECIPES:
        from cryonb.simulate.gaussian import gaussian_map

        volume = gaussian_map(model, grid, resolution=resolution, recipe=method, **options)
    else:
        known = ", ".join(("fourier", "shells", *RECIPES))
        raise CryonbError(f"A method of {known} was expected, but {method!r} was given.")
    return DensityMap.from_volume(volume, resolution=float(np.mean(resolution)))


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
        try:
            from nglview.datafiles import PDB
        except ImportError:
            raise CryonbError(
                "The rhodopsin model comes with nglview, which is not installed; install "
                'cryonb\'s extra "notebook" or use the example "phantom".'
            ) from None
        return open_model(PDB)
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
