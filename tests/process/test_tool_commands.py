"""The map tools on the command line."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.cli import main
from cryonb.files.model import write_model
from cryonb.simulate.fourier import fourier_map
from cryonb.simulate.gaussian import gaussians


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    model = nb.example_model("phantom")
    grid = nb.Grid.around(nb.Atoms.from_structure(model).position, 1.0, 8.0)
    clean = fourier_map(model, grid, resolution=2.8)
    noise = np.random.default_rng(1).normal(0, 0.3 * clean.std, grid.shape).astype(np.float32)
    nb.DensityMap(clean.values + noise, grid).save(folder / "map.mrc")
    write_model(model, folder / "whole.cif")
    cut = model.clone()
    del cut[0][0][3]
    write_model(cut, folder / "cut.cif")
    return folder


def run(folder, *words):
    """Run a command; names of files in the folder stand for themselves."""
    return main([str(folder / w) if w.endswith((".mrc", ".cif")) else w for w in words])


def test_a_box_is_written_where_it_was(files, capsys):
    assert run(files, "box", "map.mrc", "--model", "cut.cif", "--out", "box.mrc") == 0
    box, m = nb.open_map(files / "box.mrc"), nb.open_map(files / "map.mrc")
    middle = box.grid.to_points(np.array(box.shape) // 2)[None]
    np.testing.assert_allclose(box.sample(middle, order=0), m.sample(middle, order=0))
    assert "wrote" in capsys.readouterr().out


def test_a_difference_lists_what_is_missing(files, capsys):
    words = ("difference", "map.mrc", "cut.cif", "--resolution", "2.8", "--out", "left.mrc")
    assert run(files, *words, "--peaks", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["kind", "sigma"]
    assert len(lines) == 5
    x, y, z = (float(word) for word in lines[2].split()[2:5])
    gone = nb.open_model(files / "whole.cif")[0][0][3]
    assert min(np.linalg.norm(np.subtract(a.pos.tolist(), (x, y, z))) for a in gone) < 1.5
    assert nb.open_map(files / "left.mrc").max > 5


def test_waters_are_written_into_a_model(files, capsys):
    words = ("waters", "map.mrc", "cut.cif", "--resolution", "2.8", "--threshold", "4.5")
    assert run(files, *words, "--out", "wet.cif") == 0
    count = int(capsys.readouterr().out.split()[0])
    wet, dry = (nb.open_model(files / name) for name in ("wet.cif", "cut.cif"))
    assert wet[0].count_atom_sites() - dry[0].count_atom_sites() == count


def test_symmetry_is_said_and_applied(files, capsys):
    turn = Rotation.from_euler("ZX", [20, 35], degrees=True)
    third = Rotation.from_rotvec(turn.apply([0, 0, 2 * np.pi / 3]))
    atoms = nb.Atoms.from_structure(nb.example_model("phantom"))
    unit = turn.apply(atoms.position - atoms.position.mean(axis=0) + [25, 5, 8])
    points = np.concatenate([unit, third.apply(unit), third.inv().apply(unit)])
    grid = nb.Grid.around(points, 2.5, 12)
    clean = gaussians(points, np.tile(atoms.element, 3), grid, resolution=7.0).values
    noise = np.random.default_rng(3).normal(0, 0.2 * clean.std(), grid.shape).astype(np.float32)
    nb.DensityMap(clean + noise, grid).save(files / "three.mrc")
    words = ("symmetry", "three.mrc", "--resolution", "7", "--orders", "2", "3")
    assert run(files, *words, "--symmetrize", "mean.mrc") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("symmetry C3 about")
    assert float(lines[1].split()[-1]) > 0.9
    axis = np.array([float(word) for word in lines[3].split()[1:]])
    assert abs(axis @ turn.apply([0, 0, 1])) > 0.9995
    # The average has less noise than the map.
    after = nb.open_map(files / "mean.mrc").values - clean
    assert after.std() < 0.75 * noise.std()
    assert run(files, "symmetry", "three.mrc", "--contour", "1e9") == 2
    assert "lower contour" in capsys.readouterr().err


def test_maps_are_combined(files, capsys):
    words = ("combine", "--map", "map.mrc", "map.mrc", "--guide", "whole.cif", "cut.cif")
    assert run(files, *words, "--resolution", "2.8", "--out", "both.mrc") == 0
    both, m = nb.open_map(files / "both.mrc"), nb.open_map(files / "map.mrc")
    assert np.corrcoef(both.values.ravel(), m.values.ravel())[0, 1] > 0.999
    assert run(files, *words[:-1], "--resolution", "2.8") == 2
    assert "a guide for each" in capsys.readouterr().err
