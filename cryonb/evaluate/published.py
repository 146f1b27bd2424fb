"""Figures that the papers report, to stand beside ours."""

from __future__ import annotations

import pandas as pd

from cryonb.errors import CryonbError

__all__ = ["published_quartiles", "published_scores"]

#: Quartiles of residue Q3 over simulated maps, by SCOPe class: 9, 4, 6 and 14 proteins.
_QUARTILES = {
    6.0: {"a": (0.889, 0.912, 0.934), "b": (0.771, 0.792, 0.799), "c": (0.768, 0.801, 0.806),
          "d": (0.816, 0.835, 0.852)},
    10.0: {"a": (0.818, 0.844, 0.864), "b": (0.745, 0.792, 0.825), "c": (0.735, 0.766, 0.791),
           "d": (0.762, 0.802, 0.836)},
}  # fmt: skip

#: Means over 34 simulated maps: resolution, measure, helix, strand, other, all.
_SCORES = (
    (6.0, "f1", 0.844, 0.755, 0.713, None),
    (10.0, "f1", 0.791, 0.729, 0.664, None),
    (6.0, "accuracy", 0.848, 0.828, 0.672, 0.798),
    (10.0, "accuracy", 0.824, 0.753, 0.637, 0.756),
    (6.0, "q3", 0.866, 0.866, 0.718, 0.831),
    (10.0, "q3", 0.843, 0.839, 0.681, 0.798),
    (6.0, "segments", 0.993, 0.942, None, 0.971),
    (10.0, "segments", 0.960, 0.905, None, 0.938),
)


def published_quartiles(resolution: float) -> dict[str, tuple[float, float, float]]:
    """Give Emap2sec's published residue Q3 on simulated maps, by SCOPe fold class.

    Parameters
    ----------
    resolution : {6, 10}
        Å.

    Returns
    -------
    dict
        Class ("a" to "d") to (lower quartile, median, upper quartile).

    Raises
    ------
    CryonbError
        If the paper has no such resolution.

    References
    ----------
    Maddhuri Venkata Subramaniya et al., Nature Methods 16, 911 (2019), figure 2b.
    """
    if resolution not in _QUARTILES:
        raise CryonbError(
            f"A resolution of {' or '.join(f'{d:g}' for d in _QUARTILES)} Å was expected, but "
            f"{resolution} was given."
        )
    return dict(_QUARTILES[resolution])


def published_scores() -> pd.DataFrame:
    """Give Emap2sec's published means over 34 simulated maps (strict measures).

    Returns
    -------
    DataFrame
        By resolution (Å) and measure ("f1" and "accuracy" of windows, "q3" of residues, "segments"
        that are found), columns helix, strand, coil, all. NaN where the paper has none.

    References
    ----------
    Maddhuri Venkata Subramaniya et al., Nature Methods 16, 911 (2019), table 1.
    """
    columns = ["resolution", "measure", "helix", "strand", "coil", "all"]
    table = pd.DataFrame(_SCORES, columns=columns).set_index(["resolution", "measure"])
    return table.astype(float)
