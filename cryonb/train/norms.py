"""Batch normalisation for networks that have none: there while they learn, folded away after."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["Normed", "folded", "normed"]

_NORMS = {nn.Conv3d: nn.BatchNorm3d, nn.Linear: nn.BatchNorm1d}


class Normed(nn.Module):
    """A layer with batch normalisation of its output.

    Parameters
    ----------
    layer : Conv3d or Linear
        With a bias, which takes up what `folded` leaves.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.norm = _NORMS[type(layer)](layer.bias.shape[0])

    @property
    def weight(self) -> torch.Tensor:
        """The layer's weights."""
        return self.layer.weight

    @property
    def bias(self) -> torch.Tensor:
        """The layer's biases."""
        return self.layer.bias

    def forward(self, x):
        """Apply the layer, then the normalisation."""
        return self.norm(self.layer(x))

    def folded(self) -> nn.Module:
        """Give one layer that does what both do when they are not in training."""
        layer, norm = copy.deepcopy(self.layer), self.norm
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        with torch.no_grad():
            layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.copy_((layer.bias - norm.running_mean) * factor + norm.bias)
        return layer


def normed(network: nn.Module, *, last: str) -> nn.Module:
    """Give a copy with batch normalisation after each layer that has a bias, but the last.

    Deep networks without it learn nothing for many steps (Ioffe & Szegedy, 2015).

    Parameters
    ----------
    network : Module
        Of convolutions and dense layers.
    last : str
        Name of the layer that gives the logits.
    """

    def wrap(layer, name):
        fits = type(layer) in _NORMS and layer.bias is not None and name != last
        return Normed(layer) if fits else None

    return _replaced(network, wrap)


def folded(network: nn.Module) -> nn.Module:
    """Give a copy in which each `Normed` layer is one layer of the published kind again."""
    return _replaced(network, lambda layer, _: layer.folded() if type(layer) is Normed else None)


def _replaced(network, change):
    network = copy.deepcopy(network)
    for name, layer in list(network.named_modules()):
        new = change(layer, name)
        if new is not None:
            network.set_submodule(name, new)
    return network
