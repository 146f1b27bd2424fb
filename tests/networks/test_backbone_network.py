"""The network of backbone atoms: its size, its channels, its weights on disk."""

import numpy as np
import pytest
import torch

from cryonb.errors import WeightsError
from cryonb.networks.backbone import HEAT, Backbone
from cryonb.networks.unet import UNet
from cryonb.networks.weights import LoadedNetwork, load_module, load_network, save_weights


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Backbone(widths=(8, 8)).eval()


def test_it_is_small_enough_to_ship(tmp_path):
    network = Backbone()
    assert sum(p.numel() for p in network.parameters()) == 2_465_624
    save_weights(network, tmp_path / "b.safetensors", metadata={"architecture": "backbone"})
    assert (tmp_path / "b.safetensors").stat().st_size < 5e6
    assert len(network.channels) == 27


def test_it_begins_with_few_atoms():
    torch.manual_seed(0)
    network = Backbone().eval()
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        heat = network.probabilities(network(x))[:, : len(HEAT)]
    assert heat.mean() < 0.1


def test_heads_sum_to_one_and_heats_do_not(small):
    with torch.inference_mode():
        logits = small(torch.rand(2, 1, 8, 12, 16))
        found = small.probabilities(logits)
    assert found.shape == (2, 27, 8, 12, 16)
    torch.testing.assert_close(found[:, :4], torch.sigmoid(logits[:, :4]))
    torch.testing.assert_close(found[:, 4:24].sum(1), torch.ones(2, 8, 12, 16))
    torch.testing.assert_close(found[:, 24:].sum(1), torch.ones(2, 8, 12, 16))


def test_heads_answer_where_the_density_is(small):
    with torch.inference_mode():
        x = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
        y = x.clone()
        y[0, 0, 11, 20, 9] += 3
        change = (small(y) - small(x)).abs()[0]
    for part in small.split(change[None]):
        where = np.unravel_index(int(part.sum(1).argmax()), (32, 32, 32))
        assert np.abs(np.array(where) - (11, 20, 9)).max() <= 4


def test_weights_survive_the_disk(small, tmp_path):
    path = tmp_path / "tiny.safetensors"
    about = {"architecture": "backbone", "classes": list(Backbone.channels), "voxel_size": 1.0,
             "rim": 16}  # fmt: skip
    save_weights(small, path, metadata=about)
    network, described = load_module(path, device="cpu")
    x = np.random.default_rng(0).random((1, 1, 16, 16, 16), dtype=np.float32)
    with torch.inference_mode():
        expected = small.probabilities(small(torch.from_numpy(x))).numpy()
    got = LoadedNetwork(network, described, "cpu")(x)
    # Half-precision weights and, on some processors, products.
    np.testing.assert_allclose(got, expected, atol=0.03)
    with pytest.raises(WeightsError, match="those of backbone"):
        load_network(path)


def test_the_trunk_is_that_of_the_unet():
    ours, theirs = Backbone().state_dict(), UNet(4, (32, 64, 96, 96)).state_dict()
    trunk = [key for key in theirs if not key.startswith("head")]
    assert all(ours[key].shape == theirs[key].shape for key in trunk)
