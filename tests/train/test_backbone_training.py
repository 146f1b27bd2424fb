"""Training of the backbone network: labels, loss, scores, and a run that is cut off."""

import numpy as np
import pytest
import torch

from cryonb.atoms import AMINO_ACIDS, ROLES
from cryonb.errors import CryonbError
from cryonb.networks.backbone import HEAT, SECONDARY, Backbone
from cryonb.networks.weights import load_module
from cryonb.train import backbone, loop
from cryonb.train.kinds import BackboneRecipe
from cryonb.train.library import UNLABELLED, Library, model_columns
from cryonb.train.recipe import Recipe
from cryonb.train.samples import IGNORED, turn
from cryonb.volume import CLASSES

OPTIONS = {"focus": 2.0, "balance": 3.0, "residue": 0.3, "secondary": 0.2}


def test_columns_name_atoms_and_residues(folder):
    import gemmi

    structure = gemmi.read_structure(str(folder / "structures" / "scope_a/0.pdb"))
    structure[0][0][3].name = "MSE"
    structure[0][0][4].name = "TRP"
    structure[0][0][5].name = "UNK"
    columns = model_columns(structure)
    amino = columns["amino"][columns["alpha"]]
    names = [AMINO_ACIDS[k] if k != UNLABELLED else "" for k in amino[:7]]
    assert names == ["ALA", "ALA", "ALA", "MET", "TRP", "", "ALA"]
    assert (columns["role"][columns["alpha"]] == ROLES.index("CA")).all()


def test_heat_is_that_of_the_nearest_atom(rng):
    index = rng.uniform(-3, 15, (40, 3))
    channel = rng.integers(0, 4, 40)
    got = backbone.heat_maps(index, channel, (11, 12, 13))
    places = np.stack(np.indices((11, 12, 13)), axis=-1)
    for k in range(4):
        square = ((places[..., None, :] - index[channel == k]) ** 2).sum(-1).min(-1)
        expected = np.exp(-square / (2 * backbone.SIGMA**2))
        np.testing.assert_allclose(got[k], expected, atol=1e-3)


def test_turns_take_labels_of_several_channels_along(rng):
    x = rng.random((5, 5, 5))
    many = np.stack([x, 2 * x])
    for _ in range(20):
        one, two = turn(rng, x, many)
        np.testing.assert_array_equal(two, np.stack([one, 2 * one]))


def test_crops_have_heat_where_atoms_make_density(library):
    samples = backbone.BackboneSamples(
        library, np.ones(len(library)), seed=1, edge=32, coarsest=2.5
    )
    contrast, states, types = [], set(), set()
    for x, y in (samples[number] for number in range(6)):
        assert x.shape == (3, 32, 32, 32)
        assert y.shape == (3, 6, 32, 32, 32)
        assert y.dtype == np.uint8
        heat = np.where(y[:, :4] == IGNORED, 0, y[:, :4])
        known = y[:, 4] != IGNORED
        # A type is taught within 1.5 Å of a Cα, where its heat is still 0.17.
        assert (heat[:, 0][known] > 0.17 * 250 - 1).all()
        types |= set(np.unique(y[:, 4][known]))
        states |= set(np.unique(y[:, 5][y[:, 5] != IGNORED]))
        on, off = heat[:, :3].max(axis=1) > 200, heat.max(axis=1) == 0
        if on.any():
            contrast.append(x[on].astype(float).mean() - x[off].astype(float).mean())
    assert types == {0}  # alanine
    assert {0, 1} <= states <= {0, 1, 2}
    assert np.mean(contrast) > 0.4
    assert CLASSES[1:4] == SECONDARY


def test_the_same_number_is_the_same_sample(library):
    made = [
        backbone.BackboneSamples(library, np.ones(len(library)), seed=4, edge=16)[7]
        for _ in range(2)
    ]
    for one, two in zip(*made, strict=True):
        np.testing.assert_array_equal(one, two)


def perfect(y, sure=9.0):
    """Logits that say what the labels say."""
    heat = np.clip(y[:, :4].numpy() / 250, 1e-4, 1 - 1e-4)
    parts = [torch.from_numpy(np.log(heat / (1 - heat))).float()]
    for label, n in ((y[:, 4], 20), (y[:, 5], 3)):
        known = label.long().where(label != IGNORED, 0)
        parts.append(sure * torch.nn.functional.one_hot(known, n).movedim(-1, 1).float())
    return torch.cat(parts, dim=1)


@pytest.fixture
def truth(rng):
    """Labels of one crop with eight Cα atoms well apart, and the places of these."""
    corner = np.stack(np.meshgrid(*[[6.0, 14.0]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    index = corner + rng.uniform(-1, 1, corner.shape)
    heat = backbone.heat_maps(index, np.zeros(8, int), (20, 20, 20))
    near = heat[0] > 0.17
    types = np.where(near, 7, IGNORED)
    states = np.where(near, 1, IGNORED)
    y = np.concatenate([np.rint(250 * heat), types[None], states[None]])
    return torch.from_numpy(y.astype(np.uint8))[None], index


def test_loss_is_least_where_answers_are_right(truth):
    y, _ = truth
    right = perfect(y)
    good = backbone.loss_of(right, y, **OPTIONS)
    assert good < 0.02
    for first, last in ((0, 4), (4, 24), (24, 27)):
        wrong = right.clone()
        wrong[:, first:last] = wrong[:, first:last].roll(1, 1)
        assert backbone.loss_of(wrong, y, **OPTIONS) > good + 0.2
    # What is ignored does not count, and nothing to count is no error.
    nothing = torch.full_like(y, IGNORED)
    assert backbone.loss_of(right.requires_grad_(), nothing, **OPTIONS) == 0
    y[:, :, :4] = IGNORED
    other = right.detach().clone()
    other[:, :, :4] = 50
    same = backbone.loss_of(right, y, **OPTIONS)
    torch.testing.assert_close(backbone.loss_of(other, y, **OPTIONS), same)


def test_loss_is_as_written():
    y = torch.full((1, 6, 2, 2, 2), IGNORED, dtype=torch.uint8)
    y[0, 0, 0, 0, :] = torch.tensor([250, 0])
    y[0, 4, 0, 0, 0] = 3
    logits = torch.zeros(1, 27, 2, 2, 2)
    logits[0, 0, 0, 0, :] = torch.tensor([1.0, -2.0])
    p, q = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(2.0))
    heat = -np.log(p) * (1 - p) ** 2 * 4 - np.log(1 - q) * q**2
    expected = heat / 2 + 0.3 * np.log(20)
    assert backbone.loss_of(logits, y, **OPTIONS).item() == pytest.approx(expected, rel=1e-5)


def test_scores_count_peaks_within_two_angstrom(truth):
    y, index = truth
    heat = (y[0, 0] / 250).numpy()
    assert backbone.peak_scores(heat, heat) == {"found": 8, "true": 8, "pairs": 8}
    near = backbone.heat_maps(index[:5] + 1.0, np.zeros(5, int), heat.shape)[0]
    assert backbone.peak_scores(near, heat) == {"found": 5, "true": 8, "pairs": 5}
    far = backbone.heat_maps(index[:5] + 1.3, np.zeros(5, int), heat.shape)[0]
    assert backbone.peak_scores(far, heat)["pairs"] == 0


class Answering(torch.nn.Module):
    """Gives the logits that were laid down for each crop in turn."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.place = logits, 0

    def forward(self, x):
        self.place += len(x)
        return self.logits[self.place - len(x) : self.place]


def test_perfect_answers_have_perfect_scores(library):
    recipe = BackboneRecipe(edge=32, measured=1, steps=1)
    samples = backbone.BackboneSamples(library, np.ones(len(library)), seed=9, edge=32, measured=1)
    stage = backbone.BackboneStage(recipe, None, samples)
    right = stage.scores(Answering(perfect(stage._y)), "cpu", False)
    assert right == dict.fromkeys(right, 1.0)
    assert next(iter(right)) == "ca_f1"
    none = stage.scores(Answering(torch.zeros_like(perfect(stage._y)) - 9), "cpu", False)
    assert none["ca_f1"] == none["ca_recall"] == 0


def test_a_run_that_is_cut_off_ends_where_an_unbroken_one_does(write_recipe, cut_off):
    whole, again = cut_off(write_recipe("backbone"), backbone)
    assert again.read_bytes() == whole.read_bytes()
    module, about = load_module(whole, device="cpu")
    assert isinstance(module, Backbone)
    assert about["classes"] == [*HEAT, *AMINO_ACIDS, *SECONDARY]
    assert "ca_f1" in about["validation"]


@pytest.mark.slow
def test_loss_falls(write_recipe, tmp_path):
    recipe = write_recipe(
        "backbone", steps=40, warmup=4, tail=10, look=10, edge=24, coarsest=2.5,
        widths=[16, 16], scenes=1, rate=5e-3,
    )  # fmt: skip
    seen = []
    loop.train_network(recipe, tmp_path / "run", device="cpu", progress=False, watch=seen.append)
    loss = seen[-1]["loss"].to_numpy()
    assert loss[-1] < 0.8 * loss[0]


def test_libraries_of_an_older_version_are_made_anew(write_recipe, tmp_path, library):
    library.save(tmp_path / "new.npz")
    assert Library.is_current(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as stored:
        old = {key: stored[key] for key in stored.files if key != "amino"}
    np.savez(tmp_path / "old.npz", **old)
    assert not Library.is_current(tmp_path / "old.npz")
    run = tmp_path / "run"
    recipe = write_recipe("backbone", steps=1)
    loop.train_network(recipe, run, device="cpu", progress=False)
    (tmp_path / "old.npz").rename(run / "structures.npz")
    loop.train_network(recipe, run, device="cpu", progress=False)
    assert Library.is_current(run / "structures.npz")


def test_real_maps_are_refused(write_recipe, tmp_path):
    recipe = write_recipe("backbone", real=0.5)
    with pytest.raises(CryonbError, match="simulated maps alone"):
        loop.train_network(recipe, tmp_path / "run", device="cpu", progress=False)


def test_the_recipe_of_the_repository_is_valid():
    from pathlib import Path

    recipe = Recipe.read(Path(__file__).parents[2] / "recipes" / "backbone.toml")
    assert isinstance(recipe, BackboneRecipe)
