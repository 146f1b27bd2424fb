"""Weights that the authors of Emap2sec and Haruspex trained, read from their checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cryonb.errors import WeightsError
from cryonb.files.tensorflow_checkpoint import read_checkpoint
from cryonb.networks.emap2sec import Emap2sec
from cryonb.networks.haruspex import Haruspex
from cryonb.networks.weights import save_weights

__all__ = ["import_emap2sec", "import_haruspex", "import_weights"]


def _numbered(name: str, number: int) -> str:
    """Name layers as TensorFlow does: conv3d, conv3d_1, ..."""
    return f"{name}_{number}" if number else name


_HARUSPEX = {
    **{f"conv{k}.weight": f"{_numbered('conv3d', k)}/kernel" for k in range(8)},
    **{f"conv{k}.bias": f"{_numbered('conv3d', k)}/bias" for k in range(8)},
    **{f"up{k}.weight": f"{_numbered('conv3d_transpose', k)}/kernel" for k in range(2)},
}


def _pair(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.weight": f"W_{theirs}", f"{ours}.bias": f"b_{theirs}"}


_PHASE_ONE = {
    key: value
    for ours, theirs in (
        *((f"convolutions.conv{k}", f"conv{k}") for k in range(1, 6)),
        ("fc1", "fc1"), ("fc2", "fc2"), ("out", "fc5"),
    )
    for key, value in _pair(ours, theirs).items()
}  # fmt: skip
_PHASE_TWO = {
    key: value
    for ours, theirs in (*((f"hidden.{k}", f"fc2{k + 1}") for k in range(5)), ("out", "fc26"))
    for key, value in _pair(ours, theirs).items()
}


def _ours(array: np.ndarray) -> torch.Tensor:
    """Put axes in torch's order: outputs, inputs, then space."""
    if array.ndim == 5:
        # A transposed convolution has its outputs before its inputs in both programs' orders.
        array = array.transpose(4, 3, 0, 1, 2)
    elif array.ndim == 2:
        array = array.T
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _fill(module: torch.nn.Module, names: dict[str, str], path) -> None:
    wanted = set(names.values())
    stored = read_checkpoint(path, only=wanted.__contains__)
    state = module.state_dict()
    for ours, theirs in names.items():
        if theirs not in stored:
            raise WeightsError(
                f"The checkpoint {path} lacks the tensor {theirs!r}: it belongs to another network."
            )
        tensor = _ours(stored[theirs])
        if tensor.shape != state[ours].shape:
            raise WeightsError(
                f"Tensor {theirs!r} of shape {tuple(state[ours].shape)} (in torch's order) was "
                f"expected, but in {path} it is {tuple(tensor.shape)}."
            )
        state[ours] = tensor
    module.load_state_dict(state)


def import_haruspex(path) -> Haruspex:
    """Read a checkpoint of the original Haruspex.

    Parameters
    ----------
    path : path
        The stem of its files, such as "model.ckpt-40000".

    Raises
    ------
    WeightsError
        If it is no such checkpoint.
    """
    network = Haruspex()
    _fill(network, _HARUSPEX, path)
    return network.eval()


def import_emap2sec(one, two) -> Emap2sec:
    """Read the checkpoints of the original Emap2sec.

    Parameters
    ----------
    one, two : path
        The stems of the files of the first and of the second phase.

    Raises
    ------
    WeightsError
        If one is no such checkpoint.
    """
    network = Emap2sec()
    _fill(network.one, _PHASE_ONE, one)
    _fill(network.two, _PHASE_TWO, two)
    return network.eval()


_READERS = {"haruspex": (import_haruspex, 1), "emap2sec": (import_emap2sec, 2)}


def import_weights(architecture: str, checkpoints, path) -> Path:
    """Read checkpoints of an original and write them as weights that `predict_sse` takes.

    Parameters
    ----------
    architecture : {"haruspex", "emap2sec"}
        Whose.
    checkpoints : sequence of path
        The stem of one checkpoint for Haruspex; of two, one a phase, for Emap2sec.
    path : path
        The `.safetensors` file to write, in float32.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    WeightsError
        If a checkpoint is none of this network.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"A .safetensors file to write was expected, but {path} was given.")
    read, count = _READERS[architecture]
    if len(checkpoints) != count:
        raise WeightsError(
            f"{architecture} has {count} checkpoint{'s' * (count > 1)}, "
            f"but {len(checkpoints)} were given."
        )
    about = {"architecture": architecture, "origin": [Path(stem).name for stem in checkpoints]}
    save_weights(read(*checkpoints), path, metadata=about, half=False)
    return path
