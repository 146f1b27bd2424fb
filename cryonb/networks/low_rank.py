"""Large layers in small files: stored as two factors of low rank, and whole when read."""

from __future__ import annotations

import torch

__all__ = ["factorised", "whole"]

#: Ends of the names of a layer's factors; their product is the layer.
_LEFT, _RIGHT = ".left", ".right"


def factorised(tensors: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """Replace large layers by two factors each.

    Parameters
    ----------
    tensors : dict of Tensor
        A network's state. A layer of shape (outputs, ...) is replaced where that at least halves
        its size.
    rank : int
        Of the product; 0 replaces nothing.

    Returns
    -------
    dict of Tensor
        With `name.left` (outputs, rank) and `name.right` (rank, ...) instead of `name`: the
        product of that rank that is nearest to the layer (its largest singular values).
    """
    found = {}
    for name, tensor in tensors.items():
        flat = tensor.flatten(1) if tensor.ndim > 1 else tensor[None]
        if not rank or 2 * rank * sum(flat.shape) > flat.numel():
            found[name] = tensor
            continue
        u, s, v = torch.linalg.svd(flat.double(), full_matrices=False)
        root = s[:rank].sqrt()
        found[name + _LEFT] = (u[:, :rank] * root).to(tensor.dtype)
        right = root[:, None] * v[:rank]
        found[name + _RIGHT] = right.to(tensor.dtype).reshape(rank, *tensor.shape[1:])
    return found


def whole(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Multiply the factors of `factorised`; other tensors stay as they are."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(_LEFT):
            layer = name.removesuffix(_LEFT)
            found[layer] = torch.tensordot(tensor.float(), tensors[layer + _RIGHT].float(), dims=1)
        elif not (name.endswith(_RIGHT) and name.removesuffix(_RIGHT) + _LEFT in tensors):
            found[name] = tensor
    return found
