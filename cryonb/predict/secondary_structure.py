"""Secondary structure and nucleotides from a map."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError
from cryonb.predict.tiles import predict_tiles
from cryonb.process.resample import resample
from cryonb.volume import ProbabilityVolume, Volume

__all__ = ["noise_level", "predict_sse"]


def predict_sse(
    volume: Volume, *, method: str = "unet", on: str = "input", device: str | None = None,
    tile: int = 96, batch: int = 1, progress: bool = True,
) -> ProbabilityVolume:  # fmt: skip
    """Predict the class of each voxel: background, helix, strand, coil or nucleotide.

    The map is resampled to the network's voxel size and normalised by itself, so neither has to
    be done before (doing it does no harm).

    Parameters
    ----------
    volume : Volume
        A map, at any voxel size; 1.5 to 10 Å resolution.
    method : str
        Name of shipped weights ("unet"), or a `.safetensors` file that `cryonb train` wrote.
    on : {"input", "network"}
        On which grid to give the result: the map's own, or the network's of 1 Å.
    device : str, optional
        Where torch computes: CUDA, then MPS, then CPU by default.
    tile, batch : int
        Edge of a tile in voxels, and tiles a call: what a GPU's memory allows.
    progress : bool
        Show a bar.

    Returns
    -------
    ProbabilityVolume
        float16; the classes sum to one at each voxel.

    Raises
    ------
    CryonbError
        If the map has no positive density.
    WeightsError
        If the weights are missing or damaged.
    """
    from cryonb.networks.weights import load_network

    if on not in ("input", "network"):
        raise CryonbError(f"A grid of 'input' or 'network' was expected, but {on!r} was given.")
    if not volume.max > 0:
        raise CryonbError(
            "A map with positive density was expected, but its largest value is "
            f"{volume.max:g}; if the contrast is inverted, multiply the map by -1."
        )
    network = load_network(method, device=device)
    unit = volume
    if np.abs(np.array(volume.voxel_size) - network.voxel_size).max() > 1e-3:
        unit = resample(volume, network.voxel_size)
    values = network.normalize(unit.values)
    found = predict_tiles(
        values,
        network,
        n_classes=len(network.classes),
        edge=tile,
        rim=network.rim,
        multiple=network.multiple,
        batch=batch,
        noise=noise_level(values),
        progress=progress,
    )
    del values
    result = ProbabilityVolume._adopt(
        found,
        unit.grid,
        classes=network.classes,
        name=volume.name,
        history=(*volume.history, f"secondary structure predicted by {method}"),
    )
    if on == "input" and unit is not volume:
        result = resample(result, grid=volume.grid)
    return result


def noise_level(values: np.ndarray) -> float:
    """Give the density below which a tile holds nothing worth running.

    Five standard deviations of the noise, estimated by the median absolute deviation (the molecule
    fills a small part of a box), but never more than a quarter of the molecule's typical density;
    where a mask has zeroed a good part of the map there is no noise to estimate.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Density over `density_scale`.
    """
    # Every few sections tell as much as all of them.
    some = values[:: max(values.shape[0] // 32, 1)]
    if (some == 0).mean() > 0.3:
        return _LEAST
    middle = np.median(some)
    deviation = 1.4826 * np.median(np.abs(some - middle))
    return float(np.clip(middle + 5 * deviation, _LEAST, _MOST))


_LEAST, _MOST = 0.02, 0.25
