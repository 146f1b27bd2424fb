"""Is a file a sound map? The checks of mrcfile, and what these let pass."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import mrcfile
import numpy as np

__all__ = ["check_mrc"]


def check_mrc(path) -> list[str]:
    """Check a map file against the MRC2014 format.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    list of str
        What is wrong, a sentence each; empty for a sound file. The eleven checks of
        `mrcfile.validate` (Cheng et al. 2015, doi:10.1016/j.jsb.2015.04.002) and those that it
        lacks: dimensions, intervals and cell edges above zero (mrcfile lets zero pass), as many
        intervals as voxels, angles of 90°, a space group of a volume, ORIGIN and NSTART that
        agree, and finite values.

    Raises
    ------
    OSError
        If the file is missing or cannot be opened.
    """
    path = Path(path)
    with path.open("rb"):
        pass
    said = io.StringIO()
    with warnings.catch_warnings():
        # Each warning is told in a message as well.
        warnings.simplefilter("ignore")
        sound = mrcfile.validate(str(path), print_file=said)
        found = [] if sound else _messages(said.getvalue())
        try:
            with mrcfile.open(path, permissive=True) as mrc:
                return found + _further(mrc)
        except (ValueError, OSError, EOFError) as error:
            return found or [f"The file cannot be opened: {error}."]


def _messages(text: str) -> list[str]:
    """Take mrcfile's messages; of a traceback only its last line."""
    lines = [line for line in text.splitlines()[1:] if line and not line.startswith(" ")]
    return [line for line in lines if not line.startswith("Traceback")] or ["The file is invalid."]


def _further(mrc) -> list[str]:
    header = mrc.header
    if mrc.data is None:
        return ["The values cannot be read."]
    found = []
    size = np.array([int(header[name]) for name in ("nx", "ny", "nz")])
    intervals = np.array([int(header[name]) for name in ("mx", "my", "mz")])
    edges = np.array([float(header.cella[name]) for name in "xyz"])
    angles = np.array([float(header.cellb[name]) for name in ("alpha", "beta", "gamma")])
    if min(size.min(), intervals.min(), edges.min()) <= 0:
        found.append("A dimension, a number of intervals or a cell edge is not positive.")
        return found
    if (size != intervals).any():
        found.append(f"The map has {size} voxels, but its cell {intervals} intervals.")
    if np.abs(angles - 90).max() > 0.01:
        found.append(f"The cell angles are {angles}°, not 90°.")
    if int(header.ispg) != 1:
        found.append(f"The space group is {int(header.ispg)}, not 1 as of a single volume.")
    origin = np.array([float(header.origin[name]) for name in "xyz"])
    start = np.array([int(header[name]) for name in ("nxstart", "nystart", "nzstart")])
    if origin.any() and start.any() and np.abs(start * edges / intervals - origin).max() > 0.01:
        found.append(f"ORIGIN {origin} Å and NSTART {start} disagree.")
    if mrc.data.dtype.kind in "fc" and not np.isfinite(mrc.data).all():
        found.append("Some values are not finite.")
    return found
