"""Electron scattering factors of neutral atoms, through gemmi's tables."""

from __future__ import annotations

import numpy as np

__all__ = ["electron_coefficients"]


def electron_coefficients(element) -> tuple[np.ndarray, np.ndarray]:
    """Give the five Gaussians of each atom's electron scattering factor.

    f(s) = Σ aₖ exp(-bₖ s²/4), s = 1/d in 1/Å.

    Parameters
    ----------
    element : array_like of int, shape (n,)
        Atomic numbers.

    Returns
    -------
    a, b : ndarray of float64, shape (n, 5)
        Amplitudes in Å and widths in Å².

    Notes
    -----
    International Tables for Crystallography C (2004), table 4.3.2.2, as gemmi tabulates it. What
    the table lacks (unknown atoms, elements beyond 98) counts as carbon.
    """
    import gemmi

    element = np.asarray(element)
    kinds, inverse = np.unique(element, return_inverse=True)
    carbon = gemmi.Element(6).c4322
    tables = [gemmi.Element(int(number)).c4322 or carbon for number in kinds]
    a = np.array([table.a for table in tables], dtype=np.float64).reshape(-1, 5)
    b = np.array([table.b for table in tables], dtype=np.float64).reshape(-1, 5)
    return a[inverse], b[inverse]
