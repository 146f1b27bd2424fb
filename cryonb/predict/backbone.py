"""Backbone atoms, residue types and secondary structure from a map, by cryonb's own network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryonb.errors import WeightsError
from cryonb.predict.secondary_structure import check_positive, run_network
from cryonb.volume import ProbabilityVolume, Volume

__all__ = ["BackbonePrediction", "predict_backbone"]


@dataclass(frozen=True)
class BackbonePrediction:
    """Answers of the backbone network on voxels of 1 Å.

    Attributes
    ----------
    heat : ProbabilityVolume
        Classes CA, N, C and P, each by itself: a hump on each such atom. Zero where the map has
        nothing above its noise.
    residue : ProbabilityVolume
        The 20 amino acids, summing to one where there is density; they mean something near a Cα.
    secondary : ProbabilityVolume
        helix, strand and coil, likewise.
    density : Volume
        The map.
    """

    heat: ProbabilityVolume
    residue: ProbabilityVolume
    secondary: ProbabilityVolume
    density: Volume

    def __repr__(self) -> str:
        kinds = ", ".join(self.heat.classes)
        return f"<{type(self).__name__} of {kinds}: {self.heat!r}>"


def predict_backbone(
    volume: Volume, *, weights="backbone", device: str | None = None, tile: int = 96,
    batch: int = 1, progress: bool = True,
) -> BackbonePrediction:  # fmt: skip
    """Predict where backbone atoms are, of which amino acids, in which secondary structure.

    The map is resampled to 1 Å and normalised by itself, so neither has to be done before.

    Parameters
    ----------
    volume : Volume
        A map of 1.6 to 5 Å resolution; at coarser ones atoms are not told apart.
    weights : path
        A `.safetensors` file that a training with a recipe of architecture "backbone" wrote, or
        the name of shipped weights.
    device : str, optional
        Where torch computes: CUDA, then MPS, then CPU by default.
    tile, batch : int
        Edge of a tile in voxels, and tiles a call: what memory allows.
    progress : bool
        Show a bar.

    Returns
    -------
    BackbonePrediction
        float16: 54 bytes a voxel in all.

    Raises
    ------
    CryonbError
        If the map has no positive density.
    WeightsError
        If the weights are missing or of another network.
    """
    from cryonb.networks.backbone import HEAT, SECONDARY, Backbone
    from cryonb.networks.weights import LoadedNetwork, choose_device, load_module, shipped_names

    check_positive(volume)
    name = str(weights)
    if Path(name).suffix != ".safetensors" and name not in shipped_names():
        raise WeightsError(
            f"Weights of the backbone network were expected, but none are shipped as {name!r}: "
            "train them with `cryonb train recipes/backbone.toml` and give the file that it writes "
            "as weights=, or import the original Cryo2Struct's with `cryonb weights import "
            "cryo2struct` and use cryonb.predict.cryo2struct."
        )
    module, about = load_module(weights, device=device)
    if not isinstance(module, Backbone):
        raise WeightsError(
            f"Weights of a backbone network were expected, but {name!r} are those of "
            f"{about['architecture']}."
        )
    network = LoadedNetwork(module, about, choose_device(device))
    found, grid = run_network(
        volume, network, edge=tile, batch=batch, background=False, progress=progress
    )
    cuts = np.cumsum([len(HEAT), len(network.classes) - len(HEAT) - len(SECONDARY)])
    parts = zip(np.split(found, cuts), _split_names(network.classes, cuts), strict=True)
    heat, residue, secondary = (
        ProbabilityVolume._adopt(
            part,
            grid,
            classes=names,
            name=volume.name,
            history=(*volume.history, "backbone predicted"),
        )
        for part, names in parts
    )
    return BackbonePrediction(heat, residue, secondary, volume)


def _split_names(names, cuts):
    return names[: cuts[0]], names[cuts[0] : cuts[1]], names[cuts[1] :]
