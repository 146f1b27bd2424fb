"""Weights in factors of low rank: as near as can be, and smaller."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from cryonb.networks.haruspex import Haruspex
from cryonb.networks.low_rank import factorised, whole
from cryonb.networks.weights import load_module, save_weights

ABOUT = {"architecture": "haruspex", "voxel_size": 1.1, "scaled": True, "channels": ["a"]}


@pytest.fixture
def layer():
    torch.manual_seed(4)
    return torch.randn(40, 3) @ torch.randn(3, 60)


def test_layers_of_low_rank_come_back(layer):
    tensors = {"big": layer.reshape(40, 15, 2, 2), "bias": torch.ones(40), "small": layer[:3, :3]}
    stored = factorised(tensors, 3)
    assert sorted(stored) == ["bias", "big.left", "big.right", "small"]
    assert stored["big.left"].shape == (40, 3)
    assert stored["big.right"].shape == (3, 15, 2, 2)
    found = whole(stored)
    assert sorted(found) == sorted(tensors)
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)
    assert factorised(tensors, 0) == tensors
    # Factors of rank 30 would be larger than the layer.
    assert "big" in factorised(tensors, 30)


def test_the_nearest_of_a_rank_is_taken():
    rng = np.random.default_rng(5)
    layer = torch.from_numpy(rng.normal(size=(50, 70)))
    s = np.linalg.svd(layer.numpy(), compute_uv=False)
    found = whole(factorised({"a": layer}, 8))["a"]
    assert np.linalg.norm(found - layer) == pytest.approx(np.sqrt((s[8:] ** 2).sum()), rel=1e-6)


def test_a_network_is_read_whole(tmp_path):
    torch.manual_seed(6)
    network = Haruspex(16)
    save_weights(network, tmp_path / "a.safetensors", metadata=ABOUT)
    save_weights(network, tmp_path / "b.safetensors", metadata=ABOUT, rank=8)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in "ab"]
    assert sizes[1] < 0.4 * sizes[0]
    read, about = load_module(tmp_path / "b.safetensors", device="cpu")
    assert about["parameters"] == sum(p.numel() for p in network.parameters())
    assert [p.shape for p in read.parameters()] == [p.shape for p in network.parameters()]
    nearest = whole(factorised(dict(network.state_dict()), 8))
    for name, tensor in read.state_dict().items():
        torch.testing.assert_close(tensor, nearest[name], rtol=2e-3, atol=2e-3)


def test_shipped_haruspex_is_stored_in_factors():
    from cryonb.networks.weights import _FOLDER

    about = json.loads((_FOLDER / "haruspex.json").read_text())
    assert about["recipe"]["stored_rank"] == 64
    with safe_open(_FOLDER / "haruspex.safetensors", "pt") as file:
        assert file.get_slice("conv4.weight.left").get_shape() == [256, 64]
    module, _ = load_module("haruspex", device="cpu")
    assert torch.linalg.matrix_rank(module.conv4.weight.flatten(1)) <= 64
    assert sum(p.numel() for p in module.parameters()) == 6_034_756
