"""From a map to a model in one call: `nb.map_to_model`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cryonb.errors import CryonbError, ModelWarning
from cryonb.opening import open_map
from cryonb.preparation import Prepared, prepare
from cryonb.trace.support import only_sure
from cryonb.volume import Volume

if TYPE_CHECKING:
    from cryonb.density_map import DensityMap
    from cryonb.results import TracedModel
    from cryonb.trace.sequence import MapSequence

__all__ = ["BuiltModel", "map_to_model"]

#: B that all atoms have while they are refined, Å²: what a model holds as B is its confidence.
_B = 50.0
#: A stretch whose register is as good by chance as this is told apart from one that is not.
_SURE = 0.05


@dataclass(frozen=True, repr=False)
class BuiltModel:
    """A model that was built into a map, and how it came to be.

    Attributes
    ----------
    model : gemmi.Structure
        N, CA, C, O, and side chains where the residues' types are known; UNK where they are not. B
        is the confidence from 0 to 100, as of `trace`.
    steps : pandas.DataFrame
        A row a step: step, done (False: it failed, and what follows went on without it), what (what
        it found, or why it failed), seconds.
    gaps : pandas.DataFrame
        A row a stretch of a given sequence that has no place in the model, or none that is sure:
        chain, first, last, n.
    trace : TracedModel
        With `.table`, a row a chain, and `.peaks`.
    sequence : MapSequence or None
        Residue types by density alone, and the registers that it prefers; None if it failed.
    side_chains : pandas.DataFrame
        A row a side chain, see `cryonb.trace.side_chains.SideChains`.
    density : DensityMap
        The map that was built into.
    prepared : Prepared or None
        How that was made; `prepared.symmetry.apply(model)` makes the whole assembly.
    """

    model: object
    steps: pd.DataFrame
    gaps: pd.DataFrame
    trace: TracedModel
    sequence: MapSequence | None
    side_chains: pd.DataFrame
    density: DensityMap
    prepared: Prepared | None

    def evaluate(self, truth, **options):
        """Judge the model by the true one: see `cryonb.evaluate.chain.compare_chains`."""
        from cryonb.evaluate.chain import compare_chains

        return compare_chains(self.model, truth, **options)

    def save(self, folder, *, stem: str | None = None) -> list[Path]:
        """Write the model as mmCIF, and the tables as CSV.

        Returns
        -------
        list of Path
            `<stem>_model.cif` and, as `<stem>_<name>.csv`, steps, chains, gaps and, where there are
            such tables, side_chains, residues and placements.
        """
        from cryonb.files.model import write_model
        from cryonb.files.tables import write_tables

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stem = stem or self.density.name or "map"
        tables = {"steps": self.steps, "chains": self.trace.table, "gaps": self.gaps}
        if len(self.side_chains):
            tables["side_chains"] = self.side_chains
        if self.sequence is not None:
            tables["residues"] = self.sequence.residues
            if len(self.sequence.placements):
                tables["placements"] = self.sequence.placements
        tables = {f"{stem}_{name}": table for name, table in tables.items()}
        model = write_model(self.model, folder / f"{stem}_model.cif")
        write_tables(folder, **tables)
        return [model, *(folder / f"{name}.csv" for name in tables)]

    def view(self, **options):
        """Show the model in its map in the notebook, with controls."""
        return self.density.view(self.model, **options)

    def __repr__(self) -> str:
        residues = sum(len(chain) for chain in self.model[0])
        lines = [
            f"{s.step:12s} {s.seconds:7.1f} s  {'' if s.done else 'FAILED: '}{s.what}"
            for s in self.steps.itertuples()
        ]
        return "\n".join(
            [f"<BuiltModel: {residues} residues in {len(self.model[0])} chains>", *lines]
        )

    def _repr_html_(self) -> str:
        table = self.steps.round({"seconds": 1}).to_html(index=False)
        return f"<div><b>{self.__repr__().splitlines()[0][1:-1]}</b>{table}</div>"


def map_to_model(
    volume, sequence: str | Path | Sequence[str] | None = None, *, half_maps=None,
    resolution: float | None = None, prepared: bool | Prepared = True, prediction=None,
    weights="backbone", threshold: float = 0.3, sure: bool = True, refine: bool = True,
    device: str | None = None, progress: bool = True, **options,
) -> BuiltModel:  # fmt: skip
    """Build a model of the proteins in a map.

    The steps are `nb.prepare`, `m.trace` (with a sequence, `nb.name_fragments` is part of it),
    `nb.rebuild_backbone`, `nb.sequence_from_map` (which checks the trace, it does not change it),
    `nb.add_side_chains` and `nb.refine`; each can be had by itself.

    Parameters
    ----------
    volume : DensityMap, Volume or path
        The map, best the one before anybody sharpened or masked it.
    sequence : str, sequence of str or pathlib.Path, optional
        One-letter codes; a string a chain, so a homomer has the same one several times; of one unit
        where the map has symmetry and is prepared. A Path is that of a FASTA file or of a model.
        Without one the chains are traced, and their residues are UNK without side chains.
    half_maps : HalfMaps or pair of Volume or path, optional
        For the sharpening; those that ride on the map by default.
    resolution : float, optional
        Å; that which the map knows by default, else as `nb.prepare` finds it.
    prepared : bool or Prepared
        Whether the map is sharpened and boxed first; or how that was done before. False: the map
        is taken as it is, and its resolution has to be known.
    prediction : BackbonePrediction, optional
        Probabilities that a network gave before for the prepared map, whatever network it was.
    weights, threshold, device
        Of the network and the candidates: see `cryonb.trace.pipeline.trace`.
    sure : bool
        With a sequence: whether residues have names only where the density of a fragment bears
        them out; the rest is traced as without a sequence, of residues UNK. False: all that the
        sequence was threaded through has its names.
    refine : bool
        Whether positions are refined against the map at the end.
    progress : bool
        Show bars.
    **options
        Of `cryonb.trace.several.align_chains` (with a sequence) or of
        `cryonb.trace.chains.trace_chains`.

    Returns
    -------
    BuiltModel
        With `.model`, `.steps`, `.gaps`, `.trace`, `.sequence`, `.side_chains` and `.save(folder)`.

    Raises
    ------
    WeightsError
        If there is neither a prediction nor a network.
    CryonbError
        If the map cannot be prepared, its resolution is not known, or nothing is traced in it.

    Warns
    -----
    ModelWarning
        If a step after the trace fails: the model of the steps before it is given, and `steps` says
        why.

    Notes
    -----
    What it does not do: ligands, ions, waters (`m.add_waters`), glycans, nucleic acids, modified
    residues (their parents are built), alternative conformations, hydrogens. Where candidates
    are missing up to two residues in a row are bridged, and more are not built: with a sequence
    they are listed in `gaps`, as is what has a place but no sure name. No loop is modelled without
    density, no terminus is added, and no density is looked at again after the trace: a wrong trace
    stays wrong. At resolutions coarser than about 4 Å, Cα atoms are not told apart, and side chains
    mostly not beyond 3.5 Å; then few names are sure, and with `sure=False` what is built follows
    frequencies rather than the map. Peptides are planar, and geometry is that of the fragments it
    was put together from, not idealised by a force field: let a refinement program with a full set
    of restraints have the model before it is deposited. The confidence ranks residues; it is no
    probability that they are right (see `cryonb.trace.posterior`).
    """
    steps = _Steps(progress)
    sequences = _sequences(sequence)
    m, prior = _prepared(steps, volume, half_maps, resolution, prepared)
    d = m.resolution
    traced = steps.must(
        "trace", _traced, m, sequences, prediction, weights, threshold, sure, device, progress,
        options,
    )  # fmt: skip
    gaps = _gaps(traced, sequences)
    if sequences:
        steps.add_to_last(f"; {gaps.n.sum():.0f} residues in {len(gaps)} gaps have no place")
    model = steps.may("backbone", traced.model, _backbone, traced.model, m)
    registers = steps.may("sequence", None, _registers, model, m, sequences, d)
    model, table = steps.may("side chains", (model, pd.DataFrame()), _side_chains, model, m)
    if refine:
        model = steps.may("refine", model, _refined, model, m, d, device, progress)
    return BuiltModel(model, steps.table(), gaps, traced, registers, table, m, prior)


class _Steps:
    """Runs steps and keeps what they said."""

    def __init__(self, progress: bool):
        self.rows, self.progress = [], progress

    def must(self, name, work, *arguments):
        """Run a step that the others need: an error is raised as it is."""
        begin = time.perf_counter()
        result, what = work(*arguments)
        self._add(name, True, what, begin)
        return result

    def may(self, name, otherwise, work, *arguments):
        """Run a step that may fail, which is told and warned of; `otherwise` is then the result."""
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                result, what = work(*arguments)
        except CryonbError as error:
            self._add(name, False, str(error), begin)
            warnings.warn(f"The step {name!r} failed: {error}", ModelWarning, stacklevel=3)
            return otherwise
        said = [str(warning.message) for warning in caught]
        self._add(name, True, "; ".join([what, *dict.fromkeys(said)]), begin)
        return result

    def _add(self, name, done, what, begin) -> None:
        self.rows.append([name, done, what, time.perf_counter() - begin])

    def add_to_last(self, text: str) -> None:
        self.rows[-1][2] += text

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=["step", "done", "what", "seconds"])


def _sequences(sequence) -> list[str] | None:
    if sequence is None:
        return None
    if isinstance(sequence, Path):
        from cryonb.files.sequences import read_sequences

        return read_sequences(sequence)
    found = [sequence] if isinstance(sequence, str) else list(sequence)
    for one in found:
        if not "".join(one.split()).isalpha():
            raise CryonbError(
                f"A sequence of one-letter codes was expected, but {one!r} was given; a file is "
                "given as pathlib.Path."
            )
    return found


def _prepared(steps, volume, half_maps, resolution, prepared):
    """The map to build into, with its resolution, and how it was prepared."""
    from cryonb.density_map import DensityMap

    if isinstance(prepared, Prepared):
        m, prior = prepared.map, prepared
    elif prepared:
        half_maps = getattr(volume, "half_maps", None) if half_maps is None else half_maps
        prior = prepare(volume, half_maps, resolution=resolution, progress=steps.progress)
        m = prior.map
    else:
        m, prior = volume if isinstance(volume, Volume) else open_map(volume), None
        if not isinstance(m, DensityMap):
            m = DensityMap.from_volume(m)
    if prior is not None:
        steps.rows += [[row.step, True, row.what, row.seconds] for row in prior.steps.itertuples()]
    d = resolution or m.resolution or (prior and prior.sharpening.resolution)
    if d is None:
        raise CryonbError(
            "The map's resolution was expected, as the map is not prepared; give resolution= in Å."
        )
    if m.resolution != d:
        m = DensityMap.from_volume(m, resolution=d, contour=m.contour)
    return m, prior


def _traced(m, sequences, prediction, weights, threshold, sure, device, progress, options):
    traced = m.trace(
        sequences, prediction=prediction, weights=weights, threshold=threshold, device=device,
        progress=progress, **options,
    )  # fmt: skip
    if sequences and sure:
        traced = only_sure(traced)
    count = sum(len(chain) for chain in traced.model[0])
    if not count:
        raise CryonbError(
            f"A trace was expected, but none of {len(traced.peaks)} Cα candidates has a place in a "
            "chain; give a lower threshold=, or look at the candidates."
        )
    bridged = int(traced.table.bridged.sum())
    more = f", {bridged} of them placed without a candidate" if bridged else ""
    if traced.named is not None:
        more += f", {int(traced.table.named.sum())} named by density"
    unknown = sum(residue.name == "UNK" for chain in traced.model[0] for residue in chain)
    more += f", {unknown} UNK" if sequences and unknown else ""
    if sequences and unknown == count:
        more += " as density bears no name out (sure=False gives names all the same)"
    return traced, (
        f"{count} residues{more} in {len(traced.model[0])} chains, {traced.table.fragments.sum()} "
        f"fragments, of {len(traced.peaks)} candidates"
    )


def _gaps(traced, sequences) -> pd.DataFrame:
    """Stretches of the sequences without a position."""
    rows = []
    if sequences:
        names = iter([chain.name for chain in traced.model[0]])
        for chain in traced.chains[: len(sequences)]:
            lost = chain.states < 0
            name = "" if lost.all() else next(names)
            edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]])))
            for first, last in edges.reshape(-1, 2):
                rows.append((name, first + 1, last, last - first))
    return pd.DataFrame(rows, columns=["chain", "first", "last", "n"])


def _backbone(traced, m):
    from cryonb.trace.rebuild import rebuild_backbone

    model = rebuild_backbone(traced, m)
    whole = sum(residue.find_atom("N", "*") is not None for c in model[0] for residue in c)
    return model, f"N, C, O and CB of {whole} of {sum(map(len, model[0]))} residues"


def _registers(model, m, sequences, d):
    from cryonb.trace.sequence import sequence_from_map

    found = sequence_from_map(model, m, sequences, resolution=d)
    if not sequences:
        sure = (found.residues.p_best >= 0.5).sum()
        return found, f"no sequence given; the types of {sure} residues have 0.5 or more"
    sure = found.placements[found.placements.p < _SURE]
    agree = sure[sure.identity > 0.5]
    return found, (
        f"{len(sure)} of {len(found.placements)} stretches have a register by density alone (p < "
        f"{_SURE:g}), of {sure.n.sum()} residues; in {len(agree)}, of {agree.n.sum()}, it is that "
        "of the trace"
    )


def _side_chains(model, m):
    from cryonb.trace.side_chains import add_side_chains

    known = sum(residue.name != "UNK" for chain in model[0] for residue in chain)
    if not known:
        return (model, pd.DataFrame()), "none: no residue has a known type; give a sequence"
    found = add_side_chains(model, m)
    return (found.model, found.table), (
        f"{len(found)} of {known} residues, mean density {found.table.density.mean():.2f} of that "
        "at Cα"
    )


def _refined(model, m, d, device, progress):
    from cryonb.fitting.refine import refine

    # While it is refined, B is that of an atom; confidence it is again afterwards.
    plain = model.clone()
    for place in plain[0].all():
        place.atom.b_iso = _B
    found = refine(plain, m, what="xyz", resolution=d, device=device, progress=progress)
    refined = found.model
    for new, old in zip(refined[0].all(), model[0].all(), strict=True):
        new.atom.b_iso = old.atom.b_iso
    s = found.summary
    return refined, (
        f"CC {s['cc_before']:.3f} to {s['cc_after']:.3f}, moved by {s['shift']:.2f} Å r.m.s."
    )
