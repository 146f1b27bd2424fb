"""Exceptions and warnings of the package.

Every error that a user can cause is a `CryonbError`, and its text is one sentence that says what
was expected, what was found and what to do.
"""

__all__ = [
    "ArchiveError",
    "CryonbError",
    "CryonbWarning",
    "FrameWarning",
    "GridError",
    "HeaderWarning",
    "MapFormatError",
    "MapModelMismatchError",
    "ModelError",
    "ModelWarning",
    "WeightsError",
]


class CryonbError(ValueError):
    """Base of every error that cryonb raises on purpose."""


class GridError(CryonbError):
    """A grid is impossible, or two grids that must agree do not."""


class MapFormatError(CryonbError):
    """A file is not a map that can be read faithfully."""


class ModelError(CryonbError):
    """An atomic model lacks what was asked of it."""


class MapModelMismatchError(CryonbError):
    """Map and model do not lie in the same frame."""


class WeightsError(CryonbError):
    """Network weights are missing, damaged or of another architecture."""


class ArchiveError(CryonbError):
    """An entry of a public archive could not be fetched."""


class CryonbWarning(UserWarning):
    """Base of every warning that cryonb gives."""


class FrameWarning(CryonbWarning):
    """A map header describes more than one position in space."""


class HeaderWarning(CryonbWarning):
    """A map header was wrong in a way that could be repaired."""


class ModelWarning(CryonbWarning):
    """Part of an atomic model was left out."""
