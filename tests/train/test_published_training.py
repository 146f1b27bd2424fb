"""Training of the published networks: labels meet densities, losses are as written, runs end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.label.haruspex import UNASSIGNED
from cryonb.networks.emap2sec import Emap2sec, PhaseOne, truncated
from cryonb.networks.haruspex import LOST
from cryonb.networks.weights import load_module
from cryonb.simulate import phantom
from cryonb.simulate.gaussian import gaussian_map
from cryonb.train import haruspex, loop
from cryonb.train.emap2sec import DenseStage, WindowStage
from cryonb.train.emap2sec_maps import Pool, ScaledMap, simulated_map
from cryonb.train.kinds import Emap2secRecipe
from cryonb.train.library import model_columns
from cryonb.train.recipe import Recipe
from cryonb.train.samples import IGNORED


@pytest.fixture(scope="module")
def columns():
    return model_columns(phantom.alpha_helix(20).structure)


@pytest.fixture(scope="module")
def small_map():
    made = phantom.combine(
        [
            phantom.alpha_helix(18),
            phantom.beta_sheet(3, length=8).moved(translation=(22.0, 0.0, 0.0)),
        ]
    )
    recipe = Emap2secRecipe(resolution=6.0)
    return simulated_map(model_columns(made.structure), recipe)


def test_simulated_maps_are_those_of_molmap(columns):
    entry = simulated_map(columns, Emap2secRecipe(resolution=6.0, contour=0.1))
    structure = phantom.alpha_helix(20).structure
    expected = gaussian_map(structure, entry.grid, resolution=6.0).values
    expected = expected / expected.max()
    expected[expected < 0.1] = 0
    np.testing.assert_allclose(entry.values.astype(float), expected, atol=2e-3)
    assert len(entry.position) == 20


def test_a_pool_is_balanced_and_its_windows_are_the_maps(small_map, rng):
    pool = Pool([small_map, small_map], 40, rng)
    assert np.bincount(pool.label).tolist() == [len(pool) // 3] * 3
    rows = np.arange(len(pool))
    windows = pool.windows(rows)
    padded = np.pad(small_map.values, 5)
    for row in rows[::17]:
        z, y, x = 2 * pool._centre[row]
        np.testing.assert_array_equal(windows[row, 0], padded[z : z + 11, y : y + 11, x : x + 11])


def test_penalties_are_those_of_the_recipe(small_map):
    recipe = Emap2secRecipe(l1=0.5, l2=0.25, windows=5, batch=4, steps=1)
    stage = WindowStage(recipe, [small_map], [small_map])
    torch.manual_seed(0)
    network = stage.network()
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    y = torch.tensor([0, 2])
    entropy = np.mean([np.log(np.exp(2) + 2) - 2, np.log(np.exp(1) + 2)])
    last, dense = network.convolutions.conv5, network.fc1
    l2 = sum((p**2).sum().item() for p in last.parameters()) / 2
    l1 = sum(p.abs().sum().item() for p in dense.parameters())
    found = stage.loss(network, logits, y).item()
    assert found == pytest.approx(entropy + 0.25 * l2 + 0.5 * l1, rel=1e-4)


@pytest.mark.parametrize("turns", [False, True])
def test_dense_crops_are_labelled_where_their_windows_are(small_map, rng, turns):
    recipe = Emap2secRecipe(dense=True, edge=48, rank=8, batch=1, steps=1, turns=turns)
    stage = DenseStage(recipe, [small_map], [small_map])
    # A map whose values tell where they come from.
    shape = (40, 44, 48)
    index = np.stack(np.indices(shape), axis=-1)
    code = 1 + index @ np.array([1, 50, 2500])
    grid = Grid(shape)
    position = grid.to_points(index[12:28:4, 12:28:4, 12:28:4].reshape(-1, 3))
    label = rng.integers(0, 3, len(position))
    entry = ScaledMap(code.astype(np.float64), grid, position, label)
    x, y = stage._crop(rng, [entry])
    assert (y != IGNORED).any()
    for place in np.argwhere(y != IGNORED)[::7]:
        value = int(x[(0, *(2 * place + 5))]) - 1
        z, rest = value % 50, value // 50
        away = np.linalg.norm(position - (rest // 50, rest % 50, z), axis=1)
        assert away.min() <= 3
        assert y[tuple(place)] in label[away == away.min()]


def test_truncation_keeps_what_has_low_rank():
    torch.manual_seed(1)
    network = Emap2sec(dense=True, rank=4).eval()
    for layer in list(network.two.hidden)[1:]:
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.out_features, 3) @ torch.randn(3, 1024) / 60)
    small = truncated(network, rank=4, rank_two=3)
    assert small.options == {"dense": True, "rank": 4, "rank_two": 3}
    x = torch.randn(5, 108)
    torch.testing.assert_close(small.two(x), network.two(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(small.one.fc1[0].weight, network.one.fc1[0].weight)


def test_haruspex_weighs_all_but_true_negatives():
    logits = torch.zeros(1, 4, 1, 1, 4)
    logits[0, UNASSIGNED, ..., 0] = 2  # a true negative
    logits[0, 1, ..., 1] = 2  # wrongly a helix
    logits[0, UNASSIGNED, ..., 2] = 2  # a helix that is missed
    logits[0, 0, ..., 3] = 9  # masked
    label = torch.tensor([[[[UNASSIGNED, UNASSIGNED, 1, IGNORED]]]])
    right, wrong = np.log(np.exp(2) + 3) - 2, np.log(np.exp(2) + 3)
    expected = (right + 16 * wrong + 16 * wrong) / 3
    assert haruspex.loss_of(logits, label, 16.0).item() == pytest.approx(expected, rel=1e-5)


def write_recipe(path, folder, **settings):
    settings = {"name": "tiny", "data": str(folder), "held_out": 3, "workers": 0} | settings
    lines = [f"{key} = {str(v).lower() if isinstance(v, bool) else repr(v)}"
             for key, v in settings.items()]  # fmt: skip
    path.write_text("\n".join(lines).replace("'", '"'))
    return path


def test_a_dense_emap2sec_is_trained_in_two_phases(folder, tmp_path):
    recipe = write_recipe(
        tmp_path / "r.toml", folder, architecture="emap2sec", dense=True, rank=4, rank_two=4,
        maps=3, maps_two=2, batch=1, edge=32, steps=2, steps_two=3, resolution=3.0,
    )  # fmt: skip
    options = {"device": "cpu", "progress": False}
    weights = loop.train_network(recipe, tmp_path / "run", **options)
    module, about = load_module(weights)
    assert module.options == {"dense": True, "rank": 4, "rank_two": 4}
    assert about["validation"].keys() >= {"one_voxel_accuracy", "two_f1_helix", "two_thinned"}
    for name in ("tiny_one_validation.csv", "tiny_two_validation.csv", "loss_two.png"):
        assert (tmp_path / "run" / name).is_file()
    again = loop.train_network(recipe, tmp_path / "run", **options)
    assert again.read_bytes() == weights.read_bytes()


def test_the_dense_form_goes_on_from_windows(folder, tmp_path, small_map):
    settings = {"architecture": "emap2sec", "rank": 4, "rank_two": 4, "maps": 3, "maps_two": 2,
                "steps_two": 2, "resolution": 3.0, "seed": 3}  # fmt: skip
    windows = write_recipe(
        tmp_path / "w.toml", folder, **settings, batch=6, steps=2, normed=True, windows=9
    )
    options = {"device": "cpu", "progress": False}
    made = loop.train_network(windows, tmp_path / "windows", **options)
    module, _ = load_module(made)
    assert module.options == {"dense": False, "rank": 4, "rank_two": 4}
    start = str(tmp_path / "windows" / "checkpoint_one.pt")
    recipe = Emap2secRecipe(**settings, dense=True, edge=32, batch=1, steps=0, start=start)
    dense = DenseStage(recipe, [small_map], [small_map]).network()
    for name in ("convolutions.conv5.weight", "convolutions.conv1.bias", "fc2.bias", "out.bias"):
        ours, theirs = dense.get_parameter(name), module.one.get_parameter(name)
        torch.testing.assert_close(ours, theirs.reshape(ours.shape), rtol=1e-3, atol=1e-3)
    # Windows go on with the norms as they were, or with none.
    stored = torch.load(start, weights_only=True)["average"]
    again = WindowStage(replace(recipe, dense=False, normed=True), [small_map], [small_map])
    torch.testing.assert_close(again.network().state_dict(), stored)
    plain = WindowStage(replace(recipe, dense=False), [small_map], [small_map]).network()
    assert plain.state_dict().keys() == PhaseOne().state_dict().keys()
    with pytest.raises(CryonbError, match="whole first dense layer"):
        WindowStage(
            replace(recipe, dense=False, start=str(made)), [small_map], [small_map]
        ).network()


def test_haruspex_is_trained(folder, tmp_path):
    recipe = write_recipe(
        tmp_path / "r.toml", folder, architecture="haruspex", edge=24, scenes=1, measured=1,
        steps=2, tail=1,
    )  # fmt: skip
    weights = loop.train_network(recipe, tmp_path / "run", device="cpu", progress=False)
    module, about = load_module(weights)
    assert about["scaled"]
    assert module(torch.zeros(1, 1, 24, 24, 24)).shape == (1, 4, 4, 4, 4)


def test_haruspex_goes_on_from_a_thinner_one(folder, tmp_path):
    entries = {"architecture": "haruspex", "edge": 24, "scenes": 1, "measured": 1, "tail": 1}

    def recipe(name, **more):
        return write_recipe(tmp_path / f"{name}.toml", folder, steps=2, **entries, **more)

    thin = recipe("thin", width=4, normed=True)
    weights = loop.train_network(thin, tmp_path / "thin", device="cpu", progress=False)
    start = str(tmp_path / "thin" / "checkpoint.pt")

    def started(name, **more):
        options = {"width": 8, "normed": True, "start": start} | more
        training = haruspex.HaruspexTraining(
            Recipe.read(recipe(name, **options)), tmp_path / "thin", device="cpu", progress=False
        )
        return next(training.stages()).network()

    x = torch.rand(1, 1, 24, 24, 24)
    with torch.inference_mode():
        expected, found = load_module(weights)[0](x), started("wide").eval()(x)
    # Weights are stored in half precision.
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    for number, other in enumerate(({"width": 6}, {"normed": False})):
        with pytest.raises(CryonbError, match="of the same kind"):
            started(f"no{number}", **other)


def test_haruspex_crops_lose_what_the_network_loses(folder):
    import pandas as pd

    from cryonb.train.library import build_library

    index = pd.read_csv(folder / "structures" / "INDEX.csv")
    library = build_library(folder / "structures", index["file"], progress=False)
    samples = haruspex.AnnotatedSamples(library, np.ones(len(library)), seed=1, edge=40)
    contrast, classes = [], set()
    for x, y in (samples[number] for number in range(6)):
        assert y.shape == (3, 40 - 2 * LOST, 40 - 2 * LOST, 40 - 2 * LOST)
        inner = x[:, LOST:-LOST, LOST:-LOST, LOST:-LOST].astype(float)
        marked = y < UNASSIGNED
        classes |= set(np.unique(y[marked]))
        if marked.any():
            contrast.append(inner[marked].mean() - inner[y == UNASSIGNED].mean())
    assert classes == {0, 1}
    assert np.mean(contrast) > 0.2
