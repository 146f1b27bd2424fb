"""Several chains threaded through Cα positions, copies of one sequence among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cryonb.errors import CryonbError
from cryonb.trace.alignment import (
    ChainAlignment,
    align,
    alignment_of,
    published_alignment,
    sequence_codes,
    sequence_letters,
    sparse_model,
)
from cryonb.trace.features import with_anchors, with_features
from cryonb.trace.hidden_markov import ChainModel, check_states
from cryonb.trace.homomers import exchange_tails

__all__ = ["align_chains"]


def align_chains(
    positions, emissions, sequences: Sequence, *, order: str = "best", method: str = "sparse",
    exchange: bool = True, missing: float | None = -1.5, jump: float = -20.0, bridge: int = 2,
    spread_scale: float = 10.0, rounds: int | None = None, features=None, state_features=None,
    feature_weight: float = 0.5, anchors=None,
) -> list[ChainAlignment]:  # fmt: skip
    """Thread several chains, copies of one sequence among them, each through what others left.

    Parameters
    ----------
    positions, emissions, method, missing, jump, bridge, spread_scale, rounds, feature_weight
        As for `align`.
    sequences : sequence of str or of arrays
        A sequence a chain; a homomer has the same one several times.
    order : {"best", "given"}
        "best": next is always the chain that gains most a residue over having no states.
        "given": in turn, as published. "published" knows this one alone, and takes it.
    exchange : bool
        Whether copies of a sequence exchange their tails where that makes better chains: a path may
        go on in the neighbouring copy where the two come close (`cryonb.trace.homomers`). Not for
        "published".
    features : array-like or sequence of them, optional
        As for `align`, one array a sequence (None for a sequence without); of a single sequence the
        array itself.
    state_features : array-like, shape (S, d), optional
        As for `align`.
    anchors : sequence of array-like of int, shape (S,), optional
        As for `align`, one array a sequence. A position that is known to be of one chain is none
        of the others, and copies with different anchors do not exchange their tails.

    Returns
    -------
    list of ChainAlignment
        In the order of `sequences`; a chain for which no state is left has none. `states` are rows
        of `positions`. The bound of chains that exchanged their tails is not known.
    """
    positions, emissions = check_states(positions, emissions)
    sequences = list(sequences)
    chains = [sequence_codes(sequence) for sequence in sequences]
    if order not in ("best", "given"):
        raise CryonbError(f"An order of best or given was expected, but {order!r} was asked.")
    free = np.ones(len(positions), dtype=bool)
    found: list[ChainAlignment | None] = [None] * len(chains)
    own = _of_each(features, len(chains))
    if state_features is not None and len(state_features) != len(positions):
        raise CryonbError(
            f"State features of {len(positions)} positions were expected, but "
            f"{len(state_features)} rows were given."
        )
    if method == "published":
        if features is not None or anchors is not None:
            raise CryonbError(
                'No features or anchors were expected for method="published"; use "sparse".'
            )
        model = ChainModel.of(positions, emissions, spread_scale=spread_scale)
        for number, codes in enumerate(chains):
            found[number] = published_alignment(model, codes, free)
            free[found[number].states[found[number].states >= 0]] = False
        return found
    held = _anchors(anchors, len(chains), len(positions))
    options = {
        "method": method, "missing": missing, "jump": jump, "bridge": bridge, "rounds": rounds,
        "spread_scale": spread_scale, "state_features": state_features,
        "feature_weight": feature_weight,
    }  # fmt: skip
    of_each = [{"features": one, "anchors": two} for one, two in zip(own, held, strict=True)]
    # Chains of one sequence, and of the same features and anchors, are copies.
    names = [
        (codes.tobytes(), *(None if one is None else np.asarray(one).tobytes() for one in given))
        for codes, *given in zip(chains, own, held, strict=True)
    ]
    # What was found for a sequence stays true until a chain takes one of its states.
    known: dict[tuple, ChainAlignment] = {}
    while waiting := [number for number, chain in enumerate(found) if chain is None]:
        turns = waiting if order == "best" else waiting[:1]
        for number in turns:
            if names[number] not in known:
                mine = free & ~_of_others(held, number)
                known[names[number]] = _among(
                    positions, emissions, chains[number], mine, options | of_each[number]
                )
        best = max(turns, key=lambda number: _gain(known[names[number]]))
        chain = found[best] = known[names[best]]
        taken = chain.states[chain.states >= 0]
        free[taken] = False
        known = {
            name: other for name, other in known.items() if not np.isin(other.states, taken).any()
        }
    if not exchange:
        return found
    copies: dict[tuple, list[int]] = {}
    for number, name in enumerate(names):
        if (found[number].states >= 0).any():
            copies.setdefault(name, []).append(number)
    for numbers in copies.values():
        if len(numbers) > 1:
            codes, given = chains[numbers[0]], options | of_each[numbers[0]]
            _exchange(positions, emissions, codes, found, numbers, given)
    return found


def _anchors(anchors, chains: int, states: int) -> list:
    """Anchors of each chain, None where it has none."""
    if anchors is None:
        return [None] * chains
    found = [np.asarray(one) for one in anchors]
    if len(found) != chains or any(one.shape != (states,) for one in found):
        shapes = ", ".join(str(one.shape) for one in found)
        raise CryonbError(
            f"Anchors of each of {chains} sequences were expected, {states} integers each, but "
            f"{len(found)} arrays of shapes {shapes} were given."
        )
    if (np.sum([one >= 0 for one in found], axis=0) > 1).any():
        raise CryonbError("Anchors of one chain a position were expected, but some have two.")
    return [one if (one >= 0).any() else None for one in found]


def _of_others(held, number) -> np.ndarray | bool:
    """Which positions are known to be of another chain."""
    return np.any([one >= 0 for k, one in enumerate(held) if k != number and one is not None], 0)


def _of_each(features, count: int) -> list:
    """Features of each chain, None for none."""
    if features is None:
        return [None] * count
    if count == 1 and (isinstance(features, np.ndarray) or len(features) != 1):
        return [features]
    if len(features) != count:
        raise CryonbError(
            f"Features of each of {count} sequences were expected, but {len(features)} were given; "
            "None stands for no features of a sequence."
        )
    return list(features)


def _exchange(positions, emissions, codes, found, numbers, options) -> None:
    """Mend copies (numbers) of a sequence that have exchanged their tails, in the list found."""
    names = ("missing", "jump", "bridge", "spread_scale")
    whole = sparse_model(positions, emissions, *(options[name] for name in names))
    columns = codes
    if options["features"] is not None:
        whole, columns = with_features(
            whole, codes, options["features"], options["state_features"], options["feature_weight"]
        )
    if options["anchors"] is not None:
        whole, columns = with_anchors(whole, columns, options["anchors"])
    before = [found[number].states for number in numbers]
    others = [chain.states for k, chain in enumerate(found) if k not in numbers]
    taken = np.concatenate([*others, *before])
    for number, states in zip(numbers, exchange_tails(whole, columns, before), strict=True):
        if np.array_equal(states, found[number].states):
            continue
        # As the search does it: what other chains have is no state of this one.
        free = np.setdiff1d(np.arange(len(positions)), np.setdiff1d(taken, states))
        place = np.full(len(positions) + 1, -1)
        place[free] = np.arange(len(free))
        mended = alignment_of(whole.select(free), codes, place[states], columns=columns)
        found[number] = replace(mended, states=states)


def _among(positions, emissions, codes, free, options) -> ChainAlignment:
    """Align on the states that are free, and give rows of all."""
    rows = np.flatnonzero(free)
    if not len(rows):
        return _nothing(codes)
    for name in ("state_features", "anchors"):
        if options[name] is not None:
            options = options | {name: np.asarray(options[name])[rows]}
    found = align(positions[rows], emissions[rows], codes, **options)
    return replace(found, states=np.where(found.states >= 0, rows[found.states], -1))


def _nothing(codes) -> ChainAlignment:
    n = len(codes)
    return ChainAlignment(
        sequence_letters(codes), np.full(n, -1, np.int64), np.full((n, 3), np.nan), np.zeros(n),
        np.empty((0, 2), np.int64), -np.inf, np.nan, -np.inf, "sparse",
    )  # fmt: skip


def _gain(found: ChainAlignment) -> float:
    """What a path gains a residue; over no states where that is allowed."""
    empty = found.empty if np.isfinite(found.empty) else 0.0
    return (found.log_probability - empty) / len(found)
