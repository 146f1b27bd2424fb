"""Which atoms may not come nearer to each other."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from cryonb.fitting.internal import distance

__all__ = ["Contacts"]

# Atoms more than three bonds apart repel each other below the sum of their van der Waals radii less
# this (Å), or below this where both may share a hydrogen, or where one is an ion.
_OVERLAP, _POLAR, _ION = 0.3, 2.6, 1.8
# So far apart (Å) atoms can be that may come that near.
_LOOKED = 5.0


class Contacts:
    """Which atoms repel each other, and from where on."""

    def __init__(self, start, element, altloc, excluded):
        self._start, self._altloc, self._excluded = start, altloc, excluded
        element = element.astype(int)
        self._radius = _contact_radii()[element]
        self._polar = np.isin(element, (7, 8, 16))
        self._ion = ~np.isin(element, (6, 7, 8, 9, 15, 16, 17, 34, 35, 53))

    def around(self, position, *, free=False) -> tuple[np.ndarray, np.ndarray]:
        """Give pairs within 5 Å, and the distance from which on each repels: not at the start.

        `free` counts pairs by their chemistry alone, also where the start has them nearer.
        """
        pairs = np.sort(cKDTree(position).query_pairs(_LOOKED, output_type="ndarray"), axis=1)
        if self._altloc is not None:
            one, two = self._altloc[pairs].T
            pairs = pairs[(one == two) | (one == 0) | (two == 0)]
        key = pairs @ np.array([len(position), 1])
        place = np.searchsorted(self._excluded, key).clip(max=len(self._excluded) - 1)
        pairs = pairs[self._excluded[place] != key]
        closest = self._radius[pairs].sum(axis=1) - _OVERLAP
        closest[self._polar[pairs].all(axis=1)] = _POLAR
        closest[self._ion[pairs].any(axis=1)] = _ION
        if not free:
            closest = np.minimum(closest, distance(self._start, pairs))
        return pairs, closest


@cache
def _contact_radii() -> np.ndarray:
    import gemmi

    return np.array([gemmi.Element(number).vdw_r for number in range(119)])
