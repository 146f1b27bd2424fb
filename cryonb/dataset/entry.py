"""One entry of a data set: from a map and its model to labelled volumes, sequences and boxes."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cryonb.atoms import Atoms
from cryonb.dataset.boxes import box_starts, write_boxes
from cryonb.dataset.sequences import chain_sequences, fasta
from cryonb.errors import CryonbError
from cryonb.evaluate.correlation import correlate
from cryonb.evaluate.qscore import qscore
from cryonb.files.archive import fetch_entry
from cryonb.files.atomic import written_beside
from cryonb.files.model import read_model
from cryonb.files.mrc import map_header, read_map, write_map
from cryonb.grid import Grid
from cryonb.label.cryo2struct import LABELS, alpha_carbons, cryo2struct_labels
from cryonb.process.contour import contour_level
from cryonb.process.normalize import normalize
from cryonb.process.resample import resample
from cryonb.process.spheres import voxels_within
from cryonb.simulate.fourier import fourier_map
from cryonb.volume import Volume

__all__ = [
    "FAILURES", "LABEL_FILES", "MAP_FILE", "build_entry", "explained_density", "file_hash",
    "is_done", "model_file", "read_entry",
]  # fmt: skip

#: Names of the files as published.
MAP_FILE = "emd_normalized_map.mrc"
LABEL_FILES = {name: f"{name}_{MAP_FILE}" for name in LABELS}
_RECORD = "entry.json"
#: Folder, in that of the data set, of entries at work and of those that failed.
WORK, FAILED = ".work", ".failed"
#: What can be wrong with an entry; other exceptions are mistakes of the program and stop it.
FAILURES = (
    CryonbError, OSError, MemoryError, ArithmeticError, LookupError, RuntimeError, ValueError,
)  # fmt: skip


def build_entry(case: dict, folder, settings: dict, threads: int | None = None) -> dict:
    """Make the folder of an entry, or note why it could not be made.

    Parameters
    ----------
    case : dict
        id; model and map (paths), or emdb; resolution, contour: see `build_dataset`.
    folder : path-like
        Of the data set.
    settings : dict
        convention, grids, quality: see `build_dataset`.
    threads : int, optional
        Not heeded: an entry is computed by one thread, since sums of several threads may differ in
        the last digit and files are to be the same every time.

    Returns
    -------
    dict
        What the file entry.json of its folder holds; with the key error where it failed.
    """
    folder = Path(folder)
    work = folder / WORK / f"{case['id']}-{uuid.uuid4().hex[:8]}"
    work.mkdir(parents=True)
    failed = folder / FAILED / f"{case['id']}.json"
    try:
        with _one_thread(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            record = _build(case, work, settings)
        record["warnings"] = sorted({" ".join(str(one.message).split()) for one in said})
        _write_json(record, work / _RECORD)
        place = folder / case["id"]
        if place.exists():
            # A folder cannot replace one that is not empty.
            place.rename(work.with_name(work.name + "-old"))
        work.rename(place)
        shutil.rmtree(work.with_name(work.name + "-old"), ignore_errors=True)
        failed.unlink(missing_ok=True)
    except FAILURES as error:
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.filename:
            # Without the folders, so that a manifest is the same wherever the files lie.
            text = f"{error.strerror}: {Path(error.filename).name}"
        record = {"id": case["id"], "resolution": case.get("resolution"), "error": text}
        _write_json(record, failed)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return record


def read_entry(folder, name: str) -> dict | None:
    """Read what is known of an entry that was built; None where there is none."""
    path = Path(folder) / name / _RECORD
    return json.loads(path.read_text()) if path.is_file() else None


def is_done(case: dict, folder, settings: dict) -> bool:
    """Tell whether an entry was built from the same files and settings before."""
    record = read_entry(folder, case["id"])
    return record is not None and record["settings"] == settings and record["case"] == _asked(case)


def model_file(folder: Path) -> Path:
    """Give the model in the folder of an entry.

    Raises
    ------
    CryonbError
        If there is none.
    """
    found = sorted(folder.glob("model.*"))
    if not found:
        raise CryonbError(f"A model was expected in {folder.name}, but there is none.")
    return found[0]


def file_hash(path) -> str:
    """Give the SHA-256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def explained_density(volume: Volume, model, *, contour: float, radius: float) -> float:
    """Give the share of the density above a level that lies near a model.

    Parameters
    ----------
    volume : Volume
        A density.
    model : gemmi.Structure or Atoms
        Of a structure, hydrogens do not count.
    contour : float
        Voxels above this count, each by its value.
    radius : float
        Near is within this distance of an atom, in Å.

    Returns
    -------
    float
        From 0 to 1; NaN where nothing is above the level.
    """
    atoms = Atoms.from_structure(model, waters=True)
    near = np.zeros(volume.values.size, dtype=bool)
    for _, voxel in voxels_within(volume.grid, atoms.position, radius):
        near[voxel] = True
    dense = volume.values.ravel() > contour
    total = volume.values.ravel()[dense].sum(dtype=np.float64)
    part = volume.values.ravel()[dense & near].sum(dtype=np.float64)
    return float(part / total) if total > 0 else np.nan


def _build(case: dict, work: Path, settings: dict) -> dict:
    convention = settings["convention"]
    about, volume, structure, source, contour = _sources(case)
    shutil.copyfile(source, work / ("model" + "".join(_suffixes(source))))
    # ChimeraX, of which the original makes use, interpolates linearly.
    method = "linear" if convention == "published" else "cubic"
    made = normalize(resample(volume, 1.0, method=method), method="cryo2struct")
    write_map(made, work / MAP_FILE)
    # Labels are for the file, whose header holds positions in single precision.
    header = map_header(work / MAP_FILE)
    grid = Grid(header.shape, header.voxel_size, header.position())
    labels = cryo2struct_labels(structure, grid, convention=convention)
    for name, label in labels.items():
        write_map(label, work / LABEL_FILES[name])
    sequences = chain_sequences(structure)
    for what in ("deposited", "built", "aligned"):
        (work / f"{what}.fasta").write_text(fasta(case["id"], sequences, what))
    if settings["grids"]:
        arrays = {"map": made.values} | {name: label.values for name, label in labels.items()}
        write_boxes(arrays, work / "grids.npz")
    counts = labels["sec_struc"].counts()
    record = about | {
        "shape": list(grid.shape),
        "origin": list(grid.origin),
        "n_grids": len(box_starts(grid.shape)) if settings["grids"] else 0,
        "n_chains": len(sequences),
        "n_deposited": sum(len(one.deposited) for one in sequences),
        "n_built": sum(len(one.built) for one in sequences),
        "n_ca": len(alpha_carbons(structure, convention=convention)),
        "ca_voxels": labels["atom_ca"].counts()["CA"],
        "atom_voxels": grid.n_voxels - labels["atom"].counts()["background"],
        "amino_voxels": grid.n_voxels - labels["amino"].counts()["background"],
        **{name: counts[name] for name in ("coil", "helix", "strand")},
        "sequences": sorted({one.deposited for one in sequences if one.deposited}),
    }
    if settings["quality"]:
        record |= _quality(volume, structure, about["resolution"], contour)
    files = sorted(path.name for path in work.iterdir())
    record["sha256"] = {name: file_hash(work / name) for name in files}
    return record | {"settings": settings, "case": _asked(case)}


def _asked(case: dict) -> dict:
    """What was asked of an entry: of files name and size, but not where they lie."""
    asked = {key: case.get(key) for key in ("resolution", "contour", "emdb")}
    for key in ("map", "model"):
        path = Path(case[key]) if case.get(key) else None
        asked[key] = path and [path.name, path.stat().st_size if path.is_file() else 0]
    return asked


def _sources(case: dict):
    """Give what is known, map (read or simulated), structure, its file and the contour level."""
    resolution, contour = case.get("resolution"), case.get("contour")
    path, source, title = case.get("map"), case.get("model"), None
    if case.get("emdb"):
        entry = fetch_entry(case["emdb"], model=not source, progress=False)
        path, source, title = path or entry.map_path, source or entry.model_path, entry.title
        resolution = entry.resolution if resolution is None else resolution
        contour = entry.contour if contour is None else contour
        if source is None:
            raise CryonbError(f"A map with a model was expected, but {entry.emdb_id} has none.")
    if resolution is None:
        raise CryonbError(
            "The resolution in Å was expected, but neither the entry nor EMDB has it."
        )
    structure = read_model(source)
    if path:
        volume = read_map(path)
    else:
        # Fine enough for the resolution; resampled like any other map.
        step = min(1.0, resolution / 2)
        volume = fourier_map(structure, resolution=resolution, voxel_size=step)
    about = {
        "id": case["id"], "error": "", "emdb": case.get("emdb") or "", "title": title or "",
        "source": "measured" if path else "simulated", "resolution": float(resolution),
        "voxel_size": [float(v) for v in volume.voxel_size],
    }  # fmt: skip
    return about, volume, structure, Path(source), contour


def _quality(volume: Volume, structure, resolution: float, contour: float | None) -> dict:
    """How the map, as deposited, and the model agree."""
    found = correlate(volume, structure, resolution=resolution, overlaps=False).summary
    scores = qscore(volume, structure, resolution=resolution, workers=1).summary
    if contour is None:
        contour = contour_level(volume).level
    atoms = Atoms.from_structure(structure)
    density = volume.sample(atoms.position)
    explained = explained_density(
        volume, structure, contour=contour, radius=max(3.0, float(resolution))
    )
    values = {
        "cc_mask": found["cc_mask"],
        "cc_box": found["cc_box"],
        "q_mean": scores["q_mean"],
        "q_expected": scores["q_expected"],
        "contour": contour,
        "explained": explained,
        # The other way round
        "atom_inclusion": (np.nan_to_num(density, nan=-np.inf) > contour).mean(),
    }
    # NaN is no JSON.
    return {key: float(value) if np.isfinite(value) else None for key, value in values.items()}


def _suffixes(path: Path) -> list[str]:
    known = (".pdb", ".ent", ".cif", ".mmcif", ".json", ".gz")
    return [suffix for suffix in path.suffixes[-2:] if suffix.lower() in known]


def _write_json(record: dict, path: Path) -> None:
    with written_beside(path) as beside:
        beside.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def _one_thread():
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
