"""Electron scattering factors of atoms and ions, through gemmi's tables."""

from __future__ import annotations

import numpy as np

__all__ = ["electron_coefficients", "ionic_coefficients"]


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


def ionic_coefficients(element, charge) -> tuple[np.ndarray, np.ndarray]:
    """Give what charges add to the electron scattering factors of neutral atoms.

    By the formula of Mott and Bethe that is Σ aₖ exp(-bₖ s²/4) / s², from the difference of the
    X-ray scattering factors of the atom and the ion. It grows without limit towards s = 0, where
    Σ aₖ is 0.0957 Å⁻¹ a charge: the potential of a charge falls as 1/r.

    Parameters
    ----------
    element, charge : array_like of int, shape (n,)
        Atomic numbers and formal charges.

    Returns
    -------
    a, b : ndarray of float64, shape (n, 10)
        In Å⁻¹ and Å². Zero for neutral atoms and for ions that are not tabulated.

    Notes
    -----
    International Tables for Crystallography C (1992), table 6.1.1.4, as gemmi tabulates it.
    """
    import gemmi

    kinds, inverse = np.unique(
        np.stack([np.asarray(element, int), np.asarray(charge, int)], axis=1), axis=0,
        return_inverse=True,
    )  # fmt: skip
    a, b = np.zeros((len(kinds), 10)), np.zeros((len(kinds), 10))
    # gemmi looks an ion up only while this is off; it holds for the whole process.
    ignored = gemmi.IT92_get_ignore_charge()
    gemmi.IT92_set_ignore_charge(False)
    try:
        for row, (number, q) in enumerate(kinds):
            atom, ion = (gemmi.IT92_get_exact(gemmi.Element(int(number)), k) for k in (0, int(q)))
            if q and atom is not None and ion is not None:
                a[row] = [*atom.a, atom.c, *(-part for part in ion.a), -ion.c]
                b[row] = [*atom.b, 0, *ion.b, 0]
    finally:
        gemmi.IT92_set_ignore_charge(ignored)
    inverse = inverse.ravel()
    return gemmi.mott_bethe_const() * a[inverse], b[inverse]
