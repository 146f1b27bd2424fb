"""What the training loop must know of a network, and what all kinds of training share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from cryonb.errors import CryonbError
from cryonb.networks.low_rank import whole
from cryonb.train.library import Library, build_library, split
from cryonb.train.recipe import NetworkRecipe, Recipe
from cryonb.train.samples import IGNORED, Mixture, structure_weights

__all__ = [
    "CropStage", "Stage", "Training", "data_folder", "load_fitting", "mixed_samples",
    "prepare_library", "real_table", "scores_of", "start_state",
]  # fmt: skip


class Stage(ABC):
    """One network to train.

    Attributes
    ----------
    suffix : str
        In the names of its files; "" for a training of one stage.
    steps : int
        How long.
    clip : float
        Largest norm of a gradient; 0 for any.
    """

    suffix: str = ""
    steps: int = 0
    clip: float = 0.0

    def __init__(self, recipe: NetworkRecipe):
        self.recipe, self.steps = recipe, recipe.steps

    @abstractmethod
    def network(self) -> torch.nn.Module:
        """Make the network, with the weights that training begins with."""

    def optimiser(self, network) -> torch.optim.Optimizer:
        """Make the optimiser: AdamW, or plain Adam without decay."""
        if self.recipe.decay:
            return torch.optim.AdamW(
                network.parameters(), lr=self.recipe.rate, weight_decay=self.recipe.decay
            )
        return torch.optim.Adam(network.parameters(), lr=self.recipe.rate)

    @abstractmethod
    def batches(self, step: int):
        """Iterate over pairs of tensors (x, y) from step `step` on."""

    @abstractmethod
    def loss(self, network, logits, y):
        """Give the loss, terms of the weights included."""

    @abstractmethod
    def scores(self, network, device: str, half: bool) -> dict[str, float]:
        """Judge the averaged network on what it never saw; the first score is the one to watch."""

    def rate(self, step: int) -> float:
        """Learning rate of a step: warm-up, constant, cosine fall."""
        recipe = self.recipe
        if step < recipe.warmup:
            return recipe.rate * (step + 1) / recipe.warmup
        left = self.steps - step
        if left >= recipe.tail:
            return recipe.rate
        return float(recipe.rate * (0.5 - 0.5 * np.cos(np.pi * max(left, 0) / recipe.tail))) + 1e-6


def scores_of(truth: np.ndarray, found: np.ndarray, names, *, background: int) -> dict[str, float]:
    """Accuracy over voxels of any class but the background, and F1 of each such class.

    Parameters
    ----------
    truth, found : ndarray of int, shape (n,)
        Classes of voxels.
    names : sequence of str
        Of the classes.
    background : int
        Place of the background among them.
    """
    n = len(names)
    table = np.bincount(truth * n + found, minlength=n * n).reshape(n, n)
    f1 = 2 * np.diag(table) / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)
    kept = np.arange(n) != background
    inside = table[kept].sum()
    scores = {"voxel_accuracy": float(np.diag(table)[kept].sum() / max(inside, 1))}
    return scores | {f"f1_{names[i]}": float(f1[i]) for i in np.flatnonzero(kept)}


class CropStage(Stage):
    """Training on crops of maps: the only stage of a voxel-wise network.

    Attributes
    ----------
    names : tuple of str
        Classes of the voxels.
    background : int
        Place of the background among them.
    judged : int
        Scenes of the validation set.
    target : torch.dtype
        Of the labels as the loss takes them.
    """

    clip = 1.0
    names: tuple[str, ...] = ()
    background: int = 0
    judged: int = 16
    target: torch.dtype = torch.int64

    def __init__(self, recipe, samples, validation):
        super().__init__(recipe)
        self._samples = samples
        items = [validation[number] for number in range(self.judged)]
        self._x = torch.from_numpy(np.concatenate([item[0] for item in items])).float()[:, None]
        self._y = torch.from_numpy(np.concatenate([item[1] for item in items])).to(self.target)

    def batches(self, step):
        """Iterate over crops, made by worker processes."""
        recipe = self.recipe
        loader = torch.utils.data.DataLoader(
            self._samples,
            batch_size=recipe.scenes,
            sampler=range(step * recipe.scenes, recipe.steps * recipe.scenes),
            num_workers=recipe.workers,
            prefetch_factor=4 if recipe.workers else None,
            persistent_workers=recipe.workers > 0,
        )
        for x, y in loader:
            yield x.flatten(0, 1)[:, None].float(), y.flatten(0, 1).to(self.target)

    def answer(self, network, x, device, half):
        """Give what a network says of some crops, float32 on the CPU."""
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
            return network(x.to(device)).float().cpu()

    def scores(self, network, device, half):
        """Give voxel accuracy and F1 of each class on a fixed set of crops."""
        found = [self.answer(network, x, device, half).argmax(dim=1) for x in self._x.split(8)]
        counts = self._y != IGNORED
        found, truth = torch.cat(found)[counts].numpy(), self._y[counts].numpy()
        return scores_of(truth, found, self.names, background=self.background)


class Training(ABC):
    """All stages of one recipe.

    Parameters
    ----------
    recipe : NetworkRecipe
        The settings.
    run : Path
        Folder of the run.
    device : str
        Where torch computes.
    progress : bool
        Show bars.
    """

    def __init__(self, recipe: NetworkRecipe, run: Path, *, device: str, progress: bool):
        self.recipe, self.run, self.device, self.progress = recipe, run, device, progress

    @abstractmethod
    def stages(self):
        """Iterate over the stages; the loop sets `trained` of each before it asks for the next."""

    @abstractmethod
    def result(self) -> tuple[torch.nn.Module, dict]:
        """Give the network to ship and what its description must say."""


def data_folder(recipe: Recipe) -> Path:
    """Give the folder of structures and maps.

    Raises
    ------
    CryonbError
        If neither the recipe nor the environment names one.
    """
    folder = recipe.data or os.environ.get("CRYONB_DATA", "")
    if not folder or not Path(folder).is_dir():
        raise CryonbError(
            "Training needs a folder with structures/ and maps/, named by `data` in the recipe or "
            f"by the environment variable CRYONB_DATA, but {folder or 'neither'!r} is no folder."
        )
    return Path(folder)


def prepare_library(recipe: NetworkRecipe, run: Path, progress: bool) -> tuple[Library, np.ndarray]:
    """Read the structures, once a run.

    Returns
    -------
    library : Library
        Of the training and validation parts.
    training : ndarray of bool, shape (structures,)
        Which are for training.
    """
    cache, manifest = run / "structures.npz", run / "manifest.csv"
    if not (cache.is_file() and manifest.is_file() and Library.is_current(cache)):
        if recipe.data == "phantoms":
            folder, files = Path(), []
            names = [f"phantom/{number}" for number in range(recipe.phantoms)]
            part = ["train" if number % 5 else "validation" for number in range(recipe.phantoms)]
            parts = pd.Series(part, index=names)
        else:
            folder = data_folder(recipe)
            index = pd.read_csv(folder / "structures" / "INDEX.csv")
            parts = split(index, n_test=recipe.held_out, exclude=recipe.exclude)
            files = parts.index[parts.isin(["train", "validation"])]
        library = build_library(
            folder / "structures", files, phantoms=recipe.phantoms, progress=progress
        )
        library.save(cache)
        parts.rename("part").to_csv(manifest, index_label="file")
    library = Library.load(cache)
    parts = pd.read_csv(manifest, index_col="file")["part"]
    return library, parts.reindex(library.files).fillna("train").to_numpy() == "train"


def real_table(recipe: NetworkRecipe, names) -> tuple[Path, pd.DataFrame]:
    """Give the folder of maps and the rows of its index that have these names."""
    folder = data_folder(recipe) / "maps"
    table = pd.read_csv(folder / "INDEX.csv")
    table = table[table["map"].isin(names)]
    if len(table) != len(names):
        raise CryonbError(
            f"The recipe names {len(names)} real maps, but INDEX.csv has {len(table)} of them."
        )
    return folder, table


def start_state(recipe: NetworkRecipe) -> dict:
    """Read the weights that a run starts from: a checkpoint's average, or shipped ones."""
    path = Path(recipe.start)
    if not path.is_file():
        raise CryonbError(
            f"The recipe starts from {recipe.start}, which does not exist; name a checkpoint (.pt) "
            "or weights (.safetensors)."
        )
    if path.suffix == ".safetensors":
        return {key: value.float() for key, value in whole(load_file(path)).items()}
    return torch.load(path, map_location="cpu", weights_only=True)["average"]


def load_fitting(network: torch.nn.Module, state: dict) -> None:
    """Give a network those tensors of another's state that it has by name and shape."""
    mine = network.state_dict()
    fitting = {k: v for k, v in state.items() if k in mine and v.shape == mine[k].shape}
    network.load_state_dict(fitting, strict=False)


def mixed_samples(training: Training, simulated, real=None):
    """Make the samples that a `CropStage` learns from, and those that judge it.

    Parameters
    ----------
    training : Training
        Its recipe is a `CropRecipe`.
    simulated : callable
        A kind of `Scenes`.
    real : callable, optional
        Makes crops of real maps from the folder and the rows of its index.

    Returns
    -------
    samples, validation : Dataset

    Raises
    ------
    CryonbError
        If the recipe asks for real maps, and there is no `real`.
    """
    recipe = training.recipe
    if recipe.real > 0 and real is None:
        raise CryonbError(
            f"A network of the architecture {recipe.architecture!r} is trained on simulated maps "
            "alone, but the recipe asks for real ones; set real = 0."
        )
    library, train = prepare_library(recipe, training.run, training.progress)
    weight = structure_weights(library.files)
    options = {"edge": recipe.edge, "measured": recipe.measured}
    drawn = ("finest", "coarsest", "clean", "belts", "faded", "overstated")
    limits = {key: getattr(recipe, key) for key in drawn}
    samples = simulated(library, weight * train, seed=recipe.seed, **options, **limits)
    validation = simulated(library, weight * ~train, seed=recipe.seed + 10**6, **options, **limits)
    crops = None
    if recipe.real > 0:
        crops = real(*real_table(recipe, recipe.real_maps), seed=recipe.seed, **options)
    return Mixture(samples, crops, recipe.real, recipe.seed), validation
