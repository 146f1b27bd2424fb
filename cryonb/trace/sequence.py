"""Which sequence a model in a map has, by the density at its side chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cryonb.atoms import AMINO_ACIDS
from cryonb.errors import CryonbError
from cryonb.files.tables import write_tables
from cryonb.graph.match import match_points
from cryonb.trace.alignment import ChainAlignment
from cryonb.trace.hidden_markov import BACKGROUND, LETTERS
from cryonb.trace.peaks import Peaks
from cryonb.trace.residue_frames import ResidueFrames, read_frames
from cryonb.trace.residue_types import residue_probabilities
from cryonb.trace.several import align_chains
from cryonb.volume import Volume

__all__ = ["MapSequence", "read_emission", "sequence_from_map"]

#: A stretch and a sequence overlap in at least this part of the shorter of them.
_OVERLAP = 0.6
#: A probability below this counts as this.
_LEAST = 1e-4
#: Å between a residue and the candidate whose emission it takes.
_NEAR = 2.0


@dataclass(frozen=True, repr=False)
class MapSequence:
    """Residue types of a model by density, and where its stretches lie in given sequences.

    Attributes
    ----------
    residues : pandas.DataFrame
        A row a residue: chain, number, icode, name (in the model), stretch, best (most probable
        amino acid), p_best, second, third, p_name (probability of the model's own), placed (the
        name at the best register, "" for none).
    placements : pandas.DataFrame
        A row a stretch of uninterrupted chain: stretch, chain, first, last (numbers), n, sequence
        (which of those given), start (place, from 0, of the residue that is read first; negative
        if the stretch begins before), forward (False if it is read backwards), score (sum of log
        ratios to chance), next (the second best), z and p (against shuffled sequences), identity
        (share of residues whose name in the model is the placed one). Empty without a sequence.
    probability : ndarray of float64, shape (n, 20)
        Columns as `cryonb.atoms.AMINO_ACIDS`.
    positions : ndarray of float64, shape (n, 3)
        Cα atoms in Å.
    sequences : tuple of str
        As given.
    """

    residues: pd.DataFrame
    placements: pd.DataFrame
    probability: np.ndarray
    positions: np.ndarray
    sequences: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.residues)

    def align(self, **options) -> list[ChainAlignment]:
        """Thread the sequences through the residues with gaps: see `cryonb.trace.alignment.align`.

        Takes the options of `align_chains` there; a chain of the result a sequence.
        """
        if not self.sequences:
            raise CryonbError(
                "A sequence was expected to align, but none was given; give sequence= to "
                "sequence_from_map."
            )
        return align_chains(self.positions, self.probability, self.sequences, **options)

    def save(self, folder) -> Path:
        """Write residues.csv and placements.csv into a folder, and give the folder."""
        return write_tables(folder, residues=self.residues, placements=self.placements)

    def __repr__(self) -> str:
        placed = int((self.residues.placed != "").sum())
        return (
            f"<MapSequence: {len(self)} residues in {self.residues.stretch.nunique()} stretches, "
            f"{placed} with a place in {len(self.sequences)} sequences>"
        )

    def _repr_html_(self) -> str:
        table = self.placements if len(self.placements) else self.residues
        return table.round(3).to_html(index=False)


def sequence_from_map(
    model, volume: Volume | None, sequence: str | Sequence[str] | None = None, *,
    resolution: float | None = None, emission=None, combine: bool = True,
    either_way: bool = False, shuffles: int = 200, rng: np.random.Generator | None = None,
) -> MapSequence:  # fmt: skip
    """Tell residue types of a model by density, and where it lies in a sequence.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        A backbone with N, CA and C, or Cα atoms alone, in the map's frame. Its side chains and
        names are not looked at.
    volume : Volume or None
        The map; None where `emission` alone is to count.
    sequence : str or sequence of str, optional
        One-letter codes, of one chain or of several.
    resolution : float, optional
        Of the map in Å; that which a `DensityMap` knows by default.
    emission : Peaks or array-like, shape (n, 20), optional
        Probabilities that a network gave: of the candidate nearest to each residue, or a row a Cα.
    combine : bool
        Whether an emission is multiplied with the density's probabilities (over the frequencies of
        the amino acids); False: it is taken instead.
    either_way : bool
        Of Cα atoms alone: whether stretches are read backwards as well, to see which way is better.
    shuffles : int
        Shuffled sequences whose best registers are compared with.
    rng : numpy.random.Generator, optional
        Source of the shuffles; always the same by default.

    Returns
    -------
    MapSequence
        With `.residues`, `.placements`, `.probability` and `.align()`.

    Raises
    ------
    CryonbError
        If there is neither map nor emission, an emission's rows are not those of the model, or the
        resolution is not known.

    Notes
    -----
    Each stretch is slid along each sequence without gaps and put where the sum of log ratios of
    probability to frequency is highest; it may reach over an end by four residues of ten. z is that
    score's distance, in standard deviations, from those of shuffled sequences; p is the share of
    shuffles that are as good (with one added to both), so it is never below 1 / (shuffles + 1). The
    order of the classes is learned from simulated maps of 1.7 to 4.4 Å: see
    `cryonb.trace.residue_training`.
    """
    frames = read_frames(model)
    sequences = _sequences(sequence)
    given = None if emission is None else read_emission(emission, frames.position)
    if volume is None and given is None:
        raise CryonbError("A map or an emission was expected, but neither was given.")
    ways = [frames]
    if either_way and not frames.backbone and given is None:
        ways.append(frames.reversed())
    found = []
    for way in ways:
        chance = given
        if volume is not None and (given is None or combine):
            chance = residue_probabilities(way, volume, resolution=resolution)
            if given is not None:
                chance = chance * given / BACKGROUND
        chance = np.maximum(chance, _LEAST)
        found.append(chance / chance.sum(axis=1, keepdims=True))
    rng = np.random.default_rng(0) if rng is None else rng
    rows, probability, placed = _place(frames, found, sequences, either_way, shuffles, rng)
    table = _table(frames, probability, placed)
    return MapSequence(table, pd.DataFrame(rows), probability, frames.position, sequences)


def _sequences(sequence) -> tuple[str, ...]:
    given = () if sequence is None else (sequence,) if isinstance(sequence, str) else sequence
    cleaned = tuple("".join(one.split()).upper() for one in given)
    for one in cleaned:
        if not one.isalpha():
            raise CryonbError(
                f"A sequence of one-letter codes was expected, but {one!r} was given."
            )
    return cleaned


def read_emission(emission, position) -> np.ndarray:
    """Probabilities a residue; the frequencies of amino acids where no candidate is near."""
    if isinstance(emission, Peaks):
        if emission.emission.shape[1:] != (len(AMINO_ACIDS),):
            raise CryonbError(
                "Peaks with probabilities of the 20 amino acids were expected, but they have "
                f"{emission.emission.shape[1]} classes; give find_ca classes=."
            )
        peak = match_points(position, emission.position, radius=_NEAR)[0]
        rows = np.where((peak >= 0)[:, None], emission.emission[peak], BACKGROUND)
    else:
        rows = np.asarray(emission, dtype=np.float64)
    if rows.shape != (len(position), len(AMINO_ACIDS)) or not (rows >= 0).all():
        raise CryonbError(
            f"Probabilities of shape ({len(position)}, 20) were expected, a row a Cα atom of the "
            f"model, but {rows.shape} was given."
        )
    return rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)


def _place(frames: ResidueFrames, found, sequences, either_way, shuffles, rng):
    """Best register of each stretch: rows, the probabilities that it was found by, names."""
    probability = found[0].copy()
    placed = np.full(len(frames), "", dtype="U3")
    if not sequences:
        return [], probability, placed
    codes = [np.array([LETTERS.find(letter) for letter in one]) for one in sequences]
    shuffled = [[rng.permutation(one) for _ in range(shuffles)] for one in codes]
    rows = []
    for stretch in np.unique(frames.stretch):
        of = np.flatnonzero(frames.stretch == stretch)
        best = None
        ways = [(way, 1) for way in found[:1]]
        if either_way and not frames.backbone:
            ways.append((found[-1], -1))
        ratios = [np.log(way[of][::step] / BACKGROUND) for way, step in ways]
        for turn, ratio in enumerate(ratios):
            for number, one in enumerate(codes):
                score, start = _slide(ratio, one)
                top = int(np.argmax(score))
                if best is None or score[top] > best[0]:
                    rest = np.delete(score, top)
                    following = float(rest.max()) if len(rest) else np.nan
                    best = (float(score[top]), number, int(start[top]), turn, following)
        null = np.array([
            max(_slide(ratio, many[k])[0].max() for ratio in ratios for many in shuffled)
            for k in range(shuffles)
        ])  # fmt: skip
        score, number, start, turn, following = best
        order = of[:: ways[turn][1]]
        probability[of] = ways[turn][0][of]
        at = start + np.arange(len(of))
        inside = (at >= 0) & (at < len(codes[number]))
        code = np.where(inside, codes[number][np.clip(at, 0, len(codes[number]) - 1)], -1)
        placed[order[code >= 0]] = np.array(AMINO_ACIDS)[code[code >= 0]]
        residues, row = frames.residues, frames.row
        same = placed[of] == frames.names[of]
        rows.append({
            "stretch": stretch, "chain": residues.chain[row[of[0]]],
            "first": residues.number[row[of[0]]], "last": residues.number[row[of[-1]]],
            "n": len(of), "sequence": number, "start": start, "forward": turn == 0,
            "score": score, "next": following,
            "z": (score - null.mean()) / max(null.std(), 1e-9) if shuffles else np.nan,
            "p": (1 + (null >= score).sum()) / (shuffles + 1),
            "identity": float(same.mean()),
        })  # fmt: skip
    return rows, probability, placed


def _slide(ratio: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score all registers: sums along diagonals, and the place of the stretch's first residue."""
    n, m = len(ratio), len(codes)
    least = max(int(np.ceil(_OVERLAP * min(n, m))), 1)
    start = np.arange(least - n, m - least + 1)
    # A residue of unknown type says nothing, and neither does one beyond an end of the sequence.
    known = np.append(ratio, np.zeros((n, 1)), axis=1)[:, codes]
    padded = np.zeros((n, m + 2 * n))
    padded[:, n : n + m] = known
    # Row k moved by k, so that a register is a column.
    step, width = padded.strides[1], padded.shape[1]
    moved = np.lib.stride_tricks.as_strided(
        padded, (n, width - n), (width * step + step, step), writeable=False
    )
    return moved.sum(axis=0)[start + n], start


def _table(frames, probability, placed) -> pd.DataFrame:
    residues, row = frames.residues, frames.row
    names = np.where(frames.names == "MSE", "MET", frames.names)
    ranked = np.argsort(-probability, axis=1, kind="stable")
    acids = np.array(AMINO_ACIDS)
    own = np.searchsorted(acids, names).clip(max=len(acids) - 1)
    every = np.arange(len(frames))
    return pd.DataFrame({
        "chain": residues.chain[row], "number": residues.number[row], "icode": residues.icode[row],
        "name": frames.names, "stretch": frames.stretch, "best": acids[ranked[:, 0]],
        "p_best": probability[every, ranked[:, 0]], "second": acids[ranked[:, 1]],
        "third": acids[ranked[:, 2]],
        "p_name": np.where(acids[own] == names, probability[every, own], np.nan),
        "placed": placed,
    })  # fmt: skip
