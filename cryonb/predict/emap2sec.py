"""Emap2sec's way over a map: windows on a grid of strides, and two phases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.volume import CLASSES, ProbabilityVolume, Volume

__all__ = [
    "Windows", "neighbours_of", "phase_one", "predict_windows", "unit_range", "window_grid",
    "windows_of",
]  # fmt: skip

#: Edge of a window in voxels, and voxels from its first to its middle.
EDGE, HALF = 11, 5
#: Outputs of the dense form at a border that feel the zeros beyond it.
RIM = 3
#: Our classes of the original's columns: other, strand, helix, background.
COLUMNS = tuple(CLASSES.index(name) for name in ("coil", "strand", "helix", "background"))


def unit_range(values: np.ndarray, *, contour: float = 0.0, convention: str = "paper"):
    """Scale a density as Emap2sec does.

    Parameters
    ----------
    values : ndarray
        Density.
    contour : float
        Lower values become zero.
    convention : {"paper", "code"}
        What becomes 0: the smallest value of the map once negatives are zero ("paper"; that is
        0 in any map with solvent), or the smallest value at or above the contour ("code").

    Returns
    -------
    ndarray of float32
        From 0 to 1.
    """
    if convention not in ("paper", "code"):
        raise CryonbError(
            f"A convention of 'paper' or 'code' was expected, but {convention!r} was given."
        )
    positive = np.maximum(values, 0)
    kept = positive[values >= contour] if convention == "code" else positive
    kept = kept[kept > 0] if convention == "code" else kept
    if not kept.size or not kept.max() > 0:
        raise CryonbError(
            f"Density above the contour level {contour:g} was expected, but the map's largest "
            f"value is {values.max():g}."
        )
    low, high = float(kept.min()), float(kept.max())
    if high == low:
        low = 0.0
    scaled = (positive - np.float32(low)) / np.float32(high - low)
    scaled[values < contour] = 0
    return np.maximum(scaled, 0, dtype=np.float32)


def window_grid(grid: Grid, stride: int = 2) -> Grid:
    """Give the grid of window centres: every `stride`-th voxel from the first on."""
    return Grid(
        tuple(-(-n // stride) for n in grid.shape),
        tuple(v * stride for v in grid.voxel_size),
        grid.origin,
    )


def windows_of(values: np.ndarray, stride: int = 2) -> np.ndarray:
    """View a density as windows of 11³ around every `stride`-th voxel; zeros beyond the map.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)

    Returns
    -------
    ndarray, shape (⌈z/stride⌉, ⌈y/stride⌉, ⌈x/stride⌉, 11, 11, 11)
        A view of one padded copy: nothing is gathered before a batch is taken out.
    """
    padded = np.pad(values, HALF)
    view = np.lib.stride_tricks.sliding_window_view(padded, (EDGE,) * 3)
    return view[::stride, ::stride, ::stride]


@dataclass(frozen=True)
class Windows:
    """Emap2sec's answer, on the grid of strides.

    Attributes
    ----------
    grid : Grid
        Of the window centres.
    centre : ndarray of int, shape (n, 3)
        (z, y, x) of each window on that grid; z slowest.
    one, two : ndarray of float32, shape (n, 3) and (n, 4)
        Probabilities of other, strand, helix (and background) by the first and second phase.
    keep_structure : bool
        The rule for experimental maps: where the first phase found strand or helix and the second
        says other, the first is believed.
    """

    grid: Grid
    centre: np.ndarray
    one: np.ndarray
    two: np.ndarray
    keep_structure: bool = False

    def __len__(self) -> int:
        return len(self.centre)

    @property
    def label_one(self) -> np.ndarray:
        """Class of each window by the first phase: 0 other, 1 strand, 2 helix."""
        return self.one.argmax(axis=1)

    @property
    def kept(self) -> np.ndarray:
        """Whether the first phase's answer stands (see `keep_structure`): bool, shape (n,)."""
        rule = (self.label_one > 0) & (self.two.argmax(axis=1) == 0)
        return rule & self.keep_structure

    @property
    def label_two(self) -> np.ndarray:
        """Class of each window in the end: 0 other, 1 strand, 2 helix, 3 background."""
        return np.where(self.kept, self.label_one, self.two.argmax(axis=1))

    @property
    def class_two(self) -> np.ndarray:
        """Class of each window in the end among the three that the paper has: 0, 1 or 2.

        The second phase of the paper has three outputs, that of its program a fourth, background,
        which `label_two` can be.
        """
        three = self.two[:, :3].argmax(axis=1)
        rule = (self.label_one > 0) & (three == 0) & self.keep_structure
        return np.where(rule, self.label_one, three)

    @property
    def points(self) -> np.ndarray:
        """Window centres as points (x, y, z) in Å, shape (n, 3)."""
        return self.grid.to_points(self.centre)

    def volume(self, phase: int = 2, **about) -> ProbabilityVolume:
        """Give the probabilities as a volume in cryonb's classes on the grid of strides.

        Parameters
        ----------
        phase : {1, 2}
            Which phase's.
        **about
            name, history.
        """
        if phase == 1:
            rows = np.pad(self.one, ((0, 0), (0, 1)))
        else:
            rows = np.where(self.kept[:, None], np.pad(self.one, ((0, 0), (0, 1))), self.two)
        values = np.zeros((len(CLASSES), *self.grid.shape), dtype=np.float32)
        values[0] = 1
        where = tuple(self.centre.T)
        for column, ours in enumerate(COLUMNS):
            values[(ours, *where)] = rows[:, column]
        return ProbabilityVolume._adopt(values, self.grid, classes=CLASSES, **about)

    def write(self, folder, stem: str, *, truth=None) -> list[Path]:
        """Write the original's files: see `cryonb.predict.emap2sec_files.write_windows`."""
        from cryonb.predict.emap2sec_files import write_windows

        return write_windows(self, folder, stem, truth=truth)


def neighbours_of(one: np.ndarray, centre: np.ndarray, shape) -> np.ndarray:
    """View the first phase's answers as the second's inputs.

    Parameters
    ----------
    one : ndarray, shape (n, 3)
        Probabilities of other, strand, helix.
    centre : ndarray of int, shape (n, 3)
        (z, y, x) of each on the grid of strides.
    shape : tuple of int
        Of that grid.

    Returns
    -------
    ndarray of float32, shape (z, y, x, 3, 3, 3, 4)
        The 27 neighbours of each place, z slowest; (0, 0, 0, 1) where there is no window.
    """
    table = np.zeros((*(n + 2 for n in shape), 4), dtype=np.float32)
    table[..., 3] = 1
    table[tuple((centre + 1).T)] = np.pad(one, ((0, 0), (0, 1)))
    around = np.lib.stride_tricks.sliding_window_view(table, (3, 3, 3), axis=(0, 1, 2))
    return np.moveaxis(around, 3, -1)


def predict_windows(
    volume: Volume, network, *, contour: float = 0.0, stride: int = 2, convention: str = "paper",
    keep_structure: bool = False, batch: int = 512, progress: bool = True,
) -> Windows:  # fmt: skip
    """Run both phases of Emap2sec over a map of 1 Å voxels.

    Parameters
    ----------
    volume : Volume
        Density on voxels of 1 Å.
    network : cryonb.networks.emap2sec.Emap2sec
        With its weights, in evaluation mode, on any device.
    contour : float
        Windows exist where the density of their middle voxel is positive and at least this.
    stride : int
        Voxels between windows: 2 in the paper; the published program's default is 4.
    convention : {"paper", "code"}
        See `unit_range`.
    keep_structure : bool
        The rule for experimental maps, see `Windows`.
    batch : int
        Windows a call.
    progress : bool
        Show a bar.

    Returns
    -------
    Windows

    References
    ----------
    Maddhuri Venkata Subramaniya et al., Nature Methods 16, 911 (2019), figure 1 and methods.
    """
    values = unit_range(volume.values, contour=contour, convention=convention)
    grid = window_grid(volume.grid, stride)
    centre, one = phase_one(network.one, values, stride=stride, batch=batch, progress=progress)
    around = neighbours_of(one, centre, grid.shape)
    two = np.empty((len(centre), 4), dtype=np.float32)
    for first in range(0, len(centre), 16384):
        part = slice(first, first + 16384)
        two[part] = _softmax(network.two, around[tuple(centre[part].T)].reshape(-1, 108))
    return Windows(grid, centre, one, two, keep_structure)


def phase_one(
    module, values: np.ndarray, *, stride: int = 2, batch: int = 512, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Run the first phase over a scaled density.

    Parameters
    ----------
    module : PhaseOne or DenseEmap2sec
        In evaluation mode.
    values : ndarray of float32, shape (z, y, x)
        From `unit_range`: zero where there is no window.
    stride, batch, progress
        As in `predict_windows`.

    Returns
    -------
    centre : ndarray of int, shape (n, 3)
        (z, y, x) of the windows on the grid of strides.
    one : ndarray of float32, shape (n, 3)
        Probabilities of other, strand, helix.
    """
    strided = values[::stride, ::stride, ::stride]
    centre = np.argwhere(strided > 0)
    if not module.dense:
        return centre, _windowed(module, windows_of(values, stride), centre, batch, progress)
    return centre, _dense(module, values, stride, centre, progress)


def _softmax(module, rows: np.ndarray) -> np.ndarray:
    """Probabilities by a module; float32, bfloat16 where that is fast."""
    import torch

    from cryonb.networks.weights import bfloat16_is_fast

    device = next(module.parameters()).device
    half = bfloat16_is_fast(device.type)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        logits = module(torch.from_numpy(np.ascontiguousarray(rows)).to(device))
        return torch.softmax(logits.float(), dim=1).cpu().numpy()


def _windowed(module, view, centre, batch, progress) -> np.ndarray:
    out = np.empty((len(centre), 3), dtype=np.float32)
    starts = range(0, len(centre), batch)
    for first in tqdm(starts, desc="windows", disable=not progress, leave=False):
        part = slice(first, first + batch)
        out[part] = _softmax(module, view[tuple(centre[part].T)][:, None])
    return out


#: Most windows along the edge of a block of the dense form.
_BLOCK = 40
#: Windows that the dense layers take at a time.
_BATCH = 1024


def _dense(module, values, stride, centre, progress) -> np.ndarray:
    """Run the dense form in blocks: probabilities of each window, shape (n, 3).

    What windows share, the convolutions, is computed for whole blocks; the dense layers only where
    a window is.
    """
    if stride != 2:
        raise CryonbError(
            f"The dense form of Emap2sec has a stride of 2 voxels, but {stride} was asked for."
        )
    out = np.empty((len(centre), 3), dtype=np.float32)
    if not len(centre):
        return out
    first = centre.min(axis=0)
    count = centre.max(axis=0) + 1 - first
    sizes = -(-count // -(-count // _BLOCK))
    low = HALF + 2 * RIM
    edges = 2 * (sizes + HALF + 2 * RIM)
    # Enough zeros that every block lies inside.
    padded = np.pad(values, [(low, low + 2 * int(size)) for size in sizes])
    block = (centre - first) // sizes
    number = np.ravel_multi_index(tuple(block.T), tuple(-(-count // sizes)))
    order = np.argsort(number, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    for rows in tqdm(groups, desc="blocks", disable=not progress, leave=False):
        start = first + block[rows[0]] * sizes
        box = tuple(slice(2 * s, 2 * s + e) for s, e in zip(start, edges, strict=True))
        out[rows] = _of_block(module, padded[box], centre[rows] - start + RIM)
    return out


def _of_block(module, values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Probabilities of the windows at `place`, (z, y, x) on the grid of features of a block."""
    import torch

    from cryonb.networks.weights import bfloat16_is_fast

    device = next(module.parameters()).device
    half = bfloat16_is_fast(device.type)
    parts = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        x = torch.from_numpy(np.ascontiguousarray(values)).to(device)[None, None]
        if device.type != "mps":
            x = x.contiguous(memory_format=torch.channels_last_3d)
        features = module.features(x)[0].unfold(1, 6, 1).unfold(2, 6, 1).unfold(3, 6, 1)
        index = torch.from_numpy(place).to(device)
        for z, y, x in (part.T for part in index.split(_BATCH)):
            logits = module.classify(features[:, z, y, x].transpose(0, 1)).flatten(1)
            parts.append(torch.softmax(logits.float(), dim=1).cpu())
    return torch.cat(parts).numpy()
