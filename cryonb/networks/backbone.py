"""cryonb's own network of backbone atoms, residue types and secondary structure."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from cryonb.atoms import AMINO_ACIDS
from cryonb.networks.unet import UNet, to_voxels

__all__ = ["HEAT", "SECONDARY", "Backbone"]

#: Heat maps: a hump on each Cα, N and C of proteins, and on each phosphorus of nucleic acids.
HEAT = ("CA", "N", "C", "P")
#: Secondary structure at a residue.
SECONDARY = ("helix", "strand", "coil")

# An atom of a kind is in about one voxel of fifty, so this is what training begins with.
_PRIOR = -4.0


class Backbone(UNet):
    """The residual U-Net of the secondary structure with three heads.

    Parameters
    ----------
    widths, local
        As in `UNet`.

    Notes
    -----
    Input as for `UNet`. Output: logits (n, 27, z, y, x), `Backbone.channels` in order: 4 heat maps,
    each by itself; 20 types of residue, one of which is there; helix, strand or coil. Types and
    secondary structure mean something where a Cα atom is. 2,465,624 parameters, 5 MB in float16.
    """

    #: Names of the channels.
    channels = (*HEAT, *AMINO_ACIDS, *SECONDARY)

    def __init__(self, widths=(32, 64, 96, 96), local: int = 5):
        super().__init__(len(HEAT), widths, local)
        width = widths[0]
        self.near_atoms = nn.Conv3d(width, width, 3, padding=1)
        self.near_residue = nn.Conv3d(width, 2 * width, 3, padding=1)
        self.residue = nn.Conv3d(2 * width, 8 * (len(AMINO_ACIDS) + len(SECONDARY)), 1)
        nn.init.constant_(self.head.bias, _PRIOR)

    @property
    def options(self) -> dict:
        """Arguments that make this network again."""
        return {"widths": list(self.widths), "local": self.local}

    def forward(self, x):
        """Map density (n, 1, z, y, x) to logits (n, 27, z, y, x)."""
        x = self.features(self.copies(x))
        heat = self.head(functional.relu(self.near_atoms(x)))
        residue = self.residue(functional.relu(self.near_residue(x)))
        return torch.cat([to_voxels(heat), to_voxels(residue)], dim=1)

    @staticmethod
    def split(values):
        """Cut channels (n, 27, ...) into heat maps, types and secondary structure."""
        return values.split([len(HEAT), len(AMINO_ACIDS), len(SECONDARY)], dim=1)

    @staticmethod
    def probabilities(logits):
        """Map logits to probabilities, channel by channel or head by head."""
        heat, residue, secondary = Backbone.split(logits)
        parts = [heat.sigmoid(), residue.softmax(dim=1), secondary.softmax(dim=1)]
        return torch.cat(parts, dim=1)
