"""Probabilities made as sure as they are right: a temperature and an offset for each class."""

from __future__ import annotations

import numpy as np

__all__ = ["tempered"]

#: Less than what float16 holds: log 0 would never come back.
_LEAST = 1e-7


def tempered(probabilities: np.ndarray, temperature, offset) -> np.ndarray:
    """Give each class but the first, the background, its temperature.

    Parameters
    ----------
    probabilities : ndarray, shape (n, class, ...)
        They sum to one over the classes.
    temperature, offset : array_like, shape (class - 1,)
        T and b.

    Returns
    -------
    ndarray of float32, shape (n, class, ...)
        What is left beside the background, shared in proportion to :math:`e^b p^{1/T}`. The
        background stays: how much of a map is structure is for the density to say.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017, section 4.2 (vector scaling).
    """
    probabilities = np.asarray(probabilities, dtype=np.float32)
    along = (-1, *(1,) * (probabilities.ndim - 2))
    power = (1 / np.asarray(temperature, dtype=np.float32)).reshape(along)
    shift = np.asarray(offset, dtype=np.float32).reshape(along)
    logits = np.log(np.maximum(probabilities[:, 1:], _LEAST)) * power + shift
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares *= (1 - probabilities[:, :1]) / shares.sum(axis=1, keepdims=True)
    return np.concatenate([probabilities[:, :1], shares], axis=1)
