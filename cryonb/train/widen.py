"""Widening: a thin network grows into a wide one that does the same, and then learns on."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["widened"]

#: Axes of the channels that go in and come out, in a layer's weights.
_AXES = {nn.Conv3d: (1, 0), nn.ConvTranspose3d: (0, 1)}


def widened(thin: nn.Module, wide: nn.Module, *, seed: int) -> nn.Module:
    """Fill a wide network so that it gives what a thin one gives.

    Every channel becomes several that hold the same, and what is read from it is shared out among
    them, in unequal parts, so that their gradients differ and they part as they learn on (Net2Net:
    Chen, Goodfellow and Shlens, 2016).

    Parameters
    ----------
    thin, wide : Module
        Of the same layers (convolutions, plain or transposed, and batch normalisation); the wide
        one's channels are a whole multiple of the thin one's, the same for all that are joined.
    seed : int
        Of the parts.

    Returns
    -------
    Module
        `wide`, filled.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = dict(wide.named_modules())
    with torch.no_grad():
        for name, old in thin.named_modules():
            new = layers[name]
            if type(old) in _AXES:
                _fill(old, new, *_AXES[type(old)], generator)
            elif isinstance(old, nn.BatchNorm3d):
                times = new.num_features // old.num_features
                for key, value in old.state_dict().items():
                    if value.ndim:
                        getattr(new, key).copy_(value.repeat_interleave(times))
    return wide


def _fill(old, new, enters: int, leaves: int, generator) -> None:
    weight = old.weight
    for axis in (enters, leaves):
        weight = weight.repeat_interleave(new.weight.shape[axis] // weight.shape[axis], dim=axis)
    times = new.in_channels // old.in_channels
    share = torch.rand(new.weight.shape[:2], generator=generator) + 0.5
    # Parts of one channel lie side by side among those that enter.
    groups = share.unflatten(enters, (old.in_channels, times))
    share = (groups / groups.sum(dim=enters + 1, keepdim=True)).flatten(enters, enters + 1)
    new.weight.copy_(weight * share[..., None, None, None])
    if old.bias is not None:
        new.bias.copy_(old.bias.repeat_interleave(len(new.bias) // len(old.bias)))
