"""The network that enhances maps."""

import pytest
import torch

from cryonb.networks.enhance import Enhance


@pytest.fixture
def network():
    torch.manual_seed(2)
    return Enhance((8, 8, 8)).eval()


def test_density_comes_back_on_the_same_voxels(network):
    x = torch.rand(2, 1, 16, 24, 32)
    with torch.inference_mode():
        found = network(x)
    assert found.shape == x.shape
    assert network.multiple == 8
    assert (Enhance.probabilities(found) >= 0).all()
    again = Enhance(**network.options)
    again.load_state_dict(network.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(x), found)


def test_the_exit_sees_each_voxel_by_itself(network):
    # With the U-Net's part and the convolution silenced only the straight way is left: by weights
    # that pick each block's own voxels, the map goes through as it is.
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.zero_()
        network.head.weight[torch.arange(8), 16 + torch.arange(8), 0, 0, 0] = 1
        x = torch.rand(1, 1, 16, 16, 16)
        torch.testing.assert_close(network(x), x)


def test_the_shipped_size_is_what_its_file_may_take():
    assert sum(p.numel() for p in Enhance().parameters()) == 868_312
