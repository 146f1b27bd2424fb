"""How much the map counts against the restraints: found by what they say of data left out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cryonb.fitting.target import Likelihood

__all__ = ["WEIGHTS", "find_weight"]

#: What is tried, one after the other.
WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
#: Deviations from the targets that a weight may bring about: bonds (Å) and angles (degrees).
_BONDS, _ANGLES = 0.02, 2.0
#: Iterations for each.
_ITERATIONS = 15
#: By how much a weight may be worse than the best before it for the next to be tried.
_PATIENCE = 3.0


def find_weight(run, volume, resolution: float, *, halves=None) -> tuple:
    """Refine with one weight after the other, and judge each by data that it did not see.

    Parameters
    ----------
    run : Descent
        Its state is what the first weight begins with; it is as before afterwards.
    volume : Volume
        The map.
    resolution : float
        In Å.
    halves : pair of Volume, optional
        Half maps in place of the map: the first is refined against, the second judges.

    Returns
    -------
    weight : float
    trials : pandas.DataFrame
        A row a weight: weight, free (negative logarithm of the likelihood of what was left out,
        less that of the start), bonds (Å), angles (degrees).

    Notes
    -----
    What is left out are two of six Fourier shells, as thin as the molecule is large allows, for
    terms of neighbouring shells tell about each other; or the other half map. Noise that a weight
    fits in what is seen does not recur there, as with the free R factor (Brünger, Nature 355, 472
    (1992)); for maps: Falkner and Schröder, PNAS 110, 8930 (2013). The best weight is that of the
    best score among those that keep bonds and angles to 0.02 Å and 2°, or as near as they were; of
    weights within one unit of the best, the least.
    """
    start = run.state
    bounds = np.maximum(run.restraints.strain(start.position), (_BONDS, _ANGLES))
    if halves is None:
        seen = unseen = Likelihood(run, volume, resolution, free=True)
    else:
        seen, unseen = (Likelihood(run, half, resolution) for half in halves)

    def score():
        now = run.now()
        return float(unseen.free_misfit(now) if halves is None else unseen.misfit(now)[0])

    before = score()
    rows = []
    try:
        _try_each(run, seen, score, before, bounds, rows)
    finally:
        run.state = start
    trials = pd.DataFrame(rows)
    sound = trials[(trials["bonds"] <= bounds[0]) & (trials["angles"] <= bounds[1])]
    sound = sound if len(sound) else trials.head(1)
    good = sound[sound["free"] <= sound["free"].min() + 1.0]
    return float(good["weight"].min()), trials


def _try_each(run, seen, score, before, bounds, rows) -> None:
    """Fill rows from the stiffest to the softest, each from where the one before came to."""
    for weight in WEIGHTS:
        run.improve("weight", ("xyz",), seen, weight, _ITERATIONS)
        bonds, angles = run.restraints.strain(run.state.position)
        rows.append({"weight": weight, "free": score() - before, "bonds": bonds, "angles": angles})
        least = min(row["free"] for row in rows) + _PATIENCE
        # Once worse may be what the restraints did; twice is the map's noise.
        if min(row["free"] for row in rows[-2:]) > least or bonds > bounds[0] or angles > bounds[1]:
            break
