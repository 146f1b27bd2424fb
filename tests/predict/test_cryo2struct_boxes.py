"""Cryo2Struct over a map: the boxes are the published ones, whatever the shape of the map."""

import numpy as np
import pytest
import torch

from cryonb.errors import CryonbError, WeightsError
from cryonb.grid import Grid
from cryonb.networks.cryo2struct import CLASSES_OF, Cryo2Struct
from cryonb.networks.weights import save_weights
from cryonb.predict.cryo2struct import predict_cryo2struct
from cryonb.volume import Volume


class Tagging(Cryo2Struct):
    """Answers by the place in the box and the box's content, quickly."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.classes = 4
        self.seen = []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        self.seen.extend(x[:, 0].numpy().copy())
        place = torch.linspace(-1, 1, 32)
        tag = (place[:, None, None] + 2 * place[None, :, None] + 3 * place) / 3
        mean = x.mean(dim=(1, 2, 3, 4))[:, None, None, None, None]
        channel = torch.arange(4.0).reshape(1, 4, 1, 1, 1)
        return channel * (tag + 3 * mean) + self.weight


def by_plain_loops(values, network):
    """The published division and reconstruction, box by box."""
    padded = np.pad(values, 32)
    out = np.zeros((4, *(-(-n // 20) * 20 for n in values.shape)), np.float32)
    for i in range(0, out.shape[1], 20):
        for j in range(0, out.shape[2], 20):
            for k in range(0, out.shape[3], 20):
                box = np.zeros((32, 32, 32), np.float32)
                part = padded[i + 26 : i + 58, j + 26 : j + 58, k + 26 : k + 58]
                box[tuple(slice(0, n) for n in part.shape)] = part
                with torch.inference_mode():
                    logits = network(torch.from_numpy(box[None, None]))
                found = torch.softmax(logits, dim=1)[0].numpy()
                out[:, i : i + 20, j : j + 20, k : k + 20] = found[:, 6:26, 6:26, 6:26]
    return out[(slice(None), *(slice(0, n) for n in values.shape))]


@pytest.mark.parametrize("shape", [(20, 41, 33), (7, 20, 60), (32, 52, 12)])
def test_boxes_are_those_of_the_published_program(rng, shape):
    values = rng.random(shape, dtype=np.float32)
    values[: shape[0] // 2, :, shape[2] // 2 :] = 0
    volume = Volume(values, Grid(shape, 1.0, (3.0, -4.0, 5.0)))
    network = Tagging().eval()
    found = predict_cryo2struct(volume, network, batch=3, progress=False)
    scaled = np.clip(values / np.percentile(values[values != 0], 95), 0, 1)
    np.testing.assert_allclose(found.values, by_plain_loops(scaled, network), atol=1e-2)
    assert found.grid == volume.grid
    assert found.classes == CLASSES_OF["atom"]


def test_boxes_of_nothing_are_computed_once(rng):
    values = np.zeros((20, 20, 300), np.float32)
    values[:, :, :10] = rng.random((20, 20, 10))
    network = Tagging().eval()
    found = predict_cryo2struct(
        Volume(values, Grid(values.shape)), network, batch=2, progress=False
    )
    assert len(network.seen) == 2
    np.testing.assert_array_equal(found.values[..., 100:120], found.values[..., 200:220])


@pytest.mark.parametrize(("classes", "kind"), [(4, "secondary"), (21, None)])
def test_weights_say_what_they_tell_apart(rng, tmp_path, classes, kind):
    torch.manual_seed(1)
    path = tmp_path / "small.safetensors"
    network = Cryo2Struct(classes, "small")
    save_weights(network, path, metadata={"architecture": "cryo2struct"}, half=True)
    volume = Volume(rng.random((10, 12, 14), dtype=np.float32), Grid((10, 12, 14), 1.4))
    found = predict_cryo2struct(volume, path, kind=kind, device="cpu", progress=False)
    assert found.voxel_size == (1.0, 1.0, 1.0)
    assert found.classes == CLASSES_OF[kind or "amino"]
    np.testing.assert_allclose(found.values.sum(axis=0, dtype=np.float32), 1, atol=4e-3)


def test_other_networks_and_kinds_are_refused(rng):
    volume = Volume(rng.random((8, 8, 8), dtype=np.float32), Grid((8, 8, 8)))
    with pytest.raises(WeightsError, match="Weights of Cryo2Struct"):
        predict_cryo2struct(volume, "unet", device="cpu")
    with pytest.raises(CryonbError, match="21 classes was expected for amino"):
        predict_cryo2struct(volume, Tagging(), kind="amino")
    with pytest.raises(CryonbError, match="kind of atom, amino, secondary"):
        predict_cryo2struct(volume, Tagging(), kind="ligand")
