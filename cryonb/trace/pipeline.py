"""From a map to Cα chains: predict, pick, then thread a sequence or trace without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cryonb.atoms import AMINO_ACIDS
from cryonb.errors import CryonbError
from cryonb.trace.alignment import ChainAlignment, ca_structure
from cryonb.trace.chains import ChainTrace, trace_chains
from cryonb.trace.hidden_markov import BACKGROUND
from cryonb.trace.naming import NamedFragments, name_fragments
from cryonb.trace.peaks import Peaks, find_ca
from cryonb.trace.several import align_chains
from cryonb.volume import Volume

__all__ = ["Trace", "trace"]


@dataclass(frozen=True, repr=False)
class Trace:
    """Chains of Cα atoms in a map.

    Attributes
    ----------
    model : gemmi.Structure
        Cα atoms; B is the confidence from 0 to 100. Residues without a sequence are UNK.
    peaks : Peaks
        The candidates.
    chains : tuple of ChainAlignment, or ChainTrace
        The first where sequences were given, one each.
    density : Volume
        The map.
    free : ChainTrace or None
        The fragments that were traced first, where a sequence was given: rows of their positions
        are the states of `chains`. None where none were asked for, or there are none.
    named : NamedFragments or None
        The names that these have by density.
    """

    model: object
    peaks: Peaks
    chains: tuple[ChainAlignment, ...] | ChainTrace
    density: Volume
    free: ChainTrace | None = None
    named: NamedFragments | None = None

    @property
    def table(self) -> pd.DataFrame:
        """A row a chain of the model.

        chain, n (residues), length (of its sequence, or n), fragments, bridged (residues that were
        placed without a candidate), confidence (mean of B / 100), direction (logit that it goes
        from N to C; NaN if nothing told, or a sequence was threaded, which has a direction) and
        named (residues whose names are by density).
        """
        rows = []
        chains = self.chains
        if isinstance(chains, ChainTrace):
            length, pieces = [len(path) for path in chains.paths], [1] * len(chains)
            bridged = [int(chains.bridged[path].sum()) for path in chains.paths]
            direction, named = list(chains.direction), [0] * len(chains)
        else:
            held = self.anchors or []
            held = [*held, *[None] * (len(chains) - len(held))]
            both = [pair for pair in zip(chains, held, strict=True) if pair[0].placed > 0]
            chains = [chain for chain, _ in both]
            length, pieces = map(len, chains), (len(chain.fragments) for chain in chains)
            bridged = [int((chain.states >= len(self.peaks)).sum()) for chain in chains]
            direction = [float("nan")] * len(chains)
            named = [0 if one is None else int((one >= 0).sum()) for _, one in both]
        for chain, long, number, between, logit, sure in zip(
            self.model[0], length, pieces, bridged, direction, named, strict=True
        ):
            b_iso = [atom.b_iso for residue in chain for atom in residue]
            rows.append({
                "chain": chain.name, "n": len(chain), "length": long, "fragments": number,
                "bridged": between, "confidence": sum(b_iso) / len(b_iso) / 100, "direction": logit,
                "named": sure,
            })  # fmt: skip
        names = ("chain", "n", "length", "fragments", "bridged", "confidence", "direction", "named")
        return pd.DataFrame(rows, columns=names)

    @property
    def anchors(self) -> list[np.ndarray] | None:
        """Of each sequence, the residue (from 0) that a state has by density; -1 for none."""
        if self.named is None:
            return None
        rows = np.concatenate(self.free.paths)
        held = []
        residues = self.named.residues
        for number in range(len(self.named.sequences)):
            found = np.full(len(self.free.positions), -1)
            of = (residues.sequence == number).to_numpy()
            found[rows[of]] = residues.place[of]
            held.append(found)
        return held

    def __repr__(self) -> str:
        placed = sum(len(chain) for chain in self.model[0])
        return (
            f"<{type(self).__name__}: {placed} Cα atoms in {len(self.model[0])} chains, of "
            f"{len(self.peaks)} candidates>"
        )

    def _repr_html_(self) -> str:
        return self.table.round(2).to_html(index=False)


def trace(
    volume: Volume, sequence: str | Sequence[str] | None = None, *, peaks: Peaks | None = None,
    prediction=None, weights="backbone", threshold: float = 0.3, names: bool = True,
    resolution: float | None = None, device: str | None = None, progress: bool = True, **options,
) -> Trace:  # fmt: skip
    """Trace Cα chains in a map.

    Parameters
    ----------
    volume : Volume
        The map.
    sequence : str or sequence of str, optional
        One-letter codes; a string a chain, so a homomer has the same one several times. Without
        one, fragments are traced through the candidates.
    peaks : Peaks, optional
        Candidates found before, which the network is then not asked for.
    prediction : BackbonePrediction, optional
        What `predict_backbone`, or another network, gave for this map: `heat` with the class CA (N
        and C tell directions), and `residue` with the 20 amino acids.
    weights, device, progress
        Of the network: see `cryonb.predict.backbone.predict_backbone`.
    threshold : float
        Least score of a candidate.
    names : bool
        With a sequence: whether fragments are traced without it first, and named where density
        tells (`cryonb.trace.naming.name_fragments`). These hold the sequence when it is threaded.
        It takes the map's resolution; where none is known, there are no names.
    resolution : float, optional
        Of the map in Å; that which a `DensityMap` knows by default.
    **options
        Of `cryonb.trace.several.align_chains` (with a sequence) or of
        `cryonb.trace.chains.trace_chains`.

    Returns
    -------
    Trace
        With `.model`, `.table`, `.peaks`, `.chains` and `.named`.

    Raises
    ------
    WeightsError
        If there are neither candidates nor weights.
    CryonbError
        If no candidate is found, or a sequence is to be threaded through candidates whose amino
        acids are not known.

    Notes
    -----
    The result is as good as the candidates. Side chains and the other backbone atoms are not built.
    Where nothing has a name by density, all that says which residue is where are the network's
    amino acids, and often they are not enough: see `.named`.
    """
    heat = None if prediction is None else prediction.heat
    if peaks is None:
        if prediction is None:
            from cryonb.predict.backbone import predict_backbone

            prediction = predict_backbone(volume, weights=weights, device=device, progress=progress)
            heat = prediction.heat
        peaks = find_ca(heat["CA"], classes=prediction.residue, threshold=threshold)
    else:
        peaks = peaks.above(threshold)
    if not len(peaks):
        raise CryonbError(
            f"Cα candidates were expected, but none has a score of {threshold:g}; give a lower "
            "threshold=."
        )
    resolution = getattr(volume, "resolution", None) if resolution is None else resolution
    if sequence is None:
        chains = trace_chains(
            peaks, volume=volume, resolution=resolution, **({"heat": heat} | options)
        )
        return Trace(chains.structure(), peaks, chains, volume)
    sequences = [sequence] if isinstance(sequence, str) else list(sequence)
    if not sequences:
        raise CryonbError("At least one sequence was expected, but none was given; give a string.")
    if peaks.classes != AMINO_ACIDS:
        raise CryonbError(
            "Candidates with probabilities of the 20 amino acids were expected, to thread a "
            f"sequence, but their classes are {', '.join(peaks.classes) or 'none'}; give find_ca "
            "classes=, or no sequence."
        )
    free = named = None
    if names and resolution is not None and options.get("method") != "published":
        free = trace_chains(peaks, volume=volume, resolution=resolution, heat=heat)
    if free is None or not len(free):
        chains = tuple(align_chains(peaks.position, peaks.emission, sequences, **options))
        return Trace(ca_structure(chains), peaks, chains, volume)
    named = name_fragments(
        free.structure(), volume, sequences, emission=peaks, resolution=resolution
    )
    # Residues that were placed without a candidate are states as well, of any amino acid.
    placed = np.tile(BACKGROUND, (int(free.bridged.sum()), 1))
    found = Trace(None, peaks, (), volume, free, named)
    chains = tuple(
        align_chains(
            free.positions, np.vstack([peaks.emission, placed]), sequences, anchors=found.anchors,
            **options,
        )
    )  # fmt: skip
    return replace(found, model=ca_structure(chains), chains=chains)
