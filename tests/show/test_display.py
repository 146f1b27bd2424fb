"""What a browser is sent: the bytes say where and how high the density is."""

import gzip

import mrcfile
import numpy as np
import pytest

from cryonb.grid import Grid
from cryonb.show.display import display_map, model_text
from cryonb.simulate import phantom
from cryonb.volume import Volume


def read_back(shown, folder):
    """Read as NGL does: position from ORIGIN, int8 scaled to minimum and maximum."""
    path = folder / "a.mrc"
    path.write_bytes(gzip.decompress(shown.data))
    with mrcfile.open(path, permissive=True) as file:
        header = file.header
        values = file.data.astype(float)
        size = tuple(float(file.voxel_size[k]) for k in "xyz")
    assert int(header.mode) == 0
    assert (header.nxstart, header.nystart, header.nzstart) == (0, 0, 0)
    low, high = float(header.dmin), float(header.dmax)
    grid = Grid(values.shape, size, tuple(float(header.origin[k]) for k in "xyz"))
    return low + (values + 128) / 255 * (high - low), grid, header


@pytest.fixture
def volume(rng):
    shape = (30, 24, 36)
    values = rng.normal(0, 0.01, shape)
    values[10:16, 9:17, 20:30] += rng.uniform(0.5, 1, (6, 8, 10))
    return Volume(values.astype(np.float32), Grid(shape, (1.1, 1.2, 1.3), (-4.0, 5.0, 6.5)))


def test_values_and_places_survive(volume, tmp_path):
    shown = display_map(volume)
    values, grid, header = read_back(shown, tmp_path)
    assert grid.is_close(shown.grid)
    floor = volume.mean + 0.5 * volume.std
    index = np.argwhere(np.ones(grid.shape, dtype=bool))
    there = volume.sample(grid.to_points(index)).reshape(grid.shape)
    step = (volume.max - floor) / 255
    np.testing.assert_allclose(values, np.maximum(there, floor), atol=0.51 * step)
    # Everything above the floor is still there.
    assert (values > 0.3).sum() == (volume.values > 0.3).sum()
    assert float(header.dmean) == pytest.approx(volume.mean)
    assert float(header.rms) == pytest.approx(volume.std)
    assert "of 30 × 24 × 36 voxels" in shown.note


def test_large_maps_are_averaged(volume, tmp_path):
    shown = display_map(volume, floor=-1.0, ceiling=1.0, most=18)
    values, grid, _ = read_back(shown, tmp_path)
    assert grid.shape == (15, 12, 18)
    assert "averaged over 2³" in shown.note
    expected = volume.values.reshape(15, 2, 12, 2, 18, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(values, expected, atol=1.01 / 255)
    # The first block's middle is half a voxel from the first voxel.
    np.testing.assert_allclose(
        grid.origin, np.array([-4.0, 5.0, 6.5]) + np.array([1.1, 1.2, 1.3]) / 2
    )


def test_probabilities_are_met_to_a_percent(tmp_path):
    values = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10)
    shown = display_map(Volume(values, Grid((10, 10, 10))), floor=0.0, ceiling=1.0)
    found, _, _ = read_back(shown, tmp_path)
    # Where nothing is cut away, nothing is said.
    assert shown.note == ""
    np.testing.assert_allclose(found, values, atol=0.0021)


def test_a_constant_map_is_no_error():
    assert display_map(Volume(np.ones((4, 4, 4), np.float32), Grid((4, 4, 4)))).note == ""


def test_models_are_written_whole():
    import gemmi

    structure = phantom.alpha_helix(6).structure
    structure[0][0].name = "Long"
    text = model_text(structure)
    again = gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
    assert again[0][0].name == "Long"
    assert again[0].count_atom_sites() == structure[0].count_atom_sites()
