"""What bonds, angles and groups of atoms are like in good structures, and what a model aims at.

The table has the median and the spread (1.4826 times the median deviation from it) of bond
lengths, of distances of atoms two bonds apart and of volumes of groups of four, by the types of
their atoms (`cryonb.fitting.topology.type_names`). It is in typical.npz, which
``python -m cryonb.fitting.typical`` makes anew from the X-ray structures of 2 Å or better in the
training part of the structures in CRYONB_DATA.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from cryonb.files.atomic import written_beside
from cryonb.fitting.connections import Connections
from cryonb.fitting.internal import distance, volume
from cryonb.fitting.topology import named_bonds, type_names

__all__ = ["Typical", "aims", "load_typical", "make_typical"]

_FILE = Path(__file__).with_name("typical.npz")
# Structures coarser than this (Å), and atoms of a higher B (Å²), are not counted; neither are kinds
# that were met less often than this.
_COARSEST, _HIGHEST_B, _SELDOM = 2.0, 40.0, 20
# No spread is less than this: bonds, ends of angles (Å), volumes (Å³).
_NARROWEST = 0.01, 0.02, 0.05
# The table's own are as narrow as the restraints that its structures were refined with. A model is
# as sound if it differs from the table by no more than these, or by so many times their variance.
_SOUND_SPREAD, _SOUND = (0.02, 0.04, 0.15), 2.0
# By how much these differ in good models where the table knows nothing; the second is 2.5°, which
# the angle at Cα differs by from helix to strand.
_NATURAL = 0.02, 0.06, 0.2
# What the table does not know is sound if its means would move it by less than this share of that.
_UNMOVED = 0.4
# A value farther from the table than so many spreads is wrong whatever the others are like.
_FAR = 4.0
# So many of a kind have a mean.
_FEW = 3
# A group has the other hand than its kind if its volume says so, beyond this (Å³) and the logarithm
# of these odds, a thousand to one.
_CLEAR, _ODDS = 1.0, np.log(1000)
# The median of the squares of Gaussian numbers of variance 1.
_MEDIAN = 0.4549


@dataclass(frozen=True)
class Typical:
    """A table of typical geometry.

    Attributes
    ----------
    kind : ndarray of str, shape (k,)
        Names of the types, joined by "|" and in the order of the alphabet: two of a bond; three of
        the ends of an angle, the middle first; four of a group, its first atom first. Ascending.
    mean, spread : ndarray of float64, shape (k,)
        Å, or Å³ of groups: median and robust standard deviation.
    count : ndarray of int, shape (k,)
        How many were seen.
    """

    kind: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    count: np.ndarray

    def look_up(self, kinds, names) -> tuple[np.ndarray, np.ndarray]:
        """Give mean and spread of rows of types (m, 2 to 4), NaN where they are not known."""
        unique, which = np.unique(kinds, axis=0, return_inverse=True)
        wanted = _joined(names[unique])
        row = np.searchsorted(self.kind, wanted).clip(max=len(self.kind) - 1)
        known = self.kind[row] == wanted
        found = (np.where(known, part[row], np.nan) for part in (self.mean, self.spread))
        return tuple(part[which.ravel()] for part in found)

    def save(self, path=_FILE) -> Path:
        """Write the table as npz."""
        with written_beside(path) as beside, beside.open("wb") as file:
            np.savez_compressed(
                file, kind="\n".join(self.kind.tolist()), mean=self.mean.astype(np.float32),
                spread=self.spread.astype(np.float16), count=self.count.astype(np.int32),
            )  # fmt: skip
        return Path(path)


@cache
def load_typical() -> Typical:
    """Read the table that comes with the package."""
    with np.load(_FILE, allow_pickle=False) as stored:
        return Typical(
            np.array(str(stored["kind"]).split("\n")), stored["mean"].astype(np.float64),
            stored["spread"].astype(np.float64), stored["count"],
        )  # fmt: skip


def _joined(names) -> np.ndarray:
    found = names[:, 0]
    for column in names.T[1:]:
        found = np.char.add(np.char.add(found, "|"), column)
    return found


def _kinds(parts: Connections, types):
    """Kinds of bonds, of ends and of groups as rows of types, and the sign that groups get."""
    three = types[parts.groups[:, 1:]]
    order = np.argsort(three, axis=1, kind="stable")
    one, two, last = order.T
    # A volume changes its sign with each two of its atoms that change places.
    sign = np.sign((two - one) * (last - one) * (last - two))
    groups = np.column_stack([types[parts.groups[:, 0]], np.take_along_axis(three, order, axis=1)])
    ends = np.column_stack([types[parts.middle], np.sort(types[parts.ends], axis=1)])
    return np.sort(types[parts.bonds], axis=1), ends, groups, sign


def aims(
    position, parts: Connections, names, *, astray: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Say what the bonds, ends and groups of a model should be like.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        Å.
    parts : Connections
        Of the model.
    names : ndarray of str, shape (n,)
        As `cryonb.fitting.topology.type_names` gives.
    astray : bool
        That the model is not sound, as one that was mended in part.

    Returns
    -------
    length, span, volume : ndarray, shape (m,)
        Å, Å, and Å³.

    Notes
    -----
    A model is sound if the variance of its bonds, of its ends and of its volumes about the table
    (the median of the squares by 0.455) is at most twice what good models have: the table's, and
    0.02 Å, 0.04 Å and 0.15 Å³ at least. It keeps its own values, but for those that are four such
    spreads from the table and more, which become the table's.

    In others, each value is drawn to the table's as mean + (value - mean) / v, with v how much
    greater than the table's the variance is (if more than twice): the best guess if the excess is
    error.

    A group whose hand is clearly the other one keeps it, as in D-amino acids and where the names of
    prochiral atoms are exchanged: beyond 1 Å³, and with odds of a thousand to one in view of how
    far off volumes are in this model. Others get the table's.

    Kinds that the table does not have, as those of ligands, are drawn to their own mean: `_alike`.
    """
    unique, types = np.unique(names, return_inverse=True)
    types = types.ravel()
    *kinds, groups, sign = _kinds(parts, types)
    own = [distance(position, pairs) for pairs in (parts.bonds, parts.ends)]
    table = [load_typical().look_up(kind, unique) for kind in kinds]
    own.append(volume(position, parts.groups))
    mean, spread = load_typical().look_up(groups, unique)
    table.append((_handed(own[2], mean * sign, np.maximum(spread, _NARROWEST[2])), spread))
    hand = np.where(parts.flat, 0, _hand(own[2], types[parts.groups]))
    kinds.append(np.column_stack([types[parts.groups], hand]))
    rows = zip(own, table, _SOUND_SPREAD, strict=True)
    sound = not astray and all(_excess(*_deviations(*row)) < _SOUND for row in rows)
    return tuple(_aimed(own[k], table[k], kinds[k], k, sound) for k in range(3))


def _handed(own, mean, spread) -> np.ndarray:
    """Turn the volumes of the table where a group is clearly of the other hand."""
    known = np.isfinite(mean)
    if not known.any():
        return mean
    # Flat groups tell how far volumes are off, whatever the hands.
    away = (np.abs(own) - np.abs(mean))[known]
    excess = max(np.median((away / spread[known]) ** 2) / _MEDIAN, 1.0)
    # Logarithm of the likelihood of the other hand over this one, with Gaussian errors.
    other = -2 * own * mean / (excess * spread**2)
    return np.where((other > _ODDS) & (np.abs(own) > _CLEAR), -mean, mean)


def _deviations(own, table, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Deviations from the table in its spreads, `least` at least, and which are known."""
    mean, spread = table
    return (own - mean) / np.maximum(spread, least), np.isfinite(mean)


def _excess(z, known) -> float:
    """How many times as great as the table's the variance is, outliers aside."""
    return np.median(z[known] ** 2) / _MEDIAN if known.any() else 0.0


def _aimed(own, table, kinds, which: int, sound: bool) -> np.ndarray:
    least = _SOUND_SPREAD if sound else _NARROWEST
    z, known = _deviations(own, table, least[which])
    excess = _excess(z, known)
    share = 1.0 if excess < _SOUND else 1 / excess
    share = np.where(np.abs(z) > _FAR, 0.0, share)
    mean = np.where(known, table[0], 0.0)
    found = np.where(known, mean + share * (own - mean), own)
    if not known.all():
        value, natural = own[~known], _NATURAL[which]
        drawn = _alike(value, kinds[~known], natural, distance=which < 2)
        if np.sqrt(((drawn - value) ** 2).mean()) > _UNMOVED * natural:
            found[~known] = drawn
    return found


def _alike(values, kinds, natural: float, *, distance: bool = True) -> np.ndarray:
    """Draw values of one kind together, where they differ more than is natural.

    From their variance v, natural n², each becomes mean + (value - mean) min(1, n²/v): the best
    guess if the excess is error. Kinds of fewer than three stay as they are.

    Distances grow on average when atoms are displaced: with displacements of equal size in all
    directions by three variances in the mean of squares, of which one is that of the distances. So
    much is taken back: r² = <r²> - 3 (v - n²).
    """
    _, which, count = np.unique(kinds, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()
    mean = np.bincount(which, values) / count
    variance = np.bincount(which, (values - mean[which]) ** 2) / np.maximum(count - 1, 1)
    variance[count < _FEW] = 0
    excess = np.maximum(variance - natural**2, 0)
    share = 1 - excess / np.maximum(variance, natural**2)
    away = values - mean[which]
    if distance:
        mean = np.sqrt(np.maximum(mean**2 + variance - 3 * excess, (0.8 * mean) ** 2))
        mean = np.where(excess > 0, mean, np.bincount(which, values) / count)
    return mean[which] + share[which] * away


def _hand(volume, kinds) -> np.ndarray:
    """Tell -1, 0 or 1: hand of a group, by the others of its kind where it is not clear itself."""
    _, which, count = np.unique(kinds, axis=0, return_inverse=True, return_counts=True)
    mean = (np.bincount(which.ravel(), volume) / count)[which.ravel()]
    clear = np.where(np.abs(volume) < 1.0, mean, volume)
    return np.where(np.abs(clear) < 1.0, 0, np.sign(clear)).astype(int)


def make_typical(models) -> Typical:
    """Measure the bonds, angles and groups of structures (an iterable of gemmi.Structure)."""
    from cryonb.atoms import Atoms

    seen: dict[str, list] = {}
    for model in models:
        atoms = Atoms.from_structure(model)
        named = named_bonds(atoms)
        parts = Connections.of(atoms.position, atoms.element, named=named)
        names, types = np.unique(type_names(atoms), return_inverse=True)
        bonds, ends, groups, sign = _kinds(parts, types.ravel())
        good = named[2] & (atoms.b_iso < _HIGHEST_B)
        for kinds, values, rows in (
            (bonds, distance(atoms.position, parts.bonds), parts.bonds),
            (
                ends, distance(atoms.position, parts.ends),
                np.column_stack([parts.ends, parts.middle]),
            ),
            (groups, sign * volume(atoms.position, parts.groups), parts.groups),
        ):  # fmt: skip
            kept = good[rows].all(axis=1)
            if not kept.any():
                continue
            unique, which = np.unique(kinds[kept], axis=0, return_inverse=True)
            order = np.argsort(which.ravel(), kind="stable")
            edges = np.cumsum(np.bincount(which.ravel()))[:-1]
            for name, part in zip(
                _joined(names[unique]).tolist(), np.split(values[kept][order], edges), strict=True
            ):
                seen.setdefault(name, []).append(part)
    rows = []
    for name in sorted(seen):
        values = np.concatenate(seen[name])
        if len(values) >= _SELDOM:
            mean = np.median(values)
            rows.append((name, mean, 1.4826 * np.median(np.abs(values - mean)), len(values)))
    return Typical(*(np.array(column) for column in zip(*rows, strict=True)))


def main() -> None:
    """Make the table from the training structures and write it into the package."""
    import pandas as pd
    from tqdm.auto import tqdm

    from cryonb.files.model import read_model
    from cryonb.trace.known import REAL_MAPS
    from cryonb.train.library import split

    parser = argparse.ArgumentParser(description="Measure the geometry of known structures.")
    parser.add_argument("--out", type=Path, default=_FILE)
    options = parser.parse_args()
    folder = Path(os.environ["CRYONB_DATA"]) / "structures"
    index = pd.read_csv(folder / "INDEX.csv")
    part = split(index, exclude=REAL_MAPS)
    wanted = (part.to_numpy() == "train") & (index["resolution"] <= _COARSEST)
    wanted &= index["method"].str.upper() == "X-RAY DIFFRACTION"
    files = tqdm(index["file"][wanted].tolist(), desc="structures")
    make_typical(read_model(folder / name) for name in files).save(options.out)


if __name__ == "__main__":
    main()
