"""Training of our own network."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from cryonb.networks.unet import UNet
from cryonb.train.samples import (
    IGNORED,
    Mixture,
    RealSamples,
    SimulatedSamples,
    real_maps,
    structure_weights,
)
from cryonb.train.stage import Stage, Training, prepare_library, real_table, start_state
from cryonb.volume import CLASSES

__all__ = ["UNetTraining", "loss_of", "scores_of"]

#: Voxels of context that the border of a tile lacks.
RIM = 16


def loss_of(logits, label, class_weight, dice: float):
    """Class-weighted cross-entropy plus soft Dice of the four structure classes.

    Parameters
    ----------
    logits : Tensor, shape (n, class, z, y, x)
    label : Tensor of int64, shape (n, z, y, x)
        IGNORED voxels do not count.
    class_weight : Tensor, shape (class,)
    dice : float
        Weight of the Dice term.
    """
    entropy = functional.cross_entropy(logits, label, class_weight, ignore_index=IGNORED)
    if not dice:
        return entropy
    counts = (label != IGNORED).unsqueeze(1)
    p = torch.softmax(logits, dim=1) * counts
    truth = functional.one_hot(label.where(label != IGNORED, 0), logits.shape[1])
    truth = truth.permute(0, 4, 1, 2, 3) * counts
    both = (p * truth).sum(dim=(0, 2, 3, 4))[1:]
    either = (p + truth).sum(dim=(0, 2, 3, 4))[1:]
    present = truth.sum(dim=(0, 2, 3, 4))[1:] > 0
    if not bool(present.any()):
        return entropy
    return entropy + dice * (1 - (2 * both + 1) / (either + 1))[present].mean()


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


class UNetStage(Stage):
    """The only stage: crops of simulated and real maps."""

    clip = 1.0

    def __init__(self, recipe, samples, validation):
        super().__init__(recipe)
        self._samples = samples
        items = [validation[number] for number in range(16)]
        self._x = torch.from_numpy(np.concatenate([item[0] for item in items])).float()[:, None]
        self._y = torch.from_numpy(np.concatenate([item[1] for item in items])).long()

    def network(self):
        """Make the network, from random weights or those that the recipe names."""
        network = UNet(len(CLASSES), self.recipe.widths)
        if self.recipe.start:
            network.load_state_dict(start_state(self.recipe), strict=False)
        return network

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
            yield x.flatten(0, 1)[:, None].float(), y.flatten(0, 1).long()

    def loss(self, network, logits, y):
        """Give the loss."""
        weight = torch.tensor(self.recipe.class_weight, device=logits.device)
        return loss_of(logits, y, weight, self.recipe.dice)

    def scores(self, network, device, half):
        """Give voxel accuracy and F1 of each structure class on a fixed set of crops."""
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
            found = [network(x.to(device)).argmax(dim=1).cpu() for x in self._x.split(8)]
        counts = self._y != IGNORED
        found, truth = torch.cat(found)[counts].numpy(), self._y[counts].numpy()
        return scores_of(truth, found, CLASSES, background=0)


class UNetTraining(Training):
    """Training of a `UNet`."""

    def stages(self):
        """Give the only stage."""
        recipe = self.recipe
        library, training = prepare_library(recipe, self.run, self.progress)
        weight = structure_weights(library.files)
        options = {"edge": recipe.edge, "measured": recipe.measured}
        limits = {key: getattr(recipe, key) for key in ("finest", "coarsest", "clean")}
        samples = SimulatedSamples(
            library, weight * training, seed=recipe.seed, **options, **limits
        )
        validation = SimulatedSamples(
            library, weight * ~training, seed=recipe.seed + 10**6, **options, **limits
        )
        real = None
        if recipe.real > 0:
            real = RealSamples(real_maps(*real_table(recipe)), seed=recipe.seed, **options)
        self._stage = UNetStage(
            recipe, Mixture(samples, real, recipe.real, recipe.seed), validation
        )
        yield self._stage

    def result(self):
        """Give the averaged network and its description."""
        about = {"classes": list(CLASSES), "voxel_size": 1.0, "rim": RIM}
        return self._stage.trained, about
