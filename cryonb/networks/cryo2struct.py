"""Cryo2Struct's network (Giri & Cheng, 2024): a U-Net whose encoder is a transformer (UNETR)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from cryonb.atoms import AMINO_ACIDS
from cryonb.errors import CryonbError

__all__ = ["CLASSES_OF", "EDGE", "SIZES", "Cryo2Struct"]

#: Edge of a box in voxels of 1 Å, and of the patches that become tokens.
EDGE, PATCH = 32, 16
#: Features of a token, and those inside the perceptron of a block.
WIDTH, HIDDEN = 768, 3072
#: Channels of the decoder at full resolution.
_BASE = 16

#: What each of the published networks tells apart, in its order.
CLASSES_OF = {
    "atom": ("background", "CA", "N", "C"),
    "amino": ("background", *AMINO_ACIDS),
    "secondary": ("background", "coil", "helix", "strand"),
}
#: Blocks, heads and the blocks whose answers the decoder takes up, by the size's name: "Small
#: Train" and "Full Train v1" of the paper's Table 3.
SIZES = {"small": (4, 6, (1, 2, 3, 4)), "full": (12, 12, (3, 6, 9, 12))}


class _Attention(nn.Module):
    """Self-attention of several heads, without biases."""

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        n, tokens, _ = x.shape
        # The library behind the original lays heads out fastest, then query, key and value, then
        # features; weights that were trained there keep their meaning here.
        parts = self.project(x).view(n, tokens, WIDTH // self.heads, 3, self.heads)
        query, key, value = parts.permute(3, 0, 4, 1, 2)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(n, tokens, WIDTH))


class _Block(nn.Module):
    """Attention and a perceptron, each after a norm and around an identity."""

    def __init__(self, heads: int, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = _Attention(heads)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        inner = self.dropout(functional.gelu(self.up(self.norm2(x))))
        return x + self.dropout(self.down(inner))


class _Convolutions(nn.Module):
    """Two 3³ convolutions with instance norms around an identity, or a 1³ convolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x):
        y = functional.leaky_relu(functional.instance_norm(self.conv1(x)), 0.01)
        y = functional.instance_norm(self.conv2(y))
        return functional.leaky_relu(y + functional.instance_norm(self.shortcut(x)), 0.01)


def _doubling(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose3d(inputs, outputs, 2, stride=2, bias=False)


def _raised(outputs: int, times: int) -> nn.Module:
    """Bring tokens to `outputs` channels at 2^times the resolution, with nothing in between."""
    widths = [WIDTH] + [outputs] * times
    return nn.Sequential(*(_doubling(a, b) for a, b in pairwise(widths)))


class Cryo2Struct(nn.Module):
    """UNETR: tokens of 16³ voxels through a transformer, four of whose blocks feed a decoder.

    Parameters
    ----------
    classes : int
        Number of classes: 4 atoms, 21 amino acids or 4 secondary structures, see `CLASSES_OF`.
    size : {"full", "small"}
        See `SIZES`.
    heads : int, optional
        Heads of the attention; of the size by default. The number of parameters is the same with
        any; the authors' training scripts have 6 where the paper's table and the programs that
        predict have 12.
    dropout : float
        While it is trained: 0.1 in the authors' training scripts.

    Notes
    -----
    Input (n, 1, 32, 32, 32), density from 0 to 1 (`normalize(method="cryo2struct")`) on voxels of
    1 Å; output (n, classes, 32, 32, 32) logits. With 4 classes 35,603,204 parameters ("small") or
    92,281,604 ("full"): the 35.60 and 92.28 million of Table 3. The 8 tokens have learnt positions,
    so there is no other size of input.
    """

    #: Edges of an input are this.
    multiple = EDGE

    def __init__(
        self, classes: int = 4, size: str = "full", heads: int | None = None, dropout: float = 0.0
    ):
        super().__init__()
        if size not in SIZES:
            raise CryonbError(f"A size of {', '.join(SIZES)} was expected, but {size!r} was given.")
        blocks, usual, self.taps = SIZES[size]
        self.classes, self.size, self.heads, self.dropout = classes, size, heads or usual, dropout
        if WIDTH % self.heads:
            raise CryonbError(
                f"A number of heads that divides {WIDTH} was expected, but {heads} was given."
            )
        self.patches = nn.Conv3d(1, WIDTH, PATCH, stride=PATCH, bias=False)
        self.position = nn.Parameter(torch.randn(1, (EDGE // PATCH) ** 3, WIDTH))
        self.input_dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(self.heads, dropout) for _ in range(blocks))
        b = _BASE
        self.entrance = _Convolutions(1, b)
        self.raise1 = _raised(2 * b, 3)
        self.raise2 = _raised(4 * b, 2)
        self.raise3 = _raised(8 * b, 1)
        self.raise4 = _raised(8 * b, 1)
        self.up3, self.up2, self.up1 = (_doubling(2 * k * b, k * b) for k in (4, 2, 1))
        self.merge3, self.merge2, self.merge1, self.merge0 = (
            _Convolutions(2 * k * b, k * b) for k in (8, 4, 2, 1)
        )
        self.head = nn.Conv3d(b, classes, 1)

    @property
    def options(self) -> dict:
        """Arguments that make this network again."""
        return {"classes": self.classes, "size": self.size, "heads": self.heads,
                "dropout": self.dropout}  # fmt: skip

    def forward(self, x):
        """Map boxes of density to logits of each voxel."""
        if x.shape[1:] != (1, EDGE, EDGE, EDGE):
            raise CryonbError(
                f"Boxes of shape (n, 1, {EDGE}, {EDGE}, {EDGE}) were expected for Cryo2Struct, but "
                f"{tuple(x.shape)} was given."
            )
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.input_dropout(tokens + self.position)
        taken = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in self.taps:
                n = EDGE // PATCH
                taken.append(tokens.transpose(1, 2).reshape(-1, WIDTH, n, n, n))
        one, two, three, four = taken
        y = self.merge3(torch.cat([self.raise4(four), self.raise3(three)], dim=1))
        y = self.merge2(torch.cat([self.up3(y), self.raise2(two)], dim=1))
        y = self.merge1(torch.cat([self.up2(y), self.raise1(one)], dim=1))
        y = self.merge0(torch.cat([self.up1(y), self.entrance(x)], dim=1))
        return self.head(y)
