"""A model improved against its map: `nb.refine`."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, ModelError, ModelWarning
from cryonb.evaluate.correlation import usable_resolution
from cryonb.fitting.descent import Descent, State
from cryonb.fitting.mend import mend
from cryonb.fitting.refinement import Refinement
from cryonb.fitting.restraints import Restraints
from cryonb.fitting.target import LEAST
from cryonb.fitting.weight import find_weight
from cryonb.process.crop import crop
from cryonb.process.filter import band_filter
from cryonb.process.resample import resample
from cryonb.volume import Volume

__all__ = ["Refinement", "refine"]

_WHAT = ("rigid", "xyz", "b", "occupancy", "resolution")
_BODIES = ("model", "chain")
#: Bodies are first moved at this resolution in Å, where what is near can be seen from afar.
_COARSE = 8.0


def refine(
    model, volume: Volume, *, what=("b",), resolution: float | None = None, bodies: str = "model",
    reference=None, weight: float | None = None, half_maps=None, cycles: int = 2,
    iterations: int = 25, device: str | None = None, progress: bool = True,
) -> Refinement:  # fmt: skip
    """Improve a model by how well its map agrees with a map.

    Parameters
    ----------
    model : gemmi.Structure
        Where it belongs in the map to within a few Å (else see `nb.fit`).
    volume : Volume
        The map.
    what : str or sequence of str
        * "rigid": where the model lies, as one body or chain by chain (`bodies`); first at 8 Å,
          then at the resolution, and before all others.
        * "xyz": each atom's position, held by the model's own bonds, angles, planes, handedness and
          torsions, and by repulsion (`cryonb.fitting.restraints`), once what is wrong with them is
          mended (`cryonb.fitting.mend`); before B and the others in each cycle.
        * "b", "occupancy", "resolution": of each atom; within 1 to 500 Å², 0.05 to 1, and 2/3 to
          3 times the resolution (not below twice the voxel size). Bonded atoms are held alike.
    resolution : float, optional
        d in Å, of all atoms or, for "resolution", at the start; that which a `DensityMap` knows by
        default.
    bodies : {"model", "chain"}
        What moves as one body.
    reference : gemmi.Structure, optional
        The same atoms in the same order, whose geometry is aimed at instead; the model itself for
        its own geometry as it is. By default bonds, angles and groups of amino acids and
        nucleotides that are not like those of good structures become like them, and a model that
        is good keeps its own: `cryonb.fitting.typical.aims`. What that table does not know
        (ligands) is drawn towards the mean of its kind in the model where it differs more than is
        natural.
    weight : float, optional
        Of the map against restraints. Found for positions by default: of 0.01 to 3 the one after
        which the model explains best what was left out of the refinement, with bonds and angles
        within 0.02 Å and 2° of their targets; see `cryonb.fitting.weight.find_weight`. With 1 both
        are in proportion if each shell of Fourier terms had independent noise, and the error of
        the model were no other than that of its positions. B and the others count with 1 unless
        another weight is given.
    half_maps : HalfMaps or pair of Volume, optional
        Those of which `volume` is the mean. Then positions are refined against the first to find
        the weight, and the second judges; without, Fourier shells that are left out do.
    cycles, iterations : int
        Of L-BFGS, and in each cycle at most. Which voxels count is settled anew in each cycle.
    device : str, optional
        Where torch computes, in float64; the CPU by default.
    progress : bool
        Show a bar. To interrupt it (KeyboardInterrupt) ends the refinement with the best so far.

    Returns
    -------
    Refinement
        With `.model`, `.summary`, `.worse`, `.history`, `.table` and `.trials` (of weights).
        Hydrogens are no part of the model's map; they move with the nearest atom and take its B
        and occupancy. A `ModelWarning` says what became worse.

    Raises
    ------
    CryonbError
        If the resolution is not known, or an argument is none of the choices.
    ModelError
        If there are no atoms, or `reference` has others.
    MapModelMismatchError
        If no atom lies near the map.

    Notes
    -----
    Positions make n ln(1 - FSC²) small, summed over Fourier shells down to the resolution, plus the
    restraints: with n the independent terms of a shell in the soft mask around the model, this is
    the negative logarithm of the likelihood of the map if scale and noise of each shell are not
    known. So shells count for what they agree; sharpening makes no difference; and from a model
    that is far away only coarse shells pull.

    The others make N/2 ln(1 - cc²) small, with cc Pearson's correlation over the voxels within the
    resolution (3 to 10 Å) of an atom, and N = 4π/3 V/d³ the independent numbers in their volume V.

    Voxels are of a third of the resolution (those of the map if they are larger). The model's map
    has all terms down to the resolution; with "resolution" among what is refined, it is that of
    `cryonb.simulate.shells.shell_density`, each atom's image drawn up to two resolutions. Positions
    are counted in units in which all restraints are about equally stiff, so that L-BFGS needs few
    steps.

    A model whose atoms are astray each its own way, by up to 0.5 Å, is first mended without the
    map: most of such an error bends bonds and angles, and goes with that. One that is astray
    smoothly, by 0.3 to 1 Å, comes back by the map (benchmarks/bench_refine.py).

    B, occupancy and resolution of an atom all change how high and wide it is: refined together
    they share out what only their combination tells, and B without "resolution" also stands for a
    map that is locally coarser.
    """
    what = (what,) if isinstance(what, str) else tuple(what)
    if not what or not set(what) <= set(_WHAT):
        raise CryonbError(f"Some of {', '.join(_WHAT)} were expected, but what={what!r} was given.")
    if bodies not in _BODIES:
        raise CryonbError(f"Bodies of model or chain were expected, but {bodies!r} was given.")
    if not ((weight is None or weight > 0) and cycles >= 1 and iterations >= 1):
        raise CryonbError(
            f"A positive weight and at least one cycle and iteration were expected, but "
            f"weight={weight}, cycles={cycles} and iterations={iterations} were given."
        )
    d = usable_resolution(resolution or getattr(volume, "resolution", None), volume.grid)
    atoms, altloc = _every_atom(model)
    heavy = np.flatnonzero(atoms.element > 1)
    core = atoms.select(heavy)
    restraints = _restraints(core, altloc[heavy], reference)
    near = crop(volume, model=core, margin=3 * max(d, LEAST))
    work = _thinned(near, d)
    run = Descent(
        core, altloc[heavy], restraints, d, max(work.voxel_size), device,
        varies_resolution="resolution" in what,
    )  # fmt: skip
    if bodies == "chain":
        run.body = np.unique(core.residues.chain[core.residue], return_inverse=True)[1]
    stages = []
    if "rigid" in what:
        coarse = max(_COARSE, d)
        if coarse > d:
            rough = _thinned(band_filter(near, low=coarse), coarse)
            stages += [("rigid, coarse", ("rigid",), rough, coarse)] * 2
        stages.append(("rigid", ("rigid",), work, d))
    together = tuple(name for name in _WHAT[2:] if name in what)
    each = [("xyz", ("xyz",), work, d)] if "xyz" in what else []
    each += [(" ".join(together), together, work, d)] if together else []
    stages += each * cycles
    start, trials = run.state, pd.DataFrame(columns=["weight", "free", "bonds", "angles"])
    before = run.correlation(work, d)
    of_positions = weight
    if "xyz" in what and reference is None:
        mend(run, altloc[heavy])
    bar = tqdm(total=len(stages) * iterations, desc="refine", disable=not progress)
    try:
        for number, (stage, keys, part, least) in enumerate(stages, start=1):
            if stage == "xyz" and of_positions is None:
                bar.set_description("weight")
                of_positions, trials = find_weight(run, part, d, halves=_halves(half_maps, work))
                bar.set_description("refine")
            counted = of_positions if stage == "xyz" else weight or 1.0
            target = run.target(keys, part, least)
            run.improve(stage, keys, target, counted, iterations, bar)
            bar.update(number * iterations - bar.n)
    except KeyboardInterrupt:
        bar.set_description("interrupted")
    bar.close()
    after = run.correlation(work, d)
    found = Refinement(
        _written(model, atoms, heavy, start, run.state, what),
        _summary(run, start, before, after, of_positions if "xyz" in what else weight, trials),
        pd.DataFrame(run.rows, columns=["stage", "cc", "restraints"]).rename_axis("iteration"),
        _table(core, start, run.state), trials,
    )  # fmt: skip
    if found.worse:
        warnings.warn(
            f"Refinement made something worse: {'; '.join(found.worse)}. See .summary, and keep "
            "the model that was given if that matters.", ModelWarning, stacklevel=2,
        )  # fmt: skip
    return found


def _every_atom(model) -> tuple[Atoms, np.ndarray]:
    """All atoms of the first model in the order of the file, and their alternative locations."""
    import gemmi

    if not isinstance(model, gemmi.Structure):
        raise ModelError(
            f"A gemmi.Structure, as nb.open_model gives it, was expected, not {type(model)}."
        )
    atoms = Atoms.from_structure(model, hydrogens=True, waters=True, altlocs=True)
    if not (atoms.element > 1).any():
        raise ModelError("A model with atoms that are not hydrogen was expected, but it has none.")
    return atoms, gemmi.FlatStructure(model).altlocs[: len(atoms)].astype(int)


def _restraints(core: Atoms, altloc, reference) -> Restraints:
    if reference is None:
        return Restraints.of_atoms(core, altloc)
    other, _ = _every_atom(reference)
    other = other.select(other.element > 1)
    if len(other) != len(core) or (other.name != core.name).any():
        raise ModelError(
            f"A reference of the same {len(core)} atoms in the same order was expected, but it has "
            f"{len(other)} or others."
        )
    return Restraints.of_atoms(other, altloc, typical=False, start=core.position)


def _halves(half_maps, like: Volume):
    """Both half maps where the map is compared, and as it is."""
    if half_maps is None:
        return None
    first, second = half_maps
    return tuple(resample(half, grid=like.grid) for half in (first, second))


def _thinned(volume: Volume, resolution: float) -> Volume:
    """The map on voxels of a third of the resolution, unless its own are about that or larger."""
    fine = min(volume.voxel_size) < 0.8 * resolution / 3
    return resample(volume, resolution / 3) if fine else volume


def _written(model, atoms: Atoms, heavy, start: State, end: State, what):
    """A new structure with what was refined; hydrogens go with the nearest other atom."""
    import gemmi

    flat = gemmi.FlatStructure(model)
    nearest = cKDTree(start.position).query(atoms.position)[1]
    nearest[heavy] = np.arange(len(heavy))
    n = len(atoms)
    flat.pos[:n] = atoms.position + (end.position - start.position)[nearest]
    if "b" in what:
        flat.b_iso[:n] = end.b[nearest]
    if "occupancy" in what:
        flat.occ[:n] = end.occupancy[nearest]
    refined = flat.generate_structure()
    if {"b", "rigid"} & set(what):
        # Anisotropic displacements, of which the refinement knows nothing, would contradict.
        for place in refined[0].all():
            place.atom.aniso = gemmi.SMat33f(0, 0, 0, 0, 0, 0)
    return refined


def _shift(start: State, end: State) -> np.ndarray:
    return np.linalg.norm(end.position - start.position, axis=1)


def _summary(run: Descent, start: State, before, after, weight, trials) -> pd.Series:
    end, springs = run.state, run.restraints
    bonds, angles, torsions = springs.deviations(start.position, end.position)
    (bonds_before, angles_before), (bonds_after, angles_after) = (
        springs.strain(state.position) for state in (start, end)
    )
    of_weight = trials.loc[trials["weight"] == weight, "free"]
    return pd.Series(
        {
            "cc_before": before, "cc_after": after,
            "shift": float(np.sqrt((_shift(start, end) ** 2).mean())),
            "bonds": bonds, "angles": angles, "torsions": torsions,
            "bonds_before": bonds_before, "bonds_after": bonds_after,
            "angles_before": angles_before, "angles_after": angles_after,
            "clashes_before": float(springs.clashes(start.position)),
            "clashes_after": float(springs.clashes(end.position)),
            "b_before": start.b.mean(), "b_after": end.b.mean(),
            "weight": 1.0 if weight is None else weight,
            "free": float(of_weight.iloc[0]) if len(of_weight) else np.nan,
            "n_atoms": float(len(run.atoms)), "n_iterations": float(len(run.rows)),
        }
    )  # fmt: skip


def _table(core: Atoms, start: State, end: State) -> pd.DataFrame:
    residues, of = core.residues, core.residue
    return pd.DataFrame(
        {
            "chain": residues.chain[of], "number": residues.number[of],
            "icode": residues.icode[of], "residue": residues.name[of], "name": core.name,
            "b": end.b, "occupancy": end.occupancy, "resolution": end.resolution,
            "shift": _shift(start, end),
        }
    )  # fmt: skip
