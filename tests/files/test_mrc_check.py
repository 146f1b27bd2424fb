"""Checks of map files: what mrcfile finds, and what it lets pass."""

import mrcfile
import numpy as np
import pytest

from cryonb.files.mrc import write_map
from cryonb.files.mrc_check import check_mrc
from cryonb.grid import Grid
from cryonb.volume import Volume


@pytest.fixture
def path(tmp_path, rng):
    values = rng.random((6, 7, 8), dtype=np.float32)
    volume = Volume(values, Grid((6, 7, 8), 1.0, (3.0, -2.0, 5.0)))
    return write_map(volume, tmp_path / "map.mrc")


def test_what_we_write_is_sound(path):
    assert check_mrc(path) == []


def set_nversion(mrc):
    mrc.header.nversion = 1


def set_stamp(mrc):
    mrc.header.machst = (1, 2, 3, 4)


def set_labels(mrc):
    mrc.header.nlabl = 3


def set_rms(mrc):
    mrc.header.rms = 5


def set_axes(mrc):
    mrc.header.mapc = 7


def set_cell(mrc):
    mrc.header.cella = (0, 0, 0)


def set_angles(mrc):
    mrc.header.cellb = (90, 100, 90)


def set_group(mrc):
    mrc.header.ispg = 5


def set_intervals(mrc):
    mrc.header.mx = 9


def set_start(mrc):
    mrc.header.nxstart = 50


def set_nan(mrc):
    mrc.data[1, 2, 3] = np.nan
    for name, value in (("dmin", 0), ("dmax", -1), ("dmean", -2), ("rms", -1)):
        mrc.header[name] = value  # marked as unknown


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (set_nversion, "version"),
        (set_stamp, "machine stamp"),
        (set_labels, "nlabl"),
        (set_rms, "statistics"),
        (set_axes, "axis mapping"),
        (set_cell, "not positive"),
        (set_angles, "angles"),
        (set_group, "space group is 5"),
        (set_intervals, "intervals"),
        (set_start, "disagree"),
        (set_nan, "not finite"),
    ],
)
def test_each_fault_is_told(path, spoil, text):
    with mrcfile.open(path, "r+") as mrc:
        spoil(mrc)
    assert any(text in one for one in check_mrc(path)), check_mrc(path)


@pytest.mark.parametrize("change", [b"", b"tail"])
def test_a_file_of_another_length_is_told(path, change):
    raw = path.read_bytes()
    path.write_bytes(raw + change if change else raw[:-8])
    assert any("larger" in one or "cannot be read" in one for one in check_mrc(path)), check_mrc(
        path
    )


def test_what_is_no_map_is_told_and_what_is_missing_raises(tmp_path):
    (tmp_path / "text").write_text("not a map")
    assert check_mrc(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        check_mrc(tmp_path / "none")
