"""Samples, splits, and a run that is cut off and goes on."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cryonb.errors import CryonbError
from cryonb.train import loop, unet
from cryonb.train.library import UNLABELLED, Library, model_columns, split
from cryonb.train.real_samples import RealMap, RealSamples
from cryonb.train.recipe import Recipe
from cryonb.train.samples import CORE, IGNORED, SimulatedSamples, paint, turn


def test_a_library_survives_the_disk(library, tmp_path):
    library.save(tmp_path / "l.npz")
    again = Library.load(tmp_path / "l.npz")
    np.testing.assert_array_equal(again.position, library.position)
    assert list(again.files) == list(library.files)
    assert len(again.part(3)["label"]) == again.start[4] - again.start[3]


def test_columns_label_the_backbone_alone(folder):
    import gemmi

    columns = model_columns(gemmi.read_structure(str(folder / "structures" / "scope_a/0.pdb")))
    labels, counts = np.unique(columns["label"], return_counts=True)
    assert set(labels) <= {1, 3, UNLABELLED}
    assert counts[labels == 1] >= 4 * 10  # an ideal helix of 14 residues


def test_paint_gives_the_nearest_atom(rng):
    index = rng.uniform(2, 14, (25, 3))
    label = rng.integers(1, 5, 25).astype(np.uint8)
    got = paint(index, label, (16, 17, 18))
    points = np.stack(np.indices(got.shape), axis=-1)
    away = np.sqrt(((points[..., None, :] - index) ** 2).sum(-1))
    expected = np.where(away.min(-1) <= 3, label[away.argmin(-1)], 0)
    expected[(away.min(-1) > 3) & (away.min(-1) <= 3.8)] = IGNORED
    assert (got == expected).mean() > 0.9999  # ties of float32 distances may fall either way
    marked = paint(index, label, (16, 17, 18), core=1.2)
    inner = away.min(-1) <= 1.2
    assert (marked[~inner] == got[~inner]).all()
    assert (marked[inner] == got[inner] | CORE).all()


def test_turns_are_the_24_rotations(rng):
    corner = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"))
    seen = set()
    for _ in range(400):
        turned = turn(rng, *corner)
        steps = 1 + np.eye(3, dtype=int)
        matrix = np.array([[axis[tuple(step)] for step in steps] for axis in turned])
        assert round(np.linalg.det(matrix)) == 1  # handedness is kept
        seen.add(matrix.tobytes())
    assert len(seen) == 24


def test_samples_depend_on_seed_and_number_alone(library):
    one, two = (
        SimulatedSamples(library, np.ones(len(library)), seed=3, edge=32, measured=2)
        for _ in range(2)
    )
    two[7]
    for a, b in zip(one[5], two[5], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[5][0], one[6][0])
    x, y = one[5]
    assert x.shape == y.shape == (2, 32, 32, 32)


def test_simulated_density_lies_where_the_labels_are(library):
    samples = SimulatedSamples(library, np.ones(len(library)), seed=1, edge=32)
    contrast = []
    for x, y in (samples[number] for number in range(8)):
        inside = (y > 0) & (y != IGNORED)
        if inside.any():
            contrast.append(x[inside].astype(float).mean() - x[y == 0].astype(float).mean())
    assert np.mean(contrast) > 0.2


def test_real_crops_keep_density_and_labels_together(rng):
    from scipy.ndimage import gaussian_filter

    index = rng.uniform(15, 45, (60, 3)).astype(np.float32)
    density = np.zeros((60, 60, 60), np.float32)
    density[tuple(np.round(index).astype(int).T)] = 200
    spline = gaussian_filter(density, 2.0)  # smooth enough to stand for its own coefficients
    entry = RealMap("made", spline, index, np.ones(60, np.uint8))
    x, y = RealSamples([entry], seed=2, edge=32, measured=4)[0]
    inside = y == 1
    assert inside.any()
    assert x[inside].astype(float).mean() > 3 * np.abs(x[y == 0].astype(float)).mean()


def test_splits_share_no_kin(data):
    index = pd.read_csv(data / "structures" / "INDEX.csv")
    parts = split(index).to_numpy()
    family = index["scope_sf"].str.split(".").str[:3].str.join(".")
    train = parts == "train"
    for column in (index["cluster_id"], index["pdb_id"], family):
        held = np.isin(parts, ["test", "validation"])
        assert not set(column[train].dropna()) & set(column[held].dropna())
    test = index[parts == "test"]
    assert (test.groupby("scope_class").size() >= 15).all()


def test_a_run_that_is_cut_off_ends_where_an_unbroken_one_does(write_recipe, cut_off, tmp_path):
    recipe = write_recipe("unet", widths=[16, 16])
    whole, again = cut_off(recipe, unet)
    one = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)
    two = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    assert one["step"] == two["step"] == 6
    for key, value in one["network"].items():
        torch.testing.assert_close(two["network"][key], value, rtol=1e-4, atol=1e-5)
    assert json.loads((tmp_path / "early.json").read_text())["steps"] == 4
    for weights in (whole, again):
        assert json.loads(weights.with_suffix(".json").read_text())["steps"] == 6
    for name in ("loss.png", "tiny.json", "tiny.toml", "tiny_manifest.csv", "tiny_validation.csv"):
        assert (tmp_path / "cut" / name).is_file()
    told = Recipe.read(tmp_path / "cut" / "tiny.toml")
    assert told.data == ""
    assert told == replace(Recipe.read(recipe), data="")


def test_what_never_began_cannot_be_finished(write_recipe, tmp_path):
    with pytest.raises(CryonbError, match="train first"):
        loop.train_network(write_recipe("unet"), tmp_path / "none", finish=True, progress=False)
    assert not list((tmp_path / "none").glob("*.safetensors"))


def test_loss_falls_on_perfect_answers():
    label = torch.randint(0, 5, (2, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    label[0, :2] = IGNORED
    right = torch.nn.functional.one_hot(label.where(label != IGNORED, 0), 5).permute(0, 4, 1, 2, 3)
    weight = torch.ones(5)
    good = unet.loss_of(12.0 * right, label, weight, 0.5)
    bad = unet.loss_of(12.0 * right.roll(1, 1), label, weight, 0.5)
    assert good < 0.02
    assert bad > 5


def test_voxels_at_atoms_weigh_more():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4, 4, 4)
    label = torch.randint(0, 5, (2, 4, 4, 4))
    label[0, 0] = IGNORED
    inner = (label != IGNORED) & (label > 0) & (torch.rand(label.shape) < 0.3)
    marked = torch.where(inner, label + CORE, label)
    weight = torch.tensor([0.35, 1.0, 1.3, 1.1, 1.0])
    plain = unet.loss_of(logits, label, weight, 0.5)
    assert unet.loss_of(logits, marked, weight, 0.5) == pytest.approx(float(plain))
    p = torch.log_softmax(logits, dim=1).permute(0, 2, 3, 4, 1)[label != IGNORED]
    known, near = label[label != IGNORED], inner[label != IGNORED]
    each = weight[known] * torch.where(near, 3.0, 1.0)
    wanted = -(each * p[torch.arange(len(known)), known]).sum() / each.sum()
    assert unet.loss_of(logits, marked, weight, 0.0, 3.0) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.slow
def test_accuracy_is_told_where_residues_are_read(write_recipe, tmp_path):
    recipe = write_recipe("unet", core=3.0, widths=[16, 16], steps=2)
    loop.train_network(recipe, tmp_path, device="cpu", progress=False)
    table = pd.read_csv(tmp_path / "tiny_validation.csv")
    assert 0 <= table["backbone_accuracy"].iloc[-1] <= 1


def test_bad_recipes_are_refused(tmp_path):
    path = tmp_path / "r.toml"
    with pytest.raises(CryonbError, match="does not exist"):
        Recipe.read(path)
    path.write_text("speed = 3")
    with pytest.raises(CryonbError, match="unknown keys speed"):
        Recipe.read(path)
    path.write_text("steps = 'many'")
    with pytest.raises(CryonbError, match="steps must be of type int"):
        Recipe.read(path)
    path.write_text("steps = ")
    with pytest.raises(CryonbError, match="not valid TOML"):
        Recipe.read(path)


def test_ideal_elements_are_enough_to_begin_with(tmp_path):
    seen = []
    settings = {"name": "p", "data": "phantoms", "phantoms": 5, "widths": [16, 16], "edge": 16,
                "scenes": 1, "measured": 1, "steps": 4, "look": 2, "workers": 0}  # fmt: skip
    options = {"device": "cpu", "progress": False, "watch": seen.append}
    weights = loop.train_network(settings, tmp_path, **options)
    assert weights.is_file()
    assert [table["step"].tolist() for table in seen] == [[2], [2, 4]]
    # The copy beside the weights says everything but where folders are.
    assert Recipe.read(tmp_path / "p.toml") == Recipe.of(settings)
    parts = pd.read_csv(tmp_path / "p_manifest.csv")["part"]
    assert parts.value_counts().to_dict() == {"train": 4, "validation": 1}
