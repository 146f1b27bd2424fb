"""Named, hashed network weights as safetensors, and networks ready to run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from cryonb.errors import WeightsError
from cryonb.files.atomic import written_beside
from cryonb.networks.tempering import tempered
from cryonb.process.level import density_scale
from cryonb.process.level_spectrum import level_spectrum
from cryonb.volume import CLASSES

__all__ = [
    "LoadedNetwork", "choose_device", "load_module", "load_network", "save_weights",
    "shipped_names", "write_weights",
]  # fmt: skip

_ARCHITECTURES = {"unet": "UNet", "haruspex": "Haruspex", "emap2sec": "Emap2sec",
                  "cryo2struct": "Cryo2Struct", "backbone": "Backbone",
                  "enhance": "Enhance"}  # fmt: skip
_FOLDER = Path(__file__).resolve().parent.parent / "weights"


def choose_device(device: str | None = None) -> str:
    """Give `device`, or CUDA, then MPS, then CPU, whichever torch has first."""
    import torch

    if device is not None:
        return str(device)
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def bfloat16_is_fast(device: str) -> bool:
    """Tell whether the processor computes bfloat16 products natively."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    if device != "cpu":
        return False
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check()) if check is not None else False


def save_weights(network, path, *, metadata: dict, half: bool = True, rank: int = 0) -> None:
    """Write a network as safetensors with a JSON description beside it.

    Parameters
    ----------
    network : torch.nn.Module
        With an attribute `options`, the arguments that make it again.
    path : path
        The `.safetensors` file; its description gets the suffix `.json`.
    metadata : dict
        Goes into the description (architecture, classes, rim, ...).
    half : bool
        Write float16; float32 otherwise.
    rank : int
        By which large layers are stored, see `cryonb.networks.low_rank.factorised`; 0 stores them
        whole. The network that is read is whole in either case.
    """
    import torch
    from safetensors.torch import save

    from cryonb.networks.low_rank import factorised

    state = {
        key: value.detach().cpu()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    tensors = {
        key: value.to(torch.float16 if half else torch.float32).contiguous()
        for key, value in factorised(state, rank).items()
    }
    description = {
        **metadata,
        "options": network.options,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    write_weights(save(tensors), path, description)


def write_weights(data: bytes, path, description: dict) -> None:
    """Write what safetensors made of weights, and their description with its checksum beside it."""
    path = Path(path)
    description = description | {"sha256": hashlib.sha256(data).hexdigest()}
    for target, content in (
        (path, data),
        (path.with_suffix(".json"), (json.dumps(description, indent=2) + "\n").encode()),
    ):
        with written_beside(target) as beside:
            beside.write_bytes(content)


class LoadedNetwork:
    """A network with its weights on a device: arrays in, probabilities out.

    Attributes
    ----------
    classes : tuple of str
        Names of the output channels.
    voxel_size : float
        Spacing in Å that the network expects.
    rim : int
        Voxels at a tile's border whose context is cut, to be dropped or blended away.
    multiple : int
        Tile edges must be a multiple of this.
    """

    def __init__(self, network, description: dict, device: str):
        import torch

        self._device = device
        self._half = bfloat16_is_fast(device)
        self._network = network.fused().to(device)
        if device != "mps":
            self._network = self._network.to(memory_format=torch.channels_last_3d)
        self.description = description
        self.classes = tuple(description["classes"])
        self.voxel_size = float(description["voxel_size"])
        self.rim = int(description["rim"])
        self.multiple = int(network.multiple)

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """Make a whole map what training showed: levelled or not, over its `density_scale`."""
        if self.description.get("levelled"):
            values = level_spectrum(values, (self.voxel_size,) * 3)
        scale = density_scale(values)
        return values / np.float32(scale) if scale > 0 else values

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Compute probabilities.

        Parameters
        ----------
        batch : ndarray of float32, shape (n, 1, z, y, x)
            Normalised density; edges divisible by `multiple`.

        Returns
        -------
        ndarray of float32, shape (n, class, z, y, x)
        """
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
            kind = self._device.split(":")[0]
            with torch.autocast(kind, dtype=torch.bfloat16, enabled=self._half):
                logits = self._network(x)
            found = self._network.probabilities(logits.float()).cpu().numpy()
        tempering = self.description.get("tempering")
        return tempered(found, **tempering) if tempering else found


def shipped_names() -> list[str]:
    """Give the names of the weights that came with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.safetensors"))


def _named(name, resolution: float | None) -> Path:
    """Give the file of shipped weights; of a family, the finest that are not finer than the map.

    A map can be blurred to what coarser weights know, but not the other way, and Emap2sec's fail
    soon beyond their resolution: at 7 Å over 24 validation domains the dense form's mean Q3 is 0.53
    with the weights of 6 Å, and 0.77 with those of 10 Å on the blurred map (`benchmarks/
    bench_scope_domains.py --part validation --resolutions 7 --weights emap2sec-dense_6A
    emap2sec-dense_10A`).
    """
    family = {
        float(path.stem.removeprefix(f"{name}_").removesuffix("A")): path
        for path in _FOLDER.glob(f"{name}_*A.safetensors")
    }
    if not family:
        return _FOLDER / f"{name}.safetensors"
    known = [d for d in family if d > (resolution or 0) - 0.1]
    return family[min(known, default=max(family))]


def load_module(name: str = "unet", *, device: str | None = None, resolution: float | None = None):
    """Load a torch module with its weights by name or from a file.

    Parameters
    ----------
    name : str or path
        A name of the shipped weights, or a `.safetensors` file with its `.json` beside it. Of
        "emap2sec" and "emap2sec-dense" there are weights for several resolutions.
    resolution : float, optional
        Å, of the map: where there are several weights, the finest that are not finer than it are
        taken; the finest of all by default.
    device : str, optional
        Where torch computes; CUDA, then MPS, then CPU by default.

    Returns
    -------
    module : torch.nn.Module
        In evaluation mode.
    description : dict
        Of its `.json`: architecture, classes, recipe, ...

    Raises
    ------
    WeightsError
        If the weights are missing or damaged.
    """
    import importlib

    import torch
    from safetensors.torch import load

    from cryonb.networks.low_rank import whole

    path = Path(name)
    if path.suffix != ".safetensors":
        path = _named(name, resolution)
    about = path.with_suffix(".json")
    if not path.is_file() or not about.is_file():
        shipped = shipped_names() or ["none"]
        raise WeightsError(
            f"Weights {str(name)!r} were not found (a name of {', '.join(shipped)}, or a "
            f".safetensors file with its .json beside it, was expected)."
        )
    data = path.read_bytes()
    description = json.loads(about.read_text())
    if hashlib.sha256(data).hexdigest() != description["sha256"]:
        raise WeightsError(
            f"{path.name} does not match the checksum in {about.name}: it is damaged or belongs "
            f"to other weights; fetch or train it again."
        )
    architecture = description["architecture"]
    if architecture not in _ARCHITECTURES:
        raise WeightsError(
            f"An architecture of {', '.join(_ARCHITECTURES)} was expected, but {about.name} names "
            f"{architecture!r}; a newer cryonb may know it."
        )
    room = importlib.import_module(f"cryonb.networks.{architecture}")
    network = getattr(room, _ARCHITECTURES[architecture])(**description["options"])
    state = {key: value.to(torch.float32) for key, value in whole(load(data)).items()}
    # Batch counters of training mean nothing here, so they are not stored.
    lacking = network.load_state_dict(state, strict=False)
    wrong = [key for key in lacking.missing_keys if not key.endswith("num_batches_tracked")]
    if wrong or lacking.unexpected_keys:
        raise WeightsError(
            f"{path.name} does not fit the network that {about.name} describes "
            f"({len(wrong)} tensors lack, {len(lacking.unexpected_keys)} are strange)."
        )
    return network.eval().to(choose_device(device)), description


def load_network(name: str = "unet", *, device: str | None = None) -> LoadedNetwork:
    """Load a network that maps densities to probabilities voxel by voxel.

    Parameters
    ----------
    name, device
        As in `load_module`.

    Raises
    ------
    WeightsError
        If the weights are missing or damaged, or of another kind of network.
    """
    network, description = load_module(name, device=device)
    if description["architecture"] != "unet":
        raise WeightsError(
            f"Weights of a unet were expected, but {str(name)!r} are those of "
            f"{description['architecture']}; `predict_sse` runs them."
        )
    description.setdefault("classes", list(CLASSES))
    return LoadedNetwork(network, description, choose_device(device))
