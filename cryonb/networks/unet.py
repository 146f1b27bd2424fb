"""cryonb's own secondary-structure network: a residual 3D U-Net on 1 Å voxels."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["UNet", "to_voxels"]


def to_voxels(x):
    """Give each block's eight voxels back: (n, 8 c, z, y, x) to (n, c, 2 z, 2 y, 2 x)."""
    n, channels, z, y, w = x.shape
    x = x.reshape(n, channels // 8, 2, 2, 2, z, y, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, channels // 8, 2 * z, 2 * y, 2 * w)


class _Residual(nn.Module):
    """Two 3³ convolutions with batch normalisation around an identity."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(width)

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return functional.relu(x + self.norm2(self.conv2(y)), inplace=True)

    def fuse(self) -> None:
        """Make the normalisations part of the convolutions, for good."""
        self.conv1 = fuse_conv_bn_eval(self.conv1, self.norm1)
        self.conv2 = fuse_conv_bn_eval(self.conv2, self.norm2)
        self.norm1 = self.norm2 = nn.Identity()


class UNet(nn.Module):
    """Residual 3D U-Net behind a space-to-depth entrance.

    The map's 2³ blocks become channels of a grid of 2 Å (no value is lost, and convolutions are
    eight times cheaper); the head gives each block's eight voxels back.

    Parameters
    ----------
    classes : int
        Number of classes.
    widths : sequence of int
        Channels at 2, 4, 8, ... Å.
    local : int
        Half-width in voxels of the entrance grid of the window whose r.m.s. the second copy of
        the density is divided by: weak regions are seen at the same height as strong ones.
    extra : int
        Residual blocks on the grid of 2 Å beyond the one on the way down, and as many on the way
        up. They begin as identities, so that a network without them can be gone on with.

    Notes
    -----
    Input: (n, 1, z, y, x), density divided by `density_scale`; edges divisible by `multiple`.
    Output: logits (n, classes, z, y, x).
    """

    def __init__(self, classes: int = 5, widths=(32, 64, 128, 192), local: int = 5, extra: int = 0):
        super().__init__()
        self.extra = extra
        self.classes = classes
        self.widths = tuple(widths)
        self.local = local
        self.multiple = 2 ** len(self.widths)
        self.entrance = nn.Conv3d(16, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(_Residual(width) for width in widths[:-1])
        self.downs = nn.ModuleList(
            nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths)
        )
        self.bottom = _Residual(widths[-1])
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, 2, stride=2) for fine, coarse in pairwise(widths)
        )
        self.merges = nn.ModuleList(nn.Conv3d(2 * width, width, 1) for width in widths[:-1])
        self.up_blocks = nn.ModuleList(_Residual(width) for width in widths[:-1])
        self.more_down, self.more_up = (
            nn.ModuleList(_Residual(widths[0]) for _ in range(extra)) for _ in range(2)
        )
        for block in (*self.more_down, *self.more_up):
            nn.init.zeros_(block.norm2.weight)
        self.head = nn.Conv3d(widths[0], 8 * classes, 1)

    @property
    def options(self) -> dict:
        """Arguments that make this network again."""
        return {"classes": self.classes, "widths": list(self.widths), "local": self.local,
                "extra": self.extra}  # fmt: skip

    def _local_rms(self, blocks):
        """Root mean square of the density in a smooth window, (n, 1, z, y, x)."""
        power = blocks.square().mean(dim=1, keepdim=True)
        size = 2 * self.local + 1
        for axis in range(3):
            kernel = [1, 1, 1]
            kernel[axis] = size
            # Padded first: the pooling's own padding refuses inputs narrower than the kernel.
            margin = [0] * 6
            margin[4 - 2 * axis] = margin[5 - 2 * axis] = self.local
            power = functional.avg_pool3d(functional.pad(power, margin), kernel, 1)
        return power.sqrt()

    def copies(self, x):
        """Map density (n, 1, z, y, x) to its 2³ blocks, twice: (n, 16, z/2, y/2, x/2).

        As they are, and divided by their local r.m.s.
        """
        x = x.clamp(-2.0, 8.0)
        n, _, z, y, w = x.shape
        blocks = x.reshape(n, z // 2, 2, y // 2, 2, w // 2, 2)
        blocks = blocks.permute(0, 2, 4, 6, 1, 3, 5).reshape(n, 8, z // 2, y // 2, w // 2)
        levelled = (blocks / (self._local_rms(blocks) + 0.05)).clamp(-3.0, 6.0)
        x = torch.cat([blocks, levelled], dim=1)
        if x.device.type != "mps":
            x = x.contiguous(memory_format=torch.channels_last_3d)
        return x

    def features(self, copies):
        """Map `copies` to what the head sees, (n, width, z/2, y/2, x/2)."""
        x = functional.relu(self.entrance(copies), inplace=True)
        for block in self.more_down:
            x = block(x)
        kept = []
        for block, down in zip(self.down_blocks, self.downs, strict=True):
            x = block(x)
            kept.append(x)
            x = functional.relu(down(x), inplace=True)
        x = self.bottom(x)
        for level in reversed(range(len(kept))):
            x = torch.cat([kept[level], self.ups[level](x)], dim=1)
            x = self.up_blocks[level](functional.relu(self.merges[level](x), inplace=True))
        for block in self.more_up:
            x = block(x)
        return x

    def forward(self, x):
        """Map density (n, 1, z, y, x) to logits (n, classes, z, y, x)."""
        return to_voxels(self.head(self.features(self.copies(x))))

    def fused(self) -> UNet:
        """Give a copy that computes the same in less time and can no longer be trained."""
        made = copy.deepcopy(self).eval()
        for block in made.modules():
            if isinstance(block, _Residual):
                block.fuse()
        return made

    @staticmethod
    def probabilities(logits):
        """Map logits to probabilities of the classes."""
        return torch.softmax(logits, dim=1)
