"""Maps: every mode, axis order, byte order, compression and trap, against gemmi and mrcfile."""

import bz2
import gzip
import itertools
import shutil
import tracemalloc
import warnings

import gemmi
import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cryonb.errors import (
    CryonbError,
    CryonbWarning,
    FrameWarning,
    HeaderWarning,
    MapFormatError,
)
from cryonb.files.mrc import map_header, read_map, write_map
from cryonb.grid import Grid
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

ORDERS = list(itertools.permutations((1, 2, 3)))
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
# Byte offsets of header words, from the format's description (not from mrcfile's table).
NX, MODE, NSTART, M, CELL, ANGLES, AXES = 0, 12, 16, 28, 40, 52, 64
ISPG, NSYMBT, ORIGIN, MAP_ID, STAMP = 88, 92, 196, 208, 212


def raw_map(
    values,
    *,
    mode=2,
    axes=(1, 2, 3),
    order="<",
    voxel=(1.0, 2.0, 3.0),
    nstart=(0, 0, 0),
    origin=(0.0, 0.0, 0.0),
    angles=(90.0, 90.0, 90.0),
    extended=b"",
    ispg=1,
    intervals=None,
):
    """Bytes of a map, made word by word; values are (z, y, x), triples are (x, y, z)."""
    header = bytearray(1024)

    def put(offset, kind, words):
        data = np.array(words, dtype=order + kind).tobytes()
        header[offset : offset + len(data)] = data

    size = values.shape[::-1]
    intervals = intervals or size
    put(NX, "i4", [size[axis - 1] for axis in axes])
    put(MODE, "i4", [mode])
    put(NSTART, "i4", [nstart[axis - 1] for axis in axes])
    put(M, "i4", intervals)
    put(CELL, "f4", [v * m for v, m in zip(voxel, intervals, strict=True)])
    put(ANGLES, "f4", angles)
    put(AXES, "i4", axes)
    put(ISPG, "i4", [ispg])
    put(NSYMBT, "i4", [len(extended)])
    put(ORIGIN, "f4", origin)
    header[MAP_ID : MAP_ID + 4] = b"MAP "
    header[STAMP : STAMP + 4] = b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0"
    # From (z, y, x) to (section, row, column).
    in_file = values.transpose([3 - axis for axis in axes[::-1]])
    return bytes(header) + extended + in_file.astype(order + MODES[mode]).tobytes()


def patched(data, offset, words, kind="<i4"):
    words = np.array(words, dtype=kind).tobytes() if not isinstance(words, bytes) else words
    return data[:offset] + words + data[offset + len(words) :]


@pytest.fixture
def values(rng):
    return rng.integers(0, 100, size=(3, 4, 5)).astype(np.float32)


@pytest.fixture
def save(tmp_path):
    def save(data, name="a.mrc"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return save


# ---- what can be read --------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_axis_order_and_byte_order(save, values, mode, axes, order):
    path = save(raw_map(values, mode=mode, axes=axes, order=order, nstart=(4, -5, 6)))
    volume = read_map(path)
    np.testing.assert_array_equal(volume.values, values)
    assert volume.values.dtype == np.float32
    assert volume.values.flags.c_contiguous
    assert volume.grid == Grid((3, 4, 5), (1, 2, 3), (4, -10, 18))
    header = map_header(path)
    assert (header.mode, header.axes, header.byte_order) == (mode, axes, order)
    assert header.nstart == (4, -5, 6)


@pytest.mark.parametrize("mode", [0, 1, 2, 6])
@pytest.mark.parametrize("axes", ORDERS)
def test_agrees_with_gemmi_and_mrcfile(save, values, mode, axes):
    path = save(raw_map(values, mode=mode, axes=axes, nstart=(4, -5, 6)))
    volume = read_map(path)
    with mrcfile.open(path) as mrc:
        stored = np.array(mrc.data, dtype=np.float32)
        voxel = mrc.voxel_size.item()
    np.testing.assert_array_equal(
        volume.values, stored.transpose([axes[::-1].index(axis) for axis in (3, 2, 1)])
    )
    np.testing.assert_allclose(volume.voxel_size, voxel)
    theirs = gemmi.read_ccp4_map(str(path))
    theirs.setup(np.nan, gemmi.MapSetup.ReorderOnly)
    np.testing.assert_array_equal(volume.values, np.array(theirs.grid, copy=True).T)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("name", ["a.mrc", "a.map.gz", "a.bz2"])
def test_compression_is_told_from_the_content(save, values, pack, name):
    path = save(pack(raw_map(values)), name)
    np.testing.assert_array_equal(read_map(path).values, values)
    assert read_map(path).name == "a"


def test_negative_bytes_are_signed(save):
    values = np.arange(-30, 30, dtype=np.float32).reshape(3, 4, 5)
    np.testing.assert_array_equal(read_map(save(raw_map(values, mode=0))).values, values)


def test_unsigned_words_reach_beyond_signed(save):
    values = np.full((2, 2, 2), 65535, dtype=np.float32)
    np.testing.assert_array_equal(read_map(save(raw_map(values, mode=6))).values, values)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_extended_header_is_skipped(save, values, pack):
    path = save(pack(raw_map(values, extended=b"SERI" * 40)))
    np.testing.assert_array_equal(read_map(path).values, values)
    assert map_header(path).data_offset == 1024 + 160


def test_single_volume_of_an_image_stack(save, values):
    volume = read_map(save(raw_map(values, ispg=0, intervals=(5, 4, 1))))
    np.testing.assert_array_equal(volume.values, values)
    assert volume.voxel_size == (1, 2, 3)


def test_one_section(save, values):
    path = save(raw_map(values[:1], ispg=0))
    np.testing.assert_array_equal(read_map(path).values, values[:1])


def test_spacing_comes_from_the_intervals_of_the_cell(save, values):
    # A map may be wider or narrower than its cell.
    path = save(raw_map(values, intervals=(2, 40, 3), voxel=(1.5, 0.7, 1.1)))
    assert read_map(path).voxel_size == (1.5, 0.7, 1.1)


def test_labels(save, values):
    data = patched(raw_map(values), 224, b"from a microscope".ljust(80))
    assert map_header(save(data)).labels == ("from a microscope",)


# ---- where it lies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nstart", "origin", "frame", "expected"),
    [
        ((2, 3, 4), (0, 0, 0), "auto", (2, 6, 12)),
        ((0, 0, 0), (5, 6, 7), "auto", (5, 6, 7)),
        ((2, 3, 4), (2, 6, 12), "auto", (2, 6, 12)),
        # Components that cancel are still a position.
        ((0, 0, 0), (5, -5, 0), "auto", (5, -5, 0)),
        ((0, 0, 0), (0, 0, 0), "auto", (0, 0, 0)),
        ((2, 3, 4), (5, 6, 7), "origin", (5, 6, 7)),
        ((2, 3, 4), (5, 6, 7), "nstart", (2, 6, 12)),
        ((2, 3, 4), (5, 6, 7), "sum", (7, 12, 19)),
        ((2, 3, 4), (5, 6, 7), "none", (0, 0, 0)),
        ((2, 3, 4), (0, 0, 0), "origin", (0, 0, 0)),
    ],
)
def test_frame(save, values, nstart, origin, frame, expected):
    path = save(raw_map(values, nstart=nstart, origin=origin, axes=(2, 3, 1)))
    assert read_map(path, frame=frame).origin == expected


def test_disagreeing_frames_warn_with_both(save, values):
    path = save(raw_map(values, nstart=(2, 3, 4), origin=(5, 6, 7)))
    with pytest.warns(
        FrameWarning, match=r"5, 6, 7 Å by ORIGIN but at 2, 6, 12 Å by NSTART"
    ) as caught:
        assert read_map(path).origin == (5, 6, 7)
    # The warning points at the line that opened the map.
    assert caught[0].filename == __file__


def test_unknown_frame(save, values):
    with pytest.raises(MapFormatError, match="frame must be one of auto, origin"):
        read_map(save(raw_map(values)), frame="start")


# ---- what is repaired --------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("stamp", [b"\0\0\0\0", b"DA\0\0", b"\x11\x11\0\0", b"\x44\xb8\xc7\x40"])
def test_bad_machine_stamp(save, values, order, stamp):
    right = {"<": b"DA\0\0", ">": b"\x11\x11\0\0"}[order]
    path = save(patched(raw_map(values, order=order), STAMP, stamp))
    if stamp == right:
        np.testing.assert_array_equal(read_map(path).values, values)
        return
    with pytest.warns(HeaderWarning, match="machine stamp"):
        np.testing.assert_array_equal(read_map(path).values, values)


@pytest.mark.parametrize(
    ("offset", "words", "message"),
    [
        (MAP_ID, b"\0\0\0\0", "identifier"),
        (AXES, [0, 0, 0], "no axis order"),
        (ANGLES, np.zeros(3, "<f4").tobytes(), "no cell angles"),
        (M, [0, 0, 0], "intervals"),
        (ORIGIN, np.full(3, np.nan, "<f4").tobytes(), "ORIGIN"),
    ],
)
def test_header_words_that_are_repaired(save, values, offset, words, message):
    path = save(patched(raw_map(values), offset, words))
    with pytest.warns(HeaderWarning, match=message):
        volume = read_map(path)
    np.testing.assert_array_equal(volume.values, values)
    assert volume.grid == Grid((3, 4, 5), (1, 2, 3))


@pytest.mark.parametrize(("edges", "voxel"), [((0, 0, 0), 1.0), ((5 * 1.5, 0, 0), 1.5)])
def test_cell_without_edges(save, values, edges, voxel):
    path = save(patched(raw_map(values), CELL, edges, "<f4"))
    with pytest.warns(HeaderWarning, match="a voxel size of"):
        assert read_map(path).voxel_size == (voxel,) * 3


def test_bytes_after_the_end(save, values):
    with pytest.warns(HeaderWarning, match="rest of the file is ignored"):
        np.testing.assert_array_equal(read_map(save(raw_map(values) + b"junk")).values, values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_become_zero(save, values, bad):
    values[1, 2, 3] = bad
    with pytest.warns(CryonbWarning, match="1 of 60 values"):
        volume = read_map(save(raw_map(values)))
    assert volume.values[1, 2, 3] == 0
    kept = np.isfinite(values)
    np.testing.assert_array_equal(volume.values[kept], values[kept])


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "words", "message"),
    [
        (MODE, [4], "mode 4: complex"),
        (MODE, [3], "mode 3: complex"),
        (MODE, [101], "mode 101: 4-bit"),
        (MODE, [7], "claims mode 7"),
        (NX, [0, 4, 3], "claims 0 × 4 × 3"),
        (NX, [-5, 4, 3], "claims -5"),
        (AXES, [1, 1, 2], "order of the axes"),
        (NSYMBT, [-4], "extended header"),
        (ANGLES, np.float32([90, 200, 90]).tobytes(), "between 0 and 180"),
        (ANGLES, np.float32([90, 111, 90]).tobytes(), "reorthogonalize=True"),
        (ISPG, [401], "stack of volumes"),
    ],
)
def test_refused_with_a_reason(save, values, offset, words, message):
    data = raw_map(values, intervals=(5, 4, 1))
    with pytest.raises(MapFormatError, match=message):
        read_map(save(patched(data, offset, words)))


def test_no_finite_value(save):
    with pytest.raises(MapFormatError, match="holds none"):
        read_map(save(raw_map(np.full((2, 2, 2), np.nan))))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("length", [0, 3, 1000, 1024, 1100])
def test_truncated_inside(save, values, pack, length):
    with pytest.raises(MapFormatError):
        read_map(save(pack(raw_map(values)[:length])))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_truncated_or_damaged_outside(save, rng, pack):
    data = pack(raw_map(rng.normal(size=(16, 16, 16)).astype(np.float32)))
    for broken in (data[:40], data[: len(data) // 2], data[:-3]):
        with pytest.raises(MapFormatError, match="cut off or damaged"):
            read_map(save(broken))
    wrong = bytearray(data)
    wrong[len(wrong) // 2] ^= 0xFF
    with pytest.raises(MapFormatError):
        read_map(save(bytes(wrong)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("size", [(1000, 1000, 1000), (2**31 - 1,) * 3])
def test_absurd_size_fails_without_allocating(save, values, pack, size):
    path = save(pack(patched(raw_map(values), NX, size).ljust(2000, b"\0")))
    tracemalloc.start()
    try:
        with pytest.raises(MapFormatError, match="bytes were expected"):
            read_map(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_absurd_extended_header(save, values, pack):
    path = save(pack(patched(raw_map(values), NSYMBT, [2**31 - 1])))
    with pytest.raises(MapFormatError, match="bytes were expected"):
        read_map(path)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"ATOM      1  N\n" * 300, bytes(4096), b"\x89PNG" + bytes(5000)]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_other_files(save, data, pack):
    with pytest.raises(MapFormatError, match=r"A map \(MRC or CCP4\) was expected"):
        read_map(save(pack(data)))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_map(tmp_path / "nowhere.mrc")


@settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 255), word=st.binary(min_size=4, max_size=4))
def test_any_damaged_header_word_is_an_error_or_a_map(tmp_path_factory, place, word):
    path = tmp_path_factory.getbasetemp() / "damaged.mrc"
    path.write_bytes(patched(raw_map(np.ones((3, 4, 5), np.float32)), 4 * place, word))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryonbWarning)
        # Either outcome is right, silence is not.
        try:
            size = read_map(path).values.size
        except CryonbError as error:
            size = len(str(error)) - 20
    assert size > 0


# ---- oblique cells -----------------------------------------------------------------------------


def test_oblique_cell_is_resampled_on_request(save):
    # A linear function of space survives trilinear resampling exactly.
    angles, voxel, shape = (90.0, 105.0, 90.0), (0.9, 1.0, 1.1), (14, 12, 13)
    cell = gemmi.UnitCell(*voxel, *angles)
    step = np.array(cell.orth.mat.tolist())
    index = np.indices(shape)[::-1].reshape(3, -1).T
    slope = np.array([0.3, -0.2, 0.5])
    values = ((index + [3, -4, 5]) @ step.T @ slope + 20).reshape(shape).astype(np.float32)
    path = save(raw_map(values, voxel=voxel, angles=angles, nstart=(3, -4, 5), axes=(3, 1, 2)))
    volume = read_map(path, reorthogonalize=True)
    z, y, x = np.meshgrid(*volume.grid.axes()[::-1], indexing="ij")
    expected = slope[0] * x + slope[1] * y + slope[2] * z + 20
    inside = volume.values != 0
    assert inside.mean() > 0.4
    np.testing.assert_allclose(volume.values[inside], expected[inside], rtol=1e-5)
    corners = np.array(list(itertools.product((0, 12), (0, 11), (0, 13)))) + [3, -4, 5]
    assert volume.grid.contains(corners @ step.T).all()


# ---- writing -----------------------------------------------------------------------------------

numbers = st.floats(-300, 300, allow_subnormal=False)
spacings = st.floats(0.2, 12)


@settings(deadline=None, max_examples=80)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    voxel=st.tuples(*[spacings] * 3),
    origin=st.tuples(*[numbers] * 3),
    steps=st.none() | st.tuples(*[st.integers(-200, 200)] * 3),
    suffix=st.sampled_from([".mrc", ".map.gz", ".mrc.bz2"]),
    draw=st.data(),
)
def test_write_and_read_again(tmp_path_factory, shape, voxel, origin, steps, suffix, draw):
    if steps is not None:
        origin = tuple(n * v for n, v in zip(steps, voxel, strict=True))
    values = draw.draw(arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, width=32)))
    volume = Volume(values, Grid(shape, voxel, origin))
    folder = tmp_path_factory.getbasetemp()
    again = read_map(write_map(volume, folder / f"first{suffix}"))
    np.testing.assert_array_equal(again.values, values)
    assert again.grid.is_close(volume.grid)
    # Once rounded to the header's single precision, nothing changes any more.
    third = read_map(write_map(again, folder / f"second{suffix}"))
    assert third.grid == again.grid
    header = map_header(folder / f"first{suffix}")
    by_nstart = np.array(header.nstart) * voxel
    if steps is not None:
        np.testing.assert_allclose(by_nstart, origin, atol=1e-6)
    assert not by_nstart.any() or np.allclose(by_nstart, header.origin, atol=1e-3)


def test_both_frames_are_written_or_origin_alone(tmp_path, values):
    whole = Volume(values, Grid(values.shape, (1.1, 0.9, 2), (3.3, -6.3, 0)))
    header = map_header(write_map(whole, tmp_path / "a.mrc"))
    assert (header.nstart, header.origin) == ((3, -7, 0), (3.3, -6.3, 0.0))
    broken = Volume(values, Grid(values.shape, (1.1, 0.9, 2), (3.4, -6.3, 0)))
    header = map_header(write_map(broken, tmp_path / "a.mrc"))
    assert (header.nstart, header.origin) == ((0, 0, 0), (3.4, -6.3, 0.0))


def test_common_spacings_come_back_exactly(tmp_path):
    for size in (1.1, 0.822, 1.2156, 1.113, 0.65):
        volume = Volume(np.ones((7, 11, 13)), Grid((7, 11, 13), size, (size * 3, 0.1, -119.232)))
        again = read_map(write_map(volume, tmp_path / "a.mrc"))
        assert again.voxel_size == (size,) * 3
        assert again.origin[1:] == (0.1, -119.232)


def test_written_files_please_the_validator_and_gemmi(tmp_path, rng):
    volume = Volume(rng.normal(size=(4, 5, 6)), Grid((4, 5, 6), (1, 1.5, 2), (3, 4.5, -2)))
    path = write_map(volume, tmp_path / "a.mrc")
    assert mrcfile.validate(path)
    theirs = gemmi.read_ccp4_map(str(path))
    assert np.array_equal(np.array(theirs.grid, copy=True).T, volume.values)
    assert [theirs.header_i32(word) for word in (5, 6, 7)] == [3, 3, -1]
    np.testing.assert_allclose(theirs.grid.unit_cell.parameters, (6, 7.5, 8, 90, 90, 90))


@pytest.mark.parametrize("suffix", [".mrc", ".mrc.gz", ".mrc.bz2"])
def test_same_map_gives_the_same_file_and_no_other(tmp_path, values, suffix):
    volume = Volume(values, Grid(values.shape))
    one = write_map(volume, tmp_path / f"a{suffix}").read_bytes()
    two = write_map(volume, tmp_path / f"b{suffix}").read_bytes()
    assert one == two
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


@pytest.mark.parametrize("mode", MODES)
def test_written_modes(tmp_path, values, mode):
    path = write_map(Volume(values, Grid(values.shape)), tmp_path / "a.mrc", mode=mode)
    assert map_header(path).mode == mode
    np.testing.assert_array_equal(read_map(path).values, values)


@pytest.mark.parametrize(("highest", "mode"), [(4, 0), (127, 0), (128, 1), (40000, 6), (70000, 2)])
def test_labels_take_the_smallest_mode(tmp_path, highest, mode):
    labels = np.zeros((2, 2, 2), dtype=np.int32)
    labels[1, 1, 1] = highest
    path = write_map(LabelVolume(labels, Grid((2, 2, 2))), tmp_path / "a.mrc")
    assert map_header(path).mode == mode
    np.testing.assert_array_equal(read_map(path).values, labels)


@pytest.mark.parametrize(
    ("value", "mode"), [(0.5, 0), (200, 0), (-1, 6), (1e5, 12), (40000, 1), (1, 4), (1, 5)]
)
def test_values_that_do_not_fit(tmp_path, value, mode):
    volume = Volume(np.full((2, 2, 2), value), Grid((2, 2, 2)))
    with pytest.raises(MapFormatError, match="mode"):
        write_map(volume, tmp_path / "a.mrc", mode=mode)
    assert not list(tmp_path.iterdir())


def test_probabilities_are_refused_with_the_way_out(tmp_path):
    volume = ProbabilityVolume(np.ones((5, 2, 2, 2), np.float32), Grid((2, 2, 2)))
    with pytest.raises(MapFormatError, match=r'probabilities\["helix"\]'):
        write_map(volume, tmp_path / "a.mrc")


def test_old_file_stays_when_writing_fails(tmp_path, values, monkeypatch):
    path = write_map(Volume(values, Grid(values.shape)), tmp_path / "a.mrc.gz")
    before = path.read_bytes()

    def full(*_args):
        raise OSError("disk full")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="disk full"):
        write_map(Volume(values + 1, Grid(values.shape)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
