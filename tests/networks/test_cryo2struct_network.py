"""Cryo2Struct's network, against the library that the original is built on.

Reference values: tests/reference/unetr_outputs.py.
"""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from cryonb.errors import CryonbError, WeightsError
from cryonb.networks.cryo2struct import CLASSES_OF, Cryo2Struct
from cryonb.networks.published import _cryo2struct_names, import_cryo2struct, import_weights
from cryonb.networks.weights import load_module

REFERENCE = Path(__file__).parents[1] / "reference" / "unetr_outputs.npz"
#: How the reference was made: the same parameters and the same density.
MADE = runpy.run_path(str(REFERENCE.with_suffix(".py")))


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.fixture(scope="module")
def outputs():
    with np.load(REFERENCE) as stored:
        return dict(stored)


def theirs_filled(network):
    """The reference's parameters under the names of the original."""
    ours, names = network.state_dict(), _cryo2struct_names(len(network.blocks))
    return MADE["fill"]({theirs: ours[key] for key, theirs in names.items()})


def test_parameters_are_as_published(outputs):
    # Table 3 of the paper: 35.60 and 92.28 million.
    small, full = (count(Cryo2Struct(4, size)) for size in ("small", "full"))
    assert (small, full) == (35_603_204, 92_281_604)
    assert [round(n / 1e6, 2) for n in (small, full)] == [35.60, 92.28]
    assert full == outputs["full_parameters"]
    assert count(Cryo2Struct(21, "small")) == outputs["small_parameters"] == 35_603_493
    assert [len(CLASSES_OF[kind]) for kind in ("atom", "amino", "secondary")] == [4, 21, 4]


def test_a_checkpoint_of_the_original_gives_its_outputs(outputs, tmp_path):
    state = theirs_filled(Cryo2Struct(21, "small"))
    path = tmp_path / "amino.ckpt"
    torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}}, path)
    made = import_weights("cryo2struct", [path], tmp_path / "amino.safetensors")
    network, about = load_module(made, device="cpu")
    assert about["classes"] == list(CLASSES_OF["amino"])
    assert network.options == {"classes": 21, "size": "small", "heads": 6, "dropout": 0.0}
    with torch.inference_mode():
        found = network(MADE["density"]())[0].numpy()
    spread = outputs["small"].std()
    np.testing.assert_allclose(found[:, ::5, ::5, ::5], outputs["small"], atol=1e-3 * spread)


@pytest.mark.slow
def test_the_full_size_gives_the_outputs_of_the_original(outputs):
    network = Cryo2Struct(4, "full").eval()
    state = theirs_filled(network)
    names = _cryo2struct_names(12)
    network.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
    with torch.inference_mode():
        found = network(MADE["density"]())[0].numpy()
    spread = outputs["full"].std()
    np.testing.assert_allclose(found[:, ::5, ::5, ::5], outputs["full"], atol=1e-3 * spread)


def test_strange_checkpoints_are_refused(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {"model.weight": torch.zeros(2)}}, path)
    with pytest.raises(WeightsError, match="another network"):
        import_cryo2struct(path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read"):
        import_cryo2struct(path)


def test_strange_sizes_are_refused():
    with pytest.raises(CryonbError, match="size of small, full"):
        Cryo2Struct(4, "huge")
    with pytest.raises(CryonbError, match="divides 768"):
        Cryo2Struct(4, "small", heads=7)
    with pytest.raises(CryonbError, match="Boxes of shape"):
        Cryo2Struct(4, "small")(torch.zeros(1, 1, 16, 16, 16))
