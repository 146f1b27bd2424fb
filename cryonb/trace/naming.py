"""Names for fragments that were traced without a sequence: `nb.name_fragments`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.errors import CryonbError
from cryonb.files.tables import write_tables
from cryonb.trace.alignment import chain_name, sequence_codes
from cryonb.trace.hidden_markov import BACKGROUND
from cryonb.trace.placing import Copy, Placement, place_fragments
from cryonb.trace.residue_frames import ResidueFrames, read_frames
from cryonb.trace.residue_types import direction_logit, residue_probabilities
from cryonb.trace.sequence import read_emission
from cryonb.volume import Volume

__all__ = ["NamedFragments", "name_fragments"]

#: A probability below this counts as this.
_LEAST = 1e-4
#: What is kept of a residue whose name changes; Cβ is not where the true side chain's is.
_BACKBONE = ("N", "CA", "C", "O")


@dataclass(frozen=True, repr=False)
class NamedFragments:
    """Fragments with the names that their density tells.

    Attributes
    ----------
    model : gemmi.Structure
        First a chain for each sequence that has a residue, numbered from 1 along the sequence; then
        what has no name, a chain a piece, of residues UNK. Of N, CA, C and O, those that were given
        (CA alone where a piece was turned: see `nb.rebuild_backbone`); B as given.
    fragments : pandas.DataFrame
        A row a piece of a fragment: chain, first, last (numbers as given), n, named (residues that
        have a name), sequence (which of those given, from 0; -1 for none), start, end (numbers of
        the sequence, from 1, of the best run, named or not), forward (False if it is read
        backwards), score (sum of log ratios to chance), next (of the best run elsewhere), z and p
        (against shuffled sequences).
    residues : pandas.DataFrame
        A row a residue as given: chain, number, icode, fragment (row above), sequence, place (from
        0), name; -1 and "" for none.
    sequences : tuple of str
        As given.
    """

    model: object
    fragments: pd.DataFrame
    residues: pd.DataFrame
    sequences: tuple[str, ...]

    @property
    def named(self) -> float:
        """Share of the residues that have a name."""
        return float((self.residues.place >= 0).mean())

    def evaluate(self, truth, **options):
        """Judge the model by the true one: see `cryonb.evaluate.chain.compare_chains`."""
        from cryonb.evaluate.chain import compare_chains

        return compare_chains(self.model, truth, **options)

    def save(self, folder, *, stem: str = "named") -> list[Path]:
        """Write `<stem>.cif`, `<stem>_fragments.csv` and `<stem>_residues.csv` into a folder."""
        from cryonb.files.model import write_model

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model = write_model(self.model, folder / f"{stem}.cif")
        tables = {f"{stem}_fragments": self.fragments, f"{stem}_residues": self.residues}
        write_tables(folder, **tables)
        return [model, *(folder / f"{name}.csv" for name in tables)]

    def __repr__(self) -> str:
        return (
            f"<NamedFragments: {(self.residues.place >= 0).sum()} of {len(self.residues)} residues "
            f"named, {(self.fragments.named > 0).sum()} of {len(self.fragments)} pieces, on "
            f"{len(self.sequences)} sequences>"
        )

    def _repr_html_(self) -> str:
        return self.fragments.round(3).to_html(index=False)


def name_fragments(
    model, volume: Volume | None, sequence: str | Sequence[str], *, emission=None,
    resolution: float | None = None, chance: float = 0.005, margin: float = 2.0,
    shuffles: int = 100, rng: np.random.Generator | None = None,
) -> NamedFragments:  # fmt: skip
    """Name the residues of fragments that were traced without a sequence.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        Backbones, or Cα atoms alone, in the map's frame; a fragment is what follows within reach in
        one chain. Its side chains and names are not looked at, and it may run the wrong way.
    volume : Volume or None
        The map; None where `emission` alone is to count.
    sequence : str or sequence of str
        One-letter codes, a string a chain, so a homomer has the same one several times.
    emission : Peaks or array-like, shape (n, 20), optional
        Probabilities that a network gave: of the candidate nearest to each residue, or a row a Cα.
        Of these and the density's the geometric mean is taken, as both have seen the same map.
    resolution : float, optional
        Of the map in Å; that which a `DensityMap` knows by default.
    chance : float
        Largest p of a run that gives names: about the share of wrong ones among fragments that have
        no place.
    margin : float
        By how much its score has to be above that of the best run elsewhere.
    shuffles : int
        Shuffled sequences that it is compared with.
    rng : numpy.random.Generator, optional
        Source of the shuffles; always the same by default.

    Returns
    -------
    NamedFragments
        With `.model`, `.fragments`, `.residues` and `.save(folder)`.

    Raises
    ------
    CryonbError
        If no sequence is given, there is neither map nor emission, an emission's rows are not those
        of the model, or the resolution is not known.

    Notes
    -----
    Each fragment, read both ways, has a best run along each sequence: a local alignment whose score
    is the sum of log ratios of probability to frequency, less costs for one or two residues too
    many or too few in the trace and for ends that are cut off. The same is done with shuffled
    sequences, whose best scores have Gumbel's distribution; p comes from that. The surest run is
    taken first. What is left of its fragment is a fragment again, and all others have to respect
    it: a residue of a copy has one place, and is no farther from those that were named than the
    chain between them is long, which leaves chance less to offer. Of several copies with room, that
    is taken which is nearest by the residues named before. What is never sure has no name.
    """
    frames = read_frames(model)
    sequences = _sequences(sequence)
    if volume is None and emission is None:
        raise CryonbError("A map or an emission was expected, but neither was given.")
    ratios = _ratios(model, frames, volume, emission, resolution)
    direction = {}
    stretches = np.unique(frames.stretch).tolist()
    if volume is not None:
        points = {one: frames.position[frames.stretch == one] for one in stretches}
        direction = {one: direction_logit(x, volume, resolution) for one, x in points.items()}
    different = list(dict.fromkeys(sequences))
    copies = [Copy(different.index(one), sequence_codes(one)) for one in sequences]
    found = place_fragments(
        ratios, frames.position, frames.stretch, copies, direction=direction, chance=chance,
        margin=margin, shuffles=shuffles, rng=np.random.default_rng(0) if rng is None else rng,
    )  # fmt: skip
    found.sort(key=lambda one: one.rows.min())
    residues = _residues(frames, found, sequences)
    return NamedFragments(
        _model(model, frames, residues, found), _fragments(frames, found), residues, sequences
    )


def _sequences(sequence) -> tuple[str, ...]:
    given = (sequence,) if isinstance(sequence, str) else () if sequence is None else sequence
    found = tuple("".join(one.split()).upper() for one in given)
    if not found or not all(one.isalpha() for one in found):
        raise CryonbError(
            f"Sequences of one-letter codes were expected, but {sequence!r} was given; "
            "nb.open_sequences reads them from a file."
        )
    return found


def _ratios(model, frames: ResidueFrames, volume, emission, resolution) -> list[np.ndarray]:
    """Log ratios of probability to frequency, read forward and backward."""
    given = None if emission is None else read_emission(emission, frames.position)
    # N and C that were made for the one direction say nothing of the other: Cα atoms alone do.
    backward = read_frames(model, backbone=False).reversed()
    found = []
    for way in (frames, backward):
        if volume is None:
            chance = given
        else:
            chance = residue_probabilities(way, volume, resolution=resolution)
            if given is not None:
                chance = np.sqrt(chance * given)
        chance = np.maximum(chance, _LEAST)
        found.append(np.log(chance / chance.sum(axis=1, keepdims=True) / BACKGROUND))
    return found


def _residues(frames, found: list[Placement], sequences) -> pd.DataFrame:
    n = len(frames)
    piece, copy, place = (np.full(n, -1) for _ in range(3))
    name = np.full(n, "", dtype="U3")
    for number, one in enumerate(found):
        piece[one.rows] = number
        if one.copy >= 0:
            rows, places = one.rows[one.run.rows], one.run.places
            copy[rows], place[rows] = one.copy, places
            codes = sequence_codes(sequences[one.copy])[places]
            name[rows] = np.array([*AMINO_ACIDS, "UNK"])[codes]
    residues, row = frames.residues, frames.row
    return pd.DataFrame({
        "chain": residues.chain[row], "number": residues.number[row], "icode": residues.icode[row],
        "fragment": piece, "sequence": copy, "place": place, "name": name,
    })  # fmt: skip


def _fragments(frames, found: list[Placement]) -> pd.DataFrame:
    rows = []
    residues, row = frames.residues, frames.row
    for one in found:
        first, last = row[one.rows.min()], row[one.rows.max()]
        start, end = (0, 0) if one.run is None else one.run.places[[0, -1]] + 1
        rows.append({
            "chain": residues.chain[first], "first": residues.number[first],
            "last": residues.number[last], "n": len(one.rows),
            "named": len(one.run.rows) if one.copy >= 0 else 0, "sequence": one.copy,
            "start": start, "end": end, "forward": one.forward, "score": one.score,
            "next": one.next, "z": one.z, "p": one.p,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _model(given, frames, residues, found):
    """The named residues, a chain a sequence, then what has no name."""
    import gemmi

    made = gemmi.Structure()
    made.name = "named"
    made.add_model(gemmi.Model(1))
    forward = np.array([found[k].forward for k in residues.fragment])
    of_row = _atoms_by_row(given, frames)

    def add(rows, numbers, names, turned):
        chain = gemmi.Chain(chain_name(len(made[0])))
        for row, number, name in zip(rows.tolist(), numbers.tolist(), names, strict=True):
            residue = gemmi.Residue()
            residue.name, residue.seqid = str(name), gemmi.SeqId(int(number), " ")
            for title, element, position, b_iso in of_row[row]:
                if title == "CA" or not turned[row]:
                    atom = gemmi.Atom()
                    atom.name, atom.element = title, gemmi.Element(element)
                    atom.pos, atom.b_iso = gemmi.Position(*position), b_iso
                    residue.add_atom(atom)
            chain.add_residue(residue)
        made[0].add_chain(chain)

    place, turned = residues.place.to_numpy(), ~forward
    for copy in np.unique(residues.sequence[place >= 0]):
        rows = np.flatnonzero((residues.sequence == copy) & (place >= 0))
        rows = rows[np.argsort(place[rows])]
        add(rows, place[rows] + 1, residues.name.to_numpy()[rows], turned)
    kept = np.zeros(len(place), dtype=bool)
    for stretch in np.unique(frames.stretch):
        rows = np.flatnonzero((frames.stretch == stretch) & (place < 0))
        for piece in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            if len(piece):
                add(piece, np.arange(1, len(piece) + 1), ["UNK"] * len(piece), kept)
    made.setup_entities()
    return made


def _atoms_by_row(given, frames):
    """Name, element, position and B of the backbone atoms of each frame's residue."""
    atoms = Atoms.from_structure(given)
    rows = np.flatnonzero(np.isin(atoms.name, _BACKBONE))
    place = np.full(len(atoms.residues), -1)
    place[frames.row] = np.arange(len(frames))
    found = [[] for _ in range(len(frames))]
    for row in rows[place[atoms.residue[rows]] >= 0].tolist():
        name = str(atoms.name[row])
        found[place[atoms.residue[row]]].append(
            (name, name[0], atoms.position[row].tolist(), float(atoms.b_iso[row]))
        )
    return found
