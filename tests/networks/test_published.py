"""The published architectures, against TensorFlow: counts, checkpoints, forward passes.

Reference values: tests/reference/tensorflow_checkpoints.py.
"""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cryonb import cli
from cryonb.errors import WeightsError
from cryonb.files.tensorflow_checkpoint import read_checkpoint
from cryonb.networks.emap2sec import DenseEmap2sec, Emap2sec, PhaseOne, PhaseTwo, as_dense
from cryonb.networks.haruspex import LOST, TOUCHED, Haruspex
from cryonb.networks.published import import_emap2sec, import_haruspex
from cryonb.networks.weights import load_module

REFERENCE = Path(__file__).parents[1] / "reference" / "tensorflow"


@pytest.fixture(scope="module")
def stems(tmp_path_factory):
    """Checkpoints that TensorFlow 2.21 wrote, by name."""
    folder, found = tmp_path_factory.mktemp("checkpoints"), {}
    for path in REFERENCE.glob("*.tar.xz"):
        name = path.name.removesuffix(".tar.xz")
        with tarfile.open(path) as archive:
            archive.extractall(folder / name, filter="data")
        found[name] = folder / name / "model.ckpt-40000"
    return found


@pytest.fixture(scope="module")
def outputs():
    with np.load(REFERENCE / "outputs.npz") as stored:
        return dict(stored)


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_parameters_are_as_published():
    assert count(PhaseOne()) == count(DenseEmap2sec()) == 29_407_651
    assert count(PhaseTwo()) == 3_523_844
    assert count(Haruspex()) == 6_034_756
    assert count(PhaseOne(rank=64)) < 3_000_000


def test_a_window_alone_is_the_same_to_the_dense_form():
    torch.manual_seed(2)
    one = PhaseOne(rank=6).eval()
    with torch.no_grad():
        # Without neighbours in the convolutions nothing beyond the window can be felt.
        for layer in one.convolutions.children():
            middle = 5 * layer.weight[..., 1, 1, 1]
            layer.weight.zero_()
            layer.weight[..., 1, 1, 1] = middle
        window = torch.rand(1, 1, 11, 11, 11)
        around = torch.zeros(1, 1, 20, 22, 24)
        around[..., 2:13, 4:15, 6:17] = window
        found = as_dense(one).eval()(around)
        torch.testing.assert_close(found[0, :, 1, 2, 3], one(window)[0])
        assert (found[0, :, 1, 2, 2] - one(window)[0]).abs().max() > 1e-3


def as_input(outputs, name):
    x = torch.from_numpy(outputs[f"{name}_x"] / np.float32(100))
    return x if x.ndim == 2 else x.permute(0, 4, 1, 2, 3)


def assert_equal(found, expected):
    # Relative to the spread of the logits: the reference's weights are not trained.
    assert np.abs(found.numpy() - expected).max() <= 1e-4 * np.ptp(expected)
    assert np.ptp(expected) > 0.1


def test_haruspex_gives_what_tensorflow_gives(stems, outputs):
    network = import_haruspex(stems["haruspex"])
    with torch.inference_mode():
        found = network(as_input(outputs, "haruspex")).permute(0, 2, 3, 4, 1)
    assert_equal(found, outputs["haruspex_logits"])


def test_emap2sec_gives_what_tensorflow_gives(stems, outputs):
    network = import_emap2sec(stems["emap2sec_one"], stems["emap2sec_two"])
    with torch.inference_mode():
        assert_equal(network.one(as_input(outputs, "emap2sec_one")), outputs["emap2sec_one_logits"])
        assert_equal(network.two(as_input(outputs, "emap2sec_two")), outputs["emap2sec_two_logits"])


def test_the_command_line_imports_and_predicts_by_the_name_of_the_file(stems, tmp_path, capsys):
    target = tmp_path / "original.safetensors"
    command = ["weights", "import", "haruspex"]
    assert cli.main([*command, str(stems["haruspex"]), "--out", str(target)]) == 0
    assert "predict MAP" in capsys.readouterr().out
    module, about = load_module(target, device="cpu")
    assert about["origin"] == ["model.ckpt-40000"]
    for key, value in import_haruspex(stems["haruspex"]).state_dict().items():
        assert torch.equal(module.state_dict()[key], value)
    assert cli.main([*command, str(stems["emap2sec_two"]), "--out", str(target)]) == 2
    assert "belongs to another network" in capsys.readouterr().err
    assert cli.main(["weights", "import", "emap2sec", "one", "--out", str(target)]) == 2
    assert "2 checkpoints" in capsys.readouterr().err


def test_tensors_of_training_are_read_if_wanted(stems):
    found = read_checkpoint(stems["emap2sec_two"])
    assert found["global_step"] == 40000
    assert found["global_step"].shape == ()
    assert len(found) == 13


def test_another_networks_checkpoint_is_refused(stems):
    with pytest.raises(WeightsError, match="lacks the tensor 'conv3d/kernel'"):
        import_haruspex(stems["emap2sec_two"])


def test_damaged_checkpoints_are_refused(stems, tmp_path):
    index = stems["emap2sec_two"].with_name("model.ckpt-40000.index").read_bytes()
    stem = tmp_path / "m"
    with pytest.raises(WeightsError, match=r"m\.index does not exist"):
        read_checkpoint(stem)
    (tmp_path / "m.index").write_bytes(index)
    with pytest.raises(WeightsError, match="was expected beside"):
        read_checkpoint(stem)
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(1000))
    with pytest.raises(WeightsError, match="cut short"):
        read_checkpoint(stem)
    for content in (b"", index[:-1], index[:100], bytes(200), index[100:]):
        (tmp_path / "m.index").write_bytes(content)
        with pytest.raises(WeightsError, match="damaged"):
            read_checkpoint(stem)


def test_larger_tiles_of_haruspex_give_the_same_further_in(rng):
    torch.manual_seed(0)
    network = Haruspex().eval()
    x = torch.from_numpy(rng.normal(size=(1, 1, 56, 56, 56)).astype(np.float32))
    with torch.inference_mode():
        large = network(x)[..., 8:28, 8:28, 8:28]
        small = network(x[..., 8:48, 8:48, 8:48])
    assert small.shape[-1] == 40 - 2 * LOST
    apart = (large - small).abs().amax(dim=(0, 1))
    inner = (slice(TOUCHED, -TOUCHED),) * 3
    assert apart[inner].max() < 1e-5 * large.abs().max()
    assert apart.max() > 1e-3 * large.abs().max()


def test_dense_and_windowed_layers_are_the_same(rng):
    # With the same weights they differ only by the zeros that a window has around it.
    torch.manual_seed(0)
    one, dense = PhaseOne().eval(), DenseEmap2sec().eval()
    state = one.state_dict()
    shapes = {key: value.shape for key, value in dense.state_dict().items()}
    # The flattened vector of the windows runs through (z, y, x, channel).
    state["fc1.weight"] = state["fc1.weight"].reshape(1024, 6, 6, 6, 128).permute(0, 4, 1, 2, 3)
    dense.load_state_dict({key: value.reshape(shapes[key]) for key, value in state.items()})
    x = torch.zeros(1, 1, 24, 24, 24)
    # Something small in the middle of window (3, 3, 3), far from all its faces.
    x[..., 11, 11, 11] = 1.0
    bias_free = [layer.bias.data.zero_() for layer in one.convolutions.children()]
    for layer in dense.convolutions.children():
        layer.bias.data.zero_()
    assert len(bias_free) == 5
    with torch.inference_mode():
        found = dense(x)
        window = one(x[..., 6:17, 6:17, 6:17])
    assert found.shape == (1, 3, 7, 7, 7)
    torch.testing.assert_close(found[0, :, 3, 3, 3], window[0], rtol=1e-4, atol=1e-6)


def test_options_make_the_network_again():
    network = Emap2sec(dense=True, rank=8)
    again = Emap2sec(**network.options)
    again.load_state_dict(network.state_dict())
