"""A map as sine networks, one a region: the neural map of Ranno & Si, and as it should be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cryonb.errors import CryonbError, MapFormatError
from cryonb.field.protocol import Field, Statistics, check_density
from cryonb.field.siren_network import forward, initial_weights
from cryonb.field.siren_regions import Regions
from cryonb.field.siren_training import FitOptions, fit_group
from cryonb.files.atomic import written_beside
from cryonb.grid import Grid
from cryonb.volume import Volume

__all__ = ["SirenField", "fit_siren", "load_siren"]

_FORMAT = "cryonb siren field 1"
# Points that go through a network at once.
_CHUNK = 16384


@dataclass(frozen=True)
class _Scale:
    """From the networks' -1..1 to the units of the map."""

    low: float
    high: float

    def to_target(self, values):
        return (2 * (values - self.low) / (self.high - self.low) - 1).astype(np.float32)

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


class SirenField(Field):
    """Sine networks, one a region, blended where regions overlap. Made by `fit_siren`.

    Attributes
    ----------
    regions : Regions
        Where the networks are.
    losses : ndarray, shape (regions,)
        Least mean square error of each, of targets from -1 to 1.
    epochs : ndarray of int, shape (regions,)
        How long each was fitted.
    published : bool
        Whether it is blended and differentiated as in the paper, see `fit_siren`.
    """

    def __init__(
        self, regions: Regions, weights: dict, *, statistics: Statistics, low: float, high: float,
        losses, epochs, published: bool = False, device: str = "cpu",
    ):  # fmt: skip
        super().__init__(regions.grid, statistics)
        self.regions = regions
        self.losses = np.asarray(losses, dtype=np.float32)
        self.epochs = np.asarray(epochs, dtype=np.int64)
        self.published = bool(published)
        self.device = device
        self._scale = _Scale(float(low), float(high))
        self._weights = {name: tensor.to(device) for name, tensor in weights.items()}

    def __repr__(self) -> str:
        return (
            f"<SirenField of {len(self.regions)} networks for {self.grid.shape} voxels (z, y, x), "
            f"mean loss {self.losses.mean():.2e}>"
        )

    # ---- reading it ----------------------------------------------------------------------------

    def _evaluate(self, points, derivatives):
        n = len(points)
        shapes = ((), (3,), (3, 3))[: derivatives + 1]
        out = [np.zeros((n, *shape)) for shape in shapes]
        # Rounding may put a point of the border just outside.
        index = np.clip(self.grid.to_index(points), 0, np.array(self.grid.shape) - 1.0)
        ramps = [self.regions.ramps(index[:, axis], axis) for axis in range(3)]
        total = np.zeros(n) if self.published else None
        for region, number in enumerate(self.regions.numbers):
            along = [(ramps[a][0][k], ramps[a][1][k]) for a, k in enumerate(number)]
            rows = np.flatnonzero((along[0][0] > 0) & (along[1][0] > 0) & (along[2][0] > 0))
            if not len(rows):
                continue
            along = [(weight[rows], slope[rows]) for weight, slope in along]
            parts = self._network(region, index[rows], derivatives)
            if self.published:
                weight = _mean_ramp(along)
                total[rows] += weight
                for array, part in zip(out, parts, strict=True):
                    array[rows] += _times(weight, part)
            else:
                _add_blended(out, rows, along, parts, np.array(self.grid.voxel_size))
        if self.published:
            for array in out:
                array /= total.reshape(-1, *[1] * (array.ndim - 1))
        out[0] += self._scale.low
        return tuple(array.astype(np.float32) for array in out)

    def _network(self, region, index, derivatives):
        """Density above the lowest, and derivatives by Å, of one network at indices (z, y, x)."""
        local = torch.from_numpy(self.regions.local(index, region).astype(np.float32))
        weights = {name: tensor[region, None] for name, tensor in self._weights.items()}
        found = []
        with torch.no_grad():
            for part in local.split(_CHUNK):
                results = forward(weights, part.to(self.device), derivatives=derivatives)
                found.append([result[0].double().cpu().numpy() for result in results])
        parts = [np.concatenate(arrays) for arrays in zip(*found, strict=True)]
        half = self._scale.half
        parts[0] = half * (parts[0] + 1)
        # The published gradient is along the network's own coordinates.
        scale = np.ones(3) if self.published else self.regions.scale
        if derivatives > 0:
            parts[1] = half * parts[1] * scale
        if derivatives > 1:
            parts[2] = half * parts[2] * np.outer(scale, scale)
        return parts

    # ---- files ---------------------------------------------------------------------------------

    def save(self, path) -> Path:
        """Write networks and geometry as one safetensors file; `load_siren` reads it exactly."""
        from safetensors.torch import save_file

        path = Path(path)
        about = {
            "shape": self.grid.shape,
            "voxel_size": self.grid.voxel_size,
            "origin": self.grid.origin,
            "edge": self.regions.edge,
            "overlap": self.regions.overlap,
            "low": self._scale.low,
            "high": self._scale.high,
            "statistics": asdict(self.statistics),
            "published": self.published,
        }
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._weights.items()}
        tensors["losses"] = torch.from_numpy(self.losses)
        tensors["epochs"] = torch.from_numpy(self.epochs)
        with written_beside(path) as beside:
            save_file(tensors, beside, metadata={"format": _FORMAT, "about": json.dumps(about)})
        return path


def load_siren(path, *, device: str | None = None) -> SirenField:
    """Read a field that `SirenField.save` wrote.

    Raises
    ------
    MapFormatError
        If the file is none of these.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()  # safetensors' file is no dict, and cannot be iterated itself.
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise MapFormatError(
            f"A fitted field was expected in {Path(path).name}, but it is no safetensors file "
            f"({error})."
        ) from error
    if metadata.get("format") != _FORMAT:
        raise MapFormatError(
            f"A fitted field ({_FORMAT}) was expected in {Path(path).name}, but its format is "
            f"{metadata.get('format')!r}."
        )
    about = json.loads(metadata["about"])
    grid = Grid(about["shape"], about["voxel_size"], about["origin"])
    return SirenField(
        Regions(grid, about["edge"], about["overlap"]),
        {name: t for name, t in tensors.items() if name not in ("losses", "epochs")},
        statistics=Statistics(**about["statistics"]),
        low=about["low"],
        high=about["high"],
        losses=tensors["losses"].numpy(),
        epochs=tensors["epochs"].numpy(),
        published=about["published"],
        device=_device(device),
    )


def fit_siren(
    volume: Volume, *, published: bool = False, edge: int = 64, overlap: int = 4,
    features: int = 256, hidden_layers: int = 4, rng: np.random.Generator | None = None,
    together: int = 8, device: str | list[str] | None = None, executor=None, checkpoint=None,
    progress: bool = True, **options,
) -> SirenField:  # fmt: skip
    """Fit sine networks to a map, one to each region.

    Parameters
    ----------
    volume : Volume
        A density; it is not changed.
    published : bool
        As in the paper and its program, faults included: negative densities are taken as zero;
        no limit of epochs; the last state of a network is kept; where regions overlap along
        several axes the ramps are averaged over these axes (and normalised), not multiplied; the
        gradient is along the network's coordinates, not by Å, and the ramps' own slope is left
        out. By default none of this.
    edge, overlap : int
        Most voxels of a region along an axis, and least that neighbours share.
    features, hidden_layers : int
        Of a network; 256 and 4 in the paper.
    rng : numpy.random.Generator, optional
        Source of the first weights; by default a generator with seed 0.
    together : int
        Regions that are fitted side by side, in grouped matrix products.
    device : str or list of str, optional
        Where torch computes; groups of regions take turns on several. By default CUDA, MPS or
        CPU.
    executor : object with `submit`, optional
        Runs the groups, such as a `concurrent.futures` executor or a Dask client; by default one
        after the other, or a thread a device where there are several.
    checkpoint : path, optional
        Folder for the state of the fit; with the same folder an interrupted fit goes on.
    progress : bool
        Whether to show a progress bar.
    **options
        Of `cryonb.field.siren_training.FitOptions`: rate, epochs, patience, batch, ...

    Returns
    -------
    SirenField

    Raises
    ------
    CryonbError
        If the volume cannot be fitted, or an option does not exist.

    References
    ----------
    Ranno & Si, BMC Bioinformatics 23, 397 (2022), Methods; Sitzmann et al., NeurIPS 2020.
    """
    from tqdm.auto import tqdm

    check_density(volume)
    if not (edge > overlap >= 1):
        raise CryonbError(
            f"A region's edge must be longer than the overlap, and that at least 1 voxel, but "
            f"edge={edge} and overlap={overlap} were given."
        )
    defaults = {"epochs": None, "keep": "last"} if published else {}
    try:
        fit = FitOptions(**(defaults | options))
    except TypeError:
        known = ", ".join(asdict(FitOptions()))
        raise CryonbError(
            f"Options of {known} were expected for the fit of a field, but "
            f"{', '.join(sorted(options))} was given."
        ) from None
    values = np.maximum(volume.values, 0) if published else volume.values
    scale = _Scale(float(values.min()), float(values.max()))
    if scale.low == scale.high:
        raise CryonbError(
            f"A map with contrast was expected for a fit, but every voxel is {scale.low:g}."
        )
    rng = np.random.default_rng(0) if rng is None else rng
    regions = Regions(volume.grid, edge, overlap)
    coordinates = regions.coordinates()
    devices = [_device(device)] if device is None or isinstance(device, str) else list(device)
    groups = np.array_split(np.arange(len(regions)), int(np.ceil(len(regions) / together)))
    bar = tqdm(total=len(regions), desc="regions fitted", disable=not progress)
    finished = np.zeros(len(groups), dtype=int)

    def job(k):
        numbers = groups[k]
        targets = [scale.to_target(regions.cut(values, r)).reshape(-1) for r in numbers]
        # Drawn for all regions in turn, whatever the groups.
        weights = initial_weights(len(numbers), rng, features=features, hidden_layers=hidden_layers)
        file = None if checkpoint is None else Path(checkpoint) / f"group{k:04d}.safetensors"
        return (weights, np.stack(targets), coordinates, fit), {
            "device": devices[k % len(devices)], "seed": k, "checkpoint": file
        }  # fmt: skip

    def report_of(k):
        def report(done, loss):
            bar.update(done - finished[k])
            bar.set_postfix(loss=f"{loss:.1e}")
            finished[k] = done

        return report

    with bar:
        if executor is None and len(devices) == 1:
            results = []
            for k in range(len(groups)):
                given, named = job(k)
                results.append(fit_group(*given, report=report_of(k), **named))
        else:
            results = _in_parallel(executor, devices, [job(k) for k in range(len(groups))], bar)
    weights = {name: torch.cat([result[0][name] for result in results]) for name in results[0][0]}
    return SirenField(
        regions,
        weights,
        statistics=Statistics.of(volume.values),
        low=scale.low,
        high=scale.high,
        losses=np.concatenate([result[1] for result in results]),
        epochs=np.concatenate([result[2] for result in results]),
        published=published,
        device=devices[0],
    )


def _in_parallel(executor, devices, jobs, bar):
    """Run groups through an executor, a thread a device by default."""
    from concurrent.futures import ThreadPoolExecutor

    own = ThreadPoolExecutor(len(devices)) if executor is None else None
    try:
        futures = [(own or executor).submit(fit_group, *given, **named) for given, named in jobs]
        results = []
        for future in futures:
            results.append(future.result())
            bar.update(len(results[-1][1]))
        return results
    finally:
        if own is not None:
            own.shutdown(cancel_futures=True)


def _device(device: str | None) -> str:
    if device is not None:
        return str(device)
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


# ---- blending ------------------------------------------------------------------------------------


def _times(weight: np.ndarray, part: np.ndarray) -> np.ndarray:
    return weight.reshape(-1, *[1] * (part.ndim - 1)) * part


def _mean_ramp(along) -> np.ndarray:
    """Weight of a region by the published rule: mean of the ramps of the axes that overlap."""
    weights = np.stack([weight for weight, _ in along])
    shared = weights < 1
    mean = np.where(shared, weights, 0).sum(axis=0) / np.maximum(shared.sum(axis=0), 1)
    return np.where(shared.any(axis=0), mean, 1.0)


def _add_blended(out, rows, along, parts, voxel_size) -> None:
    """Add a region's part with the product of its ramps, and by the product rule."""
    # From (z, y, x) by voxel to (x, y, z) by Å.
    ramp = [along[2 - a][0] for a in range(3)]
    slope = [along[2 - a][1] / voxel_size[a] for a in range(3)]
    weight = ramp[0] * ramp[1] * ramp[2]
    out[0][rows] += weight * parts[0]
    if len(parts) == 1:
        return
    rise = np.stack([slope[a] * ramp[a - 2] * ramp[a - 1] for a in range(3)], axis=1)
    out[1][rows] += _times(weight, parts[1]) + rise * parts[0][:, None]
    if len(parts) == 2:
        return
    cross = rise[:, :, None] * parts[1][:, None, :]
    second = _times(weight, parts[2]) + cross + cross.transpose(0, 2, 1)
    for a in range(3):
        b = (a + 1) % 3
        mixed = slope[a] * slope[b] * ramp[3 - a - b] * parts[0]
        second[:, a, b] += mixed
        second[:, b, a] += mixed
    out[2][rows] += second
