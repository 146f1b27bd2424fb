"""Secondary structure and nucleotides from a map."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError, WeightsError
from cryonb.grid import Grid
from cryonb.predict.rotations import over_rotations
from cryonb.predict.tiles import predict_tiles
from cryonb.process.blur import blurred
from cryonb.process.level import noise_level
from cryonb.process.molmap_like import as_molmap
from cryonb.process.resample import on_voxels_of, resample
from cryonb.volume import ProbabilityVolume, Volume

__all__ = ["check_positive", "emap2sec_windows", "predict_sse", "run_network"]

_OF_SECONDARY_STRUCTURE = ("unet", "haruspex", "emap2sec")
#: Voxels around density that a network sees at least, whatever its rim: empty space tells it where
#: a molecule ends (with 12 instead, Q3 at 10 Å falls by 0.006 and the recall of strands by 0.01).
_SEEN = 20


def predict_sse(
    volume: Volume, *, method: str = "unet", on: str = "input", device: str | None = None,
    tile: int | None = None, batch: int | None = None, contour: float | None = None,
    resolution: float | None = None, rotations: int = 1, progress: bool = True, **options,
) -> ProbabilityVolume:  # fmt: skip
    """Predict the class of each voxel: background, helix, strand, coil or nucleotide.

    The map is resampled to the network's voxel size and normalised by itself, so neither has to
    be done before (doing it does no harm).

    Parameters
    ----------
    volume : Volume
        A map, at any voxel size; 1.5 to 10 Å resolution.
    method : str
        Name of shipped weights, or a `.safetensors` file that `cryonb train` or `cryonb weights
        import` wrote. The weights say which network they belong to.
    on : {"input", "network"}
        On which grid to give the result: the map's own, or the network's.
    device : str, optional
        Where torch computes: CUDA, then MPS, then CPU by default.
    tile, batch : int, optional
        Edge of a tile in voxels, and tiles (for Emap2sec: windows) a call: what memory allows. By
        default the network's own choice.
    contour : float, optional
        Contour level for Emap2sec, which looks at nothing below; by default estimated from the
        noise, or what its weights learned with where the map is blurred for them. Other methods do
        not need it.
    resolution : float, optional
        Å, the map's own (`DensityMap.resolution`) by default. It decides between Emap2sec's weights
        for 6 Å and finer and those for coarser maps, and whether the map must be blurred for them.
    rotations : int
        Of the U-Net alone: the mean of its answers over that many rotations of the map (1 to 24)
        is given, in as many times the time. Four add a little (`benchmarks/ACCURACY.md`).
    progress : bool
        Show a bar.
    **options
        Of `predict_windows` (Emap2sec) or `predict_haruspex`.

    Returns
    -------
    ProbabilityVolume
        The classes sum to one at each voxel. float16 from the U-Net and Haruspex.

    Raises
    ------
    CryonbError
        If the map has no positive density, or tiles are asked of Emap2sec, which has none, or
        rotations of other than the U-Net.
    WeightsError
        If the weights are missing or damaged, or of a network of something else.
    """
    from cryonb.networks.weights import LoadedNetwork, choose_device, load_module

    if on not in ("input", "network"):
        raise CryonbError(f"A grid of 'input' or 'network' was expected, but {on!r} was given.")
    check_positive(volume)
    resolution = resolution or getattr(volume, "resolution", None)
    module, about = load_module(method, device=device, resolution=resolution)
    if about["architecture"] not in _OF_SECONDARY_STRUCTURE:
        raise WeightsError(
            f"Weights of {', '.join(_OF_SECONDARY_STRUCTURE)} were expected, but {str(method)!r} "
            f"are those of {about['architecture']}; see cryonb.predict.{about['architecture']}."
        )
    if rotations != 1 and about["architecture"] != "unet":
        raise CryonbError(
            "Rotations are averaged by the method 'unet' alone, but they were asked of "
            f"{str(method)!r}; leave rotations=1."
        )
    options |= {key: n for key, n in (("tile", tile), ("batch", batch)) if n is not None}
    if about["architecture"] == "haruspex":
        from cryonb.predict.haruspex import predict_haruspex

        if about.get("scaled"):
            # Weights of our training; the original's know no scale, and several voxel sizes.
            options = {"scaled": True, "voxel_size": about["voxel_size"]} | options
        result = predict_haruspex(volume, module, progress=progress, **options)
    elif about["architecture"] == "emap2sec":
        if tile is not None:
            raise CryonbError(f"Emap2sec works on windows, but tiles of {tile} voxels were asked.")
        windows = emap2sec_windows(
            volume, module, about, contour=contour, resolution=resolution, progress=progress,
            **options,
        )  # fmt: skip
        note = "secondary structure predicted by emap2sec"
        result = windows.volume(name=volume.name, history=(*volume.history, note))
    else:
        network = LoadedNetwork(module, about, choose_device(device))
        tile = options.pop("tile", 160)
        turned = f", the mean of {rotations} rotations" if rotations != 1 else ""
        found, grid = run_network(
            volume, network, rotations=rotations, edge=tile, progress=progress, **options
        )
        result = ProbabilityVolume._adopt(
            found,
            grid,
            classes=network.classes,
            name=volume.name,
            history=(*volume.history, f"secondary structure predicted by {method}{turned}"),
        )
    if on == "input" and not result.grid.is_close(volume.grid):
        result = resample(result, grid=volume.grid)
    return result


def run_network(
    volume: Volume, network, *, rotations: int = 1, **options
) -> tuple[np.ndarray, Grid]:
    """Run a loaded network over a map, on the voxels and at the scale that it expects.

    Parameters
    ----------
    volume : Volume
        A map.
    network : cryonb.networks.weights.LoadedNetwork
        Which one.
    rotations : int
        Over which its answers are averaged.
    **options
        Of `predict_tiles`.

    Returns
    -------
    found : ndarray of float16, shape (class, z, y, x)
    grid : Grid
        Where it is.
    """
    unit = on_voxels_of(volume, network.voxel_size)
    values = network.normalize(unit.values)
    found = predict_tiles(
        values,
        over_rotations(network, rotations),
        n_classes=len(network.classes),
        rim=network.rim,
        multiple=network.multiple,
        noise=noise_level(values),
        margin=max(_SEEN - network.rim, 4),
        **options,
    )
    return found, unit.grid


def check_positive(volume: Volume) -> None:
    """Refuse a map with nothing above zero.

    Raises
    ------
    CryonbError
        Then.
    """
    if not volume.max > 0:
        raise CryonbError(
            "A map with positive density was expected, but its largest value is "
            f"{volume.max:g}; if the contrast is inverted, multiply the map by -1."
        )


def emap2sec_windows(
    volume: Volume, module, about: dict, *, contour: float | None = None,
    resolution: float | None = None, **options,
):  # fmt: skip
    """Run Emap2sec over a map of any voxel size.

    Parameters
    ----------
    volume : Volume
        A map.
    module : cryonb.networks.emap2sec.Emap2sec
        With its weights.
    about : dict
        Description of the weights. Its resolution is the finest that they know.
    contour : float, optional
        Contour level of the map as it is given; estimated from the noise by default, unless the
        map is blurred.
    resolution : float, optional
        Å. A map of finer resolution is blurred to that of the weights and made as soft and bright
        as the maps that these learned from (`cryonb.process.molmap_like`), which the paper, whose
        maps are of 5 to 10 Å, has no need of; a contour level then cuts the map before that, and
        afterwards the level is the share of the maximum that the weights know.
    **options
        Of `predict_windows`.

    Returns
    -------
    cryonb.predict.emap2sec.Windows
        Both phases' answers.
    """
    from cryonb.predict.emap2sec import predict_windows

    unit = on_voxels_of(volume, 1.0)
    learnt = about.get("resolution") or 0
    if resolution and resolution < learnt:
        if contour is not None:
            if not unit.max > contour:
                raise CryonbError(
                    f"Density above the contour level {contour:g} was expected, but the map's "
                    f"largest value is {unit.max:g}."
                )
            # The level is that of the sharper map; a blurred one is lower.
            unit = unit.replace(np.where(unit.values < contour, 0, unit.values))
        unit = as_molmap(blurred(unit, resolution, learnt), learnt)
        contour = about["contour"] * unit.max
    if contour is None:
        contour = noise_level(unit.values)
    return predict_windows(unit, module, contour=contour, **options)
