"""`predict_sse` with each kind of network: the grid of the result, and what reaches the network."""

import numpy as np
import pytest
import torch

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.networks.emap2sec import Emap2sec, truncated
from cryonb.networks.haruspex import Haruspex
from cryonb.networks.weights import save_weights
from cryonb.predict.secondary_structure import predict_sse
from cryonb.volume import Volume


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("weights")
    small = truncated(Emap2sec(dense=False), rank=2, rank_two=2)
    paths = {"unet": "unet"}
    for name, network in (("emap2sec", small), ("haruspex", Haruspex())):
        paths[name] = str(folder / f"{name}.safetensors")
        save_weights(network, paths[name], metadata={"architecture": name, "voxel_size": 1.0})
    return paths


@pytest.fixture(scope="module")
def volume():
    shape = (17, 24, 30)
    z, y, x = np.ogrid[:17, :24, :30]
    ball = np.exp(-((z - 8) ** 2 + (y - 11) ** 2 + (x - 14) ** 2) / 40)
    return Volume(ball.astype(np.float32), Grid(shape, (1.3,) * 3, (4.0, -5.0, 6.0)))


@pytest.mark.parametrize("name", ["unet", "emap2sec", "haruspex"])
def test_classes_sum_to_one_on_either_grid(volume, weights, name):
    for on in ("input", "network"):
        found = predict_sse(volume, method=weights[name], on=on, device="cpu", progress=False)
        assert found.grid.is_close(volume.grid) == (on == "input")
        np.testing.assert_allclose(found.values.sum(axis=0, dtype=np.float32), 1, atol=2e-3)


@pytest.mark.parametrize(("name", "sizes"), [("unet", {"tile": 64, "batch": 2}),
    ("haruspex", {"tile": 48, "batch": 3}), ("emap2sec", {"batch": 77})])  # fmt: skip
def test_sizes_asked_for_reach_the_network(volume, weights, monkeypatch, name, sizes):
    seen = {}

    def spy(*_, **options):
        seen.update(options)
        raise StopIteration

    place = {
        "unet": "cryonb.predict.secondary_structure.predict_tiles",
        "haruspex": "cryonb.predict.haruspex.predict_tiles",
        "emap2sec": "cryonb.predict.emap2sec.phase_one",
    }[name]
    monkeypatch.setattr(place, spy)
    with pytest.raises(StopIteration):
        predict_sse(volume, method=weights[name], device="cpu", progress=False, **sizes)
    assert seen["batch"] == sizes["batch"]
    assert seen.get("edge") == sizes.get("tile")


def test_emap2sec_has_no_tiles(volume, weights):
    with pytest.raises(CryonbError, match="tiles of 64"):
        predict_sse(volume, method=weights["emap2sec"], tile=64)
