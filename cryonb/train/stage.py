"""What the training loop must know of a network, and what all kinds of training share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from cryonb.errors import CryonbError
from cryonb.train.library import Library, build_library, split
from cryonb.train.recipe import Recipe

__all__ = ["Stage", "Training", "data_folder", "prepare_library", "real_table", "start_state"]


class Stage:
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

    def __init__(self, recipe: Recipe):
        self.recipe, self.steps = recipe, recipe.steps

    def network(self) -> torch.nn.Module:
        """Make the network, with the weights that training begins with."""
        raise NotImplementedError

    def optimiser(self, network) -> torch.optim.Optimizer:
        """Make the optimiser: AdamW, or plain Adam without decay."""
        if self.recipe.decay:
            return torch.optim.AdamW(
                network.parameters(), lr=self.recipe.rate, weight_decay=self.recipe.decay
            )
        return torch.optim.Adam(network.parameters(), lr=self.recipe.rate)

    def batches(self, step: int):
        """Iterate over pairs of tensors (x, y) from step `step` on."""
        raise NotImplementedError

    def loss(self, network, logits, y):
        """Give the loss, terms of the weights included."""
        raise NotImplementedError

    def scores(self, network, device: str, half: bool) -> dict[str, float]:
        """Judge the averaged network on what it never saw; the first score is the one to watch."""
        raise NotImplementedError

    def rate(self, step: int) -> float:
        """Learning rate of a step: warm-up, constant, cosine fall."""
        recipe = self.recipe
        if step < recipe.warmup:
            return recipe.rate * (step + 1) / recipe.warmup
        left = self.steps - step
        if left >= recipe.tail:
            return recipe.rate
        return float(recipe.rate * (0.5 - 0.5 * np.cos(np.pi * max(left, 0) / recipe.tail))) + 1e-6


class Training:
    """All stages of one recipe.

    Parameters
    ----------
    recipe : Recipe
        The settings.
    run : Path
        Folder of the run.
    device : str
        Where torch computes.
    progress : bool
        Show bars.
    """

    def __init__(self, recipe: Recipe, run: Path, *, device: str, progress: bool):
        self.recipe, self.run, self.device, self.progress = recipe, run, device, progress

    def stages(self):
        """Iterate over the stages; the loop sets `trained` of each before it asks for the next."""
        raise NotImplementedError

    def result(self) -> tuple[torch.nn.Module, dict]:
        """Give the network to ship and what its description must say."""
        raise NotImplementedError


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


def prepare_library(recipe: Recipe, run: Path, progress: bool) -> tuple[Library, np.ndarray]:
    """Read the structures, once a run.

    Returns
    -------
    library : Library
        Of the training and validation parts.
    training : ndarray of bool, shape (structures,)
        Which are for training.
    """
    cache, manifest = run / "structures.npz", run / "manifest.csv"
    if not cache.is_file() or not manifest.is_file():
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


def real_table(recipe: Recipe) -> tuple[Path, pd.DataFrame]:
    """Give the folder of maps and the rows of its index that the recipe names."""
    folder = data_folder(recipe) / "maps"
    table = pd.read_csv(folder / "INDEX.csv")
    table = table[table["map"].isin(recipe.real_maps)]
    if len(table) != len(recipe.real_maps):
        raise CryonbError(
            f"The recipe names {len(recipe.real_maps)} real maps, "
            f"but INDEX.csv has {len(table)} of them."
        )
    return folder, table


def start_state(recipe: Recipe) -> dict:
    """Read the weights that a run starts from: a checkpoint's average, or shipped ones."""
    path = Path(recipe.start)
    if not path.is_file():
        raise CryonbError(
            f"The recipe starts from {recipe.start}, which does not exist; name a checkpoint (.pt) "
            "or weights (.safetensors)."
        )
    if path.suffix == ".safetensors":
        return {key: value.float() for key, value in load_file(path).items()}
    return torch.load(path, map_location="cpu", weights_only=True)["average"]
