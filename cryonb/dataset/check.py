"""Is a data set sound, and what is in it? `nb.validate_dataset`."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cryonb.dataset.build import read_manifest
from cryonb.dataset.entry import (
    FAILURES,
    LABEL_FILES,
    MAP_FILE,
    file_hash,
    model_file,
    read_entry,
)
from cryonb.dataset.splits import RESOLUTIONS, SPLITS
from cryonb.files.model import read_model
from cryonb.files.mrc import read_map
from cryonb.files.mrc_check import check_mrc
from cryonb.grid import Grid
from cryonb.label.cryo2struct import LABELS, alpha_carbons

__all__ = ["dataset_statistics", "round_trip", "validate_dataset"]

_KEYS = ("distance_median", "within_half", "in_voxel", "same_integers")


def validate_dataset(folder) -> pd.DataFrame:
    """Check every entry of a data set, as the paper does and more closely.

    Parameters
    ----------
    folder : path-like
        Of the data set, with its manifest.

    Returns
    -------
    pandas.DataFrame
        A row an entry that was built:

        * ok : whether all the following hold, and problems : what is wrong, in words.
        * hashes : every file is that of the manifest.
        * mrc : the map and its labels pass `cryonb.files.mrc_check.check_mrc`.
        * voxel_size : it is 1 Å exactly in all five; range : the map's values are from 0 to 1 and
          labels are whole numbers of known classes; grid : labels lie on the map's grid; alpha :
          amino acids and secondary structure are labelled at Cα voxels only.
        * duplicate_of : another entry with the same map, else "".
        * within_half, distance_median, in_voxel, same_integers : see `round_trip`; they are no
          reason to fail an entry, but for in_voxel below 1 under the corrected convention.

    Raises
    ------
    CryonbError
        If there is no manifest.
    """
    folder = Path(folder)
    table = read_manifest(folder)
    rows, seen = [], {}
    for name in table["id"][table["error"] == ""]:
        try:
            rows.append(_check(folder, name, seen))
        except FAILURES as error:
            text = " ".join(str(error).split())
            rows.append({"id": name, "ok": False, "problems": text, "duplicate_of": ""})
    columns = ["id", "ok", "hashes", "mrc", "voxel_size", "range", "grid", "alpha", "duplicate_of"]
    return pd.DataFrame(rows, columns=[*columns, *_KEYS, "problems"])


def round_trip(labels: np.ndarray, grid: Grid, alpha: np.ndarray) -> dict[str, float]:
    """Tell how well labelled voxels give the Cα atoms of the model back.

    Parameters
    ----------
    labels : ndarray, shape (z, y, x)
        Not zero where a Cα atom was labelled.
    grid : Grid
        Of the labels.
    alpha : ndarray, shape (n, 3)
        Cα atoms, (x, y, z) in Å.

    Returns
    -------
    dict of float
        Of the labelled voxels: distance_median (Å, of the centre from the nearest atom);
        within_half (share within 0.5 Å; half of them at best, as only half of a voxel of 1 Å is
        within 0.5 Å of its centre); in_voxel (share with an atom in the voxel); same_integers
        (share whose centre, cut to whole Å, is that of an atom: the paper's check).
    """
    centres = grid.to_points(np.argwhere(labels))
    if not len(centres):
        return dict.fromkeys(_KEYS, np.nan)
    distance = cKDTree(alpha).query(centres)[0]
    step = np.array(grid.voxel_size)
    farthest = cKDTree(alpha / step).query(centres / step, p=np.inf)[0]
    known = np.unique(alpha.astype(np.int64), axis=0)
    same = np.unique(np.concatenate([known, centres.astype(np.int64)]), axis=0, return_inverse=True)
    which = same[1].ravel()
    return {
        "distance_median": float(np.median(distance)),
        "within_half": float((distance <= 0.5).mean()),
        # An atom right between two voxels may be of either.
        "in_voxel": float((farthest <= 0.5 + 1e-4).mean()),
        "same_integers": float(np.isin(which[len(known) :], which[: len(known)]).mean()),
    }


def dataset_statistics(folder) -> dict[str, pd.DataFrame]:
    """Count what a data set holds.

    Parameters
    ----------
    folder : path-like
        Of the data set, with its manifest.

    Returns
    -------
    dict of pandas.DataFrame
        total (a column: entries, failed, clusters, residues, voxels of each label, boxes);
        quality (quartiles of resolution and scores); and for each way to split, entries by range
        of resolution and split, as in the paper's table 2.
    """
    table = read_manifest(folder)
    good = table[table["error"] == ""]
    total = {"entries": len(good), "failed": len(table) - len(good)}
    total |= {"clusters": good["cluster"].nunique()}
    counted = ["n_chains", "n_built", "n_ca", "ca_voxels", "coil", "helix", "strand", "n_grids"]
    total |= {name: int(good[name].sum()) for name in counted}
    scores = ["resolution", "cc_mask", "q_mean", "explained", "atom_inclusion"]
    quality = good[scores].astype(float).quantile([0, 0.25, 0.5, 0.75, 1])
    found = {"total": pd.Series(total).to_frame("count"), "quality": quality}
    limits = [f"{a:g}–{b:g}" for a, b in pairwise(RESOLUTIONS)]
    ranges = pd.cut(good["resolution"], RESOLUTIONS, labels=limits).rename("resolution (Å)")
    for name in ("split_resolution", "split_id", "split_cluster"):
        counts = pd.crosstab(ranges, good[name])
        found[name] = counts.reindex(columns=SPLITS, fill_value=0).rename_axis(columns=name)
    return found


def _check(folder: Path, name: str, seen: dict[str, str]) -> dict:
    place, record = folder / name, read_entry(folder, name)
    row: dict = {"id": name, "ok": True}
    problems = []

    def note(check: str, wrong: list[str]) -> None:
        row[check] = not wrong
        problems.extend(wrong)

    found = {
        file: file_hash(place / file) if (place / file).is_file() else None
        for file in record["sha256"]
    }
    wrong = [file for file, value in found.items() if value != record["sha256"][file]]
    note("hashes", [f"{file} is missing or was changed." for file in wrong])
    files = [MAP_FILE, *LABEL_FILES.values()]
    note("mrc", [f"{file}: {text}" for file in files for text in check_mrc(place / file)])
    with warnings.catch_warnings():
        # What is wrong with a header has been noted.
        warnings.simplefilter("ignore")
        volume = read_map(place / MAP_FILE)
        labels = {key: read_map(place / file) for key, file in LABEL_FILES.items()}
    every = {"map": volume} | labels
    note("voxel_size", [f"{key}: voxels are of {one.voxel_size} Å." for key, one in every.items()
                        if one.voxel_size != (1.0, 1.0, 1.0)])  # fmt: skip
    outside = [] if volume.min >= 0 and volume.max <= 1 else [
        f"Values are from {volume.min:g} to {volume.max:g}."
    ]  # fmt: skip
    outside += [
        f"{key}: labels are not whole numbers from 0 to {len(LABELS[key]) - 1}."
        for key, one in labels.items()
        if not np.isin(one.values, np.arange(len(LABELS[key]))).all()
    ]
    note("range", outside)
    note("grid", [f"{key} is on another grid." for key, one in labels.items()
                  if not one.grid.is_close(volume.grid)])  # fmt: skip
    if row["grid"]:
        alpha = labels["atom_ca"].values > 0
        note("alpha", [f"{key} has labels away from Cα voxels." for key in ("amino", "sec_struc")
                       if (labels[key].values[~alpha] > 0).any()])  # fmt: skip
    row["duplicate_of"] = seen.setdefault(found[MAP_FILE], name)
    if row["duplicate_of"] == name:
        row["duplicate_of"] = ""
    else:
        problems.append(f"The map is that of {row['duplicate_of']}.")
    convention = record["settings"]["convention"]
    atoms = alpha_carbons(read_model(model_file(place)), convention=convention)
    row |= round_trip(labels["atom_ca"].values, labels["atom_ca"].grid, atoms)
    if convention == "corrected" and row["in_voxel"] < 1:
        problems.append("Some labelled voxels hold no Cα atom.")
    return row | {"ok": not problems, "problems": " ".join(problems)}
