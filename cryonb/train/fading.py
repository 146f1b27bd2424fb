"""What makes simulated molecules fade as measured ones do: weak side chains, resolution overstated.

Both were found by `benchmarks/bench_realism.py`: of all its statistics, the density of side chains
over that of the main chain, and of acids over that of other side chains, told measured maps best
from simulated ones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cryonb.simulate.experiment import Experiment

__all__ = ["faded", "overstated"]

#: Å² by which the B of a side chain's atoms grows with an Å from their alpha carbon, at most.
_STEEPEST = 60.0
#: Å from the alpha carbon where that begins.
_BEGIN = 1.6
#: Occupancy of the side chains that come and go, and their share, at most.
_LOOSE, _LOOSE_SHARE = (0.1, 0.9), 0.5
#: Occupancy of the carboxylates' oxygens: charged ones scatter electrons next to nothing, or less.
_ACID = (-0.2, 0.6)
#: Power of the noise over that of the signal at the resolution that is told.
_NOISE = (4.0, 60.0)


def faded(atoms: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw how side chains fade away from the main chain.

    Parameters
    ----------
    atoms : dict of ndarray
        As `Library.part`: position in Å, residue, alpha, role and acid of each atom.
    rng : numpy.random.Generator
        Of the steepness, and of how loose each residue is.

    Returns
    -------
    occupancy, b : ndarray, shape (n,)
        Factors, and what is to be added to the B factors in Å². One and zero on main chains,
        nucleotides and whatever else has no alpha carbon.
    """
    residue = atoms["residue"]
    count = int(residue.max(initial=-1)) + 1
    alpha = np.full((count, 3), np.nan)
    alpha[residue[atoms["alpha"]]] = atoms["position"][atoms["alpha"]]
    away = np.linalg.norm(atoms["position"] - alpha[residue], axis=1)
    side = np.isfinite(away) & (atoms["role"] == 0)
    steep = rng.uniform(0, _STEEPEST) * rng.exponential(size=count)
    loose = rng.random(count) < rng.uniform(0, _LOOSE_SHARE)
    share = np.where(loose, rng.uniform(*_LOOSE, size=count), 1.0)
    b = np.where(side, steep[residue] * np.maximum(away - _BEGIN, 0), 0.0)
    occupancy = np.where(side, share[residue], 1.0)
    return np.where(atoms["acid"], rng.uniform(*_ACID), occupancy), np.minimum(b, 600.0)


def overstated(experiment: Experiment, rng: np.random.Generator) -> Experiment:
    """Draw more noise: at the resolution that is told, nothing but noise is left."""
    return replace(experiment, noise=float(np.exp(rng.uniform(*np.log(_NOISE)))))
