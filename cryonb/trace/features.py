"""What is known of residues or states beforehand, for the alignment: features and anchors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cryonb.errors import CryonbError
from cryonb.trace.hidden_markov import BACKGROUND, ChainModel

__all__ = ["with_anchors", "with_features"]

#: A state tells against a residue by at most this factor, for each feature weight of 1.
_LEAST = 0.01
#: Log emission that a state tied to a residue has of others, and what it gains for its own.
_NEVER, _HELD = -40.0, 6.0


def with_features(
    model: ChainModel, codes: np.ndarray, features, state_features=None, weight: float = 0.5
) -> tuple[ChainModel, np.ndarray]:
    """Give each residue of a sequence an emission of its own.

    Parameters
    ----------
    model : ChainModel
        With the emissions of the 20 amino acids.
    codes : ndarray of int, shape (T,)
        The sequence; 20 for an unknown residue.
    features : array-like, shape (T, d)
        Of each residue, the probabilities of d classes, none below 0; rows are scaled to one.
    state_features : array-like, shape (S, d), optional
        Of each state, those of the same classes. Not needed where d is 20: then features are those
        of the amino acids in the order of the model, which states emit.
    weight : float
        From 0 (features do not count) to 1.

    Returns
    -------
    model : ChainModel
        With a column a residue.
    columns : ndarray of int, shape (T,)
        What stands for the codes in this model.

    Raises
    ------
    CryonbError
        If shapes do not fit, or numbers are no probabilities.

    Notes
    -----
    Of amino acids, a state emits residue k with the sum over amino acids a of its emission of a
    times (1 - weight) [a is k] + weight P(a); an unknown residue with that of P(a) alone. Of other
    classes, the emission is multiplied with the sum over classes of P_state P_residue / P_mean to
    the power of the weight, where P_mean is the mean over states: the ratio of the probability
    that both are of one class to chance.
    """
    if not 0 <= weight <= 1:
        raise CryonbError(f"A feature weight from 0 to 1 was expected, but {weight!r} was given.")
    residue = _rows(features, len(codes), "features", "a residue")
    known = codes < len(BACKGROUND)
    if state_features is None:
        if residue.shape[1] != len(BACKGROUND):
            raise CryonbError(
                f"Features of shape ({len(codes)}, 20), probabilities of the amino acids, were "
                f"expected, but {residue.shape} was given; give the same classes of the states as "
                "state_features=."
            )
        mixed = np.where(known, weight, 1.0)[:, None] * residue
        mixed[known, codes[known]] += 1 - weight
        emission = np.log(np.exp(model.log_emission[:, : len(BACKGROUND)]) @ mixed.T)
        background = np.log(mixed @ BACKGROUND)
    else:
        state = _rows(state_features, len(model), "state features", "a position")
        if state.shape[1] != residue.shape[1]:
            raise CryonbError(
                f"As many classes of positions as of residues were expected, but there are "
                f"{state.shape[1]} and {residue.shape[1]}."
            )
        ratio = state / np.maximum(state.mean(axis=0), 1e-9) @ residue.T
        emission = model.log_emission[:, codes] + weight * np.log(np.maximum(ratio, _LEAST))
        background = model.log_background[codes]
    own = replace(model, log_emission=emission, log_background=background)
    return own, np.arange(len(codes))


def with_anchors(model: ChainModel, columns: np.ndarray, anchors) -> tuple[ChainModel, np.ndarray]:
    """Tie states to residues: each emits its own alone, and that more readily.

    Parameters
    ----------
    model : ChainModel
        With the emissions of the amino acids, or of the residues.
    columns : ndarray of int, shape (T,)
        What stands for the residues in it.
    anchors : array-like of int, shape (S,)
        Residue, from 0, of each state; -1 for a state that is not tied.

    Returns
    -------
    model : ChainModel
        With a column a residue.
    columns : ndarray of int, shape (T,)
        What stands for the residues in this model.

    Raises
    ------
    CryonbError
        If anchors are no residues of the sequence, or not as many as states.
    """
    anchors = np.asarray(anchors)
    if anchors.shape != (len(model),) or anchors.dtype.kind not in "iu":
        raise CryonbError(
            f"An anchor a position was expected, {len(model)} integers, but an array of shape "
            f"{anchors.shape} and type {anchors.dtype} was given; -1 stands for none."
        )
    if len(anchors) and not -1 <= anchors.min() <= anchors.max() < len(columns):
        raise CryonbError(
            f"Anchors from 0 to {len(columns) - 1}, or -1, were expected, but they go from "
            f"{anchors.min()} to {anchors.max()}."
        )
    tied = np.flatnonzero(anchors >= 0)
    emission = model.log_emission[:, columns]
    own = emission[tied, anchors[tied]]
    emission[tied] = _NEVER
    emission[tied, anchors[tied]] = own + _HELD
    return replace(
        model, log_emission=emission, log_background=model.log_background[columns]
    ), np.arange(len(columns))


def _rows(values, count: int, name: str, each: str) -> np.ndarray:
    values = np.array(values, dtype=np.float64)
    if values.ndim != 2 or len(values) != count or not values.shape[1]:
        raise CryonbError(
            f"The {name} of shape ({count}, d), a row {each}, were expected, but {values.shape} "
            "was given."
        )
    total = values.sum(axis=1, keepdims=True)
    if not (np.isfinite(values).all() and (values >= 0).all() and (total > 0).all()):
        raise CryonbError(
            f"Probabilities of at least 0, some above it in each row, were expected as {name}; "
            "give the softmax of logits."
        )
    return values / total
