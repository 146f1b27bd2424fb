"""Emap2sec's two networks (Maddhuri Venkata Subramaniya et al., 2019); the first also dense.

Classes are in the order of the original: other (coil), strand, helix; in the second phase also
background.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

__all__ = ["DenseEmap2sec", "Emap2sec", "PhaseOne", "PhaseTwo", "as_dense", "truncated"]


def _dense(inputs: int, outputs: int, rank: int | None) -> nn.Module:
    """Make a dense layer, or the product of two thin ones."""
    if rank is None:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))


def _begin(network: nn.Module) -> None:
    """Draw the weights that training begins with, by He's rule; biases are zero.

    The program draws from a normal distribution of standard deviation 0.1, cut at two, and has
    biases of 0.1: signals then grow from layer to layer.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class _Convolutions(nn.Module):
    """The five convolutions, all of stride 1."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv3d(1, 32, 4)
        self.conv2 = nn.Conv3d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv3d(64, 64, 3, padding=1)
        self.conv4 = nn.Conv3d(64, 128, 3, padding=1)
        self.conv5 = nn.Conv3d(128, 128, 3, padding=1)

    def forward(self, x):
        # TensorFlow's SAME gives an even kernel the odd zero at the far end.
        x = functional.relu(self.conv1(functional.pad(x, (1, 2) * 3)))
        for layer in (self.conv2, self.conv3, self.conv4, self.conv5):
            x = functional.relu(layer(x))
        return x


class PhaseOne(nn.Module):
    """First phase: the class of the structure in the middle of a window.

    Parameters
    ----------
    rank : int, optional
        Rank of the first dense layer, which is then the product of two thin ones: 28 of the
        network's 29 million parameters are in that layer. Full by default, as published.

    Notes
    -----
    Input (n, 1, 11, 11, 11), density from 0 to 1; output (n, 3) logits. 29,407,651 parameters.
    The dropout of one half follows the first dense layer, where the paper and the code put it.
    """

    #: Whether it answers for a whole map at once.
    dense = False

    def __init__(self, rank: int | None = None):
        super().__init__()
        self.rank = rank
        self.convolutions = _Convolutions()
        self.fc1 = _dense(6 * 6 * 6 * 128, 1024, rank)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(1024, 256)
        self.out = nn.Linear(256, 3)
        _begin(self)

    @property
    def options(self) -> dict:
        """Arguments that make this network again."""
        return {"rank": self.rank}

    def forward(self, x):
        """Map windows to logits of (other, strand, helix)."""
        x = self.convolutions(x)
        x = functional.max_pool3d(x, 2, 2, ceil_mode=True)
        # Channels run fastest in the flattened vector, as in the original's weights.
        x = x.permute(0, 2, 3, 4, 1).flatten(1)
        x = self.dropout(functional.relu(self.fc1(x)))
        return self.out(functional.relu(self.fc2(x)))


class PhaseTwo(nn.Module):
    """Second phase: the class of a place from the first phase's answers around it.

    Parameters
    ----------
    rank : int, optional
        Rank of the dense layers but for the first and the last. Full by default, as published.

    Notes
    -----
    Input (n, 108): 27 neighbours one stride apart, z slowest, each (other, strand, helix,
    background), where a place without a window is (0, 0, 0, 1). Output (n, 4) logits. 3,523,844
    parameters. The paper speaks of 81 inputs and three classes; the published code and checkpoint
    have the fourth of each, which is followed here.
    """

    def __init__(self, rank: int | None = None):
        super().__init__()
        self.rank = rank
        first, *others = pairwise((108, 1024, 1024, 1024, 1024, 256))
        self.hidden = nn.ModuleList([nn.Linear(*first), *(_dense(*n, rank) for n in others)])
        self.out = nn.Linear(256, 4)
        _begin(self)

    @property
    def options(self) -> dict:
        """Arguments that make this network again."""
        return {"rank": self.rank}

    def forward(self, x):
        """Map neighbourhoods to logits of (other, strand, helix, background)."""
        for layer in self.hidden:
            x = functional.relu(layer(x))
        return self.out(x)


class DenseEmap2sec(nn.Module):
    """The first phase's layers, run over a whole map at once.

    Not published: what windows share, the convolutions, is computed once. The answers differ from
    `PhaseOne`'s, since a convolution sees what lies beyond its window instead of zeros; train it
    this way.

    Parameters
    ----------
    rank : int, optional
        As in `PhaseOne`.

    Notes
    -----
    Input (n, 1, z, y, x), density from 0 to 1, even edges; output (n, 3, z/2 - 5, y/2 - 5, x/2 - 5)
    logits: entry (i, j, k) belongs to the window whose first voxel is (2i, 2j, 2k).
    """

    dense = True

    def __init__(self, rank: int | None = None):
        super().__init__()
        self.rank = rank
        self.convolutions = _Convolutions()
        if rank is None:
            self.fc1 = nn.Conv3d(128, 1024, 6)
        else:
            self.fc1 = nn.Sequential(nn.Conv3d(128, rank, 6, bias=False), nn.Conv3d(rank, 1024, 1))
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Conv3d(1024, 256, 1)
        self.out = nn.Conv3d(256, 3, 1)
        _begin(self)

    @property
    def options(self) -> dict:
        """Arguments that make this network again."""
        return {"rank": self.rank}

    def features(self, x):
        """Map a density to the features that the dense layers see, (n, 128, z/2, y/2, x/2)."""
        return functional.max_pool3d(self.convolutions(x), 2, 2)

    def classify(self, x):
        """Map features to logits, one for each place where 6³ of them fit."""
        x = self.dropout(functional.relu(self.fc1(x)))
        return self.out(functional.relu(self.fc2(x)))

    def forward(self, x):
        """Map a density to logits of (other, strand, helix) on the grid of the stride."""
        return self.classify(self.features(x))


def as_dense(one: PhaseOne) -> DenseEmap2sec:
    """Give the dense form with the weights of windows.

    The dense form's convolutions see what lies beyond a window where these learnt from zeros, so
    train it on.
    """
    dense = DenseEmap2sec(one.rank)
    state = dict(one.state_dict())
    for key, theirs in dense.state_dict().items():
        weight = state[key]
        if theirs.ndim == 5 and weight.ndim == 2 and theirs.shape[2] == 6:
            weight = weight.reshape(-1, 6, 6, 6, 128).permute(0, 4, 1, 2, 3)
        state[key] = weight.reshape(theirs.shape)
    dense.load_state_dict(state)
    return dense


class Emap2sec(nn.Module):
    """Both phases.

    Parameters
    ----------
    dense : bool
        Whether the first phase is `DenseEmap2sec`.
    rank, rank_two : int, optional
        As in `PhaseOne` and in `PhaseTwo`.
    """

    def __init__(self, dense: bool = False, rank: int | None = None, rank_two: int | None = None):
        super().__init__()
        self.dense = dense
        self.one = DenseEmap2sec(rank) if dense else PhaseOne(rank)
        self.two = PhaseTwo(rank_two)

    @property
    def options(self) -> dict:
        """Arguments that make this network again."""
        return {"dense": self.dense, **self.one.options, "rank_two": self.two.rank}


def truncated(network: Emap2sec, *, rank: int | None, rank_two: int | None) -> Emap2sec:
    """Approximate the large dense layers by ones of low rank, from their singular values.

    Parameters
    ----------
    network : Emap2sec
        With layers of full rank, or of the rank that is asked for.
    rank, rank_two : int, optional
        Of the first dense layer and of the second phase; None leaves them as they are.

    Returns
    -------
    Emap2sec
    """
    small = Emap2sec(network.dense, rank or network.one.rank, rank_two or network.two.rank)
    theirs, state = network.state_dict(), small.state_dict()
    for key, value in theirs.items():
        if key in state:
            state[key] = value
            continue
        layer, kind = key.rsplit(".", 1)
        if kind == "bias":
            state[f"{layer}.1.bias"] = value
            continue
        thin, wide = f"{layer}.0.weight", f"{layer}.1.weight"
        r = state[thin].shape[0]
        matrix = value.flatten(1).double()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            # A few more directions than wanted, and power iterations, make the random method exact.
            u, s, v = torch.svd_lowrank(matrix, q=min(r + 32, *matrix.shape), niter=6)
        root = s[:r].sqrt()
        state[wide] = (u[:, :r] * root).float().reshape(state[wide].shape)
        state[thin] = (v[:, :r] * root).T.float().reshape(state[thin].shape)
    small.load_state_dict(state)
    return small.eval()
