"""Haruspex over a map: tiles that cover all of it, and its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside
from cryonb.files.mrc import write_map
from cryonb.grid import Grid
from cryonb.label.haruspex import ORDER
from cryonb.networks.haruspex import LOST, TOUCHED
from cryonb.predict.tiles import predict_tiles
from cryonb.process.level import density_scale, noise_level
from cryonb.process.resample import on_voxels_of, resample
from cryonb.volume import CLASSES, ProbabilityVolume, Volume

__all__ = ["predict_haruspex", "write_haruspex"]

_RIM = LOST + TOUCHED
#: Our classes, by the original's channels; coil is none of them.
_CHANNELS = {"sheet": "strand", "helix": "helix", "nucleotide": "nucleotide",
             "unassigned": "background"}  # fmt: skip


def predict_haruspex(
    volume: Volume, network, *, scaled: bool = False, voxel_size: float | None = None,
    rescale: bool = True, tile: int = 128, batch: int = 1, skip: bool = True, progress: bool = True,
) -> ProbabilityVolume:  # fmt: skip
    """Run Haruspex's network over a map.

    Parameters
    ----------
    volume : Volume
        A map.
    network : cryonb.networks.haruspex.Haruspex
        With its weights, in evaluation mode, on any device.
    scaled : bool
        Divide the density by its `density_scale` first, for weights that were trained so. The
        original takes it as deposited.
    voxel_size : float, optional
        Å, of the only voxels that the weights know. The original learned from all of 1.0 to 1.2 Å;
        weights that know 1.1 Å alone take a molecule on 1.0 Å for one that is a tenth larger.
    rescale : bool
        Resample to `voxel_size`; without one to 1.1 Å where a voxel is larger than 1.2 or smaller
        than 1.0 Å, as the original.
    tile : int
        Largest edge of a tile in voxels, a multiple of 4. The original's is 40; larger ones share
        more, and agree with each other wherever the network's padding does not reach.
    batch : int
        Tiles a call.
    skip : bool
        Leave out tiles in which nothing is above the noise.
    progress : bool
        Show a bar.

    Returns
    -------
    ProbabilityVolume
        In cryonb's classes, "unassigned" as background and no coil; on the map's own grid or that
        of 1.1 Å. The whole map is covered: the original leaves a rim of 10 voxels at zero and puts
        the last tile of each axis 10 voxels too low.

    References
    ----------
    Mostosi et al., Angewandte Chemie 59, 14788 (2020).
    """
    if tile % 4 or tile < 2 * _RIM + 4:
        raise CryonbError(
            f"A tile of at least {2 * _RIM + 4} voxels, a multiple of 4, was expected, but {tile} "
            "was given."
        )
    if rescale and voxel_size is not None:
        volume = on_voxels_of(volume, voxel_size)
    elif rescale and (max(volume.voxel_size) > 1.2 or min(volume.voxel_size) < 1.0):
        volume = resample(volume, 1.1)
    scale = (density_scale(volume.values) or 1.0) if scaled else 1.0
    values = np.pad(volume.values / np.float32(scale), _RIM)
    found = predict_tiles(
        values,
        _Runner(network),
        n_classes=len(CLASSES),
        edge=tile,
        rim=_RIM,
        multiple=4,
        align=4,
        blend=0,
        batch=batch,
        noise=noise_level(volume.values) / scale if skip else -np.inf,
        progress=progress,
    )
    inner = (slice(None), *[slice(_RIM, -_RIM)] * 3)
    return ProbabilityVolume._adopt(
        np.ascontiguousarray(found[inner]),
        volume.grid,
        classes=CLASSES,
        name=volume.name,
        history=(*volume.history, "secondary structure predicted by haruspex"),
    )


class _Runner:
    """A batch of tiles in, probabilities of the same size in our classes out."""

    def __init__(self, network):
        import torch

        from cryonb.networks.weights import bfloat16_is_fast

        self._device = next(network.parameters()).device
        self._half = bfloat16_is_fast(self._device.type)
        if self._device.type != "mps":
            network = network.to(memory_format=torch.channels_last_3d)
        self._network = network

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        import torch

        kind = self._device.type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self._half):
            logits = self._network(torch.from_numpy(batch).to(self._device))
            theirs = torch.softmax(logits.float(), dim=1).cpu().numpy()
        out = np.zeros((len(batch), len(CLASSES), *batch.shape[2:]), dtype=np.float32)
        inner = (slice(LOST, -LOST),) * 3
        for channel, name in enumerate(ORDER):
            out[(slice(None), CLASSES.index(_CHANNELS[name]), *inner)] = theirs[:, channel]
        return out


def write_haruspex(
    probabilities: ProbabilityVolume, folder, stem: str, *, density: Volume | None = None
) -> list[Path]:
    """Write the original's files.

    Parameters
    ----------
    probabilities : ProbabilityVolume
        From `predict_haruspex`.
    folder : path
        Made if need be.
    stem : str
        Beginning of the names.
    density : Volume, optional
        Multiply by this density, on the same grid (the original's option -d).

    Returns
    -------
    list of Path
        `<stem>_sheet.mrc`, `<stem>_helix.mrc`, `<stem>_npair.mrc`, and `<stem>_predict4.npz` with
        the array "map" of shape (z, y, x, 4): sheet, helix, nucleotide, unassigned.
    """
    folder, grid = Path(folder), probabilities.grid
    weight = np.ones(grid.shape, dtype=np.float32)
    if density is not None:
        if not grid.is_close(density.grid):
            raise CryonbError(
                f"A density on the grid of the prediction ({_about(grid)}) was expected, but it is "
                f"{_about(density.grid)}; resample it first."
            )
        weight = density.values
    channels = {name: probabilities[ours].values * weight for name, ours in _CHANNELS.items()}
    written = [
        write_map(Volume._adopt(channels[name], grid), folder / f"{stem}_{suffix}.mrc")
        for name, suffix in (("sheet", "sheet"), ("helix", "helix"), ("nucleotide", "npair"))
    ]
    archive = folder / f"{stem}_predict4.npz"
    with written_beside(archive) as beside, beside.open("wb") as file:
        np.savez_compressed(file, map=np.stack([channels[name] for name in ORDER], axis=-1))
    return [*written, archive]


def _about(grid: Grid) -> str:
    return f"{grid.shape} voxels, {grid.describe_box()}"
