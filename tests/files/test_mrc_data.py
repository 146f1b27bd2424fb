"""Deposited maps with the traps that they carry; skipped without CRYONB_DATA."""

import gzip
import warnings

import gemmi
import mrcfile
import numpy as np
import pandas as pd
import pytest

from cryonb.atoms import Atoms
from cryonb.errors import HeaderWarning, MapFormatError
from cryonb.files.model import read_model
from cryonb.files.mrc import map_header, read_map

pytestmark = pytest.mark.data

OBLIQUE = {"8216/emd_8216.map.gz", "3001/EMD-3001.map.gz"}


@pytest.fixture(scope="module")
def rows(data):
    return pd.read_csv(data / "maps" / "INDEX.csv").set_index("map")


def _triple(text):
    return [float(part) for part in str(text).split("/")]


def _read(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeaderWarning)
        return read_map(path, **options)


def test_every_map_has_the_shape_and_place_of_the_index(data, rows):
    read = 0
    for name, row in rows.iterrows():
        if name in OBLIQUE:
            continue
        volume = _read(data / "maps" / name)
        read += 1
        assert volume.shape[::-1] == tuple(int(n) for n in row.shape_xyz.split("x")), name
        np.testing.assert_allclose(volume.voxel_size, _triple(row.voxel), atol=1e-3)
        origin = _triple(row.origin)
        if not any(origin):
            origin = np.array(_triple(row.nstart)) * volume.voxel_size
        np.testing.assert_allclose(volume.origin, origin, atol=2e-3, err_msg=name)
        axes = "".join(map(str, _header(data / "maps" / name).axes))
        assert axes == str(row["axes"]), name
    assert read >= 22


def _header(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeaderWarning)
        return map_header(path)


def test_every_model_lies_in_the_density_of_its_map(data, rows):
    # In the right frame Cα atoms sit in strong density; INDEX.csv holds the values of another
    # reader, in standard deviations.
    judged = rows[rows.model.notna() & rows.ca_mean_sigma.notna()]
    assert len(judged) >= 18
    for name, row in judged.iterrows():
        volume = _read(data / "maps" / name)
        atoms = Atoms.from_structure(read_model(data / "maps" / row.model))
        trace = atoms.select((atoms.role == 2) | (atoms.role == 5))
        found = volume.sample(trace.position)
        z = (np.nanmean(found) - volume.mean) / volume.std
        assert z > 0.75 * row.ca_mean_sigma, (name, z)


def test_gemmi_and_mrcfile_read_the_same_values(data, rows):
    compared = 0
    for name in rows.index:
        if name in OBLIQUE or name.startswith("6374"):
            continue  # gemmi refuses the machine stamp of 6374
        path = data / "maps" / name
        volume = _read(path)
        theirs = gemmi.read_ccp4_map(str(path))
        theirs.setup(np.nan, gemmi.MapSetup.ReorderOnly)
        assert np.array_equal(np.array(theirs.grid, copy=False).T, volume.values), name
        with mrcfile.open(path, permissive=True) as mrc:
            axes = [int(word) for word in (mrc.header.maps, mrc.header.mapr, mrc.header.mapc)]
            stored = mrc.data.transpose([axes.index(axis) for axis in (3, 2, 1)])
            assert np.array_equal(stored, volume.values), name
        compared += 1
    assert compared >= 20


def test_both_frames_set_and_agreeing(data):
    # 6374 carries the same shift twice, and a machine stamp of zeros.
    path = data / "maps" / "6374" / "6374.mrc.gz"
    with pytest.warns(HeaderWarning, match="machine stamp") as caught:
        volume = read_map(path)
    assert len(caught) == 1
    np.testing.assert_allclose(volume.origin, (-119.232, -80.592, 242.88), atol=1e-4)
    assert _read(path, frame="nstart").grid.is_close(volume.grid)
    np.testing.assert_allclose(_read(path, frame="sum").origin, 2 * np.array(volume.origin))


def test_framed_by_nstart_alone(data, tmp_path):
    raw = bytearray(gzip.decompress((data / "maps" / "6374" / "6374.mrc.gz").read_bytes()))
    raw[196:208] = bytes(12)
    raw[212:216] = b"DD\0\0"
    path = tmp_path / "nstart.mrc"
    path.write_bytes(raw)
    volume = read_map(path)
    np.testing.assert_allclose(volume.origin, (-119.232, -80.592, 242.88), atol=1e-4)


@pytest.mark.parametrize("name", sorted(OBLIQUE))
def test_crystals_are_refused_or_resampled(data, name):
    path = data / "maps" / name
    with pytest.raises(MapFormatError, match="as in a crystal"):
        read_map(path)
    volume = read_map(path, reorthogonalize=True)
    theirs = gemmi.read_ccp4_map(str(path))
    theirs.setup(0.0, gemmi.MapSetup.Full)
    # Away from the rim of the deposited box, gemmi's interpolation in the cell is the same.
    header = map_header(path)
    index = np.random.default_rng(1).uniform(2, np.array(header.shape[::-1]) - 3, (300, 3))
    points = (index + header.nstart) @ header.step.T
    ours = volume.sample(points)
    expected = np.array([theirs.grid.interpolate_value(gemmi.Position(*p)) for p in points])
    # Ours interpolates twice (to the new grid, then to the points), so it is a little smoother.
    assert np.corrcoef(ours, expected)[0, 1] > 0.95
