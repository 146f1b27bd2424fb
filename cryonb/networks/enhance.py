"""cryonb's own network that enhances maps: the density that a model would give."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from cryonb.networks.unet import UNet, to_voxels

__all__ = ["Enhance"]


class Enhance(UNet):
    """The residual U-Net with an exit that sees every voxel of the map again.

    Parameters
    ----------
    widths, local
        As in `UNet`.

    Notes
    -----
    Input as for `UNet`. Output: density (n, 1, z, y, x) in atomic numbers per Å³, not yet cut at
    zero. The exit is residual in its widest sense: what the U-Net made of blocks of 2 Å and the
    voxels themselves go together through one convolution, and the voxels also straight to the
    answer, by weights that are learnt; a plain sum would need the map to be on the answer's scale.
    """

    #: Names of the channels.
    channels = ("density",)

    def __init__(self, widths=(32, 64, 48), local: int = 5):
        super().__init__(1, widths, local)
        width, voxels = widths[0], self.entrance.in_channels
        self.fine = nn.Conv3d(width + voxels, 2 * width, 3, padding=1)
        self.head = nn.Conv3d(2 * width + voxels, 8, 1)

    @property
    def options(self) -> dict:
        """Arguments that make this network again."""
        return {"widths": list(self.widths), "local": self.local}

    def forward(self, x):
        """Map density (n, 1, z, y, x) to the enhanced one, of the same shape."""
        copies = self.copies(x)
        seen = torch.cat([self.features(copies), copies], dim=1)
        found = functional.relu(self.fine(seen), inplace=True)
        return to_voxels(self.head(torch.cat([found, copies], dim=1)))

    @staticmethod
    def probabilities(logits):
        """Cut the density at zero: it is no probability, but tiles ask every network by this."""
        return logits.clamp(min=0)
