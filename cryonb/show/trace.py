"""Figures of Cα candidates and of traced chains."""

from __future__ import annotations

import numpy as np

from cryonb.atoms import Atoms
from cryonb.predict.backbone import BackbonePrediction
from cryonb.show.graph import ca_trace, draw_sides
from cryonb.show.plot import Picture, centre_of, slice_edges
from cryonb.trace.peaks import Peaks
from cryonb.trace.pipeline import Trace

__all__ = ["plot_backbone", "plot_trace"]

#: Å: a candidate is drawn on a slice that is no farther away.
_NEAR = 1.5


def plot_backbone(found: BackbonePrediction, peaks: Peaks, model=None) -> Picture:
    """Draw three slices of the heat map of Cα atoms, with the candidates near them.

    Parameters
    ----------
    found : BackbonePrediction
        What the network gave.
    peaks : Peaks
        Its candidates.
    model : gemmi.Structure or Atoms, optional
        Its Cα atoms near the slices are drawn as rings.

    Returns
    -------
    Picture
    """
    heat = found.heat["CA"]
    grid = heat.grid
    picture = Picture(13, 4.4)
    panels = picture.subplots(1, 3)
    true = None
    if model is not None:
        atoms = Atoms.from_structure(model)
        true = atoms.position[atoms.name == "CA"]
    drawn = None
    for axis, index in enumerate(centre_of(heat.values.astype(np.float32))):
        panel = panels[axis]
        extent, (across, up) = slice_edges(heat, axis)
        drawn = panel.imshow(
            np.take(heat.values, index, axis=axis).astype(np.float32), origin="lower",
            extent=extent, cmap="gray_r", vmin=0, vmax=max(float(heat.max), 0.1),
        )  # fmt: skip
        columns = ["xyz".index(across), "xyz".index(up)]
        # The axes of arrays are z, y, x, those of points x, y, z.
        depth = 2 - axis
        height = grid.origin[depth] + index * grid.voxel_size[depth]
        if true is not None:
            near = np.abs(true[:, depth] - height) <= _NEAR
            panel.plot(*true[near][:, columns].T, "o", ms=9, mfc="none", mec="#0072b2")
        near = np.abs(peaks.position[:, depth] - height) <= _NEAR
        panel.plot(*peaks.position[near][:, columns].T, ".", ms=5, color="#d55e00")
        panel.set(xlabel=f"{across} (Å)", ylabel=f"{up} (Å)")
    picture.colorbar(drawn, ax=panels[2], label="heat of Cα")
    rings = "" if true is None else "; rings: Cα of the model"
    panels[0].set_title(f"dots: candidates within {_NEAR:g} Å{rings}", fontsize=10)
    return picture


def plot_trace(trace: Trace, truth=None) -> Picture:
    """Draw traced chains from three sides, coloured by confidence, and the confidence by residue.

    Parameters
    ----------
    trace : Trace
        The chains.
    truth : gemmi.Structure or Atoms, optional
        Its Cα trace is drawn beneath in grey.

    Returns
    -------
    Picture
    """
    picture = Picture(13.0, 3.8)
    panels = picture.subplots(1, 4)
    atoms = Atoms.from_structure(trace.model)
    sure = atoms.b_iso / 100
    beneath = None if truth is None else ca_trace(truth)
    drawn = draw_sides(
        panels, atoms.position, sure, beneath=beneath, path=ca_trace(trace.model), limits=(0, 1)
    )
    picture.colorbar(drawn, ax=panels[2], label="confidence")
    panels[0].set_title(f"{len(atoms)} Cα, {len(trace.model[0])} chains", fontsize=10)
    chain = atoms.residues.chain[atoms.residue]
    for name in dict.fromkeys(chain):
        mine = chain == name
        number = atoms.residues.number[atoms.residue][mine]
        panels[3].plot(number, sure[mine], ".", ms=3)
    panels[3].set(xlabel="residue", ylabel="confidence", ylim=(0, 1.02))
    return picture
