"""Cryo2Struct over a map: boxes of 32³ voxels whose middle 20³ are kept."""

from __future__ import annotations

import numpy as np

from cryonb.errors import CryonbError, WeightsError
from cryonb.predict.tiles import predict_tiles
from cryonb.process.normalize import normalize
from cryonb.process.resample import on_voxels_of
from cryonb.volume import ProbabilityVolume, Volume

__all__ = ["CORE", "predict_cryo2struct"]

#: Voxels along the middle of a box that are kept.
CORE = 20


def predict_cryo2struct(
    volume: Volume, network, *, kind: str | None = None, device: str | None = None,
    batch: int = 4, progress: bool = True,
) -> ProbabilityVolume:  # fmt: skip
    """Run one of Cryo2Struct's networks over a map as published.

    The map is resampled to 1 Å (trilinear, as by ChimeraX), divided by the 95th percentile of its
    values other than zero, cut to 0 to 1, and seen in boxes of 32³ voxels, 20 apart, of which the
    middle 20³ are kept. The first box begins 6 voxels before the map, and zeros are beyond it.

    Parameters
    ----------
    volume : Volume
        A map, with positive density.
    network : path or cryonb.networks.cryo2struct.Cryo2Struct
        Weights (a `.safetensors` file that `cryonb weights import cryo2struct` or a training
        wrote), or the network itself, in evaluation mode.
    kind : {"atom", "amino", "secondary"}, optional
        What the classes are; by default what the weights say, or by their number (4: atoms).
    device : str, optional
        Where torch computes, for weights from a file.
    batch : int
        Boxes a call.
    progress : bool
        Show a bar.

    Returns
    -------
    ProbabilityVolume
        On the grid of 1 Å, float16; classes "background", then CA, N, C, or the amino acids, or
        coil, helix, strand. All of a map that is no cube is covered, where the published program
        raises an error or leaves a part out.

    Raises
    ------
    WeightsError
        If the weights are missing or of another network.
    CryonbError
        If the map has no positive density, or `kind` is unknown or of another number of classes.

    References
    ----------
    Giri, Wang & Cheng, Scientific Data 11, 458 (2024); Giri & Cheng, Nature Communications 15,
    5511 (2024).
    """
    import torch

    from cryonb.networks.cryo2struct import CLASSES_OF, EDGE, Cryo2Struct
    from cryonb.networks.weights import load_module

    named = None
    if not isinstance(network, torch.nn.Module):
        network, about = load_module(network, device=device)
        named = about.get("classes")
    if not isinstance(network, Cryo2Struct):
        raise WeightsError(
            "Weights of Cryo2Struct were expected, but those of a "
            f"{type(network).__name__} were given."
        )
    if kind is None:
        by_number = {len(CLASSES_OF[key]): CLASSES_OF[key] for key in ("atom", "amino")}
        classes = tuple(named or by_number.get(network.classes, ()))
    elif kind in CLASSES_OF:
        classes = CLASSES_OF[kind]
    else:
        raise CryonbError(
            f"A kind of {', '.join(CLASSES_OF)} was expected, but {kind!r} was given."
        )
    if len(classes) != network.classes:
        raise CryonbError(
            f"A network of {len(classes) or '4 or 21'} classes was expected for {kind or 'them'}, "
            f"but this one has {network.classes}."
        )
    volume = on_voxels_of(volume, 1.0, method="linear")
    scaled = normalize(volume, method="cryo2struct")
    rim = (EDGE - CORE) // 2
    # With so many zeros the tiles that are laid are the published boxes.
    after = [rim + -n % CORE for n in volume.shape]
    values = np.pad(scaled.values, [(rim, n) for n in after])
    found = predict_tiles(
        values,
        _Runner(network),
        n_classes=len(classes),
        edge=EDGE,
        rim=rim,
        multiple=1,
        blend=0,
        batch=batch,
        noise=-np.inf,
        progress=progress,
    )
    inner = tuple(slice(rim, rim + n) for n in volume.shape)
    return ProbabilityVolume._adopt(
        np.ascontiguousarray(found[(slice(None), *inner)]),
        volume.grid,
        classes=classes,
        name=volume.name,
        history=(*scaled.history, "predicted by cryo2struct"),
    )


class _Runner:
    """Boxes in, probabilities out; the answer to a box of nothing is computed once."""

    def __init__(self, network):
        from cryonb.networks.weights import bfloat16_is_fast

        self._network, self._empty = network, None
        self._device = next(network.parameters()).device
        self._half = bfloat16_is_fast(self._device.type)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        busy = batch.reshape(len(batch), -1).any(axis=1)
        if busy.all():
            return self._run(batch)
        if self._empty is None:
            self._empty = self._run(np.zeros_like(batch[:1]))
        found = np.repeat(self._empty, len(batch), axis=0)
        if busy.any():
            found[busy] = self._run(batch[busy])
        return found

    def _run(self, batch: np.ndarray) -> np.ndarray:
        import torch

        kind = self._device.type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self._half):
            logits = self._network(torch.from_numpy(batch).to(self._device))
            return torch.softmax(logits.float(), dim=1).cpu().numpy()
