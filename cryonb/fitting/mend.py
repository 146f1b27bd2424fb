"""A model whose bonds and angles are not like those of good structures, made like them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cryonb.fitting.restraints import Restraints

__all__ = ["mend"]

# Models nearer to what they aim at than this, bonds (Å) and angles (degrees), stay as they are.
_SOUND = 0.001, 0.1
# Mended ones that are nearer than this aim at nothing but what they are; bonds that were farther
# say that not all may be mended.
_GOOD = 0.02, 2.0
# The least standard deviation of atoms from where they were, Å.
_LEAST = 0.03
_ITERATIONS = 50


class _Tether:
    """How far atoms are from where they were, in place of a map; see `cryonb.fitting.target`."""

    def __init__(self, run, spread: float):
        self._start, self._spread = run.tensor(run.state.position), spread

    def misfit(self, now):
        """Half the sum of squares in standard deviations, and no correlation."""
        away = (now["position"] - self._start) / self._spread
        return 0.5 * (away**2).sum(), away.new_zeros(())


def mend(run, altloc) -> None:
    """Move atoms as little as gives them the bonds, angles and planes that are aimed at.

    Parameters
    ----------
    run : cryonb.fitting.descent.Descent
        Its state is what the mended model is afterwards, and its restraints aim at that.
    altloc : ndarray of int, shape (n,)
        Labels of alternative locations.

    Notes
    -----
    If each atom has an error of its own, of variance s² along each axis, then bonds are off by 2 s²
    in the mean of squares, and the likeliest model is that in which the sum of squared shifts, each
    in units of s, and of squared deviations of bonds, angles and groups is least. Torsions have no
    say in that: they follow from where the atoms are. As most ways for an atom to be astray bend
    bonds and angles, most of such an error goes. One that moves neighbours alike remains.

    Torsions are held to those of the mended model, the less the more there was to mend; bonds and
    angles to its own, if these are now like those of good structures, within 0.02 Å and 2°: to aim
    at anything else, little as it may be in each, would bend the whole.
    """
    begun = run.restraints
    bonds, angles = begun.strain(run.state.position)
    if bonds <= _SOUND[0] and angles <= _SOUND[1]:
        return
    none = np.zeros(0, dtype=int)
    run.restraints = replace(begun, torsions=begun.torsions[none], turn=begun.turn[none])
    spread = max(bonds / np.sqrt(2), _LEAST)
    run.improve("mend", ("xyz",), _Tether(run, spread), 1.0, _ITERATIONS)
    left = begun.strain(run.state.position)
    mended = Restraints.of_atoms(
        run.atoms.moved_to(run.state.position), altloc, astray=bonds > _GOOD[0],
        typical=left[0] > _GOOD[0] or left[1] > _GOOD[1],
    )  # fmt: skip
    run.restraints = replace(mended, looseness=max(begun.looseness, mended.looseness))
