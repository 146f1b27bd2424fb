"""Sequences threaded through Cα positions: which position is which residue of which chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cryonb.errors import CryonbError
from cryonb.trace.features import with_anchors, with_features
from cryonb.trace.hidden_markov import LETTERS, ChainModel, check_states
from cryonb.trace.posterior import posterior
from cryonb.trace.viterbi import best_path, published_path

__all__ = [
    "ChainAlignment", "align", "alignment_of", "ca_structure", "chain_name", "published_alignment",
    "sequence_codes", "sequence_letters", "sparse_model",
]  # fmt: skip

_METHODS = ("sparse", "published")
_UNKNOWN = len(LETTERS)


@dataclass(frozen=True, repr=False)
class ChainAlignment:
    """A sequence and the states that its residues lie at.

    Attributes
    ----------
    sequence : str
        One-letter codes, X for an unknown residue: T of them.
    states : ndarray of int64, shape (T,)
        Row of each residue's position; -1 for none.
    positions : ndarray of float64, shape (T, 3)
        In Å; NaN for none.
    confidence : ndarray of float64, shape (T,)
        Posterior probability, 0 to 1, of each residue's state; it ranks residues, but is too low:
        see `cryonb.trace.posterior`.
    fragments : ndarray of int64, shape (n, 2)
        First and last residue (from 0) of each stretch without a jump or a residue left out. Of
        the published search: the pieces between its aborts.
    log_probability : float
        Natural logarithm, with every step counted, jumps included, whatever the method.
    bound : float
        No path that uses each state at most once has a higher log probability; NaN if not known.
    empty : float
        Log probability of no residue having a state; -inf where that is not allowed.
    method : str
        "sparse" or "published".
    """

    sequence: str
    states: np.ndarray
    positions: np.ndarray
    confidence: np.ndarray
    fragments: np.ndarray
    log_probability: float
    bound: float
    empty: float
    method: str

    def __len__(self) -> int:
        return len(self.states)

    @property
    def placed(self) -> float:
        """Share of residues that have a position."""
        return float((self.states >= 0).mean())

    def __repr__(self) -> str:
        return (
            f"<ChainAlignment: {(self.states >= 0).sum()} of {len(self)} residues placed in "
            f"{len(self.fragments)} fragments, log probability {self.log_probability:.1f}>"
        )


def align(
    positions, emissions, sequence, *, method: str = "sparse", missing: float | None = -1.5,
    jump: float = -20.0, bridge: int = 2, spread_scale: float = 10.0, rounds: int | None = None,
    features=None, state_features=None, feature_weight: float = 0.5, anchors=None,
) -> ChainAlignment:  # fmt: skip
    """Thread a sequence through Cα positions, as the best path of a hidden Markov model.

    States are positions. A step from one to the next has the normal density of its length, 3.805 Å
    with a standard deviation of 0.0362 Å times `spread_scale`, plus a floor that lets it have any
    length at all (`jump`); rows are normalised. A state emits a residue with the square root of
    its probability times the residue's background frequency, normalised. A chain begins at any
    state, in the share in which it emits the first residue. No state is used twice.

    "sparse" looks at neighbours within reach and, for jumps, at the best states to leave; it does
    so from both ends, and anew with prices on states that paths fight for (`rounds`), and takes
    the best path. A residue may be left without a state, at a cost.

    "published" follows the published search: it looks at all pairs of states, ends a fragment as
    soon as one state has no admissible predecessor, whichever it is, and begins anew with what is
    left, at no cost for the jump. No residue is left out unless states run out.

    Parameters
    ----------
    positions : array-like, shape (S, 3)
        Of Cα candidates, in Å.
    emissions : array-like, shape (S, 20)
        Probabilities of the amino acids, in the order of their three-letter codes
        (`cryonb.trace.hidden_markov.LETTERS`); rows need not add up to one.
    sequence : str or array-like of int, shape (T,)
        One-letter codes, or columns of `emissions`. Other letters, and 20, are residues of unknown
        type, which every state emits alike. "published" leaves them without a state.
    method : {"sparse", "published"}
        See above.
    missing : float or None
        Natural logarithm of the weight of a residue without a state, beside its background
        frequency; None: every residue must have a state. Not for "published".
    jump : float
        Natural logarithm of the floor of the density of a step, in 1/Å. A stretch of more than
        `bridge` residues without a state costs one jump as well, unless it lies at an end of the
        chain. Published: ln 1e-20, about -46. Not for "published".
    bridge : {0, 1, 2}
        Up to how many residues without a state are stepped over by the distance of their
        neighbours, at no jump. Not for "published".
    spread_scale : float
        Published: 10.
    rounds : int, optional
        How often prices are set. By default 8, fewer where T × S is above 200,000 (0 at ten times
        that). Not for "published".
    features : array-like, shape (T, 20) or (T, d), optional
        What a language model of proteins says of each residue: the probabilities of the amino acids
        there, mixed into the emissions; or those of d other classes that are known of the positions
        as well. Not for "published".
    state_features : array-like, shape (S, d), optional
        The probabilities of these d classes at each position.
    feature_weight : float
        From 0 to 1, how much features count: see `cryonb.trace.features`.
    anchors : array-like of int, shape (S,), optional
        Residue, from 0, that each position is known to be, as of a fragment that was named before;
        -1 where nothing is known. The path takes such a position for its residue or not at all.
        Not for "published".

    Returns
    -------
    ChainAlignment
        The path, with a confidence for each residue.

    Raises
    ------
    CryonbError
        If shapes disagree, or if every residue must have a state and there are too few states.

    References
    ----------
    Giri, Wang & Cheng, Scientific Data 11, 458 (2024), "HMM-Guided Alignment"; what the text
    leaves out is as the published program does it.
    """
    positions, emissions = check_states(positions, emissions)
    codes = sequence_codes(sequence)
    if method not in _METHODS:
        raise CryonbError(
            f"A method of sparse or published was expected, but {method!r} was asked."
        )
    if method == "published":
        if features is not None or anchors is not None:
            raise CryonbError(
                'No features or anchors were expected for method="published"; use "sparse".'
            )
        model = ChainModel.of(positions, emissions, spread_scale=spread_scale)
        return published_alignment(model, codes, np.ones(len(model), dtype=bool))
    model = sparse_model(positions, emissions, missing, jump, bridge, spread_scale)
    columns = codes
    if features is not None:
        model, columns = with_features(model, codes, features, state_features, feature_weight)
    if anchors is not None:
        model, columns = with_anchors(model, columns, anchors)
    return _sparse(model, codes, columns, rounds)


def ca_structure(chains: Sequence[ChainAlignment], *, names: Sequence[str] | None = None):
    """Make a model of Cα atoms.

    Parameters
    ----------
    chains : ChainAlignment or sequence of them
        A chain each; one without a placed residue is left out.
    names : sequence of str, optional
        Chain names; A to Z, a to z, then AA and so on by default.

    Returns
    -------
    gemmi.Structure
        Residues are numbered from 1 along each sequence, those without a position are missing. B is
        the confidence, from 0 to 100; occupancies are 1; unknown residues are UNK.
    """
    import gemmi

    chains = [chains] if isinstance(chains, ChainAlignment) else list(chains)
    names = [chain_name(k) for k in range(len(chains))] if names is None else list(names)
    if len(names) != len(chains):
        raise CryonbError(f"{len(chains)} chain names were expected, but {len(names)} were given.")
    structure = gemmi.Structure()
    structure.name = "traced"
    model = gemmi.Model(1)
    for name, found in zip(names, chains, strict=True):
        three = gemmi.expand_one_letter_sequence(found.sequence, gemmi.ResidueKind.AA)
        chain = gemmi.Chain(name)
        for k in np.flatnonzero(found.states >= 0).tolist():
            residue = gemmi.Residue()
            residue.name = three[k]
            residue.seqid = gemmi.SeqId(k + 1, " ")
            atom = gemmi.Atom()
            atom.name, atom.element = "CA", gemmi.Element("C")
            atom.pos = gemmi.Position(*found.positions[k].tolist())
            atom.b_iso = 100.0 * float(found.confidence[k])
            residue.add_atom(atom)
            chain.add_residue(residue)
        if len(chain):
            model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    return structure


def sparse_model(positions, emissions, missing, jump, bridge, spread_scale) -> ChainModel:
    """Build the model that "sparse" searches: options as of `align`."""
    if bridge not in (0, 1, 2):
        raise CryonbError(f"A bridge of 0, 1 or 2 residues was expected, but {bridge!r} was asked.")
    return ChainModel.of(
        positions, emissions, spread_scale=spread_scale,
        jump=jump,
        missing=-np.inf if missing is None else missing,
        bridge=0 if missing is None else bridge,
    )  # fmt: skip


def _sparse(model, codes, columns, rounds) -> ChainAlignment:
    if rounds is None:
        rounds = int(np.clip(8 * (1 - np.log10(max(len(model) * len(codes) / 2e5, 1))), 0, 8))
    path, bound = best_path(model, columns, rounds=rounds)
    if np.isinf(path.log_probability):
        raise CryonbError(
            f"A path of {len(codes)} residues through {len(model)} states, each used once, was "
            f"not found; give more positions, or let residues be left out (missing=-1.5)."
        )
    return alignment_of(model, codes, path.states, bound=bound, columns=columns)


def published_alignment(model, codes, free) -> ChainAlignment:
    """Thread codes (T,) through the states that are free, bool (S,), by the published search."""
    states = np.full(len(codes), -1, dtype=np.int64)
    known = np.flatnonzero(codes != _UNKNOWN)
    breaks = []
    if len(known):
        states[known], breaks = published_path(model, codes[known], free)
    ends = np.flatnonzero(np.isin(np.arange(len(known)), breaks))
    pieces = [piece for piece in np.split(known, ends) if len(piece) and states[piece[0]] >= 0]
    fragments = np.array([(piece[0], piece[-1]) for piece in pieces], np.int64).reshape(-1, 2)
    return alignment_of(model, codes, states, fragments=fragments, method="published")


def alignment_of(
    model, codes, states, *, fragments=None, bound=np.nan, method="sparse", columns=None
) -> ChainAlignment:
    """Describe a path: states (T,) of a sequence's codes, which columns of the model stand for."""
    columns = codes if columns is None else columns
    positions = np.full((len(codes), 3), np.nan)
    placed = states >= 0
    positions[placed] = model.positions[states[placed]]
    return ChainAlignment(
        sequence=sequence_letters(codes),
        states=states,
        positions=positions,
        confidence=posterior(model, columns, states),
        fragments=_fragments(model, states) if fragments is None else fragments,
        log_probability=model.log_probability(states, columns),
        bound=float(bound),
        empty=float(model.skip(columns).sum()),
        method=method,
    )


def _fragments(model, states) -> np.ndarray:
    """Stretches of residues that have states, each a step within reach of the one before."""
    placed = states >= 0
    joined = placed[1:] & placed[:-1]
    apart = np.linalg.norm(model.positions[states[1:]] - model.positions[states[:-1]], axis=1)
    joined &= apart <= model.reach
    first = placed & ~np.append(False, joined)
    last = placed & ~np.append(joined, False)
    return np.column_stack([np.flatnonzero(first), np.flatnonzero(last)]).astype(np.int64)


def sequence_codes(sequence) -> np.ndarray:
    """Columns of the emissions of a sequence, 20 for what is unknown."""
    if isinstance(sequence, str):
        letters = "".join(sequence.split()).upper()
        codes = np.array([LETTERS.find(letter) for letter in letters], dtype=np.int64)
        codes[codes < 0] = _UNKNOWN
    else:
        codes = np.asarray(sequence)
        if codes.ndim != 1 or (len(codes) and codes.dtype.kind not in "iu"):
            raise CryonbError(
                "A string of one-letter codes or one row of integers was expected as the "
                f"sequence, but an array of shape {codes.shape} and type {codes.dtype} was given."
            )
        codes = codes.astype(np.int64)
    if not len(codes):
        raise CryonbError("A sequence of at least one residue was expected, but it is empty.")
    if codes.min() < 0 or codes.max() > _UNKNOWN:
        raise CryonbError(
            f"Residue codes from 0 to 20 were expected, but they go from {codes.min()} to "
            f"{codes.max()}."
        )
    return codes


def sequence_letters(codes) -> str:
    """One-letter codes, X for 20."""
    return "".join((LETTERS + "X")[code] for code in codes)


def chain_name(number: int) -> str:
    """Name the chain of a number from 0: A to Z, a to z, AA and so on."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    name = ""
    while number >= 0:
        name = letters[number % 52] + name
        number = number // 52 - 1
    return name
