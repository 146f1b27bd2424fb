"""Cα candidates and traced chains, drawn and over the map."""

from importlib.util import find_spec

import numpy as np
import pytest

import cryonb as nb
from cryonb.atoms import AMINO_ACIDS
from cryonb.predict.backbone import BackbonePrediction
from cryonb.results import BackboneMap, TracedModel
from cryonb.simulate import phantom
from cryonb.train.backbone import heat_maps


@pytest.fixture(scope="module")
def made():
    """A map of a helix, its true heat map as if it were predicted, and the model."""
    model = phantom.alpha_helix(14).structure
    m = nb.DensityMap.from_volume(nb.gaussian_map(model, resolution=3.0), resolution=3.0)
    m = m.resample(1.0)
    atoms = nb.Atoms.from_structure(model)
    alpha = atoms.position[atoms.name == "CA"]
    heat = heat_maps(m.grid.to_index(alpha), np.zeros(len(alpha), int), m.shape)
    rest = np.zeros((len(AMINO_ACIDS), *m.shape), np.float32)
    rest[0] = 1.0
    found = BackbonePrediction(
        nb.ProbabilityVolume(heat, m.grid, classes=("CA", "N", "C", "P")),
        nb.ProbabilityVolume(rest, m.grid, classes=AMINO_ACIDS),
        nb.ProbabilityVolume(rest[:3], m.grid, classes=("helix", "strand", "coil")),
        m,
    )
    return BackboneMap(**vars(found)), model, alpha


def test_candidates_are_drawn(made):
    found, model, alpha = made
    assert len(found.peaks()) == len(alpha)
    picture = found.plot(model, threshold=0.5)
    assert picture._repr_png_().startswith(b"\x89PNG")
    slices = [panel for panel in picture.axes if panel.images and panel.get_xlabel()]
    assert [(p.get_xlabel()[0], p.get_ylabel()[0]) for p in slices] == [
        ("x", "y"), ("x", "z"), ("y", "z"),
    ]  # fmt: skip
    for panel in slices:
        rings, dots = (line.get_xydata() for line in panel.lines)
        # Every ring has its dot: heat and model are the same atoms.
        assert len(rings) == len(dots) > 1
        apart = np.linalg.norm(rings[:, None] - dots, axis=2).min(axis=1)
        assert apart.max() < 0.2
        # And stands on heat, so that slices and points are the right way round.
        left, right, bottom, top = panel.images[0].get_extent()
        assert (rings > (left, bottom)).all()
        assert (rings < (right, top)).all()


def test_the_heat_has_a_graph_of_its_own(made):
    found, model, alpha = made
    graph = found.density_graph()
    assert len(graph) == len(alpha)
    assert graph.density is found.density
    summary = graph.evaluate(model).summary
    assert summary["ca_sensitivity"] == summary["ca_specificity"] == 1
    assert summary["ca_rmsd"] < 0.15
    # In a helix no other Cα is within 4.6 Å than the next one.
    assert len(graph.edges) == len(alpha) - 1


def test_traced_chains_are_drawn(made):
    found, model, alpha = made
    traced = TracedModel(**vars(found.density.trace(peaks=found.peaks(), progress=False)))
    picture = traced.plot(model)
    assert picture._repr_png_().startswith(b"\x89PNG")
    drawn = picture.axes[0].collections[0].get_offsets()
    assert len(drawn) == len(nb.Atoms.from_structure(traced.model)) == len(alpha)
    assert len(traced.plot().axes[0].lines) == len(picture.axes[0].lines) - 1


@pytest.mark.skipif(find_spec("nglview") is None, reason="the notebook extra is not installed")
def test_candidates_and_chains_are_shown_over_the_map(made):
    found, model, alpha = made
    shown = found.view(model)
    assert shown.scene.names == ("heat", "model", "density", "candidates")
    assert f"{len(alpha)} candidates" in shown.shown.description
    shown.heat.value = 0.7
    traced = found.density.trace(peaks=found.peaks(), progress=False)
    over = traced.view(model)
    assert over.scene.names == ("model", "density", "trace")
    assert f"{len(alpha)} Cα" in over.shown.description
    over.shown.value = False
    assert traced.view().scene.names == ("density", "trace")
