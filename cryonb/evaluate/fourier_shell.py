"""Fourier shell correlation: of two half maps, and of a map with its model."""

from __future__ import annotations

from scipy.fft import rfftn

from cryonb.atoms import Atoms
from cryonb.evaluate.correlation import usable_resolution
from cryonb.process.fourier_shells import (
    FourierShells,
    Shells,
    half_map_fsc,
    same_grid,
    shell_correlation,
    transform,
)
from cryonb.process.mask import model_mask
from cryonb.simulate.fourier import fourier_map
from cryonb.volume import Volume

__all__ = ["FourierShells", "half_map_fsc", "map_model_fsc", "shell_correlation"]


def map_model_fsc(
    volume: Volume, model, *, resolution: float | None = None, mask: Volume | None = None,
    shell_width: float | None = None, half_maps=None, device: str | None = None,
) -> FourierShells:  # fmt: skip
    """Correlate a map with the map of a model, shell by shell.

    Parameters
    ----------
    volume : Volume
        The map.
    model : gemmi.Structure or Atoms
        The model in the map's frame.
    resolution : float, optional
        Of the map, in Å, which sets the mask; that which a `DensityMap` knows by default.
    mask : Volume, optional
        Weights by which the map is multiplied. By default a soft mask around the model: 1 up to
        the resolution (at least 3 Å) beyond the atoms, falling to 0 over twice that.
    shell_width : float, optional
        In 1/Å; the inverse of the longest edge of the box by default.
    half_maps : HalfMaps or pair of Volume, optional
        Halves of the map, to be compared with one another within the same mask.
    device : str, optional
        Where torch computes the model's map.

    Returns
    -------
    FourierShells
        Curves fsc (without mask) and fsc_masked, which counts. The model's map reaches as far as
        the voxels can hold, with its own B, and is not masked. With half maps also fsc_corrected,
        theirs, and fsc_full, which a faultless model would have (`half_map_fsc`).

    Raises
    ------
    MapModelMismatchError
        If map and model do not overlap.
    GridError
        If mask or half maps are on another grid.
    """
    if resolution is None:
        resolution = getattr(volume, "resolution", None)
    atoms = Atoms.from_structure(model, waters=True, altlocs=True)
    grid = volume.grid
    if mask is None:
        reach = max(usable_resolution(resolution, grid), 3.0)
        mask = model_mask(atoms, grid, radius=reach, soft_edge=2 * reach)
    same_grid(volume, volume, mask)
    shells = Shells(grid, shell_width)
    limit = 2 * max(grid.voxel_size)
    f = rfftn(fourier_map(atoms, grid, resolution=limit, periodic=True, device=device).values)
    curves = {
        "fsc": shells.correlation(transform(volume), f),
        "fsc_masked": shells.correlation(transform(volume, mask), f),
    }
    if half_maps is not None:
        first, second = half_maps
        same_grid(volume, first)
        halves = half_map_fsc(first, second, mask=mask, shell_width=shell_width).table
        curves |= {name: halves[name].to_numpy() for name in ("fsc_corrected", "fsc_full")}
    return FourierShells(shells.table(**curves), "map and model", "fsc_masked")
