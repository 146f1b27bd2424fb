"""The training loop: `cryonb train RECIPE`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch.nn import functional
from tqdm.auto import tqdm

from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside
from cryonb.networks.unet import UNet
from cryonb.networks.weights import bfloat16_is_fast, choose_device, save_weights
from cryonb.train.library import Library, build_library, split
from cryonb.train.recipe import Recipe
from cryonb.train.samples import IGNORED, RealSamples, SimulatedSamples, real_maps
from cryonb.volume import CLASSES

__all__ = ["loss_of", "train"]

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


def _rate_at(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    left = recipe.steps - step
    if left >= recipe.tail:
        return recipe.rate
    return float(recipe.rate * (0.5 - 0.5 * np.cos(np.pi * max(left, 0) / recipe.tail))) + 1e-6


class _Mixture(torch.utils.data.Dataset):
    """Item k is simulated or real, decided by the seed and k."""

    def __init__(self, simulated, real, share: float, seed: int):
        self.simulated, self.real, self.share, self.seed = simulated, real, share, seed

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int):
        draw = np.random.default_rng((self.seed, 3, number)).random()
        if self.real is not None and draw < self.share:
            return self.real[number]
        return self.simulated[number]


def _structure_weights(files: np.ndarray) -> np.ndarray:
    """Draw SCOPe classes evenly, other pools by fixed shares."""
    shares = {"scope_a": 0.15, "scope_b": 0.17, "scope_c": 0.15, "scope_d": 0.15,
              "pool_protein": 0.26, "pool_nucleic": 0.12, "phantom": 0.08}  # fmt: skip
    pool = np.array([name.split("/")[0] for name in files])
    weight = np.zeros(len(files))
    for name, share in shares.items():
        weight[pool == name] = share / max((pool == name).sum(), 1)
    return weight


def _data_folder(recipe: Recipe) -> Path:
    folder = recipe.data or os.environ.get("CRYONB_DATA", "")
    if not folder or not Path(folder).is_dir():
        raise CryonbError(
            "Training needs a folder with structures/ and maps/, named by `data` in the recipe or "
            f"by the environment variable CRYONB_DATA, but {folder or 'neither'!r} is no folder."
        )
    return Path(folder)


def _prepare(recipe: Recipe, run: Path, progress: bool):
    """Read structures (once a run) and real maps."""
    cache = run / "structures.npz"
    manifest = run / "manifest.csv"
    if not cache.is_file() or not manifest.is_file():
        folder = _data_folder(recipe)
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
    training = parts.reindex(library.files).fillna("train").to_numpy() == "train"
    weight = _structure_weights(library.files)
    real = None
    if recipe.real > 0:
        folder = _data_folder(recipe) / "maps"
        table = pd.read_csv(folder / "INDEX.csv")
        table = table[table["map"].isin(recipe.real_maps)]
        if len(table) != len(recipe.real_maps):
            raise CryonbError(
                f"The recipe names {len(recipe.real_maps)} real maps, "
                f"but INDEX.csv has {len(table)} of them."
            )
        real = real_maps(folder, table)
    options = {"edge": recipe.edge, "measured": recipe.measured}
    simulated = SimulatedSamples(library, weight * training, seed=recipe.seed, **options)
    validation = SimulatedSamples(library, weight * ~training, seed=recipe.seed + 10**6, **options)
    if real is not None:
        real = RealSamples(real, seed=recipe.seed, **options)
    return _Mixture(simulated, real, recipe.real, recipe.seed), validation


def _start_state(recipe: Recipe) -> dict:
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


def _validation_batch(samples, count: int):
    items = [samples[number] for number in range(count)]
    x = torch.from_numpy(np.concatenate([item[0] for item in items])).float()[:, None]
    y = torch.from_numpy(np.concatenate([item[1] for item in items])).long()
    return x, y


def _validate(network, batch, device, half) -> dict[str, float]:
    """Voxel accuracy and F1 of each structure class on a fixed set of crops."""
    network.eval()
    x, y = batch
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
        found = [network(part.to(device)).argmax(dim=1).cpu() for part in x.split(8)]
    network.train()
    found = torch.cat(found)[y != IGNORED].numpy()
    truth = y[y != IGNORED].numpy()
    table = np.bincount(truth * 5 + found, minlength=25).reshape(5, 5)
    f1 = 2 * np.diag(table) / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)
    inside = table[1:].sum()
    scores = {"voxel_accuracy": float(np.diag(table)[1:].sum() / max(inside, 1))}
    return scores | {f"f1_{name}": float(f1[i]) for i, name in enumerate(CLASSES) if i}


def _save_checkpoint(path: Path, **state) -> None:
    with written_beside(path) as beside:
        torch.save(state, beside)


class _Request:
    """An interruption (Ctrl-C, a polite kill) is noted, and obeyed between two steps."""

    def __init__(self):
        self.number = 0
        self._before = {}

    def __enter__(self):
        # Only the main thread may set handlers; elsewhere interruptions act at once, as ever.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number, _frame):
        self.number = number

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _plot(log: Path, target: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = pd.read_csv(log)
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(table["step"], table["loss"], color="0.2", label="training loss")
    axes.set(xlabel="step", ylabel="loss")
    right = axes.twinx()
    right.plot(table["step"], table["voxel_accuracy"], "o--", ms=3, label="validation accuracy")
    right.set(ylabel="voxel accuracy (simulated, unseen)", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(target, dpi=100)


def train(
    recipe_path, run=None, *, resume: bool = True, device: str | None = None,
    checkpoint_seconds: float = 180, progress: bool = True,
) -> Path:  # fmt: skip
    """Train a network by a recipe.

    Parameters
    ----------
    recipe_path : path
        The TOML file.
    run : path, optional
        Folder of the run (cache, checkpoint, log, weights); `runs/<name>` by default.
    resume : bool
        Go on from the run's checkpoint if it has one.
    device : str, optional
        Where torch computes.
    checkpoint_seconds : float
        Time between checkpoints.
    progress : bool
        Show a bar.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C or a polite kill, once the step is done and the checkpoint written.

    Returns
    -------
    Path
        The weights (`.safetensors`); recipe, manifest, log and loss picture lie beside them.
    """
    recipe = Recipe.read(recipe_path)
    run = Path(run) if run is not None else Path("runs") / recipe.name
    run.mkdir(parents=True, exist_ok=True)
    device = choose_device(device)
    half = bfloat16_is_fast(device)
    samples, validation = _prepare(recipe, run, progress)
    torch.manual_seed(recipe.seed)
    network = UNet(len(CLASSES), recipe.widths)
    average = UNet(len(CLASSES), recipe.widths)
    step, spent = 0, 0.0
    checkpoint = run / "checkpoint.pt"
    stored = None
    if resume and checkpoint.is_file():
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(stored["network"])
        average.load_state_dict(stored["average"])
        step, spent = stored["step"], stored["seconds"]
    elif recipe.start:
        begin = _start_state(recipe)
        network.load_state_dict(begin, strict=False)
        average.load_state_dict(begin, strict=False)
    if device != "mps":
        network = network.to(memory_format=torch.channels_last_3d)
    network, average = network.to(device).train(), average.to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    if stored is not None:
        optimiser.load_state_dict(stored["optimiser"])
    order = range(step * recipe.scenes, recipe.steps * recipe.scenes)
    loader = torch.utils.data.DataLoader(
        samples,
        batch_size=recipe.scenes,
        sampler=order,
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
        persistent_workers=recipe.workers > 0,
    )
    batch = _validation_batch(validation, 16)
    class_weight = torch.tensor(recipe.class_weight, device=device)
    log = run / "log.csv"
    if step and log.is_file():
        # Rows beyond the checkpoint belong to steps that are done again.
        rows = pd.read_csv(log)
        rows[rows["step"] <= step].to_csv(log, index=False)
    else:
        log.write_text(
            "step,seconds,loss,voxel_accuracy,f1_helix,f1_strand,f1_coil,f1_nucleotide\n"
        )
    losses: list[float] = []
    last_check = begin_time = time.monotonic()
    seconds_before = spent

    def keep():
        _save_checkpoint(
            checkpoint,
            network=network.state_dict(),
            average=average.state_dict(),
            optimiser=optimiser.state_dict(),
            step=step,
            seconds=spent,
        )

    bar = tqdm(loader, total=recipe.steps, initial=step, desc=recipe.name, disable=not progress)
    with _Request() as interrupted:
        for x, y in bar:
            x = x.flatten(0, 1)[:, None].to(device, non_blocking=True).float()
            y = y.flatten(0, 1).to(device, non_blocking=True).long()
            for group in optimiser.param_groups:
                group["lr"] = _rate_at(step, recipe)
            with torch.autocast(device, torch.bfloat16, enabled=half):
                logits = network(x)
            loss = loss_of(logits.float(), y, class_weight, recipe.dice)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            step += 1
            # Early on the average follows quickly, so that it does not remember random weights.
            share = 1 - min(recipe.average, (1 + step) / (10 + step))
            with torch.no_grad():
                for mean, now in zip(
                    average.state_dict().values(), network.state_dict().values(), strict=True
                ):
                    if mean.is_floating_point():
                        mean.lerp_(now.to(mean.dtype), share)
            losses.append(loss.item())
            spent = seconds_before + time.monotonic() - begin_time
            if step % 250 == 0 or step == recipe.steps:
                scores = _validate(average, batch, device, half)
                with log.open("a", newline="") as file:
                    csv.writer(file).writerow(
                        [step, round(spent), round(float(np.mean(losses)), 4)]
                        + [round(value, 4) for value in scores.values()]
                    )
                bar.set_postfix(loss=np.mean(losses), accuracy=scores["voxel_accuracy"])
                losses.clear()
            if time.monotonic() - last_check > checkpoint_seconds:
                keep()
                last_check = time.monotonic()
            if interrupted.number:
                break
    keep()
    if interrupted.number:
        bar.close()
        raise KeyboardInterrupt(f"stopped after step {step}; the same command goes on from there")
    weights = run / f"{recipe.name}.safetensors"
    save_weights(
        average,
        weights,
        metadata={
            "architecture": "unet",
            "classes": list(CLASSES),
            "voxel_size": 1.0,
            "rim": RIM,
            "recipe": recipe.to_dict() | {"data": "", "start": Path(recipe.start).name},
            "steps": step,
            "seconds": round(spent),
            "device": device,
            "torch": torch.__version__,
            "validation": json.loads(json.dumps(_validate(average, batch, device, half))),
        },
    )
    # What anyone needs to repeat or to judge the run travels with the weights.
    shutil.copyfile(recipe_path, run / f"{recipe.name}.toml")
    shutil.copyfile(run / "manifest.csv", run / f"{recipe.name}_manifest.csv")
    shutil.copyfile(log, run / f"{recipe.name}_validation.csv")
    _plot(log, run / "loss.png")
    return weights
