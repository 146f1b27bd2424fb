"""A map prepared in one call: each step is found in it, and the unit makes the whole again."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.cli import main
from cryonb.errors import CryonbError, GridError
from cryonb.simulate.gaussian import gaussians

_THIRD = Rotation.from_rotvec(np.array([0.6, 0.0, 0.8]) * 2 * np.pi / 3)


@pytest.fixture(scope="module")
def three():
    """Points (image, atom, xyz) of three units, the clean map, and two noisy halves."""
    atoms = nb.Atoms.from_structure(nb.example_model("phantom"))
    unit = atoms.position - atoms.position.mean(axis=0) + [5, 26, -3]
    points = np.stack([unit, _THIRD.apply(unit), _THIRD.inv().apply(unit)])
    grid = nb.Grid.around(points.reshape(-1, 3), 2.0, 16)
    clean = gaussians(points.reshape(-1, 3), np.tile(atoms.element, 3), grid, resolution=6.0)
    rng = np.random.default_rng(2)
    halves = [
        nb.DensityMap(
            (clean.values + rng.normal(0, 0.3 * clean.std, grid.shape)).astype(np.float32), grid
        )
        for _ in range(2)
    ]
    return points, clean, halves


@pytest.fixture(scope="module")
def prepared(three):
    _, _, halves = three
    both = nb.half_maps(*halves)
    return nb.prepare(both.mean, both, orders=(2, 3), progress=False)


def test_each_step_is_told(prepared):
    assert prepared.steps["step"].tolist() == ["sharpen", "symmetry", "contour", "box"]
    assert (prepared.steps["seconds"] > 0).all()
    assert prepared.sharpening.method == "half_maps"
    assert prepared.symmetry.name == "C3"
    assert prepared.symmetry.score > 0.9
    what = prepared.steps.set_index("step")["what"]
    assert what["symmetry"].startswith("C3 about")
    assert "one unit of C3" in what["box"]
    assert all(text in repr(prepared) and text in prepared._repr_html_() for text in what[:2])


def test_the_box_holds_each_atom_once(three, prepared):
    points, clean, _ = three
    m = prepared.map
    assert m.grid.n_voxels < 0.5 * clean.grid.n_voxels
    there = np.nan_to_num(m.sample(points.reshape(-1, 3))).reshape(points.shape[:2])
    # Atoms in dense places, as the whole map shows them.
    whole = prepared.sharpening.map.sample(points.reshape(-1, 3)).reshape(points.shape[:2])
    dense = (whole > m.contour).all(axis=0)
    assert dense.mean() > 0.7
    assert (((there > 0.5 * whole).sum(axis=0) == 1)[dense]).mean() > 0.97
    # Where nothing was masked, it is the sharpened map.
    back = m.put_back(prepared.sharpening.map)
    np.testing.assert_allclose(back.values, prepared.sharpening.map.values, atol=1e-4 * m.max)


def test_without_symmetry_and_half_maps_the_density_is_boxed(three):
    points, _, _ = three
    one = points[0]
    grid = nb.Grid.around(one, 2.0, 30)
    carbon = np.full(len(one), 6)
    m = gaussians(one, carbon, grid, resolution=6.0)
    noisy = m.values + np.random.default_rng(3).normal(0, 0.2 * m.std, grid.shape)
    found = nb.prepare(
        nb.Volume(noisy.astype(np.float32), grid), resolution=6.0, orders=(2, 3), progress=False
    )
    assert found.sharpening.method == "surface"
    assert found.symmetry.name == "C1"
    assert found.box.n_voxels < 0.7 * grid.n_voxels
    inside = (one > np.array(found.box.lower)) & (one < np.array(found.box.upper))
    assert inside.all()
    assert "none" in found.steps["what"][1]


def test_the_command_writes_what_it_prepared(three, tmp_path, capsys):
    paths = [str(half.save(tmp_path / f"{k}.mrc")) for k, half in enumerate(three[2])]
    words = [
        "prepare",
        paths[0],
        "--half-maps",
        *paths,
        "--orders",
        "3",
        "--out",
        str(tmp_path / "out.mrc"),
    ]
    assert main(words) == 0
    assert "by half maps: B from" in capsys.readouterr().out
    assert nb.open_map(tmp_path / "out.mrc").max > 0


def test_bad_input_is_refused(three):
    halves = three[2]
    with pytest.raises(CryonbError, match="Two half maps"):
        nb.prepare(halves[0], halves[1])
    with pytest.raises(GridError):
        nb.prepare(halves[0].crop(shape=(20, 20, 20), start=(0, 0, 0)), halves)
    flat = halves[0].replace(np.ones(halves[0].shape, dtype=np.float32))
    with pytest.raises(CryonbError):
        nb.prepare(flat)
    with pytest.raises(CryonbError, match="density"):
        nb.prepare(nb.label_volume(nb.example_model("phantom"), halves[0].grid))
