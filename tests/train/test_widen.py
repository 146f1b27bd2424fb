"""A wide network made from a thin one gives the same, and its twins part as it learns."""

import pytest
import torch

from cryonb.networks.haruspex import Haruspex
from cryonb.train.norms import normed
from cryonb.train.widen import widened


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(3)
    thin = normed(Haruspex(4), last="conv7")
    thin.train()(torch.randn(2, 1, 24, 24, 24))
    return thin, widened(thin, normed(Haruspex(8), last="conv7"), seed=1)


def test_the_wide_one_gives_the_same(pair):
    x = torch.randn(2, 1, 28, 28, 28)
    for mode in (True, False):
        thin, wide = (network.train(mode) for network in pair)
        with torch.inference_mode():
            expected, found = thin(x), wide(x)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.std().item())


def test_twins_have_different_gradients(pair):
    wide = pair[1].train()
    wide(torch.randn(2, 1, 24, 24, 24)).square().sum().backward()
    for layer in (wide.conv1.layer, wide.conv4.layer, wide.up0):
        leaves = 1 if layer is wide.up0 else 0
        gradient = layer.weight.grad.movedim(leaves, 0).flatten(1)
        assert (gradient[::2] - gradient[1::2]).norm() > 0.05 * gradient.norm()


def test_the_published_width_comes_from_a_quarter():
    thin = Haruspex(8)
    wide = widened(thin, Haruspex(), seed=2)
    x = torch.randn(1, 1, 24, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(wide(x), thin(x), rtol=1e-3, atol=1e-4)
    assert sum(p.numel() for p in wide.parameters()) == 6_034_756
