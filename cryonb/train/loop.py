"""The training loop: `cryonb train RECIPE`."""

from __future__ import annotations

import csv
import importlib
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside
from cryonb.networks.weights import bfloat16_is_fast, choose_device, save_weights
from cryonb.train.norms import folded
from cryonb.train.recipe import Recipe
from cryonb.train.stage import Stage

__all__ = ["train_network"]

_TRAININGS = {"unet": "UNetTraining", "emap2sec": "Emap2secTraining",
              "haruspex": "HaruspexTraining", "backbone": "BackboneTraining",
              "enhance": "EnhanceTraining"}  # fmt: skip


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
    score = table.columns[3]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(table["step"], table["loss"], color="0.2", label="training loss")
    axes.set(xlabel="step", ylabel="loss")
    right = axes.twinx()
    right.plot(table["step"], table[score], "o--", ms=3, label="validation")
    right.set(ylabel=f"{score.replace('_', ' ')} (unseen)", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(target, dpi=100)


class _Log:
    """The CSV file of a stage, one row a look at the validation set."""

    def __init__(self, path: Path, step: int):
        self.path = path
        if step and path.is_file():
            # Rows beyond the checkpoint belong to steps that are done again.
            rows = pd.read_csv(path)
            rows[rows["step"] <= step].to_csv(path, index=False)
        else:
            path.unlink(missing_ok=True)

    def has(self, step: int) -> bool:
        """Whether there is a row of this step."""
        return self.path.is_file() and step in pd.read_csv(self.path)["step"].to_numpy()

    def add(self, step: int, seconds: float, loss: float, scores: dict[str, float]) -> None:
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "seconds", "loss", *scores])
            rounded = [round(value, 4) for value in scores.values()]
            writer.writerow([step, round(seconds), round(loss, 4), *rounded])


def _follow(average, network, share: float) -> None:
    """Move the average towards the network by `share` of the way."""
    with torch.no_grad():
        for mean, now in zip(
            average.state_dict().values(), network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(now.to(mean.dtype), share)


def _scores(stage: Stage, network, device: str, half: bool) -> dict[str, float]:
    network.eval()
    return stage.scores(network, device.split(":")[0], half)


def _run(
    stage: Stage, run: Path, *, resume: bool, finish: bool, device: str,
    checkpoint_seconds: float, progress: bool, watch,
):  # fmt: skip
    """Train one stage: the averaged network, its steps, the seconds they took, its scores."""
    half, kind = bfloat16_is_fast(device), device.split(":")[0]
    torch.manual_seed(stage.recipe.seed)
    network, average = stage.network(), stage.network()
    average.load_state_dict(network.state_dict())
    step, spent = 0, 0.0
    checkpoint = run / f"checkpoint{stage.suffix}.pt"
    stored = None
    if finish and not checkpoint.is_file():
        raise CryonbError(
            f"A checkpoint of a run to finish was expected at {checkpoint}, but there is none; "
            "train first."
        )
    if (resume or finish) and checkpoint.is_file():
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(stored["network"])
        average.load_state_dict(stored["average"])
        step, spent = stored["step"], stored["seconds"]
    if kind != "mps":
        network = network.to(memory_format=torch.channels_last_3d)
    network, average = network.to(device).train(), average.to(device).eval()
    optimiser = stage.optimiser(network)
    if stored is not None:
        optimiser.load_state_dict(stored["optimiser"])
        torch.set_rng_state(stored["random"])
    log = _Log(run / f"log{stage.suffix}.csv", step)
    losses: list[float] = []
    scores = None
    last_check = begin_time = time.monotonic()
    seconds_before = spent

    def keep():
        _save_checkpoint(
            checkpoint,
            network=network.state_dict(),
            average=average.state_dict(),
            optimiser=optimiser.state_dict(),
            random=torch.get_rng_state(),
            step=step,
            seconds=spent,
        )

    name = f"{stage.recipe.name}{stage.suffix}"
    bar = tqdm(
        () if finish else stage.batches(step), total=stage.steps, initial=step, desc=name,
        disable=not progress,
    )  # fmt: skip
    with _Request() as interrupted:
        for x, y in bar:
            x = x.to(device, non_blocking=True)
            y = y.to(device, non_blocking=True)
            for group in optimiser.param_groups:
                group["lr"] = stage.rate(step)
            with torch.autocast(kind, torch.bfloat16, enabled=half):
                logits = network(x)
            loss = stage.loss(network, logits.float(), y)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if stage.clip:
                torch.nn.utils.clip_grad_norm_(network.parameters(), stage.clip)
            optimiser.step()
            step += 1
            # Early on the average follows quickly, so that it does not remember random weights.
            _follow(average, network, 1 - min(stage.recipe.average, (1 + step) / (10 + step)))
            losses.append(loss.item())
            spent = seconds_before + time.monotonic() - begin_time
            if step % stage.recipe.look == 0 or step == stage.steps:
                scores = _scores(stage, average, device, half)
                log.add(step, spent, float(np.mean(losses)), scores)
                bar.set_postfix(loss=np.mean(losses), **dict(list(scores.items())[:1]))
                losses.clear()
                if watch is not None:
                    table = pd.read_csv(log.path)
                    table.attrs["stage"] = name
                    watch(table)
            if time.monotonic() - last_check > checkpoint_seconds:
                keep()
                last_check = time.monotonic()
            if interrupted.number:
                break
    keep()
    if interrupted.number:
        bar.close()
        raise KeyboardInterrupt(f"stopped after step {step}; the same command goes on from there")
    if scores is None:
        # A run that had ended before, or ends here, has not been judged in this one.
        scores = _scores(stage, average, device, half)
        if not log.has(step):
            log.add(step, spent, float("nan"), scores)
    return folded(average.cpu()), step, spent, scores


def train_network(
    recipe, run=None, *, resume: bool = True, finish: bool = False, device: str | None = None,
    checkpoint_seconds: float = 180, progress: bool = True, watch=None,
) -> Path:  # fmt: skip
    """Train a network by a recipe.

    Parameters
    ----------
    recipe : path, dict or Recipe
        A TOML file, or its entries; see `cryonb.train.kinds`.
    run : path, optional
        Folder of the run (cache, checkpoint, log, weights); `runs/<name>` by default.
    resume : bool
        Go on from the run's checkpoint if it has one.
    finish : bool
        Take no step more: write the weights of what the run has learned so far, to look at them.
        Called again without it, the run goes on.
    device : str, optional
        Where torch computes.
    checkpoint_seconds : float
        Time between checkpoints.
    progress : bool
        Show a bar.
    watch : callable, optional
        Called with the table so far (DataFrame: step, seconds, loss and scores; its `attrs` name
        the stage) after each look at the validation set.

    Raises
    ------
    CryonbError
        If the recipe is wrong, or of no network, or nothing is there to finish.
    KeyboardInterrupt
        After Ctrl-C or a polite kill, once the step is done and the checkpoint written.

    Returns
    -------
    Path
        The weights (`.safetensors`); recipe, manifest, log and loss picture lie beside them.
    """
    recipe = Recipe.given(recipe)
    if recipe.architecture not in _TRAININGS:
        raise CryonbError(
            f"The recipe of a network ({', '.join(_TRAININGS)}) was expected, but that of "
            f"{recipe.architecture!r} was given; the command `cryonb train` takes it."
        )
    run = recipe.folder(run)
    device = choose_device(device)
    room = importlib.import_module(f"cryonb.train.{recipe.architecture}")
    training = getattr(room, _TRAININGS[recipe.architecture])(
        recipe, run, device=device, progress=progress
    )
    # What anyone needs to repeat or to judge the run travels with the weights; in which folder of
    # this machine the data lie does not.
    told = recipe if recipe.data == "phantoms" else replace(recipe, data="")
    (run / f"{recipe.name}.toml").write_text(told.to_toml())
    steps, seconds, validation = 0, 0.0, {}
    for stage in training.stages():
        stage.trained, done, spent, scores = _run(
            stage, run, resume=resume, finish=finish, device=device,
            checkpoint_seconds=checkpoint_seconds, progress=progress, watch=watch,
        )  # fmt: skip
        steps, seconds = steps + done, seconds + spent
        prefix = stage.suffix.lstrip("_")
        validation |= {f"{prefix}_{key}" if prefix else key: v for key, v in scores.items()}
        table = run / f"log{stage.suffix}.csv"
        shutil.copyfile(table, run / f"{recipe.name}{stage.suffix}_validation.csv")
        _plot(table, run / f"loss{stage.suffix}.png")
    network, about = training.result()
    shutil.copyfile(run / "manifest.csv", run / f"{recipe.name}_manifest.csv")
    weights = run / f"{recipe.name}.safetensors"
    save_weights(
        network,
        weights,
        metadata={
            "architecture": recipe.architecture,
            **about,
            "recipe": recipe.to_dict() | {"data": "", "start": Path(recipe.start).name},
            "steps": steps,
            "seconds": round(seconds),
            "device": device,
            "torch": torch.__version__,
            "validation": validation | about.get("validation", {}),
        },
        rank=recipe.stored_rank,
    )
    return weights
