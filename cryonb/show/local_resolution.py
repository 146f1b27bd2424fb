"""Figures of local resolution."""

from __future__ import annotations

import numpy as np

from cryonb.show.plot import Picture, centre_of, slice_edges

__all__ = ["plot_local_resolution"]


def plot_local_resolution(found) -> Picture:
    """Draw three slices in colours, and the histogram within the molecule.

    Parameters
    ----------
    found : cryonb.derived.LocalResolution
        What is outside the molecule is left white.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    density = found.density.values
    molecule = density >= found.level()
    inside = found.inside()
    low, high = np.percentile(inside, (2, 98))
    picture = Picture(13, 3.6)
    panels = picture.subplots(1, 4)
    shown = np.where(molecule, found.values, np.nan)
    for axis, index in enumerate(centre_of(np.where(molecule, density, 0))):
        extent, (across, up) = slice_edges(found, axis)
        image = panels[axis].imshow(
            np.take(shown, index, axis=axis), origin="lower", extent=extent, vmin=low, vmax=high,
            cmap="viridis", interpolation="nearest",
        )  # fmt: skip
        panels[axis].set(xlabel=f"{across} (Å)", ylabel=f"{up} (Å)")
    picture.colorbar(image, ax=panels[2], label="local resolution (Å)")
    # Specks of noise above the level have any resolution, and would stretch the axis.
    panels[3].hist(inside, bins=60, range=tuple(np.percentile(inside, (0.5, 99.5))), color="0.5")
    panels[3].axvline(np.median(inside), color="black", linestyle="--",
                      label=f"median {np.median(inside):.2f} Å")  # fmt: skip
    panels[3].set(xlabel="local resolution (Å)", ylabel="voxels")
    panels[3].legend(frameon=False)
    return picture
