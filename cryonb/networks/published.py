"""Weights that the authors of published networks trained, read from their checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cryonb.errors import WeightsError
from cryonb.files.tensorflow_checkpoint import read_checkpoint
from cryonb.networks.cryo2struct import CLASSES_OF, SIZES, Cryo2Struct
from cryonb.networks.emap2sec import Emap2sec
from cryonb.networks.haruspex import Haruspex
from cryonb.networks.weights import save_weights

__all__ = ["import_cryo2struct", "import_emap2sec", "import_haruspex", "import_weights"]


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


def _both(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


def _convolutions(ours: str, theirs: str) -> dict[str, str]:
    return (
        _both(f"{ours}.conv1", f"{theirs}.conv_block.0")
        | _both(f"{ours}.conv2", f"{theirs}.conv_block.3")
        | _both(f"{ours}.shortcut", f"{theirs}.conv_down.0")
    )


def _cryo2struct_names(blocks: int) -> dict[str, str]:
    """Names of the original's parameters, as the library behind it gives them, by ours."""
    names = {
        "patches.weight": "embed.patch_embeddings.weight",
        "position": "embed.position_embeddings.abs_pos_enc",
        **_both("head", "out_conv.1"),
        **_convolutions("entrance", "init_conv"),
        **_convolutions("merge0", "out_conv.0"),
        "raise4.0.weight": "z12_deconv.block.weight",
    }
    for level, tap in ((1, "z3"), (2, "z6"), (3, "z9")):
        names |= _convolutions(f"merge{level}", f"{tap}_conv")
        names[f"up{level}.weight"] = f"{tap}_deconv.block.weight"
        for k in range(4 - level):
            names[f"raise{level}.{k}.weight"] = f"{tap}_blue_conv.blocks.{k}.block.weight"
    for k in range(blocks):
        ours, theirs = f"blocks.{k}", f"transformer.block_list.{k}"
        names[f"{ours}.attention.project.weight"] = f"{theirs}.mhsa.to_qvk.weight"
        names[f"{ours}.attention.out.weight"] = f"{theirs}.mhsa.W_0.weight"
        names |= _both(f"{ours}.norm1", f"{theirs}.norm_1")
        names |= _both(f"{ours}.norm2", f"{theirs}.norm_2")
        names |= _both(f"{ours}.up", f"{theirs}.linear.0")
        names |= _both(f"{ours}.down", f"{theirs}.linear.3")
    return names


def import_cryo2struct(path, *, heads: int | None = None) -> Cryo2Struct:
    """Read a checkpoint of the original Cryo2Struct.

    Parameters
    ----------
    path : path
        A `.ckpt` file of PyTorch Lightning, of the network for atoms, for amino acids or for
        secondary structure.
    heads : int, optional
        Heads of the attention, which the weights do not tell: 12 with 12 blocks and 6 with 4 by
        default, as in the paper.

    Raises
    ------
    WeightsError
        If it is no such checkpoint.
    """
    import pickle

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"A checkpoint of Cryo2Struct with nothing but tensors and numbers was expected, but "
            f"{path} cannot be read ({reason})."
        ) from None
    state = stored.get("state_dict", stored) if isinstance(stored, dict) else {}
    state = {str(key).removeprefix("model."): value for key, value in state.items()}
    blocks = {key.split(".")[2] for key in state if key.startswith("transformer.block_list.")}
    size = {count: name for name, (count, _, _) in SIZES.items()}.get(len(blocks))
    if size is None or "out_conv.1.bias" not in state:
        raise WeightsError(
            f"A checkpoint of Cryo2Struct, with 4 or 12 blocks, was expected, but {path} has "
            f"{len(blocks)}: it belongs to another network."
        )
    network = Cryo2Struct(len(state["out_conv.1.bias"]), size, heads)
    names = _cryo2struct_names(len(blocks))
    missing = [key for key in names.values() if key not in state]
    wrong = [
        theirs
        for ours, theirs in names.items()
        if theirs in state and state[theirs].shape != network.state_dict()[ours].shape
    ]
    if missing or wrong:
        raise WeightsError(
            f"The checkpoint {path} does not fit Cryo2Struct: {len(missing)} tensors lack and "
            f"{len(wrong)} have another shape."
        )
    network.load_state_dict({ours: state[theirs].float() for ours, theirs in names.items()})
    return network.eval()


_READERS = {
    "haruspex": (import_haruspex, 1),
    "emap2sec": (import_emap2sec, 2),
    "cryo2struct": (import_cryo2struct, 1),
}


def import_weights(architecture: str, checkpoints, path) -> Path:
    """Read checkpoints of an original and write them as weights of ours.

    `predict_sse` takes those of Haruspex and Emap2sec, `predict_cryo2struct` those of Cryo2Struct.

    Parameters
    ----------
    architecture : {"haruspex", "emap2sec", "cryo2struct"}
        Whose.
    checkpoints : sequence of path
        The stem of one checkpoint for Haruspex; of two, one a phase, for Emap2sec; one `.ckpt` for
        Cryo2Struct. Of four classes those of atoms are taken to be meant.
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
    network = read(*checkpoints)
    if architecture == "cryo2struct":
        kind = "atom" if network.classes == len(CLASSES_OF["atom"]) else "amino"
        about |= {"classes": list(CLASSES_OF[kind]), "voxel_size": 1.0}
    save_weights(network, path, metadata=about, half=False)
    return path
