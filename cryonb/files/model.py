"""Atomic models: PDB and mmCIF files, through gemmi."""

from __future__ import annotations

import gzip
from pathlib import Path

from cryonb.errors import ModelError
from cryonb.files.atomic import written_beside

__all__ = ["read_model", "write_model"]

_PDB_SUFFIXES = (".pdb", ".ent")
_CIF_SUFFIXES = (".cif", ".mmcif")


def read_model(path):
    """Read an atomic model.

    Parameters
    ----------
    path : path-like
        A PDB, mmCIF or mmJSON file, plain or gzipped. The format is told from the content, so a
        wrong suffix does no harm.

    Returns
    -------
    gemmi.Structure
        Everything in the file, all models and alternative locations included
        (`Atoms.from_structure` chooses among them).

    Raises
    ------
    ModelError
        If the file is damaged, or holds no atoms.
    OSError
        If the file is missing or cannot be opened.
    """
    import gemmi

    path = Path(path)
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    try:
        if packed and path.suffix.lower() != ".gz":
            # gemmi unpacks by suffix only.
            text = gzip.decompress(path.read_bytes())
            structure = gemmi.read_structure_string(text, format=gemmi.CoorFormat.Detect)
        else:
            structure = gemmi.read_structure(str(path), format=gemmi.CoorFormat.Detect)
    except (RuntimeError, ValueError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"An atomic model (PDB or mmCIF) was expected in {path.name}, but it cannot be read "
            f"({reason}); check that the file is complete."
        ) from error
    if not any(model.count_atom_sites() for model in structure):
        raise ModelError(
            f"An atomic model (PDB or mmCIF) was expected in {path.name}, but it holds no atoms."
        )
    structure.setup_entities()
    return structure


def write_model(structure, path) -> Path:
    """Write an atomic model, atomically.

    Parameters
    ----------
    structure : gemmi.Structure
        The model; it is not changed.
    path : path-like
        The suffix chooses the format: .pdb or .ent, .cif or .mmcif, each also with .gz.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ModelError
        If the suffix is another one, or the model does not fit into the PDB format.
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] == ".gz"
    suffix = "".join(suffixes[-2:-1] if packed else suffixes[-1:])
    if suffix in _CIF_SUFFIXES:
        text = structure.make_mmcif_document().as_string()
    elif suffix in _PDB_SUFFIXES:
        long = [chain.name for model in structure for chain in model if len(chain.name) > 2]
        if long:
            raise ModelError(
                f"The PDB format holds chain names of at most two characters, but this model has "
                f"{long[0]!r}; write it as .cif instead of {path.name}."
            )
        text = structure.make_pdb_string()
    else:
        raise ModelError(
            f"A suffix of .pdb, .ent, .cif or .mmcif (or one of these with .gz) was expected, "
            f"but the file was to be called {path.name}."
        )
    data = text.encode()
    with written_beside(path) as temporary:
        temporary.write_bytes(gzip.compress(data, 6, mtime=0) if packed else data)
    return path
