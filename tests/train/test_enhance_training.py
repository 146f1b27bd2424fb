"""Training of the enhancement network: target, loss, samples, scores, and a run that is cut off."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.errors import CryonbError
from cryonb.networks.enhance import Enhance
from cryonb.networks.weights import load_module, save_weights
from cryonb.train import enhance, loop
from cryonb.train.kinds import EnhanceRecipe
from cryonb.train.recipe import Recipe


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99), resolution=st.floats(2.5, 7.5))
def test_the_target_is_the_formula_of_the_paper(seed, resolution):
    rng = np.random.default_rng(seed)
    shape = (14, 15, 16)
    atoms = {
        "position": rng.uniform(-2, 17, (30, 3)).astype(np.float32),
        "element": rng.choice([1, 6, 7, 8, 15, 16], 30),
    }
    k = (np.pi / (1.2 + 0.6 * resolution)) ** 2
    theta = (k / np.pi) ** 1.5
    places = np.stack(np.indices(shape), axis=-1)
    expected = np.zeros(shape)
    for position, z in zip(atoms["position"], atoms["element"], strict=True):
        if z > 1:
            expected += theta * z * np.exp(-k * ((places - position) ** 2).sum(axis=-1))
    got = enhance.target_map(atoms, shape, resolution)
    # Gaussians are cut five standard deviations off.
    np.testing.assert_allclose(got, expected, atol=1e-4 * expected.max())


def plain_dissimilarity(x, y, epsilon):
    covariance = np.cov(x.ravel(), y.ravel())
    return 1 - (2 * covariance[0, 1] + epsilon) / (covariance[0, 0] + covariance[1, 1] + epsilon)


@pytest.mark.parametrize("epsilon", [1e-6, 1e-3, 0.5])
def test_the_loss_is_the_papers(rng, epsilon):
    x, y = rng.normal(0, 1.2, (2, 3, 4, 5, 6))
    error = np.abs(x - y)
    assert (error > 1).any()
    smooth = np.where(error < 1, error**2 / 2, error - 0.5).mean()
    parts = [plain_dissimilarity(one, other, epsilon) for one, other in zip(x, y, strict=True)]
    found, truth = torch.from_numpy(x), torch.from_numpy(y)
    np.testing.assert_allclose(enhance.dissimilarity(found, truth, epsilon), parts, rtol=1e-12)
    expected = smooth + np.mean(parts)
    assert enhance.loss_of(found, truth, epsilon).item() == pytest.approx(expected, rel=1e-12)


def test_similarity_knows_its_ends(rng):
    y = torch.from_numpy(rng.random((2, 5, 5, 5)))
    torch.testing.assert_close(enhance.dissimilarity(y, y, 1e-6), torch.zeros(2).double())
    # Another mean is no other structure, another contrast is; the opposite is twice as far.
    torch.testing.assert_close(enhance.dissimilarity(y + 3, y, 1e-6), torch.zeros(2).double())
    torch.testing.assert_close(enhance.dissimilarity(2 * y, y, 0.0), torch.full((2,), 0.2).double())
    torch.testing.assert_close(enhance.dissimilarity(-y, y, 0.0), torch.full((2,), 2.0).double())
    # Where there is nothing, nothing is the right answer.
    nothing = torch.zeros_like(y)
    assert not enhance.dissimilarity(nothing, nothing, 1e-3).any()
    assert (enhance.dissimilarity(y, nothing, 1e-3) > 0.9).all()


def test_the_gradient_of_the_loss_is_right(rng):
    found = torch.from_numpy(rng.normal(0, 1.5, (2, 3, 3, 3))).requires_grad_()
    truth = torch.from_numpy(rng.normal(0, 1.5, (2, 3, 3, 3)))
    assert torch.autograd.gradcheck(lambda x: enhance.loss_of(x, truth, 1e-3), found)


def samples_of(library, **options):
    settings = {"seed": 1, "edge": 32, "coarsest": 5.0} | options
    return enhance.EnhanceSamples(library, np.ones(len(library)), **settings)


def test_crops_go_with_the_density_that_a_model_would_give(library):
    found = [samples_of(library)[number] for number in range(4)]
    x, y = (np.concatenate(part).astype(np.float64) for part in zip(*found, strict=True))
    assert x.shape == y.shape == (12, 32, 32, 32)
    assert (y >= 0).all()
    # What a mask has cut away is not taught.
    assert (x == 0).any()
    assert not y[x == 0].any()
    filled = [k for k in range(12) if y[k].any()]
    correlation = [np.corrcoef(x[k].ravel(), y[k].ravel())[0, 1] for k in filled]
    assert np.median(correlation) > 0.6


def test_noise_alone_has_an_empty_target(library):
    x, y = samples_of(library, empty=1.0)[3]
    assert not y.any()
    assert x.astype(float).std() > 0.05
    density = [samples_of(library, empty=share).conditions(np.random.default_rng(4)).noise
               for share in (0.0, 1.0)]  # fmt: skip
    assert density[0] <= 4 < density[1]


def test_no_target_is_finer_than_voxels_hold(library):
    fine = {"finest": 1.6, "coarsest": 1.7, "clean": 1.0}
    made = [samples_of(library, sharpest=d, **fine)[2] for d in (1.0, 2.5)]
    np.testing.assert_array_equal(made[0][0], made[1][0])
    assert made[0][1].max() > 1.5 * made[1][1].max()


def test_the_same_number_is_the_same_sample(library):
    made = [samples_of(library, seed=4, edge=16, empty=0.3)[7] for _ in range(2)]
    for one, two in zip(*made, strict=True):
        np.testing.assert_array_equal(one, two)


class Answering(torch.nn.Module):
    """Gives what was laid down for each crop in turn."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.place = answers, 0

    def forward(self, x):
        self.place += len(x)
        return self.answers[self.place - len(x) : self.place]


def test_perfect_answers_have_perfect_scores(library):
    recipe = EnhanceRecipe(edge=32, measured=1, steps=1)
    samples = samples_of(library, seed=9, measured=1, empty=0.2)
    stage = enhance.EnhanceStage(recipe, None, samples)
    truth = stage._y[:, None]
    right = stage.scores(Answering(truth), "cpu", False)
    assert next(iter(right)) == "correlation"
    assert right["correlation"] == pytest.approx(1, abs=1e-5)
    assert right["dissimilarity"] == pytest.approx(0, abs=1e-5)
    assert right["from_nothing"] == 0
    assert 0.4 < right["correlation_before"] < 0.99
    # Negative density is cut before it is judged, and a constant more is seen where nothing is.
    assert stage.scores(Answering(truth - 5 * (truth == 0)), "cpu", False) == right
    level = truth[truth.amax(dim=(1, 2, 3, 4)) > 0].mean()
    more = stage.scores(Answering(truth + level), "cpu", False)
    assert more["from_nothing"] == pytest.approx(1, rel=1e-4)
    assert more["correlation"] == pytest.approx(1, abs=1e-4)


def test_a_run_that_is_cut_off_ends_where_an_unbroken_one_does(write_recipe, cut_off):
    whole, again = cut_off(write_recipe("enhance"), enhance)
    assert again.read_bytes() == whole.read_bytes()
    module, about = load_module(whole, device="cpu")
    assert isinstance(module, Enhance)
    assert about["classes"] == ["density"]
    assert "correlation" in about["validation"]


def test_a_run_begins_with_the_layers_that_fit(write_recipe, tmp_path):
    from cryonb.networks.unet import UNet

    other = UNet(5, (8, 12))
    save_weights(other, tmp_path / "unet.safetensors", metadata={}, half=False)
    recipe = Recipe.read(write_recipe("enhance", start=str(tmp_path / "unet.safetensors")))
    stage = enhance.EnhanceStage.__new__(enhance.EnhanceStage)
    stage.recipe = recipe
    network = stage.network()
    torch.testing.assert_close(network.entrance.weight, other.entrance.weight)
    assert network.bottom.conv1.weight.shape != other.bottom.conv1.weight.shape


@pytest.mark.slow
def test_loss_falls(write_recipe, tmp_path):
    recipe = write_recipe(
        "enhance", steps=60, warmup=4, tail=10, look=15, edge=24, coarsest=4.0,
        widths=[16, 16], scenes=2, rate=5e-3,
    )  # fmt: skip
    seen = []
    loop.train_network(recipe, tmp_path / "run", device="cpu", progress=False, watch=seen.append)
    table = seen[-1]
    assert table["loss"].iloc[-1] < 0.7 * table["loss"].iloc[0]
    assert table["correlation"].iloc[-1] > table["correlation"].iloc[0]


def test_real_maps_are_refused(write_recipe, tmp_path):
    recipe = write_recipe("enhance", real=0.5)
    with pytest.raises(CryonbError, match="simulated maps alone"):
        loop.train_network(recipe, tmp_path / "run", device="cpu", progress=False)


def test_the_recipe_of_the_repository_is_valid():
    recipe = Recipe.read(Path(__file__).parents[2] / "recipes" / "enhance.toml")
    assert isinstance(recipe, EnhanceRecipe)
    assert recipe.real == 0
