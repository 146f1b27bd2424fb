"""Training samples that are crops of real maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cryonb.process.level import density_scale
from cryonb.process.level_spectrum import level_spectrum
from cryonb.train.library import UNLABELLED
from cryonb.train.samples import IGNORED, finish, paint

__all__ = ["RealMap", "RealSamples", "real_maps"]


@dataclass(frozen=True)
class RealMap:
    """A real map on 1 Å voxels, ready to be read by spline, with the labelled atoms in it.

    Attributes
    ----------
    name : str
        Its name in the table of maps.
    spline : ndarray of float32, shape (z, y, x)
        Cubic spline coefficients.
    index : ndarray, shape (n, 3)
        Fractional (z, y, x) indices of the labelled atoms.
    label : ndarray of uint8, shape (n,)
        Their classes.
    """

    name: str
    spline: np.ndarray
    index: np.ndarray
    label: np.ndarray


def real_maps(folder, table, *, levelled: bool = False) -> list[RealMap]:
    """Read maps and models of a table (columns map, model), given one falloff or not."""
    from scipy.ndimage import spline_filter

    from cryonb.files.model import read_model
    from cryonb.files.mrc import read_map
    from cryonb.process.resample import resample
    from cryonb.train.library import model_columns

    folder, maps = Path(folder), []
    for row in table.itertuples():
        volume = resample(read_map(folder / row.map), 1.0)
        values = level_spectrum(volume.values) if levelled else volume.values
        columns = model_columns(read_model(folder / row.model))
        marks = columns["label"] != UNLABELLED
        maps.append(
            RealMap(
                name=row.map,
                spline=spline_filter(values / density_scale(values)).astype(np.float32),
                index=volume.grid.to_index(columns["position"][marks]).astype(np.float32),
                label=columns["label"][marks],
            )
        )
    return maps


class RealSamples(torch.utils.data.Dataset):
    """Rotated crops of real maps.

    Parameters
    ----------
    maps : list of RealMap
        Drawn in proportion to the square root of their labelled atoms.
    seed, edge, measured : int
        As in `SimulatedSamples`.
    levelled : bool
        Whether the maps have one falloff already.
    core : float
        As in `paint`.
    """

    def __init__(
        self, maps, *, seed: int, edge: int = 48, measured: int = 3, levelled=False, core=0.0
    ):
        self.maps, self.levelled, self.core = maps, levelled, core
        weight = np.sqrt([len(entry.label) for entry in maps])
        self.weight = weight / weight.sum()
        self.seed, self.edge, self.measured = seed, edge, measured
        self.box = edge + 16

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int):
        rng = np.random.default_rng((self.seed, 7, number))
        crops = [self._crop(rng) for _ in range(self.measured)]
        return np.stack([x for x, _ in crops]), np.stack([y for _, y in crops])

    def _crop(self, rng):
        from scipy.ndimage import affine_transform

        entry = self.maps[rng.choice(len(self.maps), p=self.weight)]
        centre = entry.index[rng.integers(len(entry.index))] + rng.normal(0, 6, 3)
        turn = Rotation.random(random_state=rng).as_matrix()
        shape = (self.box,) * 3
        middle = np.full(3, self.box / 2)
        # Output voxel o reads input turn (o - middle) + centre, so atoms go the other way.
        density = affine_transform(
            entry.spline, turn, centre - turn @ middle, shape, np.float32, 3, "constant", 0.0, False
        )
        index = (entry.index - centre) @ turn + middle
        label = paint(index, entry.label, shape, core=self.core)
        s2 = _S2.setdefault(self.box, _box_s2(self.box))
        # Maps with one falloff need no other.
        blur = 0.0 if self.levelled else rng.uniform(-30, 80)
        blurred = np.fft.rfftn(density) * np.exp(-blur * s2 / 4)
        density = np.fft.irfftn(blurred, s=shape, axes=(0, 1, 2)).astype(np.float32)
        # Density without a model may well be structure that nobody built.
        strange = (label == 0) & (density > 0.6)
        label[strange] = IGNORED
        return finish(rng, density, label, self.edge)


_S2: dict[int, np.ndarray] = {}


def _box_s2(n: int) -> np.ndarray:
    full, half = np.fft.fftfreq(n), np.fft.rfftfreq(n)
    return full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
