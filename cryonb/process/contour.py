"""A contour level for a map, with the reason for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.process.checks import require_density
from cryonb.process.level import density_scale, noise_statistics
from cryonb.volume import Volume

__all__ = ["VOLUME_PER_DALTON", "Contour", "contour_level", "molecular_mass"]

#: Å³ that a dalton of protein fills (Harpaz, Gerstein and Chothia, Structure 2, 641 (1994)).
VOLUME_PER_DALTON = 1.21
#: Mean mass of an amino acid residue in kDa.
_RESIDUE = 0.11
#: Hydrogens are 7 parts in 100 of a protein's mass.
_WITH_HYDROGENS = 1.075
#: Of the molecule's typical density. On 20 maps of 1.75 to 20 Å with models a median of 94 % of
#: the backbone atoms lies above it.
_SHARE = 1 / 3
#: Standard deviations of the noise.
_ABOVE_NOISE = 5.0


@dataclass(frozen=True)
class Contour:
    """A contour level and what it means.

    Attributes
    ----------
    level : float
        In the units of the map.
    sigma : float
        The same in standard deviations of all voxels above their mean, as viewers count.
    noise : float
        The same in standard deviations of the noise above its mean; NaN in a masked map.
    reason : str
        Why this level, in a sentence.
    volume : float
        Å³ of the voxels at or above the level.
    """

    level: float
    sigma: float
    noise: float
    reason: str
    volume: float

    @property
    def mass(self) -> float:
        """Mass of a protein that would fill the volume, in kDa."""
        return self.volume / VOLUME_PER_DALTON / 1000

    def __float__(self) -> float:
        return self.level

    def _repr_html_(self) -> str:
        return (
            f"<b>{self.level:.4g}</b> ({self.sigma:.2f} σ, {self.volume:.0f} Å³, as much as "
            f"{self.mass:.0f} kDa of protein fill): {self.reason}"
        )


def molecular_mass(model) -> float:
    """Give the mass of a model in kDa, its missing hydrogens included.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        Waters and hydrogens do not count; hydrogens are added as a share of the rest.
    """
    import gemmi

    atoms = Atoms.from_structure(model)
    number, inverse = np.unique(atoms.element, return_inverse=True)
    weight = np.array([gemmi.Element(int(n)).weight for n in number])[inverse]
    return float(_WITH_HYDROGENS * (weight * atoms.occupancy).sum() / 1000)


def contour_level(
    volume: Volume, *, mass: float | None = None, model=None, residues: int | None = None
) -> Contour:
    """Recommend a contour level.

    Parameters
    ----------
    volume : Volume
        A density.
    mass : float, optional
        Of all that the map holds, in kDa.
    model : gemmi.Structure or Atoms, optional
        Of all that the map holds; its mass is taken.
    residues : int, optional
        Number of amino acids in all that the map holds, 110 Da each.

    Returns
    -------
    Contour

    Raises
    ------
    CryonbError
        If more than one of mass, model and residues is given, the molecule is larger than the box,
        or nothing in the map is above zero.

    Notes
    -----
    The highest of up to three levels: five standard deviations of the noise above its mean (in a
    map that was not masked); the level that encloses the molecular volume, 1.21 Å³ a dalton (where
    the mass is known); and a third of the molecule's typical density, Σ v³ / Σ v². Better than
    about 4 Å there is room between the atoms, and a level that encloses the whole molecular volume
    would show noise: there the last one decides. A box that the molecule fills has no empty space
    to tell the noise by, and gets too high a level: use the map before cropping.
    """
    given = [name for name, value in (("mass", mass), ("model", model), ("residues", residues))
             if value is not None]  # fmt: skip
    if len(given) > 1:
        raise CryonbError(
            f"One of mass, model and residues was expected, not {' and '.join(given)}."
        )
    if model is not None:
        mass = molecular_mass(model)
    elif residues is not None:
        mass = residues * _RESIDUE
    require_density(volume)
    values = volume.values
    if not volume.max > 0:
        raise CryonbError(
            "A density with values above zero was expected, but the largest is "
            f"{volume.max:g}; check the sign of the map."
        )
    levels = [(_SHARE * density_scale(values), "a third of the molecule's typical density")]
    noise = noise_statistics(values)
    if noise is not None:
        text = f"{_ABOVE_NOISE:g} standard deviations of the noise ({noise[1]:.3g})"
        levels.append((noise[0] + _ABOVE_NOISE * noise[1], text))
    if mass is not None:
        found = _enclosing(volume, mass)
        text = f"encloses the volume of {mass:.0f} kDa, {VOLUME_PER_DALTON} Å³ a dalton"
        levels.append((found, text))
    level, text = max(levels)
    others = [f"{other[1]} would be {other[0]:.3g}" for other in levels if other[1] != text]
    words = [text, *others] + (["the map is masked and tells no noise"] if noise is None else [])
    deviation = noise[1] if noise is not None and noise[1] > 0 else np.nan
    return Contour(
        level=float(level),
        sigma=(level - volume.mean) / volume.std,
        noise=float((level - noise[0]) / deviation) if noise is not None else float("nan"),
        reason="; ".join(words) + ".",
        volume=float(np.count_nonzero(values >= level) * volume.grid.voxel_volume),
    )


def _enclosing(volume: Volume, mass: float) -> float:
    """Level at or above which there is the volume of a mass in kDa."""
    wanted = 1000 * mass * VOLUME_PER_DALTON / volume.grid.voxel_volume
    if not 0 < wanted < volume.grid.n_voxels:
        raise CryonbError(
            f"A mass in kDa that fits into the box ({np.prod(volume.grid.extent):.0f} Å³) was "
            f"expected, but {mass:g} kDa, which fill {1000 * mass * VOLUME_PER_DALTON:.0f} Å³, "
            "was given."
        )
    place = volume.grid.n_voxels - max(round(wanted), 1)
    return float(np.partition(volume.values.ravel(), place)[place])
