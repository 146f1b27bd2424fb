"""Which amino acid the density at a residue looks like, and which way a chain goes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import softmax

from cryonb.errors import CryonbError
from cryonb.trace.residue_frames import ResidueFrames, half_ball, path_frames, side_lattice
from cryonb.volume import Volume

__all__ = ["FILE", "direction_logit", "features", "need_resolution", "residue_probabilities"]

#: What `cryonb train recipes/residue_types.toml` writes; recipe, manifest and validation beside it.
FILE = Path(__file__).with_name("residue_types.safetensors")
#: Resolutions in Å that the classifiers have seen; others count as the nearer of these.
_SEEN = (1.7, 4.4)
#: Densities, in parts of that at Cα atoms, are cut here.
_LIMITS = (-3.0, 5.0)
#: Neighbours share errors of the map: logits of a direction count so much when they are added.
_SHARED = 0.5


def residue_probabilities(
    frames: ResidueFrames, volume: Volume, *, resolution: float | None = None
) -> np.ndarray:
    """Tell how probable each amino acid is by the density where its side chain would be.

    Parameters
    ----------
    frames : ResidueFrames
        From `cryonb.trace.residue_frames.read_frames`.
    volume : Volume
        The map.
    resolution : float, optional
        Å; that which a `DensityMap` knows by default.

    Returns
    -------
    ndarray of float64, shape (n, 20)
        In the order of `cryonb.atoms.AMINO_ACIDS`, each row summing to one; their frequencies in
        structures where a residue has no frame.

    Raises
    ------
    CryonbError
        If the resolution is not known.

    Notes
    -----
    Density at 255 points in a cone about Cα→Cβ (279 of a frame of Cα atoms alone), in parts of the
    density at Cα atoms along the chain, goes with the resolution through a network of one hidden
    layer that has learned from simulated maps.
    """
    d = need_resolution(volume, resolution)
    weights = _weights()
    kind = "backbone" if frames.backbone else "trace"
    found = np.tile(weights["frequency"].astype(np.float64), (len(frames), 1))
    known = frames.known
    if known.any():
        x = frames.read(volume, side_lattice(frames.backbone))[known]
        x = (features(x, d) - weights[f"{kind}.mean"]) / weights[f"{kind}.scale"]
        x = np.maximum(x @ weights[f"{kind}.w1"] + weights[f"{kind}.b1"], 0)
        logits = x @ weights[f"{kind}.w2"] + weights[f"{kind}.b2"]
        found[known] = softmax(logits.astype(np.float64), axis=1)
    return found / found.sum(axis=1, keepdims=True)


def direction_logit(position, volume: Volume, resolution: float | None = None) -> float:
    """Tell by the density around Cα positions whether they go from N to C.

    Parameters
    ----------
    position : array-like, shape (n, 3)
        Neighbours in a chain, in order, in Å.
    volume, resolution
        As for `residue_probabilities`.

    Returns
    -------
    float
        Logit, positive for N to C; exactly its negative if the order is reversed. NaN of fewer than
        three positions.

    Notes
    -----
    Carbonyl oxygens and Cβ atoms lie otherwise when a chain runs the other way. A half turn about
    the bisector at Cα makes one frame of the other, so the logit is linear in what it changes.
    """
    position = np.asarray(position, dtype=np.float64)
    if len(position) < 3:
        return np.nan
    d = need_resolution(volume, resolution)
    frames = path_frames(position)
    change = frames.read(volume, half_ball()) - frames.reversed().read(volume, half_ball())
    change = np.clip(change[frames.known], -_LIMITS[1], _LIMITS[1])
    change = np.hstack([change, change * (_seen(d) - 3)])
    return float(_SHARED * (change @ _weights()["direction"]).sum())


def features(density: np.ndarray, resolution) -> np.ndarray:
    """Columns that the network reads: densities, cut, and the resolution with its square."""
    d = np.broadcast_to(np.asarray(_seen(resolution) - 3, dtype=np.float32), len(density))
    return np.column_stack([np.clip(density, *_LIMITS), d, d**2]).astype(np.float32)


def need_resolution(volume, resolution) -> float:
    """Give the resolution that was asked for, or the map's."""
    d = resolution if resolution is not None else getattr(volume, "resolution", None)
    if d is None or not 0 < d < np.inf:
        raise CryonbError(
            f"The map's resolution was expected, but it is {d}; give resolution= in Å."
        )
    return float(d)


def _seen(resolution):
    return np.clip(resolution, *_SEEN)


@cache
def _weights() -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return {key: value.astype(np.float32) for key, value in load_file(FILE).items()}
