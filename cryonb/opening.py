"""Where maps and models come from: files, archives, simulation, embedded examples."""

from __future__ import annotations

from pathlib import Path

from cryonb.density_map import DensityMap
from cryonb.errors import CryonbError
from cryonb.volume import Volume

__all__ = [
    "example",
    "example_model",
    "fetch",
    "fetch_map",
    "fetch_model",
    "half_maps",
    "open_map",
    "open_model",
    "open_sequences",
    "simulate",
]


def open_map(path, *, resolution=None, contour=None, half_maps=None, **options) -> DensityMap:
    """Open a map file (MRC, CCP4; .gz and .bz2 too).

    Parameters
    ----------
    path : path
        The file.
    resolution, contour : float, optional
        What is known about the map.
    half_maps : pair of path or Volume, optional
        Its half maps, see `DensityMap.with_half_maps`.
    **options
        Of `cryonb.files.mrc.read_map`: `frame`, `reorthogonalize`; they hold for the half maps,
        too.

    Returns
    -------
    DensityMap
    """
    from cryonb.files.mrc import read_map

    volume = read_map(path, **options)
    opened = DensityMap.from_volume(volume, resolution=resolution, contour=contour)
    if half_maps is None:
        return opened
    first, second = (h if isinstance(h, Volume) else read_map(h, **options) for h in half_maps)
    return opened.with_half_maps(first, second)


def half_maps(first, second, **options):
    """Bring two half maps together.

    Parameters
    ----------
    first, second : Volume or path
        Maps of independent halves of the images, on one grid: volumes or files.
    **options
        Of `open_map`, for files.

    Returns
    -------
    MapHalves
        With `.fsc()`, `.mean`, `.sharpen()` and `.local_resolution()`.

    Raises
    ------
    CryonbError
        If one is flat or holds what is no number, or both are the same.
    GridError
        If they are not on one grid.
    """
    from cryonb.derived import MapHalves

    def opened(half):
        if not isinstance(half, Volume):
            return open_map(half, **options)
        # What is no density is refused by `HalfMaps`.
        return DensityMap.from_volume(half) if type(half) is Volume else half

    return MapHalves(opened(first), opened(second))


def open_model(path):
    """Open a model file (PDB or mmCIF; .gz too) as a `gemmi.Structure`."""
    from cryonb.files.model import read_model

    return read_model(path)


def open_sequences(source) -> list[str]:
    """Read the sequences of protein chains: see `cryonb.files.sequences.read_sequences`.

    Parameters
    ----------
    source : path or gemmi.Structure
        A FASTA or PIR file, or a model or its file.

    Returns
    -------
    list of str
        A string of one-letter codes a chain, as `m.trace` takes them.
    """
    from cryonb.files.sequences import read_sequences

    return read_sequences(source)


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
        from importlib.util import find_spec

        # Importing nglview is the viewer's business (`cryonb.show.nglview_import.import_nglview`).
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
