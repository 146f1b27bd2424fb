"""The fit of sine networks to regions of a map: many regions at once, stopped one by one."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cryonb.errors import CryonbError
from cryonb.field.siren_network import forward
from cryonb.files.atomic import written_beside

__all__ = ["FitOptions", "fit_group"]


@dataclass(frozen=True)
class FitOptions:
    """How networks are fitted.

    Attributes
    ----------
    rate : float
        Of Adam.
    small : float
        A region is done at once when its loss (mean square, targets from -1 to 1) is below this.
    fair : float
        A region whose least loss is below this is done after `patience` epochs without a new
        least one: the paper's natural fit point.
    patience : int
        Epochs.
    epochs : int or None
        Most epochs; None for no limit.
    keep : {"best", "last"}
        Which state is kept of a region that is done: that of the least loss, or the last.
    batch : int or None
        Voxels of a step, drawn anew each epoch; None for all of a region, as published.
    chunk : int
        Voxels that go through the networks at once; it bounds the memory, not the result.
    """

    rate: float = 1e-4
    small: float = 1e-5
    fair: float = 4e-4
    patience: int = 25
    epochs: int | None = 1000
    keep: str = "best"
    batch: int | None = None
    chunk: int = 8192


def fit_group(
    weights: dict, targets: np.ndarray, coordinates: np.ndarray, options: FitOptions, *,
    device: str = "cpu", seed: int = 0, checkpoint=None, save_every: float = 60.0, report=None,
) -> tuple[dict, np.ndarray, np.ndarray]:  # fmt: skip
    """Fit a network to each of several regions, side by side.

    Parameters
    ----------
    weights : dict of Tensor
        Where to begin, see `cryonb.field.siren_network.initial_weights`.
    targets : ndarray of float32, shape (regions, voxels)
        From -1 to 1.
    coordinates : ndarray of float32, shape (voxels, 3)
        Of the voxels, the same in all regions.
    options : FitOptions
        How to fit.
    device : str
        Where torch computes.
    seed : int
        Of the order of voxels, where `options.batch` is given.
    checkpoint : path, optional
        File from which a fit goes on, and to which its state is written every `save_every`
        seconds, when it is interrupted, and when it is done.
    report : callable, optional
        Called after each epoch with the number of regions that are done and the mean least loss.

    Returns
    -------
    weights : dict of Tensor
        On the CPU.
    losses : ndarray, shape (regions,)
        Least loss of each region.
    epochs : ndarray of int, shape (regions,)
        Epochs of each region.
    """
    state = _State.begin(weights, targets, device)
    key = _fingerprint(targets, options)
    if checkpoint is not None and Path(checkpoint).exists():
        state.load(checkpoint, key)
    points = torch.from_numpy(coordinates).to(device)
    goal = torch.from_numpy(np.ascontiguousarray(targets)).to(device)
    saved = time.monotonic()
    try:
        while len(rows := state.going(options.epochs)):
            _one_epoch(state, rows, points, goal, options, seed)
            if report is not None:
                done = len(goal) - len(state.going(options.epochs))
                report(done, float(state.least.mean()))
            if checkpoint is not None and time.monotonic() - saved > save_every:
                state.save(checkpoint, key)
                saved = time.monotonic()
    finally:
        if checkpoint is not None:
            state.save(checkpoint, key)
    kept = state.best if options.keep == "best" else state.weights
    return (
        {name: tensor.cpu() for name, tensor in kept.items()},
        state.least.cpu().numpy(),
        state.epochs.numpy(),
    )


class _State:
    """All that an interrupted fit needs to go on."""

    def __init__(self, weights, best, first, second, least, stale, epochs, active):
        self.weights, self.best, self.first, self.second = weights, best, first, second
        #: Least loss, epochs since then, epochs in all, and whether the fit goes on, by region.
        self.least, self.stale, self.epochs, self.active = least, stale, epochs, active

    @classmethod
    def begin(cls, weights, targets, device):
        count = len(targets)
        weights = {name: tensor.to(device).clone() for name, tensor in weights.items()}
        return cls(
            weights,
            {name: tensor.clone() for name, tensor in weights.items()},
            {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
            {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
            torch.full((count,), torch.inf),
            torch.zeros(count, dtype=torch.int64),
            torch.zeros(count, dtype=torch.int64),
            torch.ones(count, dtype=torch.bool),
        )

    def going(self, limit: int | None) -> torch.Tensor:
        """Rows of the regions whose fit goes on, under a limit of epochs."""
        going = self.active if limit is None else self.active & (self.epochs < limit)
        return torch.nonzero(going)[:, 0]

    _GROUPS = ("weights", "best", "first", "second")
    _COLUMNS = ("least", "stale", "epochs", "active")

    def save(self, path, key: str) -> None:
        from safetensors.torch import save_file

        tensors = {name: getattr(self, name) for name in self._COLUMNS}
        for group in self._GROUPS:
            for name, tensor in getattr(self, group).items():
                tensors[f"{group}.{name}"] = tensor.detach().cpu().contiguous()
        with written_beside(path) as beside:
            save_file(tensors, beside, metadata={"fit": key})

    def load(self, path, key: str) -> None:
        from safetensors import safe_open

        with safe_open(str(path), framework="pt") as file:
            if (file.metadata() or {}).get("fit") != key:
                raise CryonbError(
                    f"{Path(path).name} is the checkpoint of a fit of another map or with other "
                    "options; give another folder as checkpoint=, or delete it."
                )
            for name in self._COLUMNS:
                setattr(self, name, file.get_tensor(name))
            for group in self._GROUPS:
                kept = getattr(self, group)
                for name in kept:
                    kept[name] = file.get_tensor(f"{group}.{name}").to(kept[name].device)


def _fingerprint(targets: np.ndarray, options: FitOptions) -> str:
    """Tell fits apart: of the voxels and of what changes the result, but not the limits."""
    told = {k: v for k, v in asdict(options).items() if k not in ("epochs", "chunk", "keep")}
    digest = hashlib.sha256(np.ascontiguousarray(targets).tobytes())
    digest.update(json.dumps(told, sort_keys=True).encode())
    return digest.hexdigest()


def _one_epoch(state: _State, rows, points, goal, options: FitOptions, seed: int) -> None:
    """Take one pass over the voxels of the regions `rows`, and stop those that are done."""
    weights = {name: tensor[rows].requires_grad_() for name, tensor in state.weights.items()}
    before = {name: tensor.detach().clone() for name, tensor in weights.items()}
    n = len(points)
    if options.batch is None:
        batches = [slice(None)]
    else:
        epoch = int(state.epochs[rows[0]])
        order = np.random.default_rng([seed, epoch]).permutation(n)
        batches = np.array_split(order, max(round(n / options.batch), 1))
    steps = len(batches)
    loss = torch.zeros(len(rows), dtype=torch.float64)
    for k, batch in enumerate(batches):
        some = points[batch]
        loss += _backward(weights, some, goal[rows][:, batch], options.chunk) * (len(some) / n)
        count = (state.epochs[rows] * steps + k + 1).double()
        _adam(state, rows, weights, count, options.rate)
    improved = loss < state.least[rows].double()
    for name, tensor in before.items():
        # The loss of whole batches is that of the state before the step. With several steps an
        # epoch it belongs to no single state, and the state after them is taken.
        source = tensor if options.batch is None else state.weights[name][rows]
        state.best[name][rows[improved]] = source[improved]
    least = torch.where(improved, loss.float(), state.least[rows])
    state.least[rows] = least
    state.stale[rows] = torch.where(improved, 0, state.stale[rows] + 1)
    state.epochs[rows] += 1
    done = least < options.small
    done |= (state.stale[rows] >= options.patience) & (least < options.fair)
    state.active[rows[done]] = False


def _backward(weights, points, goal, chunk: int) -> torch.Tensor:
    """Mean square error of each region, its gradient left in the weights."""
    n = len(points)
    loss = torch.zeros(len(goal), dtype=torch.float64)
    for tensor in weights.values():
        tensor.grad = None
    for first in range(0, n, chunk):
        part = slice(first, first + chunk)
        (value,) = forward(weights, points[part])
        # Regions share no weights, so that the gradient of the sum is each one's own.
        error = (value - goal[:, part]).square().sum(dim=1) / n
        error.sum().backward()
        loss += error.detach().double().cpu()
    return loss


def _adam(state: _State, rows, weights, count, rate: float) -> None:
    """Take a step of Adam (Kingma & Ba 2015; torch's constants) with each region's own count."""
    beta1, beta2, small = 0.9, 0.999, 1e-8
    with torch.no_grad():
        for name, tensor in weights.items():
            to = (-1,) + (1,) * (tensor.ndim - 1)
            fix1 = (1 - beta1**count).float().to(tensor.device).reshape(to)
            fix2 = (1 - beta2**count).sqrt().float().to(tensor.device).reshape(to)
            first, second = state.first[name][rows], state.second[name][rows]
            first.lerp_(tensor.grad, 1 - beta1)
            second.mul_(beta2).addcmul_(tensor.grad, tensor.grad, value=1 - beta2)
            tensor.sub_(rate / fix1 * first / (second.sqrt() / fix2 + small))
            state.first[name][rows], state.second[name][rows] = first, second
            state.weights[name][rows] = tensor
