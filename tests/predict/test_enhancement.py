"""Enhanced maps: grid, scale and history, what noise becomes, and the command."""

import numpy as np
import pytest
import torch

import cryonb as nb
from cryonb import cli
from cryonb.errors import CryonbError, CryonbWarning, WeightsError
from cryonb.grid import Grid
from cryonb.networks.enhance import Enhance
from cryonb.networks.weights import save_weights
from cryonb.simulate import phantom
from cryonb.volume import LabelVolume

OPTIONS = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Weights that answer with the map itself, on the network's scale."""
    network = Enhance((8, 8))
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.zero_()
        network.head.weight[torch.arange(8), 16 + torch.arange(8), 0, 0, 0] = 1
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    about = {"architecture": "enhance", "classes": ["density"], "voxel_size": 1.0, "rim": 8,
             "recipe": {"coarsest": 7.5}}  # fmt: skip
    save_weights(network, path, metadata=about)
    return path


@pytest.fixture(scope="module")
def helices():
    return phantom.combine(
        [phantom.alpha_helix(16), phantom.alpha_helix(16).moved(translation=(12, 3, 0))]
    ).structure


@pytest.fixture
def density(helices):
    m = nb.simulate(helices, resolution=4.0, voxel_size=1.3)
    m.contour = 0.1
    return m


def test_the_result_is_another_map_on_the_same_grid(density, tiny):
    m = density.with_half_maps(density, density.replace(0.9 * density.values))
    before = m.values.copy()
    made = m.enhance(weights=tiny, tile=32, **OPTIONS)
    assert type(made) is nb.DensityMap
    assert made.grid == m.grid
    assert made.resolution == 4.0
    assert made.contour is None
    assert made.half_maps is None
    assert any("predict" in note and "not measured" in note for note in made.history)
    assert made.history[: len(m.history)] == m.history
    np.testing.assert_array_equal(m.values, before)
    assert m.contour == 0.1
    # These weights give back the map, cut at zero, on the scale of the molecule's density; what
    # is left is what voxels of 1 Å and float16 lose.
    assert made.min >= 0
    seen = m.values > 0.3 * m.max
    ratio = made.values[seen] / m.values[seen]
    assert ratio.std() < 0.03 * ratio.mean()


def test_on_network_gives_voxels_of_one_angstrom(density, tiny):
    made = density.enhance(weights=tiny, on="network", **OPTIONS)
    assert made.grid == density.grid.with_voxel_size(1.0)
    assert made.values.dtype == np.float32


def test_what_is_finer_than_the_resolution_does_not_matter(density, tiny, rng):
    noise = nb.DensityMap(rng.standard_normal(density.shape, dtype=np.float32), density.grid)
    noise = noise.replace(noise.values - noise.filter(low=3.0).values)
    noisy = density.replace(density.values + 0.3 * density.max * noise.values)
    known, unknown = (
        noisy.enhance(weights=tiny, resolution=d, **OPTIONS).values for d in (4.0, 2.2)
    )
    clean = density.enhance(weights=tiny, **OPTIONS)
    assert np.abs(known - clean.values).max() < 0.05 * clean.max
    assert np.abs(unknown - clean.values).max() > 0.2 * clean.max


def test_what_a_mask_cut_away_stays_away(density, tiny):
    values = density.values.copy()
    values[:, :, density.shape[2] // 2 :] = 0
    made = density.replace(values).enhance(weights=tiny, **OPTIONS)
    cut = made.values[:, :, density.shape[2] // 2 + 3 :]
    assert cut.max() < 0.02 * made.max


def test_scale_and_place_of_a_map_do_not_matter(density, tiny):
    made = density.enhance(weights=tiny, **OPTIONS)
    moved = nb.DensityMap(
        250 * density.values, Grid(density.shape, density.voxel_size, (40.0, -7.5, 300.0))
    ).enhance(weights=tiny, resolution=4.0, **OPTIONS)
    # bfloat16 rounds by one part in 256.
    np.testing.assert_allclose(moved.values, made.values, atol=0.02 * made.max)


def test_bad_input_is_one_sentence(density, tiny):
    grid = Grid((8, 8, 8), 1.0)
    with pytest.raises(CryonbError, match="all voxels are 0"):
        nb.DensityMap(np.zeros((8, 8, 8), np.float32), grid).enhance(weights=tiny)
    negative = -np.random.default_rng(1).random((8, 8, 8), np.float32)
    with pytest.raises(CryonbError, match="positive density"):
        nb.DensityMap(negative, grid).enhance(weights=tiny)
    with pytest.raises(CryonbError, match="'input' or 'network'"):
        density.enhance(weights=tiny, on="output")
    with pytest.raises(CryonbError, match="positive resolution"):
        density.enhance(weights=tiny, resolution=-1.0)
    with pytest.raises(WeightsError, match="those of unet"):
        density.enhance(weights="unet", **OPTIONS)
    with pytest.raises(WeightsError, match="not found"):
        density.enhance(weights="elephant", **OPTIONS)
    labels = LabelVolume(np.ones((8, 8, 8), np.uint8), grid)
    from cryonb.predict.enhance import enhance

    with pytest.raises(CryonbError, match=r"<LabelVolume.* was given"):
        enhance(labels, weights=tiny)


def test_a_map_beyond_what_was_learned_is_warned_of(density, tiny):
    density.resolution = 9.0
    with pytest.warns(CryonbWarning, match=r"9 Å is coarser .* \(7.5 Å\)"):
        density.enhance(weights=tiny, **OPTIONS)


def test_the_command_writes_a_map(density, tiny, tmp_path, capsys):
    path = density.save(tmp_path / "m.mrc")
    target = tmp_path / "out.mrc"
    words = ["enhance", str(path), "--weights", str(tiny), "--out", str(target), "--device", "cpu"]
    assert cli.main(words) == 0
    assert "prediction" in capsys.readouterr().out
    assert nb.open_map(target).grid.is_close(density.grid)
    assert cli.main([*words[:2], "--weights", "unet", "--out", str(tmp_path / "no.mrc")]) == 2
    assert not (tmp_path / "no.mrc").exists()


def correlation(one, other):
    return np.corrcoef(one.values.ravel(), other.values.ravel())[0, 1]


def test_the_shipped_weights_bring_a_map_nearer_to_its_model():
    m, model = nb.example("phantom"), nb.example_model("phantom")
    clean = nb.simulate(model, resolution=m.resolution, method="emready", grid=m)
    made = m.enhance(**OPTIONS)
    assert correlation(made, clean) > correlation(m, clean) + 0.02
    assert correlation(made, clean) > correlation(m.sharpen(), clean) + 0.02
    # The scale is that of the formula: atomic numbers per cubic ångström.
    assert made.mean == pytest.approx(clean.mean, rel=0.3)


@pytest.mark.parametrize("finest", [2.5, 4.0, 6.0])
def test_noise_does_not_become_protein(rng, finest):
    usual = nb.example("phantom").enhance(**OPTIONS)
    white = nb.DensityMap(
        rng.standard_normal((64, 64, 64), dtype=np.float32), Grid((64, 64, 64), 1.0)
    )
    made = white.filter(low=finest).enhance(**OPTIONS)
    shown = 0.3 * usual.max
    assert (usual.values > shown).mean() > 5e-3
    assert (made.values > shown).mean() < 5e-5
    assert made.mean < 0.03 * usual.mean
