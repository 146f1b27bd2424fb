"""Training of our own network."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional

from cryonb.networks.unet import UNet
from cryonb.networks.weights import LoadedNetwork
from cryonb.train.calibrate import fit_tempering, read_residues
from cryonb.train.real_samples import RealSamples, real_maps
from cryonb.train.samples import CORE, IGNORED, SimulatedSamples
from cryonb.train.stage import (
    CropStage,
    Training,
    mixed_samples,
    real_table,
    scores_of,
    start_state,
)  # fmt: skip
from cryonb.volume import CLASSES

__all__ = ["UNetTraining", "loss_of"]

#: Voxels of context that the border of a tile lacks.
RIM = 8
# Å from a backbone atom within which its residue is read.
_CORE = 1.2


def loss_of(logits, label, class_weight, dice: float, core: float = 1.0):
    """Class-weighted cross-entropy plus soft Dice of the four structure classes.

    Parameters
    ----------
    logits : Tensor, shape (n, class, z, y, x)
    label : Tensor of int64, shape (n, z, y, x)
        IGNORED voxels do not count.
    class_weight : Tensor, shape (class,)
    dice : float
        Weight of the Dice term.
    core : float
        How much more voxels with the bit CORE weigh in the cross-entropy.
    """
    counts = label != IGNORED
    inner, label = counts & (label >= CORE), label.where(~counts, label % CORE)
    if core == 1:
        entropy = functional.cross_entropy(logits, label, class_weight, ignore_index=IGNORED)
    else:
        each = functional.cross_entropy(logits, label, reduction="none", ignore_index=IGNORED)
        weight = class_weight[label.where(counts, 0)] * counts * (1 + (core - 1) * inner)
        entropy = (each * weight).sum() / weight.sum().clamp(min=1e-6)
    if not dice:
        return entropy
    p = torch.softmax(logits, dim=1)
    known, n = label[counts], logits.shape[1]
    right = p.gather(1, label.where(counts, 0).unsqueeze(1)).squeeze(1)[counts]
    both = p.new_zeros(n).index_add(0, known, right)[1:]
    truth = torch.bincount(known, minlength=n).to(p)[1:]
    either = (p * counts.unsqueeze(1)).sum(dim=(0, 2, 3, 4))[1:] + truth
    present = truth > 0
    if not bool(present.any()):
        return entropy
    return entropy + dice * (1 - (2 * both + 1) / (either + 1))[present].mean()


class UNetStage(CropStage):
    """The only stage: crops of simulated and real maps."""

    names = CLASSES

    def network(self):
        """Make the network, from random weights or those that the recipe names."""
        network = UNet(len(CLASSES), self.recipe.widths, extra=self.recipe.extra)
        if self.recipe.start:
            network.load_state_dict(start_state(self.recipe), strict=False)
        return network

    def loss(self, network, logits, y):
        """Give the loss."""
        weight = torch.tensor(self.recipe.class_weight, device=logits.device)
        return loss_of(logits, y, weight, self.recipe.dice, self.recipe.core)

    def scores(self, network, device, half):
        """Give voxel accuracy and F1 of each class, and the accuracy where residues are read."""
        found = [self.answer(network, x, device, half).argmax(dim=1) for x in self._x.split(8)]
        counts = self._y != IGNORED
        found, truth = torch.cat(found)[counts].numpy(), self._y[counts].numpy()
        scores = scores_of(truth % CORE, found, self.names, background=self.background)
        inner = truth >= CORE
        if inner.any():
            scores["backbone_accuracy"] = float((found == truth % CORE)[inner].mean())
        return scores


def _real_samples(folder, table, *, levelled: bool, **options):
    return RealSamples(real_maps(folder, table, levelled=levelled), levelled=levelled, **options)


class UNetTraining(Training):
    """Training of a `UNet`."""

    def stages(self):
        """Give the only stage."""
        options = {"levelled": self.recipe.levelled, "core": _CORE if self.recipe.core != 1 else 0}
        kinds = (partial(kind, **options) for kind in (SimulatedSamples, _real_samples))
        self._stage = UNetStage(self.recipe, *mixed_samples(self, *kinds))
        yield self._stage

    def result(self):
        """Give the averaged network and its description."""
        network, recipe = self._stage.trained, self.recipe
        about = {"classes": list(CLASSES), "voxel_size": 1.0, "rim": RIM}
        about["levelled"] = recipe.levelled
        if recipe.calibrate:
            loaded = LoadedNetwork(network, about, self.device)
            maps = real_table(recipe, recipe.calibrate)
            about["tempering"] = fit_tempering(
                *read_residues(loaded, *maps, progress=self.progress)
            )
        return network, about
