"""Networks with sine layers, many side by side: value and derivatives by grouped products."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

__all__ = ["OMEGA", "forward", "initial_weights", "layer_names"]

#: Frequency of the sines (Sitzmann et al. 2020; Ranno & Si).
OMEGA = 30.0


def layer_names(hidden_layers: int) -> list[str]:
    """Names of the weights, layer by layer."""
    return [f"{kind}{k}" for k in range(hidden_layers + 2) for kind in ("weight", "bias")]


def initial_weights(
    count: int, rng: np.random.Generator, *, features: int = 256, hidden_layers: int = 4
) -> dict[str, torch.Tensor]:
    """Draw the weights of networks from 3 coordinates to 1 density.

    Parameters
    ----------
    count : int
        Networks.
    rng : numpy.random.Generator
        Source of the weights.
    features : int
        Of a hidden layer.
    hidden_layers : int
        Sine layers after the first.

    Returns
    -------
    dict of Tensor
        weight0, bias0, ... of shapes (count, into, out) and (count, 1, out).

    Notes
    -----
    Uniform, as in Sitzmann et al. (2020): ±1/3 in the first layer, ±√(6/features)/30 in the
    others; biases ±1/√into, as torch has them. The text of Ranno & Si has another bound for the
    first layer; their program, which made their figures, has 1/3.
    """
    sizes = [3, *[features] * (hidden_layers + 1), 1]
    drawn: dict[str, list] = {name: [] for name in layer_names(hidden_layers)}
    for _ in range(count):
        # A network after the other, so that the first ones do not depend on how many there are.
        for k, (into, out) in enumerate(pairwise(sizes)):
            bound = 1 / into if k == 0 else np.sqrt(6 / into) / OMEGA
            drawn[f"weight{k}"].append(rng.uniform(-bound, bound, (into, out)))
            drawn[f"bias{k}"].append(rng.uniform(-1, 1, (1, out)) / np.sqrt(into))
    return {
        name: torch.from_numpy(np.stack(arrays).astype(np.float32))
        for name, arrays in drawn.items()
    }


def forward(weights: dict, points: torch.Tensor, *, derivatives: int = 0) -> list[torch.Tensor]:
    """Run networks on points, and differentiate along the coordinates.

    Parameters
    ----------
    weights : dict of Tensor
        As from `initial_weights`.
    points : Tensor, shape (n, 3) or (count, n, 3)
        Coordinates, the same for all networks or each one's own.
    derivatives : int
        0, 1 or 2.

    Returns
    -------
    list of Tensor
        Values (count, n), gradients (count, n, 3), second derivatives (count, n, 3, 3).
    """
    last = len(weights) // 2 - 1
    count = weights["weight0"].shape[0]
    if points.ndim == 2:
        points = points.expand(count, *points.shape)
    value, first, second = points, None, None
    for k in range(last + 1):
        weight, bias = weights[f"weight{k}"], weights[f"bias{k}"]
        value = torch.baddbmm(bias, value, weight)
        if derivatives > 0:
            # Derivatives go through the linear part along their own axis, as more rows.
            if first is None:
                first = weight[:, :, None, :].expand(-1, -1, value.shape[1], -1)
            else:
                first = _rows_times(first, weight)
        if derivatives > 1:
            second = (
                value.new_zeros(count, 6, *value.shape[1:])
                if second is None
                else _rows_times(second, weight)
            )
        if k < last:
            angle = OMEGA * value
            value = torch.sin(angle)
            if derivatives > 0:
                slope = (OMEGA * torch.cos(angle))[:, None]
                if derivatives > 1:
                    bend = (-(OMEGA**2) * value)[:, None]
                    second = slope * second + bend * first[:, _ROW] * first[:, _COLUMN]
                first = slope * first
    out = [value[..., 0]]
    if derivatives > 0:
        out.append(first[..., 0].transpose(1, 2))
    if derivatives > 1:
        out.append(second[:, _SYMMETRIC, :, 0].permute(0, 3, 1, 2))
    return out


#: The six different second derivatives, and where each stands in the matrix of nine.
_ROW, _COLUMN = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]
_SYMMETRIC = torch.tensor([[0, 1, 2], [1, 3, 4], [2, 4, 5]])


def _rows_times(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply (count, k, n, into) with (count, into, out)."""
    count, k, n, into = rows.shape
    return torch.bmm(rows.reshape(count, k * n, into), weight).reshape(count, k, n, -1)
