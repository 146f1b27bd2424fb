"""Haruspex's network (Mostosi et al., 2020): a 3D U-Net without padding, on voxels of 1.1 Å."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Haruspex"]

#: Voxels that a tile loses on each side, because the convolutions are not padded.
LOST = 10
#: Beyond them, voxels on each side that feel the one padded convolution (in the middle).
TOUCHED = 4


class Haruspex(nn.Module):
    """The U-Net of Haruspex.

    Parameters
    ----------
    width : int
        Channels of the first layer, which the others follow; 32 as published.

    Notes
    -----
    Input (n, 1, z, y, x): density as deposited, edges divisible by 4 and at least 24 (40 in the
    original). Output (n, 4, z - 20, y - 20, x - 20): logits of sheet, helix, nucleotide and
    unassigned, the original's order. 6,034,756 parameters.

    The network is fully convolutional but for the zeros around its middle convolution. They reach
    `TOUCHED` voxels into the output, so tiles of different sizes agree further in.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.width = n = width
        self.conv0 = nn.Conv3d(1, n, 3)
        self.conv1 = nn.Conv3d(n, 2 * n, 3)
        self.conv2 = nn.Conv3d(2 * n, 4 * n, 3)
        self.conv3 = nn.Conv3d(4 * n, 8 * n, 3, padding=1)
        self.up0 = nn.ConvTranspose3d(8 * n, 8 * n, 2, stride=2, bias=False)
        self.conv4 = nn.Conv3d(12 * n, 8 * n, 3)
        self.conv5 = nn.Conv3d(8 * n, 4 * n, 3)
        self.up1 = nn.ConvTranspose3d(4 * n, 4 * n, 2, stride=2, bias=False)
        self.conv6 = nn.Conv3d(6 * n, 4 * n, 3)
        self.conv7 = nn.Conv3d(4 * n, 4, 3)
        # As TensorFlow 1 began: Glorot's uniform weights and no bias.
        for layer in self.children():
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @property
    def options(self) -> dict:
        """Arguments that make this network again."""
        return {"width": self.width}

    def forward(self, x):
        """Map density to logits of (sheet, helix, nucleotide, unassigned)."""
        if x.device.type != "mps":
            x = x.contiguous(memory_format=torch.channels_last_3d)
        fine = functional.relu(self.conv1(functional.relu(self.conv0(x))))
        coarse = functional.relu(self.conv2(functional.max_pool3d(fine, 2)))
        x = functional.relu(self.conv3(functional.max_pool3d(coarse, 2)))
        x = functional.relu(self.up0(x))
        x = functional.relu(self.conv4(torch.cat([coarse, x], dim=1)))
        x = functional.relu(self.conv5(x))
        x = functional.relu(self.up1(x))
        cut = (slice(None), slice(None), *([slice(6, -6)] * 3))
        x = functional.relu(self.conv6(torch.cat([fine[cut], x], dim=1)))
        return self.conv7(x)
