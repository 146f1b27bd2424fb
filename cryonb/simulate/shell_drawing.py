"""Radial images of atoms drawn on a grid, atom by atom and voxel by voxel, and the way back."""

from __future__ import annotations

from cryonb.grid import Grid
from cryonb.process.spheres import voxels_within

__all__ = ["NODES", "draw"]

# Nodes of a radial profile within one resolution; between them it is interpolated cubically.
NODES = 32
# Pairs of atom and voxel that are worked on at a time.
_PIECE = 65536


def _pairs(grid: Grid, points, radius):
    """Yield what `voxels_within` does in pieces that the processor's cache holds."""
    for point, voxel in voxels_within(grid, points, radius):
        for first in range(0, len(point), _PIECE):
            yield point[first : first + _PIECE], voxel[first : first + _PIECE]


def draw(position, resolution, table, grid: Grid, radius, around, gradient=None):
    """Add images up on a grid, or lead a gradient by the voxels back to what they are made of.

    Both go over the same pairs of atom and voxel, a batch at a time, so that none is kept.

    Parameters
    ----------
    position : Tensor, shape (n, 3)
        (x, y, z) in Å.
    resolution : Tensor, shape (n,)
        d of each atom in Å.
    table : Tensor, shape (n, nodes)
        Each atom's image on radii of k d / `NODES`.
    grid : Grid
        Where the density is wanted.
    radius : ndarray, shape (n,)
        How far each image is drawn, in Å.
    around : ndarray, shape (n, 3)
        Points around which.
    gradient : Tensor, shape (voxel,), optional
        Of the voxels.

    Returns
    -------
    Tensor, shape (voxel,)
        The density; of a gradient those of position, resolution and table in its place.
    """
    import torch

    device, nodes = table.device, table.shape[1]
    # From the grid's corner on, where float32 is exact to parts in 10⁵ Å.
    corner = position.new_tensor(grid.lower)
    places = (position - corner).to(table.dtype).unbind(dim=1)
    x, y, z = (
        torch.as_tensor(axis - axis[0], dtype=table.dtype, device=device) for axis in grid.axes()
    )
    scale = (NODES / resolution).to(table.dtype)
    values = table.reshape(-1)
    if gradient is None:
        density = table.new_zeros(grid.n_voxels)
    else:
        sums = torch.zeros_like(position), torch.zeros_like(resolution), torch.zeros_like(table)
    for atom, voxel in _pairs(grid, around, radius):
        atom = torch.as_tensor(atom, device=device)
        voxel = torch.as_tensor(voxel, device=device)
        row = torch.div(voxel, len(x), rounding_mode="floor")
        plane = torch.div(row, len(y), rounding_mode="floor")
        apart = [
            axis[number] - place[atom]
            for axis, number, place in zip(
                (x, y, z), (voxel - row * len(x), row - plane * len(y), plane), places, strict=True
            )
        ]
        r = torch.sqrt(apart[0] ** 2 + apart[1] ** 2 + apart[2] ** 2 + 1e-12)
        # An atom that went far from where its voxels were looked up ends with its table.
        t = (r * scale[atom]).clamp(max=nodes - 3)
        low = t.floor()
        f = t - low
        # The cubic through four nodes, the first of which lies at k - 1; the image is even in r.
        at = atom * nodes + low.long()
        before = torch.where(low > 0, at - 1, at + 1)
        g, h = f - 1, f - 2
        if gradient is None:
            drawn = (
                values[before] * (-f * g * h / 6) + values[at] * ((f + 1) * g * h / 2)
                + values[at + 1] * (-(f + 1) * f * h / 2) + values[at + 2] * ((f + 1) * f * g / 6)
            )  # fmt: skip
            density.index_add_(0, voxel, drawn)
            continue
        wanted = gradient[voxel]
        of_table = sums[2].view(-1)
        for place, weight in (
            (before, -f * g * h / 6), (at, (f + 1) * g * h / 2),
            (at + 1, -(f + 1) * f * h / 2), (at + 2, (f + 1) * f * g / 6),
        ):  # fmt: skip
            of_table.index_add_(0, place, weight * wanted)
        slope = wanted * (
            values[before] * (-(g * h + f * h + f * g) / 6)
            + values[at] * ((g * h + (f + 1) * (g + h)) / 2)
            - values[at + 1] * (((f + 1) * f + (f + 1) * h + f * h) / 2)
            + values[at + 2] * (((f + 1) * f + (f + 1) * g + f * g) / 6)
        )
        slope = torch.where(t < nodes - 3, slope, torch.zeros_like(slope))
        sums[1].index_add_(0, atom, (-slope * t / resolution[atom]).to(resolution.dtype))
        pull = -slope * scale[atom] / r
        pull = torch.stack([pull * part for part in apart], dim=1)
        sums[0].index_add_(0, atom, pull.to(position.dtype))
    return density if gradient is None else sums
