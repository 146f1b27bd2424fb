"""A data folder for training, tiny recipes, and runs that are cut off."""

import itertools
import os
import shutil
import signal

import pandas as pd
import pytest

from cryonb.simulate import phantom
from cryonb.train import loop
from cryonb.train.library import build_library


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder with phantoms as structures."""
    root = tmp_path_factory.mktemp("data")
    rows = []
    for number, kind in enumerate(["a", "b"] * 6):
        if kind == "a":
            made = phantom.alpha_helix(14 + number).structure
        else:
            made = phantom.beta_sheet(3, length=6 + number).structure
        name = f"scope_{kind}/{number}.pdb"
        (root / "structures" / f"scope_{kind}").mkdir(parents=True, exist_ok=True)
        made.write_pdb(str(root / "structures" / name))
        rows.append((name, f"x{number}", kind, f"{kind}.{number}.1.1", f"c{number}"))
    columns = ["file", "pdb_id", "scope_class", "scope_sf", "cluster_id"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "structures" / "INDEX.csv", index=False)
    return root


@pytest.fixture(scope="module")
def library(folder):
    """The library of the data folder."""
    index = pd.read_csv(folder / "structures" / "INDEX.csv")
    return build_library(folder / "structures", index["file"], progress=False)


@pytest.fixture
def write_recipe(folder, tmp_path):
    """Write the recipe of a run of seconds on the data folder: architecture, and other entries."""

    def write(architecture, **changes):
        settings = {
            "name": "tiny", "architecture": architecture, "data": str(folder), "widths": [8, 8],
            "edge": 16, "scenes": 2, "measured": 1, "steps": 6, "warmup": 2, "tail": 3,
            "workers": 0, "held_out": 3,
        } | changes  # fmt: skip
        lines = [f"{key} = {value!r}" for key, value in settings.items()]
        path = tmp_path / "r.toml"
        path.write_text("\n".join(lines).replace("'", '"'))
        return path

    return write


@pytest.fixture
def cut_off(tmp_path, monkeypatch):
    """Train a recipe unbroken, in `whole`, and in `cut`, interrupted in step 4 and gone on with.

    In between the weights of `cut` are written; what they say of themselves is in `early.json`.
    """

    def train(recipe, room):
        options = {"device": "cpu", "progress": False}
        whole = loop.train_network(recipe, tmp_path / "whole", **options)
        calls, real = itertools.count(), room.loss_of

        def loss_and_signal(*args, **settings):
            if next(calls) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*args, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(room, "loss_of", loss_and_signal)
            with pytest.raises(KeyboardInterrupt, match="after step 4"):
                loop.train_network(recipe, tmp_path / "cut", **options)
        early = loop.train_network(recipe, tmp_path / "cut", finish=True, **options)
        shutil.copyfile(early.with_suffix(".json"), tmp_path / "early.json")
        return whole, loop.train_network(recipe, tmp_path / "cut", **options)

    return train
