"""Batch normalisation that is there while a network learns, and folded away after."""

import pytest
import torch
from torch import nn

from cryonb.networks.emap2sec import PhaseOne
from cryonb.networks.haruspex import Haruspex
from cryonb.train.norms import Normed, folded, normed


class Small(nn.Module):
    """A convolution, a product of two thin layers, a last layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.thin = nn.Sequential(nn.Linear(4 * 27, 2, bias=False), nn.Linear(2, 6))
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.thin(self.conv(x).relu().flatten(1)).relu())


def test_folded_layers_do_what_both_did():
    torch.manual_seed(1)
    plain = Small()
    network = normed(plain, last="out")
    names = [name for name, layer in network.named_modules() if type(layer) is Normed]
    assert names == ["conv", "thin.1"]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        network(3 + torch.randn(8, 1, 3, 3, 3)).square().sum().backward()
        optimiser.step()
    network.eval()
    small = folded(network).eval()
    assert {k: v.shape for k, v in small.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    x = 3 + torch.randn(8, 1, 3, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(small(x), network(x), atol=1e-5, rtol=1e-5)
        assert (plain.eval()(x) - small(x)).abs().max() > 0.1
    # Neither the network that was given nor the one with norms was changed.
    assert [name for name, layer in network.named_modules() if type(layer) is Normed] == names
    assert not any(type(layer) is Normed for layer in plain.modules())


def test_weights_that_a_loss_asks_for_are_the_layers():
    network = normed(Small(), last="out")
    assert network.conv.weight is network.conv.layer.weight
    assert network.conv.bias is network.conv.layer.bias


@pytest.mark.parametrize(("kind", "last"), [(PhaseOne, "out"), (Haruspex, "conv7")])
def test_published_networks_keep_their_parameters(kind, last):
    network = kind()
    again = folded(normed(network, last=last))
    assert sum(p.numel() for p in again.parameters()) == sum(
        p.numel() for p in network.parameters()
    )
    assert again.state_dict().keys() == network.state_dict().keys()
