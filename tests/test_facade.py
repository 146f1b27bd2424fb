"""The facade, the figures and the command line, on the embedded example."""

import json
from importlib.util import find_spec

import matplotlib as mpl
import numpy as np
import pytest

import cryonb as nb
from cryonb import cli
from cryonb.errors import CryonbError
from cryonb.networks import weights


def _need_nglview():
    """Skip where rhodopsin's model is not; importing nglview is the viewer's business."""
    if find_spec("nglview") is None:
        pytest.skip("rhodopsin's model comes with nglview")


@pytest.fixture(scope="module")
def m():
    return nb.example()


@pytest.fixture(scope="module")
def sse(m):
    return m.predict_sse(device="cpu", progress=False)


def test_methods_keep_the_kind_and_what_is_known(m):
    cut = m.crop(model=nb.example_model(), margin=5.0).resample(1.5)
    assert type(cut) is type(m)
    assert cut.resolution == m.resolution == 4.0
    assert cut.voxel_size == (1.5, 1.5, 1.5)
    assert len(cut.history) == len(m.history) + 2
    assert m.normalize().contour is None
    assert m.contour is not None


def test_prediction_lies_on_the_grid_of_the_map(m, sse):
    assert sse.grid == m.grid
    np.testing.assert_allclose(sse.values.sum(axis=0, dtype=np.float32), 1, atol=4e-3)
    coarse = m.resample(1.3)
    found = coarse.predict_sse(device="cpu", progress=False)
    assert found.grid == coarse.grid
    unit = coarse.predict_sse(device="cpu", progress=False, on="network")
    assert unit.voxel_size == (1.0, 1.0, 1.0)


def test_background_can_count_as_coil(sse):
    counted = sse.background_as_coil()
    assert type(counted) is type(sse)
    assert counted.density is sse.density
    assert not counted["background"].values.any()
    expected = sse["coil"].values.astype(np.float32) + sse["background"].values
    np.testing.assert_allclose(counted["coil"].values, expected, atol=1e-3)
    np.testing.assert_array_equal(counted["helix"].values, sse["helix"].values)
    assert sse["background"].max > 0.9


def test_scale_and_normalisation_do_not_matter(m, sse):
    again = m.normalize().predict_sse(device="cpu", progress=False)
    np.testing.assert_allclose(again.values.astype(float), sse.values.astype(float), atol=0.02)


def test_the_example_is_understood(sse):
    summary = sse.evaluate(nb.example_model()).summary
    assert summary["q3"] > 0.65
    assert summary["f1_helix"] > 0.85
    assert summary["f1_strand"] > 0.8
    assert summary["f1_nucleotide"] > 0.55


def test_rhodopsin_is_understood():
    _need_nglview()
    sse = nb.example("rhodopsin").predict_sse(device="cpu", progress=False)
    summary = sse.evaluate(nb.example_model("rhodopsin")).summary
    assert summary["q3"] > 0.8
    assert summary["f1_helix"] > 0.85


def test_prediction_of_nothing_is_refused(m):
    with pytest.raises(CryonbError, match="positive density"):
        m.replace(values=-np.abs(m.values)).predict_sse(progress=False)
    with pytest.raises(CryonbError, match="'input' or 'network'"):
        m.predict_sse(on="moon")


def test_results_are_saved_in_files_that_others_open(sse, tmp_path):
    import mrcfile

    written = sse.save(tmp_path, stem="e")
    names = {path.name for path in written}
    assert names == {
        "e_helix.mrc", "e_strand.mrc", "e_coil.mrc", "e_nucleotide.mrc", "e_sse.npz", "e_sse.cxc",
        "e_sse.pml", "e_sse.mvsx",
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == names
    with mrcfile.open(tmp_path / "e_helix.mrc") as file:
        np.testing.assert_allclose(file.data, sse["helix"].values)
    back = nb.open_map(tmp_path / "e_helix.mrc")
    assert back.grid.is_close(sse.grid)
    with np.load(tmp_path / "e_sse.npz") as stored:
        assert stored["probabilities"].shape == sse.values.shape
        assert list(stored["classes"]) == list(sse.classes)
    script = (tmp_path / "e_sse.cxc").read_text()
    assert "e_helix.mrc" in script


def test_figures_draw_and_leave_matplotlib_alone(m, sse, tmp_path):
    before = dict(mpl.rcParams)
    evaluation = sse.evaluate(nb.example_model())
    for figure in (m.plot(), sse.plot(), evaluation.plot()):
        data = figure._repr_png_()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 10_000
    assert dict(mpl.rcParams) == before


def test_objects_describe_themselves(m, sse):
    for thing, word in ((m, "contour level"), (sse, "nucleotide")):
        text = thing._repr_html_()
        assert word in text
        assert text.count("<img") == 3
        assert len(text) < 200_000


def test_demo_prints_the_table_and_writes_pictures(tmp_path, capsys):
    assert cli.main(["demo", "--example", "phantom", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "voxel_f1_nucleotide" in printed
    assert {"slices.png", "residues.png", "phantom_helix.mrc", "residues.csv"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_predict_evaluate_and_info_on_a_file(m, tmp_path, capsys):
    path = m.save(tmp_path / "map.mrc.gz")
    nb.example_model().write_pdb(str(tmp_path / "model.pdb"))
    assert cli.main(["info", str(path)]) == 0
    assert "sigma" in capsys.readouterr().out
    assert cli.main(["predict", str(path), "--out", str(tmp_path / "p"), "--device", "cpu"]) == 0
    assert (tmp_path / "p" / "map_strand.mrc").is_file()
    capsys.readouterr()
    model = str(tmp_path / "model.pdb")
    assert cli.main(["evaluate", str(path), model, "--out", str(tmp_path / "e")]) == 0
    assert (tmp_path / "e" / "summary.csv").is_file()


def test_predict_turns_the_map_as_often_as_it_is_told(m, tmp_path, capsys):
    path = m.save(tmp_path / "map.mrc")
    for turns in ("1", "2"):
        command = ["predict", str(path), "--out", str(tmp_path / turns), "--rotations", turns]
        assert cli.main(command) == 0
    once, twice = (nb.open_map(tmp_path / turns / "map_helix.mrc").values for turns in "12")
    assert np.corrcoef(once.ravel(), twice.ravel())[0, 1] > 0.95
    assert np.abs(once - twice).max() > 0.01
    assert cli.main(["predict", str(path), "--rotations", "25"]) == 2
    assert "1 to 24" in capsys.readouterr().err


def test_errors_are_one_line(tmp_path, capsys):
    (tmp_path / "bad.mrc").write_bytes(b"no map at all")
    assert cli.main(["info", str(tmp_path / "bad.mrc")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cryonb: ")
    assert error.count("\n") == 1
    assert cli.main(["train", str(tmp_path / "none.toml")]) == 2


def test_rhodopsin_is_an_example_where_nglview_is():
    _need_nglview()
    m = nb.example("rhodopsin")
    assert m.name == "rhodopsin"
    assert nb.Atoms.from_structure(nb.example_model("rhodopsin")).residues.name.size > 300
    with pytest.raises(CryonbError, match="phantom or rhodopsin"):
        nb.example("elephant")


@pytest.mark.parametrize("name", weights.shipped_names())
def test_shipped_weights_say_where_they_come_from(name):
    about = json.loads((weights._FOLDER / f"{name}.json").read_text())
    assert about["recipe"]["name"] == name
    assert about["recipe"]["seed"] >= 0
    assert about["steps"] > 0
    assert (weights._FOLDER / f"{name}.toml").is_file()
    assert (weights._FOLDER / f"{name}_manifest.csv").is_file()
    assert list(weights._FOLDER.glob(f"{name}*_validation.csv"))


def test_shipped_weights_are_few_and_small():
    names = {"unet", "haruspex", "emap2sec_6A", "emap2sec-dense_10A", "backbone", "enhance"}
    assert names <= set(weights.shipped_names())
    sizes = {path.name: path.stat().st_size for path in weights._FOLDER.glob("*.safetensors")}
    assert sum(sizes.values()) < 40e6, sizes
    assert json.loads((weights._FOLDER / "haruspex.json").read_text())["parameters"] == 6_034_756


def test_haruspex_finds_the_helices_of_rhodopsin():
    _need_nglview()
    model = nb.example_model("rhodopsin")
    m = nb.DensityMap.from_volume(nb.gaussian_map(model, resolution=3.5), resolution=3.5)
    sse = m.predict_sse(method="haruspex", device="cpu", progress=False).background_as_coil()
    # 0.93 when the weights were made; a network that says "helix" everywhere has 0.76.
    assert sse.evaluate(model).summary["f1_helix"] > 0.88
