"""Training of Haruspex on simulated and real maps of 1.1 Å voxels."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from cryonb.grid import Grid
from cryonb.label.haruspex import ORDER, UNASSIGNED, annotate, annotate_atoms
from cryonb.networks.haruspex import LOST, Haruspex
from cryonb.networks.unet import density_scale
from cryonb.train.library import UNLABELLED
from cryonb.train.samples import IGNORED, Mixture, Scenes, structure_weights, turn
from cryonb.train.stage import Stage, Training, prepare_library, real_table, start_state
from cryonb.train.unet import scores_of
from cryonb.volume import Volume

__all__ = ["HaruspexTraining", "loss_of"]

VOXEL = 1.1
#: R.m.s.d. of a whole deposited map over that of a box full of molecule: the molecule fills a
#: tenth of the one and half of the other.
_SHARE = 0.45
#: Scenes of the validation set.
_JUDGED = 12


def loss_of(logits, label, weight: float):
    """Cross-entropy in which all but true negatives weigh more.

    Parameters
    ----------
    logits : Tensor, shape (n, 4, z, y, x)
        Sheet, helix, nucleotide, unassigned.
    label : Tensor of int64, shape (n, z, y, x)
        IGNORED voxels (the paper's mask) do not count.
    weight : float
        Of a voxel that is, or is taken for, an element; true negatives weigh 1. The sum is divided
        by the number of voxels that count, as the published program does.
    """
    entropy = functional.cross_entropy(logits, label, ignore_index=IGNORED, reduction="none")
    positive = (label != UNASSIGNED) | (logits.argmax(dim=1) != UNASSIGNED)
    counts = label != IGNORED
    weights = torch.where(positive, weight, 1.0) * counts
    return (entropy * weights).sum() / counts.sum().clamp(min=1)


def _finish(rng, density, label, edge):
    """Scale a box, crop it, turn it; labels lose what the network's convolutions lose."""
    scale = density_scale(density) or 1.0
    jitter = np.exp(rng.normal(0, 0.2)) / scale
    start = rng.integers(4, density.shape[0] - edge - 3, 3)
    x = density[tuple(slice(s, s + edge) for s in start)] * np.float32(jitter)
    y = label[tuple(slice(s + LOST, s + edge - LOST) for s in start)]
    x, y = turn(rng, x, y)
    return np.ascontiguousarray(x, dtype=np.float16), np.ascontiguousarray(y)


class AnnotatedSamples(Scenes):
    """Crops of simulated maps on 1.1 Å voxels, labelled as Haruspex labels its training data."""

    voxel = VOXEL

    def __getitem__(self, number: int):
        xs, ys = [], []
        for rng, density, atoms in self.measurements(number):
            # Within the box, x is the fastest index and (x, y, z) the order of points.
            position = atoms["position"][:, ::-1]
            volume = Volume(density, Grid(density.shape, (VOXEL,) * 3))
            marks = atoms["extended"] != UNLABELLED
            state = np.zeros(atoms["residue"].max() + 1 if len(position) else 1, dtype=np.uint8)
            state[atoms["residue"][marks]] = atoms["extended"][marks]
            found = annotate_atoms(
                position, atoms["residue"], state, marks, volume, rms=_SHARE * volume.std
            )
            label = np.where(found.counts, found.label, IGNORED).astype(np.uint8)
            x, y = _finish(rng, density, label, self.edge)
            xs.append(x)
            ys.append(y)
        return np.stack(xs), np.stack(ys)


class RealAnnotated(torch.utils.data.Dataset):
    """Crops of real maps with their annotation, around annotated voxels, in 24 rotations."""

    def __init__(self, folder, table, *, seed: int, edge: int, measured: int):
        from cryonb.files.model import read_model
        from cryonb.files.mrc import read_map
        from cryonb.process.resample import resample

        self.seed, self.edge, self.measured = seed, edge, measured
        self._maps = []
        for row in table.itertuples():
            volume = read_map(folder / row.map)
            if max(volume.voxel_size) > 1.2 or min(volume.voxel_size) < 1.0:
                volume = resample(volume, VOXEL)
            found = annotate(read_model(folder / row.model), volume)
            label = np.where(found.counts, found.label, IGNORED).astype(np.uint8)
            pad = (edge + 16) // 2
            values = np.pad(volume.values / np.float32(density_scale(volume.values)), pad)
            label = np.pad(label, pad, constant_values=IGNORED)
            marked = np.argwhere(label < UNASSIGNED)
            self._maps.append((values.astype(np.float16), label, marked))
        weight = np.sqrt([len(marked) for _, _, marked in self._maps])
        self._weight = weight / weight.sum()

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int):
        rng = np.random.default_rng((self.seed, 7, number))
        xs, ys, box = [], [], self.edge + 16
        for _ in range(self.measured):
            values, label, marked = self._maps[rng.choice(len(self._maps), p=self._weight)]
            low = np.array(values.shape) - box
            start = np.clip(marked[rng.integers(len(marked))] - box // 2, 0, low)
            part = tuple(slice(s, s + box) for s in start)
            x, y = _finish(rng, values[part].astype(np.float32), label[part], self.edge)
            xs.append(x)
            ys.append(y)
        return np.stack(xs), np.stack(ys)


class HaruspexStage(Stage):
    """The only stage."""

    clip = 1.0

    def __init__(self, recipe, samples, validation):
        super().__init__(recipe)
        self._samples = samples
        items = [validation[number] for number in range(_JUDGED)]
        self._x = torch.from_numpy(np.concatenate([item[0] for item in items])).float()[:, None]
        self._y = torch.from_numpy(np.concatenate([item[1] for item in items])).long()

    def network(self):
        """Make the network, from random weights or those that the recipe names."""
        network = Haruspex()
        if self.recipe.start:
            network.load_state_dict(start_state(self.recipe))
        return network

    def optimiser(self, network):
        """Make Adam with the recipe's epsilon."""
        return torch.optim.Adam(network.parameters(), lr=self.recipe.rate, eps=self.recipe.epsilon)

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
        return loss_of(logits, y, self.recipe.weight)

    def scores(self, network, device, half):
        """Give the share of annotated voxels that are right, and F1 of each element."""
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
            found = [network(x.to(device)).argmax(dim=1).cpu() for x in self._x.split(2)]
        counts = self._y != IGNORED
        found, truth = torch.cat(found)[counts].numpy(), self._y[counts].numpy()
        return scores_of(truth, found, ORDER, background=UNASSIGNED)


class HaruspexTraining(Training):
    """Training of a `Haruspex`."""

    def stages(self):
        """Give the only stage."""
        recipe = self.recipe
        library, training = prepare_library(recipe, self.run, self.progress)
        weight = structure_weights(library.files)
        options = {"edge": recipe.edge, "measured": recipe.measured}
        limits = {key: getattr(recipe, key) for key in ("finest", "coarsest", "clean")}
        samples = AnnotatedSamples(
            library, weight * training, seed=recipe.seed, **options, **limits
        )
        validation = AnnotatedSamples(
            library, weight * ~training, seed=recipe.seed + 10**6, **options, **limits
        )
        real = None
        if recipe.real > 0:
            real = RealAnnotated(*real_table(recipe), seed=recipe.seed, **options)
        mixture = Mixture(samples, real, recipe.real, recipe.seed)
        self._stage = HaruspexStage(recipe, mixture, validation)
        yield self._stage

    def result(self):
        """Give the averaged network and its description."""
        return self._stage.trained, {"voxel_size": VOXEL, "scaled": True, "channels": list(ORDER)}
