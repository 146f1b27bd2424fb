"""Maps in the MRC/CCP4 format: the only module that sees an MRC header (with `mrc_header`)."""

from __future__ import annotations

import bz2
import gzip
import shutil
import warnings
import zlib
from pathlib import Path

import mrcfile
import mrcfile.utils
import numpy as np

from cryonb.errors import CryonbWarning, GridError, MapFormatError
from cryonb.files.atomic import written_beside
from cryonb.files.mrc_header import (
    FRAMES,
    HEADER_SIZE,
    MODES,
    MapHeader,
    parse_header,
    repaired,
    triple_text,
)
from cryonb.grid import Grid
from cryonb.volume import LabelVolume, Volume

__all__ = ["FRAMES", "MapHeader", "map_header", "read_map", "write_map"]

# Compressed data that claim to grow by more than this are counted before memory is taken.
_PLAUSIBLE_GROWTH = 200
_BLOCK = 1 << 22
_DAMAGED = (EOFError, OSError, zlib.error)


def map_header(path) -> MapHeader:
    """Read the header of a map, without its values.

    Parameters
    ----------
    path : path-like
        As for `read_map`.

    Returns
    -------
    MapHeader

    Raises
    ------
    MapFormatError
        If the file is not a map.
    """
    path = Path(path)
    with _open(path)[0] as stream:
        return _read_header(stream, path)


def read_map(path, *, frame: str = "auto", reorthogonalize: bool = False) -> Volume:
    """Read a map in the MRC/CCP4 format.

    Parameters
    ----------
    path : path-like
        Plain, gzipped or bzipped (told from the content). Any axis order, any byte order, modes
        0, 1, 2, 6 and 12.
    frame : {"auto", "origin", "nstart", "sum", "none"}
        Where the first voxel lies. "auto": by the words ORIGIN (in Å) if any of them is not zero,
        else by NSTART times the voxel size. "origin" and "nstart" take that one alone, "sum"
        their sum, "none" puts the voxel at 0, 0, 0.
    reorthogonalize : bool
        Whether to resample a map with oblique cell axes, trilinearly, to an orthogonal grid that
        holds all of it (0 where the map says nothing). Otherwise such a map is refused.

    Returns
    -------
    Volume
        float32 values in the order (z, y, x). Values that are not finite become 0, with a
        warning.

    Raises
    ------
    MapFormatError
        If the file is not a map, is cut off, claims more than it holds, or holds something that
        is not one real-valued volume on an orthogonal grid; the message says which.
    OSError
        If the file is missing or cannot be opened.

    Warns
    -----
    FrameWarning
        If ORIGIN and NSTART are both set and disagree.
    HeaderWarning
        If the header was wrong in a way that could be repaired.
    """
    path = Path(path)
    stream, packed = _open(path)
    with stream:
        header = _read_header(stream, path)
        position = header.position(frame, warn=True)
        if not header.orthogonal and not reorthogonalize:
            raise MapFormatError(
                f"Cell angles of 90° were expected, but those of {path.name} are "
                f"{triple_text(header.angles)}°, as in a crystal; read it with "
                f"reorthogonalize=True to resample it to an orthogonal grid."
            )
        values = _read_values(stream, header, path, packed)
    grid = Grid(header.shape, header.voxel_size, position)
    history = [f"read from {path.name}"]
    if not header.orthogonal:
        values, grid = _orthogonalize(values, header, position)
        history.append("resampled from oblique axes")
    return Volume._adopt(values, grid, name=_stem(path), history=tuple(history))


def write_map(volume: Volume, path, *, mode: int | None = None) -> Path:
    """Write a map, atomically.

    Parameters
    ----------
    volume : Volume or LabelVolume
        What to write.
    path : path-like
        A suffix of .gz or .bz2 compresses.
    mode : {0, 1, 2, 6, 12}, optional
        Type of the stored numbers: int8, int16, float32, uint16, float16. Default: 2, and for
        labels the smallest that holds them.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    MapFormatError
        If the values do not fit the mode, or the volume has classes on a first axis.

    Notes
    -----
    ORIGIN is always set; NSTART is set too where the position is a whole number of voxels, and
    is 0 otherwise, so that both readings agree or only one is offered. The header holds single
    precision: positions and spacings keep seven digits.
    """
    path = Path(path)
    grid = volume.grid
    if volume.values.ndim != 3:
        raise MapFormatError(
            f"One value a voxel was expected, but the volume's shape is {volume.values.shape}; "
            f'write one class at a time, such as probabilities["helix"].'
        )
    values = _as_mode(volume, mode)
    lower = np.array(grid.origin)
    steps = lower / np.array(grid.voxel_size)
    whole = np.abs(steps - np.rint(steps)).max() < 1e-4 and np.abs(steps).max() < 2**31
    with written_beside(path) as temporary:
        with mrcfile.new(temporary, overwrite=True) as mrc:
            mrc.set_data(values)
            mrc.set_volume()
            mrc.header.cella = tuple(grid.extent)
            mrc.header.origin = tuple(lower)
            mrc.nstart = tuple(np.rint(steps).astype(int).tolist()) if whole else (0, 0, 0)
            # mrcfile's own label carries the time of day: the same map shall give the same file.
            mrc.header.nlabl = 1
            mrc.header.label[0] = b"Written by cryonb"
            mrc.header.label[1:] = b""
        _compress(temporary, path)
    return path


# ---- reading ---------------------------------------------------------------------------------


def _open(path: Path):
    """Open a file and the compression around it: a byte stream, and whether it is compressed."""
    with path.open("rb") as stream:
        start = stream.read(3)
    if start[:2] == b"\x1f\x8b":
        return gzip.open(path), True
    if start == b"BZh":
        return bz2.open(path), True
    return path.open("rb"), False


def _read_header(stream, path: Path) -> MapHeader:
    try:
        raw = stream.read(HEADER_SIZE)
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    return parse_header(raw, path)


def _read_values(stream, header: MapHeader, path: Path, packed: bool) -> np.ndarray:
    """Read the values as float32 (z, y, x), once it is certain that the file can hold them."""
    # The file's array is (section, row, column), and each of these is x (1), y (2) or z (3).
    along = header.axes[::-1]
    in_file = tuple(header.shape[3 - axis] for axis in along)
    dtype = mrcfile.utils.dtype_from_mode(header.mode).newbyteorder(header.byte_order)
    needed = int(np.prod(in_file, dtype=object)) * dtype.itemsize
    total = header.data_offset + needed
    size = path.stat().st_size
    try:
        if not packed:
            if size < total:
                raise _cut_off(path, header, total, size)
        elif total > _PLAUSIBLE_GROWTH * size:
            found = _count(stream, total)
            if found < total:
                raise _cut_off(path, header, total, found)
        stream.seek(header.data_offset)
        flat = np.empty(needed // dtype.itemsize, dtype)
        view = flat.view(np.uint8).data
        filled = 0
        while filled < needed:
            # By blocks: a decompressor would first hold all that it is asked for.
            got = stream.readinto(view[filled : filled + _BLOCK])
            if not got:
                raise _cut_off(path, header, total, header.data_offset + filled)
            filled += got
        if stream.read(1):
            repaired(path, "fewer values than the file", "the rest of the file is ignored")
    except MapFormatError:
        raise
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    values = flat.reshape(in_file).transpose([along.index(axis) for axis in (3, 2, 1)])
    values = np.ascontiguousarray(values, dtype=np.float32)
    # The sum of finite float32 values cannot overflow in float64, so one pass tells.
    if not np.isfinite(values.sum(dtype=np.float64)):
        bad = ~np.isfinite(values)
        if bad.all():
            raise MapFormatError(f"Finite values were expected, but {path.name} holds none.")
        warnings.warn(
            f"{np.count_nonzero(bad)} of {values.size} values of {path.name} are not finite; "
            f"they are read as 0.",
            CryonbWarning,
            stacklevel=3,
        )
        values = np.where(bad, np.float32(0), values)
    return values


def _count(stream, enough: int) -> int:
    """Count the bytes of a stream, up to about `enough`, without keeping them."""
    stream.seek(0)
    found = 0
    while found < enough and (block := stream.read(_BLOCK)):
        found += len(block)
    return found


def _orthogonalize(values, header: MapHeader, position) -> tuple[np.ndarray, Grid]:
    """Resample values on oblique axes to an orthogonal grid around all of them."""
    from scipy.ndimage import affine_transform

    step = header.step
    last = np.array(header.shape[::-1]) - 1.0
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * last
    try:
        grid = Grid.around(corners @ step.T + position, header.voxel_size)
    except GridError as error:
        raise MapFormatError(
            f"Cell angles of a possible cell were expected, but the header claims "
            f"{triple_text(header.angles)}°."
        ) from error
    # From an index of the new grid to one of the old, both in array order (z, y, x).
    inverse = np.linalg.inv(step)
    matrix = (inverse @ np.diag(grid.voxel_size))[::-1, ::-1]
    offset = (inverse @ (grid.lower - position))[::-1]
    out = affine_transform(
        values, matrix, offset, output_shape=grid.shape, output=np.float32, order=1, cval=0.0
    )
    return out, grid


# ---- writing ---------------------------------------------------------------------------------


def _as_mode(volume: Volume, mode: int | None) -> np.ndarray:
    """Convert the values to the numbers of a mode, if that loses no more than rounding."""
    values = volume.values
    if mode is None:
        mode = 2
        if isinstance(volume, LabelVolume):
            mode = next((m for m in (0, 1, 6) if _fits(values, m)), 2)
    if mode not in MODES:
        raise MapFormatError(f"mode must be 0, 1, 2, 6 or 12, but was {mode!r}.")
    if not _fits(values, mode):
        raise MapFormatError(
            f"Values that fit mode {mode} ({mrcfile.utils.dtype_from_mode(mode)}) were expected, "
            f"but they reach from {volume.min:.6g} to {volume.max:.6g}"
            f"{'' if mode == 12 else ' or are not whole numbers'}; write mode 2 instead."
        )
    return values.astype(mrcfile.utils.dtype_from_mode(mode))


def _fits(values: np.ndarray, mode: int) -> bool:
    dtype = mrcfile.utils.dtype_from_mode(mode)
    if mode == 2:
        # Integers beyond 2**24 are not exact in single precision.
        return values.dtype.kind == "f" or int(np.abs(values.astype(np.int64)).max()) <= 2**24
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    if values.min() < limits.min or values.max() > limits.max:
        return False
    return dtype.kind == "f" or values.dtype.kind != "f" or bool((values == np.rint(values)).all())


def _compress(temporary: Path, path: Path) -> None:
    """Compress a file in place if the final name asks for it."""
    suffix = path.suffix.lower()
    if suffix not in (".gz", ".bz2"):
        return
    packed = temporary.with_suffix(".packed")
    try:
        with temporary.open("rb") as source, packed.open("wb") as target:
            if suffix == ".gz":
                # Densities hardly shrink: level 9 saves less than 1 % more.
                stream = gzip.GzipFile("", "wb", 4, target, mtime=0)
            else:
                stream = bz2.BZ2File(target, "wb")
            with stream:
                shutil.copyfileobj(source, stream, _BLOCK)
        packed.replace(temporary)
    finally:
        packed.unlink(missing_ok=True)


# ---- messages --------------------------------------------------------------------------------


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".gz", ".bz2", ".mrc", ".map", ".ccp4"):
        name = name.removesuffix(suffix)
    return name


def _damaged(path: Path, error: BaseException) -> MapFormatError:
    return MapFormatError(
        f"A complete file was expected, but {path.name} is cut off or damaged ({error}); "
        f"fetch it again."
    )


def _cut_off(path: Path, header: MapHeader, needed: int, found: int) -> MapFormatError:
    size = " × ".join(map(str, header.shape))
    return MapFormatError(
        f"{needed} bytes were expected for a map of {size} voxels, but {path.name} holds "
        f"{found}: it is cut off, or its header is wrong."
    )
