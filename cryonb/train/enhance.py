"""Training of the network that enhances maps, on simulated maps.

After EMReady (Nature Communications 2023, 10.1038/s41467-023-39031-1). From there: voxels of 1 Å,
the target (equation 1) at the map's own resolution, the loss (equations 2 to 6), crops of 48
voxels, turns by 90°, one scale for a whole map. On purpose not from there:

* Maps are simulated, none is real, so that every real map is a test.
* The network is our U-Net, and begins with layers that learnt secondary structure.
* Negative densities are kept, and the scale is `density_scale`, since those layers know that.
* The target keeps its scale (atomic numbers per Å³) instead of a share of its greatest values.
* The target is zero where a mask has cut the map, and in boxes of noise alone: what was not
  measured is not to be brought back.
* No target is finer than `EnhanceRecipe.sharpest`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from cryonb.grid import Grid
from cryonb.networks.enhance import Enhance
from cryonb.simulate.gaussian import gaussians
from cryonb.train.samples import Scenes, finish
from cryonb.train.stage import CropStage, Training, load_fitting, mixed_samples, start_state

__all__ = ["EnhanceSamples", "EnhanceTraining", "dissimilarity", "loss_of", "target_map"]

#: Voxels of context that the border of a tile lacks.
RIM = 16
# Power of noise over signal at the resolution from which nothing of the molecule is seen.
_NOTHING = 1e6


def target_map(atoms: dict[str, np.ndarray], shape, resolution: float) -> np.ndarray:
    """Simulate the density that is taught: equation 1 of EMReady on voxels of 1 Å.

    Parameters
    ----------
    atoms : dict of ndarray
        From `Scenes.scene`: position in Å (z, y, x) from the first voxel, element.
    shape : tuple of int
        (z, y, x).
    resolution : float
        R in Å.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Σ θ Z exp(-k |x - r|²) over heavy atoms, k = (π / (1.2 + 0.6 R))², θ = (k / π)^1.5.
    """
    heavy = atoms["element"] > 1
    points = atoms["position"][heavy][:, ::-1].astype(np.float64)
    made = gaussians(
        points, atoms["element"][heavy], Grid(tuple(shape)), resolution=resolution, recipe="emready"
    )
    return made.values


class EnhanceSamples(Scenes):
    """Crops of simulated maps on 1 Å voxels, with the density that a model would give.

    An item is (x, y), both (measured, edge, edge, edge) of float16.

    Parameters
    ----------
    sharpest, empty : float
        See `EnhanceRecipe`.
    **options
        Of `Scenes`.
    """

    def __init__(self, *args, sharpest: float = 2.5, empty: float = 0.0, **options):
        super().__init__(*args, **options)
        self.sharpest, self.empty = sharpest, empty

    def conditions(self, rng):
        """Draw the conditions of one measurement, now and then of noise alone."""
        experiment = super().conditions(rng)
        return replace(experiment, noise=_NOTHING) if rng.random() < self.empty else experiment

    def __getitem__(self, number: int):
        xs, ys = [], []
        for rng, density, atoms, experiment in self.measurements(number):
            target = np.zeros_like(density)
            if experiment.noise < _NOTHING:
                d = max(experiment.resolution, self.sharpest)
                target = np.where(density == 0, 0, target_map(atoms, density.shape, d))
            x, y = finish(rng, density, target.astype(np.float16), self.edge)
            xs.append(x)
            ys.append(y)
        return np.stack(xs), np.stack(ys)


def dissimilarity(found, truth, epsilon: float):
    """Compare contrast and structure sample by sample: equation 6 of EMReady.

    Parameters
    ----------
    found, truth : Tensor, shape (n, ...)
    epsilon : float
        In squared units of both.

    Returns
    -------
    Tensor, shape (n,)
        1 - (2 s_xy + ε) / (s_x² + s_y² + ε), from variances and covariance of each sample.
    """
    x, y = found.flatten(1), truth.flatten(1)
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True)
    n = x.shape[1] - 1
    both = (x * y).sum(dim=1) / n
    either = (x.square().sum(dim=1) + y.square().sum(dim=1)) / n
    return 1 - (2 * both + epsilon) / (either + epsilon)


def loss_of(found, truth, epsilon: float):
    """Smooth L1 loss over all voxels, plus the mean `dissimilarity` of the samples."""
    return functional.smooth_l1_loss(found, truth) + dissimilarity(found, truth, epsilon).mean()


def _correlation(found, truth):
    """Correlation of each sample, NaN where the truth is empty."""
    x, y = found.flatten(1), truth.flatten(1)
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True)
    norm = (x.square().sum(dim=1) * y.square().sum(dim=1)).sqrt()
    return torch.where(y.abs().amax(dim=1) > 0, (x * y).sum(dim=1) / norm.clamp(min=1e-9), np.nan)


class EnhanceStage(CropStage):
    """The only stage: crops of simulated maps."""

    target = torch.float32
    judged = 24

    def network(self):
        """Make the network, from random weights or those that the recipe names.

        Weights of the U-Net of secondary structure serve where their tensors fit.
        """
        network = Enhance(self.recipe.widths)
        if self.recipe.start:
            load_fitting(network, start_state(self.recipe))
        return network

    def loss(self, network, logits, y):
        """Give the loss."""
        return loss_of(logits[:, 0], y, self.recipe.epsilon)

    def scores(self, network, device, half):
        """Give the mean correlation with the target, after and before, and what is made of noise.

        `from_nothing` is the mean density in crops whose target is empty, as a share of the mean
        target of the others.
        """
        found = [self.answer(network, x, device, half) for x in self._x.split(8)]
        found = Enhance.probabilities(torch.cat(found))[:, 0]
        empty = self._y.flatten(1).abs().amax(dim=1) == 0
        usual = float(self._y[~empty].mean()) if bool((~empty).any()) else 1.0
        return {
            "correlation": float(_correlation(found, self._y).nanmean()),
            "correlation_before": float(_correlation(self._x[:, 0], self._y).nanmean()),
            "dissimilarity": float(
                dissimilarity(found, self._y, self.recipe.epsilon)[~empty].mean()
            ),
            "from_nothing": float(found[empty].mean()) / usual if bool(empty.any()) else 0.0,
        }


class EnhanceTraining(Training):
    """Training of an `Enhance`."""

    def stages(self):
        """Give the only stage."""
        simulated = partial(EnhanceSamples, sharpest=self.recipe.sharpest, empty=self.recipe.empty)
        self._stage = EnhanceStage(self.recipe, *mixed_samples(self, simulated))
        yield self._stage

    def result(self):
        """Give the averaged network and its description."""
        about = {"classes": list(Enhance.channels), "voxel_size": 1.0, "rim": RIM}
        return self._stage.trained, about
