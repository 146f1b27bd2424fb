"""Write a file beside its place, then move it there: nobody ever meets half a file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written_beside"]


@contextmanager
def written_beside(path) -> Iterator[Path]:
    """Hand out a temporary path in the folder of `path`, and rename it when the block succeeds.

    Parameters
    ----------
    path : path-like
        The file to make or to replace; its folder is made if need be.

    Yields
    ------
    pathlib.Path
        Where to write. It is deleted if the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
