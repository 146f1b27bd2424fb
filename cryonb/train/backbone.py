"""Training of the network of backbone atoms and residue types, on simulated maps."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from cryonb.atoms import ROLES
from cryonb.graph.match import first_of_groups, match_points
from cryonb.graph.voxel_peaks import voxel_peaks
from cryonb.grid import Grid
from cryonb.label.voxels import nearest_labels
from cryonb.networks.backbone import HEAT, SECONDARY, Backbone
from cryonb.train.library import UNLABELLED
from cryonb.train.samples import IGNORED, Scenes, finish
from cryonb.train.stage import CropStage, Training, load_fitting, mixed_samples, start_state
from cryonb.volume import CLASSES

__all__ = ["BackboneTraining", "heat_maps", "loss_of", "peak_scores"]

#: Å: width of the hump on an atom, and how far from a Cα its residue's type is taught.
SIGMA, NEAR = 0.8, 1.5
#: A heat of 1 as it is stored.
_FULL = 250
#: Voxels of context that the border of a tile lacks.
RIM = 16
#: Least heat of a Cα found in validation, and Å to the true one.
_THRESHOLD, _RADIUS = 0.3, 2.0
#: Heat of the voxels at which types are judged: those within 0.8 Å of a Cα.
_AT_ALPHA = 0.6


def heat_maps(index: np.ndarray, channel: np.ndarray, shape, *, sigma: float = SIGMA) -> np.ndarray:
    """Put a Gaussian of height 1 on each atom; where several overlap, the highest counts.

    Parameters
    ----------
    index : ndarray, shape (n, 3)
        Fractional (z, y, x) of the atoms on voxels of 1 Å.
    channel : ndarray of int, shape (n,)
        Which of the maps each is in.
    shape : tuple of int
        Of a map.
    sigma : float
        Å.

    Returns
    -------
    ndarray of float32, shape (4, z, y, x)
    """
    half = int(np.ceil(4 * sigma))
    out = np.zeros((len(HEAT), *(n + 2 * half for n in shape)), dtype=np.float32)
    inner = tuple(slice(half, half + n) for n in shape)
    middle = np.rint(index).astype(np.int64)
    inside = ((middle >= -half + 1) & (middle < np.array(shape) + half - 1)).all(axis=1)
    index, middle, channel = index[inside], middle[inside], channel[inside]
    axis = np.arange(-half, half + 1)
    block = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    voxel = middle[:, None] + block
    square = ((voxel - index[:, None]) ** 2).sum(axis=-1)
    # Atoms beyond the map reach into it; what of their blocks is farther out is not kept.
    voxel = voxel + half
    kept = ((voxel >= 0) & (voxel < np.array(out.shape[1:]))).all(axis=-1)
    value = np.exp(-square / (2 * sigma**2)).astype(np.float32)
    row = np.broadcast_to(channel[:, None], kept.shape)
    np.maximum.at(out, (row[kept], *voxel[kept].T), value[kept])
    return out[(slice(None), *inner)]


class BackboneSamples(Scenes):
    """Crops of simulated maps on 1 Å voxels, with heat maps and the residue at each Cα.

    An item is (x, y): densities (measured, edge, edge, edge) of float16, and labels
    (measured, 6, edge, edge, edge) of uint8: heat of Cα, N, C and P in 250ths, the residue's type,
    its secondary structure. IGNORED where a mask has cut the atom away, and, for types, where no
    Cα is near.
    """

    def __getitem__(self, number: int):
        xs, ys, label = [], [], None
        for rng, density, atoms, _ in self.measurements(number):
            if label is None:
                label = self._labels(atoms, density.shape)
            seen = label.copy()
            seen[:, (label[: len(HEAT)] > 0).any(axis=0) & (density == 0)] = IGNORED
            x, y = finish(rng, density, seen, self.edge)
            xs.append(x)
            ys.append(y)
        return np.stack(xs), np.stack(ys)

    @staticmethod
    def _labels(atoms, shape) -> np.ndarray:
        position, role = atoms["position"], atoms["role"]
        channel = np.full(len(ROLES), -1)
        channel[[ROLES.index(name) for name in HEAT]] = np.arange(len(HEAT))
        of = channel[role]
        heat = heat_maps(position[of >= 0].astype(np.float64), of[of >= 0], shape)
        alpha = atoms["alpha"]
        points, grid = position[:, ::-1], Grid(shape)
        rows = [np.rint(heat * _FULL).astype(np.uint8)]
        # Of the library's classes of voxels only these three are of residues.
        first = CLASSES.index(SECONDARY[0])
        for state in (atoms["amino"], atoms["label"] - np.uint8(first)):
            known = alpha & (atoms["label"] != UNLABELLED) & (state < UNLABELLED - 1)
            # State 0 means that no Cα is near.
            near = nearest_labels(points[known], state[known] + 1, grid, NEAR)
            rows.append(np.where(near > 0, near - 1, IGNORED).astype(np.uint8)[None])
        return np.concatenate(rows)


def loss_of(logits, y, *, focus: float, balance: float, residue: float, secondary: float):
    """Focal loss of the heat maps plus cross-entropies at Cα atoms.

    Parameters
    ----------
    logits : Tensor, shape (n, 27, z, y, x)
        From `Backbone`.
    y : Tensor of uint8, shape (n, 6, z, y, x)
        From `BackboneSamples`; IGNORED voxels do not count.
    focus, balance, residue, secondary : float
        See `BackboneRecipe`.

    Returns
    -------
    Tensor
        A voxel of a heat map with truth t and answer p weighs |t - p|^focus (1 + balance t) times
        its binary cross-entropy, and the sum is divided by the sum of t.

    References
    ----------
    The focal loss of soft truths: Li et al., Generalized Focal Loss, NeurIPS 2020, equation 4.
    """
    heat, types, states = Backbone.split(logits)
    stored = y[:, : len(HEAT)]
    counts = stored != IGNORED
    truth = torch.where(counts, stored, 0).to(heat.dtype) / _FULL
    entropy = functional.binary_cross_entropy_with_logits(heat, truth, reduction="none")
    # A power below one of an error of zero would have an endless gradient.
    error = (truth - heat.sigmoid()).abs().clamp(min=1e-6)
    weighted = entropy * error**focus * (1 + balance * truth) * counts
    loss = weighted.sum() / (truth.sum() + 1)
    for part, scores, weight in ((y[:, 4], types, residue), (y[:, 5], states, secondary)):
        label = part.long()
        total = functional.cross_entropy(scores, label, ignore_index=IGNORED, reduction="sum")
        loss = loss + weight * total / (label != IGNORED).sum().clamp(min=1)
    return loss


def peak_scores(found: np.ndarray, truth: np.ndarray) -> dict[str, int]:
    """Count Cα peaks of one crop: found, true, and pairs of them within 2 Å, one with one.

    Parameters
    ----------
    found, truth : ndarray, shape (z, y, x)
        Heat maps on 1 Å voxels.
    """
    places = []
    for heat in (found, truth):
        index, value = voxel_peaks(heat, threshold=_THRESHOLD)
        index = index[np.argsort(-value, kind="stable")]
        places.append(index[first_of_groups(index, radius=_RADIUS)[0]])
    pairs, _ = match_points(places[1], places[0], radius=_RADIUS)
    return {"found": len(places[0]), "true": len(places[1]), "pairs": int((pairs >= 0).sum())}


class BackboneStage(CropStage):
    """The only stage: crops of simulated maps."""

    target = torch.uint8

    def network(self):
        """Make the network, from random weights or those that the recipe names.

        Weights of the U-Net of secondary structure serve where their tensors fit.
        """
        network = Backbone(self.recipe.widths)
        if self.recipe.start:
            load_fitting(network, start_state(self.recipe))
        return network

    def loss(self, network, logits, y):
        """Give the loss."""
        recipe = self.recipe
        return loss_of(
            logits, y, focus=recipe.focus, balance=recipe.balance, residue=recipe.residue,
            secondary=recipe.secondary,
        )  # fmt: skip

    def scores(self, network, device, half):
        """Give F1, recall and precision of Cα peaks, and accuracies of what is at true ones."""
        count = {"found": 0, "true": 0, "pairs": 0}
        right, voxels = np.zeros(2), 0
        for x, y in zip(self._x.split(8), self._y.split(8), strict=True):
            heat, types, states = Backbone.split(self.answer(network, x, device, half))
            stored = y[:, 0].numpy()
            truth = np.where(stored == IGNORED, 0, stored) / np.float32(_FULL)
            found = np.where(stored == IGNORED, 0, heat[:, 0].sigmoid().numpy())
            for one, other in zip(found, truth, strict=True):
                count = {k: count[k] + n for k, n in peak_scores(one, other).items()}
            at = torch.from_numpy(truth > _AT_ALPHA) & (y[:, 4] != IGNORED)
            voxels += int(at.sum())
            for place, answer in enumerate((types, states)):
                right[place] += int((answer.argmax(dim=1) == y[:, 4 + place])[at].sum())
        return {
            "ca_f1": 2 * count["pairs"] / max(count["found"] + count["true"], 1),
            "ca_recall": count["pairs"] / max(count["true"], 1),
            "ca_precision": count["pairs"] / max(count["found"], 1),
            "residue_accuracy": right[0] / max(voxels, 1),
            "secondary_accuracy": right[1] / max(voxels, 1),
        }


class BackboneTraining(Training):
    """Training of a `Backbone`."""

    def stages(self):
        """Give the only stage."""
        self._stage = BackboneStage(self.recipe, *mixed_samples(self, BackboneSamples))
        yield self._stage

    def result(self):
        """Give the averaged network and its description."""
        about = {"classes": list(Backbone.channels), "voxel_size": 1.0, "rim": RIM}
        return self._stage.trained, about
