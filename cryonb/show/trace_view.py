"""Cα candidates and traced chains over the map that they came from."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np

from cryonb.atoms import Atoms
from cryonb.show.controls import MapView, checkbox, observe, slider

__all__ = ["BackboneView", "TraceView"]

#: Å: Cα atoms of one chain no farther apart than this are joined.
_BOND = 4.6
_HEAT = "#0072B2"


def _by_confidence(values) -> np.ndarray:
    from matplotlib import colormaps

    return colormaps["viridis"](np.clip(np.asarray(values, dtype=float), 0, 1))[:, :3]


class BackboneView(MapView):
    """The heat map of Cα atoms and its candidates, over the map and a model if there is one.

    Parameters
    ----------
    found : BackboneMap
        What the network gave.
    peaks : Peaks
        Its candidates.
    model : gemmi.Structure, optional
        Shown as a cartoon.
    height : int
        Of the view in pixels.
    """

    _opacity = 0.15

    def __init__(self, found, peaks, model=None, *, height: int = 440):
        self._found, self._peaks = found, peaks
        super().__init__(found.density, model, height=height)

    def _fill(self, model) -> list:
        heat = self._found.heat["CA"]
        controls = []
        if heat.max > 0.05:
            self.scene.add_map(
                heat, "heat", level=0.4, colour=_HEAT, opacity=0.5, limits=(0.05, 0.95)
            )
            self.heat = slider("Cα heat", 0.4, 0.05, 0.95, 0.05, live=self._live)
            observe(self.heat, lambda level: self.scene.set_level("heat", level))
            controls.append(self.heat)
        controls += super()._fill(model)
        peaks = self._peaks
        self.scene.add_points(
            peaks.position, "candidates", colours=_by_confidence(peaks.score), radius=0.5
        )
        self.shown = checkbox(f"{len(peaks)} candidates", True)
        observe(self.shown, lambda on: self.scene.set_visible("candidates", on))
        about = widgets.HTML("<small>dark: low score, yellow: high</small>")
        return [widgets.HBox([self.shown, about]), *controls]


class TraceView(MapView):
    """Traced chains over their map, coloured by confidence, with the truth if it is known.

    Parameters
    ----------
    trace : TracedModel
        The chains.
    truth : gemmi.Structure, optional
        Shown as a cartoon.
    height : int
        Of the view in pixels.
    """

    _opacity = 0.15

    def __init__(self, trace, truth=None, *, height: int = 440):
        self._trace = trace
        super().__init__(trace.density, truth, height=height)

    def _fill(self, model) -> list:
        controls = super()._fill(model)
        atoms = Atoms.from_structure(self._trace.model)
        chain = atoms.residues.chain[atoms.residue]
        apart = np.linalg.norm(np.diff(atoms.position, axis=0), axis=1)
        first = np.flatnonzero((chain[1:] == chain[:-1]) & (apart <= _BOND))
        self.scene.add_points(
            atoms.position, "trace", colours=_by_confidence(atoms.b_iso / 100), radius=0.5,
            links=np.stack([first, first + 1], axis=1),
        )  # fmt: skip
        self.shown = checkbox(f"trace: {len(atoms)} Cα atoms", True)
        observe(self.shown, lambda on: self.scene.set_visible("trace", on))
        about = widgets.HTML("<small>confidence: dark low, yellow high</small>")
        return [widgets.HBox([self.shown, about]), *controls]
