"""A data set of labelled maps from a table of entries: `nb.build_dataset`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from cryonb.comparison import in_processes
from cryonb.dataset.entry import (
    FAILED,
    WORK,
    build_entry,
    is_done,
    read_entry,
)
from cryonb.dataset.sequences import THRESHOLD, cluster_sequences
from cryonb.dataset.splits import split_entries
from cryonb.errors import CryonbError
from cryonb.files.tables import write_tables
from cryonb.label.cryo2struct import CONVENTIONS

__all__ = ["build_dataset", "read_manifest", "write_manifest"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
#: Columns of the manifest that are always there; hashes of files and splits follow.
_COLUMNS = (
    "id", "error", "emdb", "title", "source", "resolution", "voxel_size", "convention",
    "shape_z", "shape_y", "shape_x", "n_grids", "n_chains", "n_deposited", "n_built", "n_ca",
    "ca_voxels", "atom_voxels", "amino_voxels", "coil", "helix", "strand", "cc_mask", "cc_box",
    "q_mean", "q_expected", "contour", "explained", "atom_inclusion", "warnings", "cluster",
    "split_resolution", "split_id", "split_cluster",
)  # fmt: skip

_TEXT = ("id", "error", "emdb", "title", "source", "convention", "warnings", "cluster",
         "split_resolution", "split_id", "split_cluster")  # fmt: skip


def build_dataset(
    entries, folder, client=None, *, workers: int = 1, convention: str = "corrected",
    grids: bool = True, quality: bool = True, fractions=(0.8, 0.1, 0.1),
    identity: float = THRESHOLD, seed: int = 0, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Build a data set of labelled maps, as Cryo2StructData is, entry by entry.

    Parameters
    ----------
    entries : DataFrame or sequence of dict
        A row or dict an entry. model : path of the model, in the frame of the map; map : path, or
        nothing for a map that is simulated from the model at `resolution`; or instead of both
        emdb, such as "EMD-30342", which is fetched with the first model fitted to it. id : name of
        the entry's folder (that of the map, the model or the EMDB entry by default); resolution in
        Å (EMDB's where it is left out); contour : level of the map, for the quality.
    folder : path-like
        Where the data set grows. One call at a time.
    client : dask.distributed.Client, optional
        Builds the entries on its workers, which must see the same folders and have one thread
        each. Also any `concurrent.futures.Executor` of processes.
    workers : int
        Processes of this machine, where there is no client. One thread each, see Notes.
    convention : {"corrected", "published"}
        Of the labels, see `cryonb.label.cryo2struct.cryo2struct_labels`; "published" also resamples
        linearly, as ChimeraX does, instead of by a cubic spline.
    grids : bool
        Whether to cut boxes of 32³ voxels: four times the room of the map.
    quality : bool
        Whether to judge each map by its model, which takes longer than the rest.
    fractions, seed : tuple of float, int
        See `cryonb.dataset.splits.split_entries`.
    identity : float
        Entries with chains of at least this identity belong to one cluster
        (`cryonb.dataset.sequences.cluster_sequences`).
    progress : bool
        Show a bar.

    Returns
    -------
    pandas.DataFrame
        The manifest, which is also written as manifest.csv: a row an entry in the folder, by id.
        error (text, "" if there was none; such an entry has no folder and is tried again by the
        next call), source (measured or simulated), resolution, shape, counts (of chains, residues
        as deposited and as built, Cα atoms, voxels of each label), quality (cc_mask, cc_box,
        q_mean, q_expected; explained: share of the density above the contour level that lies within
        3 Å or the resolution of an atom; atom_inclusion: share of atoms above it), warnings,
        cluster (id of its first entry), split_resolution, split_id, split_cluster, and the SHA-256
        of each file.

    Raises
    ------
    CryonbError
        If there is no entry, one has neither a model nor an EMDB entry or no resolution, ids are
        equal or no names of folders, or the convention is unknown. Whatever else is wrong with an
        entry stands in its row.

    Notes
    -----
    A folder <id> holds emd_normalized_map.mrc (1 Å voxels, divided by the 95th percentile of the
    values that are not zero, cut to 0 to 1), atom_…, atom_ca_…, amino_… and
    sec_struc_emd_normalized_map.mrc, model.*, deposited.fasta, built.fasta, aligned.fasta,
    grids.npz (arrays start, map, atom, atom_ca, amino, sec_struc; `cryonb.dataset.boxes`) and
    entry.json. It is written elsewhere and renamed when complete. So a call that was killed, at any
    moment, is finished by calling again: only the entries at work are lost. An entry is built anew
    if its settings, or names or sizes of its files, have changed.

    Two calls on one machine give the same bytes, however many processes work. Other processors or
    versions of numpy, scipy and torch may differ in the last digit of the map.

    References
    ----------
    Giri, Wang and Cheng (2024), Scientific Data, Cryo2StructData.
    """
    if convention not in CONVENTIONS:
        raise CryonbError(
            f"A convention of {' or '.join(CONVENTIONS)} was expected, but {convention!r} was "
            "given."
        )
    cases = _cases(entries)
    # What is wrong with them is said before hours of work.
    split_entries(pd.DataFrame(columns=["id", "resolution", "cluster"]), fractions=fractions)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"convention": convention, "grids": bool(grids), "quality": bool(quality)}
    shutil.rmtree(folder / WORK, ignore_errors=True)
    waiting = [case for case in cases if not is_done(case, folder, settings)]
    executor = client.get_executor() if hasattr(client, "get_executor") else client
    tasks = [(case, str(folder.resolve()), settings) for case in waiting]
    bar = tqdm(total=len(cases), initial=len(cases) - len(tasks), disable=not progress,
               desc="entries")  # fmt: skip
    with bar:
        for _ in in_processes(build_entry, tasks, workers=workers, executor=executor):
            bar.update()
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return write_manifest(folder, fractions=fractions, identity=identity, seed=seed)


def write_manifest(
    folder, *, fractions=(0.8, 0.1, 0.1), identity: float = THRESHOLD, seed: int = 0
) -> pd.DataFrame:
    """Write manifest.csv from what the folders of a data set hold, and give it.

    Parameters
    ----------
    folder : path-like
        Of the data set; a build may have been killed.
    fractions, identity, seed
        As for `build_dataset`.
    """
    folder = Path(folder)
    records = [
        read_entry(folder, path.name)
        for path in sorted(folder.iterdir())
        if path.is_dir() and (path / "entry.json").is_file()
    ]
    built = {record["id"] for record in records}
    failed = [json.loads(path.read_text()) for path in sorted((folder / FAILED).glob("*.json"))]
    # An entry that was built from other files before stays as it was.
    records += [record for record in failed if record["id"] not in built]
    if not records:
        raise CryonbError(f"Entries of a data set were expected in {folder}, but there is none.")
    records.sort(key=lambda record: record["id"])
    table = pd.DataFrame([_row(record) for record in records])
    table = table.reindex(columns=[*_COLUMNS, *sorted(set(table.columns) - set(_COLUMNS))])
    good = table["error"] == ""
    cluster = cluster_sequences(
        [r["sequences"] for r in records if not r["error"]], threshold=identity
    )
    names = table["id"][good].to_numpy()
    table["cluster"] = pd.Series(names[_first(cluster)], table.index[good], dtype=object)
    splits = split_entries(table[good], fractions=fractions, seed=seed)
    for name in splits:
        table[name] = splits[name]
    table = _with_text(table)
    write_tables(folder, manifest=table)
    return table


def read_manifest(folder) -> pd.DataFrame:
    """Read manifest.csv of a data set.

    Raises
    ------
    CryonbError
        If there is none.
    """
    path = Path(folder) / "manifest.csv"
    if not path.is_file():
        raise CryonbError(
            f"A data set with manifest.csv was expected in {path.parent}, but there is none; "
            "build one with nb.build_dataset."
        )
    return _with_text(pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str)))


def _with_text(table: pd.DataFrame) -> pd.DataFrame:
    """Put "" where text is missing; a column without any would count as one of numbers."""
    text = {name: table[name].astype(object).where(table[name].notna(), "") for name in _TEXT}
    return table.assign(**text)


def _first(cluster):
    """Give the row of the first entry of each entry's cluster."""
    return np.unique(cluster, return_index=True)[1][cluster]


def _row(record: dict) -> dict:
    row = {key: record[key] for key in _COLUMNS if key in record}
    if record["error"]:
        return row
    row |= dict(zip(("shape_z", "shape_y", "shape_x"), record["shape"], strict=True))
    row["voxel_size"] = " ".join(dict.fromkeys(f"{size:.6g}" for size in record["voxel_size"]))
    row["convention"] = record["settings"]["convention"]
    row["warnings"] = " | ".join(record["warnings"])
    return row | {f"sha256_{name.split('.')[0]}": v for name, v in record["sha256"].items()}


def _cases(entries) -> list[dict]:
    """Check the entries, and give each as a dict of plain values."""
    rows = entries.to_dict("records") if isinstance(entries, pd.DataFrame) else entries
    cases = []
    if not len(rows):
        raise CryonbError("At least one entry was expected, but the table has none.")
    for row in rows:
        case = {key: value for key, value in dict(row).items() if not _missing(value)}
        if not case.get("model") and not case.get("emdb"):
            raise CryonbError(f"Every entry needs a model or an EMDB entry, but {row} has neither.")
        for key in ("map", "model", "emdb"):
            case[key] = str(case[key]) if case.get(key) else None
        for key in ("resolution", "contour"):
            case[key] = float(case[key]) if key in case else None
        if case["resolution"] is None and not case["emdb"]:
            raise CryonbError(f"Every entry needs a resolution in Å, but {row} has none.")
        name = case.get("id") or case["emdb"] or Path(case["map"] or case["model"]).name
        case["id"] = str(name) if case.get("id") else str(name).split(".")[0]
        if not _NAME.fullmatch(case["id"]):
            raise CryonbError(
                f"An id of letters, digits and . _ + - was expected, but it is {case['id']!r}."
            )
        cases.append(case)
    names = [case["id"].lower() for case in cases]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CryonbError(f"Ids of entries must differ, but {twice!r} occurs more than once.")
    return cases


def _missing(value) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)
