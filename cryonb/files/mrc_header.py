"""The header of a map in the MRC/CCP4 format: what it says, and what can be repaired in it.

Only `cryonb.files.mrc` uses this. The words are found with mrcfile's tables; the format is
described in Cheng et al. 2015, doi:10.1016/j.jsb.2015.04.002.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import mrcfile.dtypes
import mrcfile.utils
import numpy as np

from cryonb.errors import FrameWarning, HeaderWarning, MapFormatError

__all__ = ["FRAMES", "HEADER_SIZE", "MODES", "MapHeader", "parse_header", "repaired", "triple_text"]

#: Ways to read where a map lies; see `read_map`.
FRAMES = ("auto", "origin", "nstart", "sum", "none")

HEADER_SIZE = 1024
#: Types of stored numbers that are read and written.
MODES = (0, 1, 2, 6, 12)
_REFUSED_MODES = {
    3: "complex whole numbers, a Fourier transform and not a density",
    4: "complex numbers, a Fourier transform and not a density",
    101: "4-bit numbers of detector movies",
}


@dataclass(frozen=True)
class MapHeader:
    """What the header of a map says, with axes in the order x, y, z unless said otherwise.

    Attributes
    ----------
    shape : tuple of int
        Number of voxels along (z, y, x).
    mode : int
        Type of the stored numbers.
    axes : tuple of int
        Which axis (1 x, 2 y, 3 z) the columns, rows and sections of the file follow.
    voxel_size : tuple of float
        Cell edge over number of intervals, in Å.
    angles : tuple of float
        Cell angles in degrees.
    nstart : tuple of int
        Index of the first voxel.
    origin : tuple of float
        The words ORIGIN, in Å.
    space_group : int
        The word ISPG.
    statistics : dict
        min, max, mean and rms as the header claims them.
    labels : tuple of str
        The text lines.
    byte_order : str
        "<" or ">".
    data_offset : int
        Bytes before the first value.
    """

    shape: tuple[int, int, int]
    mode: int
    axes: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    angles: tuple[float, float, float]
    nstart: tuple[int, int, int]
    origin: tuple[float, float, float]
    space_group: int
    statistics: dict = field(hash=False)
    labels: tuple[str, ...]
    byte_order: str
    data_offset: int

    @property
    def orthogonal(self) -> bool:
        """Whether all cell angles are 90°."""
        return all(abs(angle - 90.0) <= 0.01 for angle in self.angles)

    @property
    def step(self) -> np.ndarray:
        """Matrix (3, 3) that takes an (x, y, z) index to Å."""
        if self.orthogonal:
            return np.diag(self.voxel_size)
        import gemmi

        cell = gemmi.UnitCell(*self.voxel_size, *self.angles)
        return np.array(cell.orth.mat.tolist())

    def position(self, frame: str = "auto", *, warn: bool = False) -> tuple[float, float, float]:
        """Centre of the first voxel, (x, y, z) in Å, as `frame` reads it (see `read_map`)."""
        if frame not in FRAMES:
            raise MapFormatError(f"frame must be one of {', '.join(FRAMES)}, but was {frame!r}.")
        by_origin = np.array(self.origin)
        by_nstart = self.step @ np.array(self.nstart, dtype=np.float64)
        if frame == "auto":
            frame = "origin" if by_origin.any() else "nstart"
            differ = np.abs(by_origin - by_nstart) > 0.05 * np.array(self.voxel_size)
            if warn and by_origin.any() and by_nstart.any() and differ.any():
                warnings.warn(
                    f"The header places the first voxel at {triple_text(by_origin)} Å by ORIGIN "
                    f"but at {triple_text(by_nstart)} Å by NSTART; ORIGIN is used, "
                    f'frame="nstart" takes the other.',
                    FrameWarning,
                    stacklevel=3,
                )
        place = {
            "origin": by_origin,
            "nstart": by_nstart,
            "sum": by_origin + by_nstart,
            "none": np.zeros(3),
        }[frame]
        return tuple(float(value) + 0.0 for value in place)


def parse_header(raw: bytes, path: Path) -> MapHeader:
    """Interpret the first 1024 bytes of a file; `path` is for messages only.

    Raises
    ------
    MapFormatError
        If they are not the header of one real-valued volume.
    """
    if len(raw) < HEADER_SIZE:
        raise MapFormatError(
            f"A map (MRC or CCP4) was expected, but {path.name} holds {len(raw)} bytes, "
            f"less than a header."
        )
    words, order = _in_byte_order(raw, path)
    mode = int(words["mode"])
    if mode in _REFUSED_MODES:
        raise MapFormatError(
            f"Real values were expected, but {path.name} is of mode {mode}: "
            f"{_REFUSED_MODES[mode]}; convert it to mode 2."
        )
    if mode not in MODES:
        raise MapFormatError(
            f"A map of mode 0, 1, 2, 6 or 12 was expected, but {path.name} claims mode {mode}."
        )
    axes = tuple(int(words[name]) for name in ("mapc", "mapr", "maps"))
    if axes == (0, 0, 0):
        repaired(path, "no axis order", "x, y, z is assumed")
        axes = (1, 2, 3)
    if sorted(axes) != [1, 2, 3]:
        raise MapFormatError(
            f"An order of the axes 1, 2, 3 was expected, but {path.name} claims {axes}."
        )
    in_file = [int(words[name]) for name in ("nx", "ny", "nz")]
    if min(in_file) < 1:
        raise MapFormatError(
            f"A map with voxels was expected, but {path.name} claims "
            f"{' × '.join(map(str, in_file))} of them."
        )
    space_group = int(words["ispg"])
    sections = int(words["mz"])
    if mrcfile.utils.spacegroup_is_volume_stack(space_group) and sections != in_file[2]:
        raise MapFormatError(
            f"One volume was expected, but {path.name} is a stack of volumes of {sections} "
            f"sections each (space group {space_group}); save one of them as a map."
        )
    extended = int(words["nsymbt"])
    if extended < 0:
        raise MapFormatError(
            f"An extended header of 0 or more bytes was expected, but {path.name} "
            f"claims {extended}."
        )
    # Columns, rows and sections are sorted to x, y, z; cell and ORIGIN are in that order already.
    place = [axes.index(axis) for axis in (1, 2, 3)]
    size = [in_file[k] for k in place]
    first = [int(words[name]) for name in ("nxstart", "nystart", "nzstart")]
    return MapHeader(
        shape=tuple(size[::-1]),
        mode=mode,
        axes=axes,
        voxel_size=_voxel_size(words, size, path),
        angles=_angles(words, path),
        nstart=tuple(first[k] for k in place),
        origin=_origin(words, path),
        space_group=space_group,
        statistics={
            name: float(words[word])
            for name, word in (("min", "dmin"), ("max", "dmax"), ("mean", "dmean"), ("rms", "rms"))
        },
        labels=_labels(words),
        byte_order=order,
        data_offset=HEADER_SIZE + extended,
    )


def _in_byte_order(raw: bytes, path: Path) -> tuple[np.void, str]:
    """View the header in the byte order in which it makes sense."""
    views = {
        order: np.frombuffer(raw, mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order))[0]
        for order in "<>"
    }
    try:
        stamp = mrcfile.utils.byte_order_from_machine_stamp(views["<"]["machst"])
    except ValueError:
        stamp = None
    named = bytes(views["<"]["map"])[:3] == b"MAP"
    likely = [order for order in (stamp or "<", "<", ">") if _makes_sense(views[order], named)]
    if not likely and not named:
        raise MapFormatError(f"A map (MRC or CCP4) was expected, but {path.name} is not one.")
    order = likely[0] if likely else stamp or "<"
    if not named:
        repaired(path, 'no "MAP " identifier', "the rest of it makes sense")
    if order != stamp:
        text = mrcfile.utils.pretty_machine_stamp(views["<"]["machst"])
        kind = "little" if order == "<" else "big"
        repaired(path, f"a wrong machine stamp ({text})", f"it was read as {kind}-endian")
    return views[order], order


def _makes_sense(words, named: bool) -> bool:
    axes = sorted(int(words[name]) for name in ("mapc", "mapr", "maps"))
    size = min(int(words[name]) for name in ("nx", "ny", "nz"))
    mode = int(words["mode"])
    # Without the identifier nothing but these words tells a map from any other file.
    return (mode in MODES or mode in _REFUSED_MODES) and (
        (axes == [1, 2, 3] and size > 0) if not named else axes in ([1, 2, 3], [0, 0, 0])
    )


def _voxel_size(words, size: list[int], path: Path) -> tuple[float, float, float]:
    # Intervals belong to the cell, not to the map: a map may be wider or smaller than its cell.
    edges = [float(words["cella"][axis]) for axis in "xyz"]
    intervals = [int(words[name]) for name in ("mx", "my", "mz")]
    if min(intervals) < 1:
        repaired(path, f"{intervals} intervals along the cell", "the map's size is used")
        intervals = [m if m > 0 else n for m, n in zip(intervals, size, strict=True)]
    voxel = [_shortest(edge, m) for edge, m in zip(edges, intervals, strict=True)]
    good = [value for value in voxel if np.isfinite(value) and value > 0]
    if len(good) < 3:
        known = good[0] if good else 1.0
        repaired(
            path,
            f"a cell of {triple_text(edges)} Å",
            f"a voxel size of {known:.4g} Å is assumed where it says nothing",
        )
        voxel = [value if np.isfinite(value) and value > 0 else known for value in voxel]
    return tuple(voxel)


def _shortest(edge: float, intervals: int) -> float:
    """Divide a cell edge, to the fewest digits that give back the same single-precision edge.

    So voxels that were 1.1 Å along all axes are so again, whatever the number of intervals.
    """
    exact = edge / intervals
    for digits in range(1, 9):
        rounded = float(f"{exact:.{digits}g}")
        if np.float32(rounded * intervals) == np.float32(edge):
            return rounded
    return exact


def _angles(words, path: Path) -> tuple[float, float, float]:
    angles = [float(words["cellb"][name]) for name in ("alpha", "beta", "gamma")]
    if angles == [0.0, 0.0, 0.0]:
        repaired(path, "no cell angles", "90° is assumed")
        angles = [90.0, 90.0, 90.0]
    if not all(0.0 < angle < 180.0 for angle in angles):
        raise MapFormatError(
            f"Cell angles between 0 and 180° were expected, but {path.name} claims "
            f"{triple_text(angles)}."
        )
    return tuple(angles)


def _origin(words, path: Path) -> tuple[float, float, float]:
    # The decimal number that somebody rounded to single precision: 0.1, not 0.10000000149.
    origin = [float(str(words["origin"][axis])) for axis in "xyz"]
    if not np.isfinite(origin).all():
        repaired(path, f"an ORIGIN of {triple_text(origin)}", "it is taken as 0")
        origin = [0.0, 0.0, 0.0]
    return tuple(origin)


def _labels(words) -> tuple[str, ...]:
    texts = (bytes(label).decode("latin-1").strip(" \0") for label in words["label"])
    return tuple(text for text in texts if text)


def triple_text(values) -> str:
    """Give numbers as text, for messages."""
    return ", ".join(f"{value:.6g}" for value in values)


def repaired(path: Path, found: str, done: str) -> None:
    """Warn of something wrong in a header and say what was assumed."""
    warnings.warn(f"The header of {path.name} has {found}; {done}.", HeaderWarning, stacklevel=6)
