"""Training of Emap2sec: the first phase (by windows, or dense), then the second on other maps."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional
from tqdm.auto import tqdm

from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside
from cryonb.label.emap2sec import ORDER, nearest_class
from cryonb.networks.emap2sec import (
    DenseEmap2sec,
    Emap2sec,
    PhaseOne,
    PhaseTwo,
    as_dense,
    truncated,
)
from cryonb.predict.emap2sec import HALF, RIM, neighbours_of, phase_one, window_grid
from cryonb.train.emap2sec_maps import Pool, real_scaled_maps, simulated_map
from cryonb.train.kinds import Emap2secRecipe
from cryonb.train.norms import Normed, folded, normed
from cryonb.train.samples import IGNORED, turn
from cryonb.train.stage import (
    Stage,
    Training,
    prepare_library,
    real_table,
    scores_of,
    start_state,
)  # fmt: skip

__all__ = ["Emap2secTraining"]

#: Of a structure whose map serves the second phase.
_MOST_ATOMS = 6000
_BACKGROUND = ORDER.index("background")
#: Windows a class, or crops, that each look at the validation set takes.
_JUDGED, _JUDGED_CROPS = 300, 12


class WindowStage(Stage):
    """First phase as published: balanced windows, cross-entropy and the two penalties."""

    suffix = "_one"

    def __init__(self, recipe, maps, validation):
        super().__init__(recipe)
        rng = np.random.default_rng((recipe.seed, 5))
        self._pool = Pool(maps, recipe.windows, rng)
        judged = Pool(validation, _JUDGED, rng)
        self._x = torch.from_numpy(judged.windows(np.arange(len(judged))))
        self._truth = judged.label

    def network(self):
        """Make the first phase, from random weights or those that the recipe names."""
        recipe = self.recipe
        one = _started(recipe) if recipe.start else PhaseOne()
        if one.dense or one.rank:
            raise CryonbError(
                "Weights of Emap2sec's windows with a whole first dense layer were expected to "
                f"start from, but {recipe.start} has others."
            )
        if not recipe.normed:
            return folded(one)
        has_norms = any(type(layer) is Normed for layer in one.modules())
        return one if has_norms else normed(one, last="out")

    def batches(self, step):
        """Iterate over windows: every one once, in random order, then again."""
        recipe, rows = self.recipe, np.empty(0, dtype=int)
        an_epoch = max(len(self._pool) // recipe.batch, 1)
        for number in range(step, recipe.steps):
            epoch, place = divmod(number, an_epoch)
            if not len(rows) or place == 0:
                rows = np.random.default_rng((recipe.seed, 6, epoch)).permutation(len(self._pool))
            chosen = rows[place * recipe.batch : (place + 1) * recipe.batch]
            x = self._pool.windows(chosen)
            if recipe.turns:
                rng = np.random.default_rng((recipe.seed, 7, number))
                x = np.stack([turn(rng, window[0])[0][None] for window in x])
            yield torch.from_numpy(x), torch.from_numpy(self._pool.label[chosen])

    def loss(self, network, logits, y):
        """Give cross-entropy, L2 of the last convolution, L1 of the first dense layer."""
        last = network.convolutions.conv5
        loss = functional.cross_entropy(logits, y)
        loss = loss + self.recipe.l2 * (last.weight.square().sum() + last.bias.square().sum()) / 2
        if self.recipe.l1:
            layer = network.fc1
            loss = loss + self.recipe.l1 * (layer.weight.abs().sum() + layer.bias.abs().sum())
        return loss

    def scores(self, network, device, half):
        """Give accuracy and F1 over windows, the same number of each class, of unseen maps."""
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
            found = [network(x.to(device)).argmax(dim=1).cpu() for x in self._x.split(300)]
        # No window is background here; its place makes every class count.
        return scores_of(self._truth, torch.cat(found).numpy(), ORDER, background=_BACKGROUND)


class DenseStage(Stage):
    """First phase in its dense form: crops of maps, every window weighted by its class."""

    suffix = "_one"
    clip = 1.0

    def __init__(self, recipe, maps, validation):
        super().__init__(recipe)
        self._maps = maps
        counts = np.zeros(len(ORDER))
        for entry in maps:
            counts += np.bincount(entry.windows()[1], minlength=len(ORDER))
        shares = counts[:_BACKGROUND] / counts[:_BACKGROUND].sum()
        self._weight = torch.from_numpy(1 / (3 * np.maximum(shares, 0.05))).float()
        rng = np.random.default_rng((recipe.seed, 5))
        crops = [self._crop(rng, validation) for _ in range(_JUDGED_CROPS)]
        self._x, self._y = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))

    def network(self):
        """Make the dense first phase, its first dense layer thin if the recipe wants so."""
        rank = self.recipe.rank or None
        one = DenseEmap2sec(rank)
        if self.recipe.start:
            one = folded(_started(self.recipe))
            one = one if one.dense else as_dense(one)
            if one.rank != rank:
                both = Emap2sec(dense=True, rank=one.rank)
                both.one = one
                one = truncated(both, rank=rank, rank_two=None).one
        return normed(one, last="out") if self.recipe.normed else one

    def _crop(self, rng, maps):
        """Cut a crop around a random Cα atom and label its windows."""
        edge = self.recipe.edge
        entry = maps[rng.integers(len(maps))]
        atom = entry.position[rng.integers(len(entry.position))]
        start = np.round(entry.grid.to_index(atom) - edge / 2).astype(int) + rng.integers(-8, 9, 3)
        inside = [slice(max(s, 0), max(s + edge - 1, 0)) for s in start]
        part = entry.values[tuple(inside)].astype(np.float32)
        # With one voxel less, the middles of windows stay middles of windows when it is turned.
        x = np.zeros((edge - 1,) * 3, dtype=np.float32)
        low = np.maximum(-start, 0)
        x[tuple(slice(a, a + n) for a, n in zip(low, part.shape, strict=True))] = part
        n = edge // 2 - HALF
        place = np.stack(np.meshgrid(*[np.arange(RIM, n - RIM)] * 3, indexing="ij"), axis=-1)
        centre = 2 * place + HALF
        points = entry.grid.to_points(centre + start)
        label = nearest_class(entry.position, entry.label, points.reshape(-1, 3))
        label = label.reshape(place.shape[:3])
        # Where no window is, nothing is learnt.
        empty = x[tuple(np.moveaxis(centre, -1, 0))] == 0
        y = np.full((n,) * 3, IGNORED)
        inner = (slice(RIM, n - RIM),) * 3
        y[inner] = np.where(empty | (label == _BACKGROUND), IGNORED, label)
        if self.recipe.turns:
            x, y = turn(rng, x, y)
        return np.pad(x, (0, 1))[None], np.ascontiguousarray(y).astype(np.int64)

    def batches(self, step):
        """Iterate over crops."""
        for number in range(step, self.steps):
            rng = np.random.default_rng((self.recipe.seed, 6, number))
            crops = [self._crop(rng, self._maps) for _ in range(self.recipe.batch)]
            x, y = zip(*crops, strict=True)
            yield torch.from_numpy(np.stack(x)), torch.from_numpy(np.stack(y))

    def loss(self, network, logits, y):
        """Give cross-entropy weighted by class, and L2 of the last convolution."""
        last = network.convolutions.conv5
        loss = functional.cross_entropy(
            logits, y, self._weight.to(logits.device), ignore_index=IGNORED
        )
        return loss + self.recipe.l2 * (last.weight.square().sum() + last.bias.square().sum()) / 2

    def scores(self, network, device, half):
        """Give accuracy and F1 over windows of unseen maps, as frequent as they are."""
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
            found = [network(x.to(device)).argmax(dim=1).cpu() for x in self._x.split(2)]
        counts = self._y != IGNORED
        found, truth = torch.cat(found)[counts].numpy(), self._y[counts].numpy()
        return scores_of(truth, found, ORDER, background=_BACKGROUND)


class PhaseTwoStage(Stage):
    """Second phase: the first phase's answers around each window of maps of its own."""

    suffix = "_two"

    def __init__(self, recipe, one, maps, validation, cache, device, progress):
        super().__init__(recipe)
        self.steps = recipe.steps_two
        if not cache.is_file():
            # Minutes of the first phase, which a run that goes on need not spend again.
            found = [self._examples(one, part, device, progress) for part in (maps, validation)]
            with written_beside(cache) as beside, beside.open("wb") as file:
                np.savez_compressed(
                    file, rows=found[0][0], label=found[0][1], judged=found[1][0],
                    truth=found[1][1],
                )  # fmt: skip
        with np.load(cache) as stored:
            self._rows, self._label = stored["rows"], stored["label"]
            self._judged, self._truth = stored["judged"], stored["truth"]
        rng = np.random.default_rng((recipe.seed, 8))
        parts = [np.flatnonzero(self._label == k) for k in range(len(ORDER))]
        # As many of each class as of the rarest that there is.
        least = min(len(part) for part in parts[:_BACKGROUND] if len(part))
        self._kept = np.concatenate([rng.permutation(part)[:least] for part in parts])

    @staticmethod
    def _examples(one, maps, device, progress):
        one = one.to(device)
        rows, labels = [], []
        for entry in tqdm(maps, desc="phase one", disable=not progress):
            _, label = entry.windows()
            values = entry.values.astype(np.float32)
            centre, found = phase_one(one, values, progress=False)
            shape = window_grid(entry.grid).shape
            around = neighbours_of(found, centre, shape)[tuple(centre.T)]
            rows.append(around.reshape(-1, 108).astype(np.float16))
            labels.append(label)
        return np.concatenate(rows), np.concatenate(labels)

    def network(self):
        """Make the second phase."""
        return PhaseTwo()

    def batches(self, step):
        """Iterate over 100 places each."""
        for number in range(step, self.steps):
            rng = np.random.default_rng((self.recipe.seed, 9, number))
            chosen = rng.choice(self._kept, 100)
            x = torch.from_numpy(self._rows[chosen].astype(np.float32))
            yield x, torch.from_numpy(self._label[chosen])

    def loss(self, network, logits, y):
        """Give cross-entropy and L1 of the first layer."""
        loss = functional.cross_entropy(logits, y)
        if self.recipe.l1_two:
            layer = network.hidden[0]
            loss = loss + self.recipe.l1_two * (layer.weight.abs().sum() + layer.bias.abs().sum())
        return loss

    def scores(self, network, device, half):
        """Give accuracy and F1, of three classes, over all windows near a Cα of unseen maps."""
        near = self._truth != _BACKGROUND
        x = torch.from_numpy(self._judged[near].astype(np.float32))
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
            found = [network(p.to(device))[:, :3].argmax(dim=1).cpu() for p in x.split(8192)]
        return scores_of(self._truth[near], torch.cat(found).numpy(), ORDER, background=_BACKGROUND)


def _started(recipe: Emap2secRecipe) -> PhaseOne | DenseEmap2sec:
    """Make the first phase with the weights, and norms if any, that the recipe starts from."""
    state = start_state(recipe)
    state = {key.removeprefix("one."): v for key, v in state.items() if not key.startswith("two.")}
    with_norms = any(".norm." in key for key in state)
    thin = next((v for key, v in state.items() if key.startswith("fc1.0.")), None)
    kind = DenseEmap2sec if state["out.weight"].ndim == 5 else PhaseOne
    one = kind(None if thin is None else thin.shape[0])
    one = normed(one, last="out") if with_norms else one
    one.load_state_dict(state)
    return one


class Emap2secTraining(Training):
    """Training of an `Emap2sec`."""

    def stages(self):
        """Give the first phase, then the second."""
        recipe = self.recipe
        library, training = prepare_library(recipe, self.run, self.progress)
        has_protein = np.array(
            [library.part(k)["alpha"].any() for k in range(len(library))], dtype=bool
        )
        rng = np.random.default_rng((recipe.seed, 4))
        train = rng.permutation(np.flatnonzero(training & has_protein))
        held = rng.permutation(np.flatnonzero(~training & has_protein))[:20]
        # The first phase goes over all of a map of the second: one ribosome takes as long as all.
        size = np.array([len(library.part(k)["position"]) for k in train])
        small = train[recipe.maps :][size[recipe.maps :] <= _MOST_ATOMS]

        def simulate(numbers):
            bar = tqdm(numbers, desc="maps", disable=not self.progress)
            return [simulated_map(library.part(number), recipe) for number in bar]

        simulated = recipe.resolution > 0
        first = simulate(train[: recipe.maps]) if simulated else []
        second = simulate(small[: recipe.maps_two]) if simulated else []
        real = real_scaled_maps(*real_table(recipe, recipe.real_maps)) if recipe.real_maps else []
        validation = simulate(held) if simulated else real
        if not (first or real) or not (second or real) or not validation:
            raise CryonbError(
                f"Maps for both phases and for validation were expected, but the recipe leaves "
                f"{len(first) + len(real)}, {len(second) + len(real)} and {len(validation)}; "
                "lower `maps`, give a resolution or name real maps."
            )
        kind = DenseStage if recipe.dense else WindowStage
        self._one = kind(recipe, [*first, *real], validation)
        yield self._one
        self._two = PhaseTwoStage(
            recipe, self._one.trained.eval(), [*second, *real], validation,
            self.run / "phase_one.npz", self.device, self.progress,
        )  # fmt: skip
        yield self._two

    def result(self):
        """Give both phases, their dense layers thinned as the recipe says."""
        recipe = self.recipe
        full = Emap2sec(recipe.dense, self._one.trained.options["rank"])
        full.one.load_state_dict(self._one.trained.state_dict())
        full.two.load_state_dict(self._two.trained.state_dict())
        small = truncated(full, rank=recipe.rank or None, rank_two=recipe.rank_two or None)
        thinned = {
            f"{name}_thinned": stage.scores(module.to(self.device), self.device, False)[
                "voxel_accuracy"
            ]
            for name, stage, module in (
                ("one", self._one, small.one),
                ("two", self._two, small.two),
            )
        }
        about = {
            "voxel_size": 1.0,
            "resolution": recipe.resolution,
            "contour": recipe.contour,
            "validation": thinned,
        }
        return small.cpu(), about
