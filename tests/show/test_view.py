"""Scenes and controls without a browser: what would be sent, and what follows what."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.show import nglview_import
from cryonb.show.nglview_import import import_nglview
from cryonb.simulate import phantom

if find_spec("nglview") is None:
    pytest.skip("the notebook extra is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def made():
    """A map, its classes and its model, on which a view is made."""
    model = phantom.alpha_helix(14).structure
    m = nb.DensityMap.from_volume(nb.gaussian_map(model, resolution=4.0), contour=0.4)
    return m, m.predict_sse(device="cpu", progress=False), model


@pytest.fixture
def sent(monkeypatch):
    """Calls that reach the browser, as (name, arguments, keywords, whether they are kept)."""
    NGLWidget = import_nglview().NGLWidget
    calls = []
    real = NGLWidget._remote_call

    def spy(self, name, target="Widget", args=None, kwargs=None, **others):
        calls.append((name, args or [], kwargs or {}, not others.get("fire_once", False)))
        return real(self, name, target=target, args=args, kwargs=kwargs, **others)

    monkeypatch.setattr(NGLWidget, "_remote_call", spy)
    return calls


def last(sent, name="updateRepresentationsByName"):
    return [call for call in sent if call[0] == name][-1]


def test_level_in_sigma_and_absolute_are_one(made, sent):
    m = made[0]
    shown = m.view()
    assert shown.level.value == 0.4
    archived = len(shown.scene.widget._ngl_msg_archive)
    shown.sigma.value = 5.0
    level = m.mean + 5 * m.std
    assert shown.level.value == pytest.approx(level, rel=1e-4)
    _, (kind, _), keywords, kept = last(sent)
    assert (kind, kept) == ("surface", False)
    assert keywords["isolevel"] == pytest.approx(level, rel=1e-4)
    assert keywords["isolevelType"] == "value"
    shown.level.value = 0.25
    assert shown.sigma.value == pytest.approx((0.25 - m.mean) / m.std, abs=0.06)
    assert last(sent)[2]["isolevel"] == 0.25
    # Nothing of it is kept, or every map would be sent again with each tick.
    assert len(shown.scene.widget._ngl_msg_archive) == archived


def test_switches_of_a_map(made, sent):
    shown = made[0].view(made[2])
    shown.mesh.value = True
    assert last(sent)[2] == {"contour": True}
    shown.opacity.value = 1.0
    assert last(sent)[2] == {"opacity": 1.0, "depthWrite": True}
    # A faint density must not hide the surfaces within it, nor be painted over them.
    shown.opacity.value = 0.2
    assert last(sent)[2] == {"opacity": 0.2, "depthWrite": False}
    shown.opacity.value = 0.75
    assert last(sent)[2] == {"opacity": 0.75, "depthWrite": True}
    shown.zone.value = 20
    assert last(sent)[2] == {"boxSize": 20}
    shown.visible.value = False
    assert last(sent, "setVisibility")[1] == [False]
    shown.colour.value = "bfactor"
    assert last(sent)[1][0] == "cartoon"
    assert last(sent)[2] == {"colorScheme": "bfactor"}


def test_slices_go_where_the_residue_is(made, sent):
    m, _, model = made
    shown = m.view(model)
    before = [picture.value for picture in shown.pictures]
    shown.residue.value = 9
    atoms = [site.atom.pos.tolist() for site in model[0].all() if site.residue is model[0][0][9]
             or site.residue.seqid.num == 10]  # fmt: skip
    expected = np.rint(m.grid.to_index(np.mean(atoms, axis=0))).astype(int)
    assert [slider.value for slider in shown.places] == expected.tolist()
    assert all(a != b.value for a, b in zip(before, shown.pictures, strict=True))
    assert "zoomMove" in last(sent, "executeCode")[1][0]
    assert any('setSelection("10:A")' in str(call) for call in sent)


def test_slices_follow_the_camera_if_they_should(made):
    m = made[0]
    shown = m.view()
    shown.scene.widget._camera_orientation = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, -3, -4, -9, 1]
    at = np.clip(np.rint(m.grid.to_index([3.0, 4.0, 9.0])), 0, np.array(m.shape) - 1)
    assert [slider.value for slider in shown.places] == at.tolist()
    shown.follow.value = False
    shown.scene.widget._camera_orientation = [1.0] * 16
    assert [slider.value for slider in shown.places] == at.tolist()
    shown.places[0].value = 2
    assert shown._index[0] == 2


def test_classes_can_be_told_apart_and_judged(made, sent):
    _, sse, model = made
    shown = sse.view(model)
    assert set(shown.scene.names) >= {"helix", "model", "density"}
    shown.threshold.value = 0.7
    levels = [call[2].get("isolevel") for call in sent[-len(shown.classes) :]]
    assert levels == [pytest.approx(0.7)] * len(shown.classes)
    shown.classes["helix"].value = False
    assert "helix" not in shown.slices.shown
    assert last(sent, "setVisibility")[1] == [False]
    shown.colour.value = "confidence"
    assert last(sent)[2] == {"colorScheme": "confidence"}
    assert "0.8–1.0" in shown.legend.value
    first = shown.strip.value
    shown.residue.value = 7
    assert shown.strip.value != first
    assert "ALA 8" in shown.about.value


def test_colourings_say_what_the_table_says(made):
    from cryonb.files.scene import CLASS_COLOURS
    from cryonb.show.colourings import colourings

    residues = made[1].evaluate(made[2]).residues.copy()
    residues.loc[3, ["predicted", "correct"]] = ["strand", False]
    found = colourings(residues)
    key = tuple(residues.loc[3, ["chain", "number", "icode"]])
    assert found["prediction"][key] == CLASS_COLOURS["strand"]
    assert found["truth"][key] == CLASS_COLOURS[residues.loc[3, "truth"]]
    right = tuple(residues.loc[residues["correct"].idxmax(), ["chain", "number", "icode"]])
    assert found["agreement"][key] != found["agreement"][right]
    assert all(len(part) == len(residues) for part in found.values())


def test_what_the_scene_lacks_is_named(made, tmp_path):
    scene = made[0].view().scene
    with pytest.raises(CryonbError, match="density, but 'coil' was asked"):
        scene.set_level("coil", 0.5)
    with pytest.raises(CryonbError, match="'density' already"):
        scene.add_map(made[0], "density", level=1.0)
    with pytest.raises(CryonbError, match="none has"):
        scene.snapshot(tmp_path / "a.png")


def test_versions_that_disagree_are_refused(monkeypatch):
    import_nglview()
    monkeypatch.setattr(nglview_import, "_frontend_version", lambda: "0.1")
    with pytest.raises(CryonbError, match=r"announces version .*, but JupyterLab has 0.1"):
        import_nglview()


def test_without_nglview_there_is_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, "nglview", None)
    with pytest.raises(CryonbError, match="pip install"):
        import_nglview()


def test_worst_stretches_are_the_wrong_ones():
    import pandas as pd

    from cryonb.evaluate.secondary_structure import Evaluation
    from cryonb.volume import CLASSES

    truth = ["helix"] * 6 + ["coil"] * 3 + ["strand"] * 3
    found = ["helix"] * 2 + ["coil"] * 4 + ["coil"] * 3 + ["helix"] + ["strand"] * 2
    table = pd.DataFrame({"chain": list("AAAAAAAAAABB"), "number": range(1, 13), "truth": truth,
                          "predicted": found})  # fmt: skip
    table["correct"] = table["truth"] == table["predicted"]
    for name in CLASSES:
        table[name] = (table["predicted"] == name) * 0.7 + 0.06
    worst = Evaluation(None, table, None).worst()
    assert worst[["first", "last", "length", "row"]].to_numpy().tolist() == [
        [3, 6, 4, 4], [10, 10, 1, 9]]  # fmt: skip
    assert worst["deficit"].tolist() == pytest.approx([4 * 0.94, 0.94])
    assert worst.loc[0, ["truth", "predicted"]].tolist() == ["helix", "coil"]


def test_a_graph_is_drawn_over_its_map(made, sent):
    m, _, model = made
    graph = m.density_graph(resolution=4.0)
    shown = graph.view(model)
    assert shown.scene.names[-1] == "graph"
    script = next(call for call in sent if call[0] == "executeCode" and "NGL.Shape" in call[1][0])
    assert script[3]
    assert f"{len(graph)} nodes" in shown.graph_shown.description
    shown.graph_shown.value = False
    assert last(sent, "setVisibility")[1] == [False]
    # nglview counts it as the last part of the scene.
    assert len(shown.scene.widget._ngl_component_ids) == len(shown.scene.names)
    few = graph.select(np.arange(len(graph)) < 3)
    assert few.density is m


def test_a_field_is_drawn_on_finer_voxels(made):
    m, _, model = made
    shown = m.field().view(model)
    assert shown.density.shape[0] == 2 * m.shape[0] - 1
    assert shown.level.value == pytest.approx(m.contour)


def test_a_validation_colours_its_model(made, sent):
    m, _, model = made
    judged = m.evaluate(model, resolution=4.0)
    shown = judged.view()
    assert shown.colour.value == "q"
    shown.colour.value = "cc"
    assert last(sent)[2] == {"colorScheme": "cc"}
    assert shown.legend.value.count("span") == 10
    shown.colour.value = "bfactor"
    assert shown.legend.value == ""
    with pytest.raises(CryonbError, match="open_model"):
        m.evaluate(nb.Atoms.from_structure(model), resolution=4.0).view()


def test_scores_are_coloured_from_low_to_high():
    import pandas as pd

    from cryonb.show.score_view import score_colours

    table = pd.DataFrame({"chain": "A", "number": range(21), "icode": "", "q": np.arange(21.0)})
    table.loc[20, "q"] = np.nan
    colours, edges = score_colours(table, "q")
    assert len(colours) == 20
    assert colours["A", 0, ""] != colours["A", 19, ""]
    assert edges == sorted(edges)
    assert edges[0] == pytest.approx(0.95)
