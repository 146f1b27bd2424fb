"""Training of Haruspex on simulated and real maps of 1.1 Å voxels."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.label.haruspex import ORDER, UNASSIGNED, annotate, annotate_atoms
from cryonb.networks.haruspex import LOST, Haruspex
from cryonb.process.level import density_scale
from cryonb.train.library import UNLABELLED
from cryonb.train.norms import normed
from cryonb.train.samples import IGNORED, Scenes, finish
from cryonb.train.stage import CropStage, Training, mixed_samples, start_state
from cryonb.train.widen import widened
from cryonb.volume import Volume

__all__ = ["HaruspexTraining", "loss_of"]

VOXEL = 1.1
#: R.m.s.d. of a whole deposited map over that of a box full of molecule: the molecule fills a
#: tenth of the one and half of the other.
_SHARE = 0.45


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


class AnnotatedSamples(Scenes):
    """Crops of simulated maps on 1.1 Å voxels, labelled as Haruspex labels its training data."""

    voxel = VOXEL

    def __getitem__(self, number: int):
        xs, ys = [], []
        for rng, density, atoms, _ in self.measurements(number):
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
            x, y = finish(rng, density, label, self.edge, lost=LOST)
            xs.append(x)
            ys.append(y)
        return np.stack(xs), np.stack(ys)


class RealAnnotated(torch.utils.data.Dataset):
    """Crops of real maps with their annotation, around annotated voxels, in 24 rotations."""

    def __init__(self, folder, table, *, seed: int, edge: int, measured: int):
        from cryonb.files.model import read_model
        from cryonb.files.mrc import read_map
        from cryonb.process.resample import on_voxels_of

        self.seed, self.edge, self.measured = seed, edge, measured
        self._maps = []
        for row in table.itertuples():
            volume = on_voxels_of(read_map(folder / row.map), VOXEL)
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
            density = values[part].astype(np.float32)
            x, y = finish(rng, density, label[part], self.edge, lost=LOST)
            xs.append(x)
            ys.append(y)
        return np.stack(xs), np.stack(ys)


class HaruspexStage(CropStage):
    """The only stage."""

    names = ORDER
    background = UNASSIGNED
    judged = 12

    def network(self):
        """Make the network, from random weights or those that the recipe names."""
        recipe = self.recipe
        network = self._empty(recipe.width)
        if not recipe.start:
            return network
        state = start_state(recipe)
        # Stored weights have their normalisation folded away, a checkpoint has it still.
        first = state.get("conv0.layer.weight", state.get("conv0.weight"))
        if ("conv0.layer.weight" in state) != recipe.normed or recipe.width % len(first):
            raise CryonbError(
                "A Haruspex of the same kind (a checkpoint for `normed`, weights without) and of "
                f"a width that divides {recipe.width} was expected to start from, but "
                f"{recipe.start} is another."
            )
        thin = self._empty(len(first))
        thin.load_state_dict(state)
        return widened(thin, network, seed=recipe.seed)

    def _empty(self, width: int):
        network = Haruspex(width)
        return normed(network, last="conv7") if self.recipe.normed else network

    def optimiser(self, network):
        """Make Adam with the recipe's epsilon."""
        return torch.optim.Adam(network.parameters(), lr=self.recipe.rate, eps=self.recipe.epsilon)

    def loss(self, network, logits, y):
        """Give the paper's loss, or a plain one if the recipe weighs the classes."""
        if not self.recipe.class_weight:
            return loss_of(logits, y, self.recipe.weight)
        weight = torch.tensor(self.recipe.class_weight, device=logits.device)
        return functional.cross_entropy(logits, y, weight, ignore_index=IGNORED)


class HaruspexTraining(Training):
    """Training of a `Haruspex`."""

    def stages(self):
        """Give the only stage."""
        self._stage = HaruspexStage(
            self.recipe, *mixed_samples(self, AnnotatedSamples, RealAnnotated)
        )
        yield self._stage

    def result(self):
        """Give the averaged network and its description."""
        return self._stage.trained, {"voxel_size": VOXEL, "scaled": True, "channels": list(ORDER)}
