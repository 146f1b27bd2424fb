"""The U-Net and its weights."""

import json

import numpy as np
import pytest
import torch

from cryonb.errors import WeightsError
from cryonb.networks.unet import UNet
from cryonb.networks.weights import load_network, save_weights
from cryonb.volume import CLASSES

ABOUT = {"architecture": "unet", "classes": list(CLASSES), "voxel_size": 1.0, "rim": 16}


@pytest.fixture
def small():
    torch.manual_seed(0)
    return UNet(5, widths=(16, 16, 16, 16)).eval()


def test_the_network_keeps_to_its_budget():
    network = UNet()
    assert sum(p.numel() for p in network.parameters()) <= 6_000_000
    assert network.multiple == 16


def test_output_has_the_shape_of_the_input(small):
    with torch.inference_mode():
        assert small(torch.zeros(2, 1, 32, 48, 16)).shape == (2, 5, 32, 48, 16)


def test_the_head_puts_voxels_back_where_they_were(small):
    # A change at one voxel changes the output most near that voxel.
    with torch.inference_mode():
        x = torch.rand(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(1))
        y = x.clone()
        y[0, 0, 11, 30, 20] += 3
        change = (small(y) - small(x)).abs().sum(1)[0]
    where = np.unravel_index(int(change.argmax()), change.shape)
    assert np.abs(np.array(where) - (11, 30, 20)).max() <= 3


def test_weights_survive_the_disk(small, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(small, path, metadata=ABOUT)
    loaded = load_network(path, device="cpu")
    x = np.random.default_rng(0).random((1, 1, 32, 32, 32), dtype=np.float32)
    with torch.inference_mode():
        expected = torch.softmax(small(torch.from_numpy(x)), dim=1).numpy()
    got = loaded(x)
    assert got.shape == (1, 5, 32, 32, 32)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)
    # Half-precision weights and, on some processors, products.
    np.testing.assert_allclose(got, expected, atol=0.03)
    assert loaded.classes == CLASSES


def test_damaged_or_missing_weights_are_refused(small, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(small, path, metadata=ABOUT)
    about = path.with_suffix(".json")
    text = about.read_text()
    about.write_text(json.dumps(json.loads(text) | {"sha256": "0" * 64}))
    with pytest.raises(WeightsError, match="checksum"):
        load_network(path)
    about.write_text(json.dumps(json.loads(text) | {"architecture": "transformer"}))
    with pytest.raises(WeightsError, match="architecture"):
        load_network(path)
    other = json.loads(text)
    other["options"]["widths"] = [16, 16, 16]
    about.write_text(json.dumps(other))
    with pytest.raises(WeightsError, match="does not fit"):
        load_network(path)
    with pytest.raises(WeightsError, match="not found"):
        load_network("nothing")


def test_extra_blocks_begin_as_identities():
    torch.manual_seed(0)
    plain = UNet(5, (8, 16))
    deeper = UNet(5, (8, 16), extra=2)
    lacking = deeper.load_state_dict(plain.state_dict(), strict=False)
    assert not lacking.unexpected_keys
    assert all(key.startswith(("more_down", "more_up")) for key in lacking.missing_keys)
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert torch.equal(plain.eval()(x), deeper.eval()(x))
    again = UNet(**deeper.options)
    assert [p.shape for p in again.parameters()] == [p.shape for p in deeper.parameters()]


def test_fused_networks_compute_the_same():
    torch.manual_seed(3)
    network = UNet(5, (8, 12), extra=1)
    x = torch.rand(2, 1, 16, 16, 16)
    # Statistics that matter, and blocks that are no identities.
    for _ in range(3):
        network(x)
    for block in (*network.more_down, *network.more_up):
        torch.nn.init.uniform_(block.norm2.weight)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = network.fused()
    with torch.no_grad():
        torch.testing.assert_close(fused(x), network.eval()(x), rtol=1e-4, atol=1e-4)
    assert not any("norm" in key for key in fused.state_dict())
    after = network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
