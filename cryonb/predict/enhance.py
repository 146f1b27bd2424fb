"""The density that a model would give, from a map, by cryonb's own network."""

from __future__ import annotations

import warnings

import numpy as np

from cryonb.errors import CryonbError, CryonbWarning, WeightsError
from cryonb.predict.secondary_structure import check_positive, run_network
from cryonb.process.checks import require_density
from cryonb.process.filter import band_filter
from cryonb.process.resample import resample
from cryonb.volume import Volume

__all__ = ["enhance"]

#: Å: detail finer than this is taken out of every map, since voxels of 1 Å hold it unevenly.
_FINEST = 2.2


def enhance(
    volume: Volume, *, resolution: float | None = None, on: str = "input", weights="enhance",
    device: str | None = None, tile: int = 160, batch: int = 1, progress: bool = True,
) -> Volume:  # fmt: skip
    """Predict the density that a model of the molecule would give.

    Enhanced density is a prediction, not a measurement: it shows what the network, which learned
    from maps of known structures, takes the map for. Look at it, and build in it, but judge and
    refine a model by the map itself: scores against an enhanced map are too good, and what is only
    there is not known.

    The map is resampled to 1 Å and normalised by itself, so neither has to be done before.

    Parameters
    ----------
    volume : Volume
        A map of about 2 to 7 Å resolution of proteins or nucleic acids, sharpened or not, masked
        or not.
    resolution : float, optional
        Å, the map's own (`DensityMap.resolution`) by default. What is finer is taken out before:
        the maps that the network learned from have nothing there, deposited ones often have noise.
        Where none is known, only what is finer than 2.2 Å is taken out.
    on : {"input", "network"}
        On which grid to give the result: the map's own, or the network's voxels of 1 Å. On voxels
        coarser than that, detail which they do not hold is taken out.
    weights : path
        A `.safetensors` file that a training with a recipe of architecture "enhance" wrote, or the
        name of shipped weights.
    device : str, optional
        Where torch computes: CUDA, then MPS, then CPU by default.
    tile, batch : int
        Edge of a tile in voxels, and tiles a call: what memory allows.
    progress : bool
        Show a bar.

    Returns
    -------
    Volume
        Of the class of `volume`, with its name and resolution, in atomic numbers per Å³, nowhere
        negative. A contour level, given in the old units, is dropped. Zero where the map has
        nothing above its noise.

    Raises
    ------
    CryonbError
        If the map is no density, is flat or not finite or nowhere positive, or the resolution is
        not positive.
    WeightsError
        If the weights are missing or of another network.

    Warns
    -----
    CryonbWarning
        If the map is known to be coarser than those that the weights learned from.

    Notes
    -----
    The target of the training is EMReady's: one Gaussian an atom as at the map's resolution,
    without B factors and occupancies. The result is therefore sharper than the model's own map
    wherever atoms move, and CC_mask, which compares with that, can become worse. What a mask has
    cut away is not brought back.

    The training knows noise, and belts of detergent or lipid around a third of the molecules. On 8
    simulated maps a belt with 0.27 of the density at the atoms all but vanishes; of one with 0.55,
    which is denser than detergent is, half stays (0.27). Mask such density away before.

    On 28 held-out simulated maps of 2.5 to 7 Å the correlation with the target rises from 0.887 to
    0.929, and the FSC falls to 0.5 at 3.67 instead of 4.06 Å. On 19 measured maps to 4.5 Å, most of
    them cut out around the model, CC_box rises from 0.686 to 0.751 (`sharpen`: 0.652) and CC_mask
    from 0.714 to 0.729, but the mean Q-score does not (0.531; `sharpen`: 0.546), and what
    `predict_sse` and `predict_backbone` read hardly does: Q3 stays at 0.815, F1 of Cα atoms goes
    from 0.736 to 0.740. A map better than about 2.2 Å shows more than what is made of it
    (`benchmarks/bench_enhance.py`).

    References
    ----------
    EMReady, Nature Communications 2023, 10.1038/s41467-023-39031-1: target and loss
    (equations 1 to 6). `cryonb.train.enhance` says what else is from there, and what is not.
    """
    from cryonb.networks.enhance import Enhance
    from cryonb.networks.weights import LoadedNetwork, choose_device, load_module

    if on not in ("input", "network"):
        raise CryonbError(f"A grid of 'input' or 'network' was expected, but {on!r} was given.")
    require_density(volume)
    check_positive(volume)
    if resolution is None:
        resolution = getattr(volume, "resolution", None)
    elif not resolution > 0:
        raise CryonbError(f"A positive resolution in Å was expected, but {resolution} was given.")
    module, about = load_module(weights, device=device)
    if not isinstance(module, Enhance):
        raise WeightsError(
            f"Weights of an enhancement network were expected, but {str(weights)!r} are those of "
            f"{about['architecture']}."
        )
    coarsest = about.get("recipe", {}).get("coarsest")
    if resolution and coarsest and resolution > coarsest:
        warnings.warn(
            f"The map's resolution of {resolution:g} Å is coarser than that of the maps which the "
            f"weights learned from ({coarsest:g} Å): what is made of it is not to be believed.",
            CryonbWarning,
            stacklevel=2,
        )
    network = LoadedNetwork(module, about, choose_device(device))
    limit = max(resolution or 0.0, _FINEST)
    cut = band_filter(volume, low=limit).values
    # A mask cuts after the filter, as in training.
    cut = volume.replace(np.where(volume.values == 0, np.float32(0), cut))
    found, grid = run_network(
        cut, network, edge=tile, batch=batch, background=False, progress=progress
    )
    made = volume.replace(
        found[0].astype(np.float32),
        grid,
        note=f"enhanced from {limit:.3g} Å: predicted density, not measured",
    )
    if on == "input" and not grid.is_close(volume.grid):
        made = resample(made, grid=volume.grid)
        # The spline swings below zero beside narrow peaks.
        made = made.replace(np.maximum(made.values, 0))
    if hasattr(made, "contour"):
        made.contour = None
    return made
