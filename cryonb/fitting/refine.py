"""A model improved against its map: `nb.refine`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, ModelError
from cryonb.evaluate.correlation import usable_resolution
from cryonb.fitting.descent import LEAST, Descent, State
from cryonb.fitting.restraints import Restraints
from cryonb.process.crop import crop
from cryonb.process.filter import band_filter
from cryonb.process.resample import resample
from cryonb.volume import Volume

__all__ = ["Refinement", "refine"]

_WHAT = ("rigid", "xyz", "b", "occupancy", "resolution")
_BODIES = ("model", "chain")
#: Bodies are first moved at this resolution in Å, where what is near can be seen from afar.
_COARSE = 8.0


@dataclass(frozen=True, repr=False)
class Refinement:
    """A refined model, and how it came about.

    Attributes
    ----------
    model : gemmi.Structure
        A new structure; the one that was given is unchanged.
    summary : pandas.Series
        cc_before, cc_after (of the map with the model's map over the voxels near the model, see
        `refine`), shift (r.m.s., Å), b_before, b_after (mean, Å²), bonds (r.m.s. difference of
        bond lengths from the start, Å), angles (the same in degrees), n_atoms (refined) and
        n_iterations.
    history : pandas.DataFrame
        A row an iteration: stage, cc, restraints (what the springs and the likeness of neighbours
        take up, in units of the logarithm of a likelihood).
    table : pandas.DataFrame
        A row a refined atom: chain, number, icode, residue, name, b, occupancy, resolution (Å),
        shift (Å).
    """

    model: object
    summary: pd.Series
    history: pd.DataFrame
    table: pd.DataFrame

    def __repr__(self) -> str:
        s = self.summary
        return (
            f"<Refinement of {s['n_atoms']:.0f} atoms in {s['n_iterations']:.0f} iterations: CC "
            f"{s['cc_before']:.3f} to {s['cc_after']:.3f}, moved by {s['shift']:.2f} Å r.m.s., "
            f"mean B {s['b_before']:.0f} to {s['b_after']:.0f} Å²>"
        )

    def _repr_html_(self) -> str:
        return self.summary.to_frame("value").map(lambda value: f"{value:.3f}").to_html()


def refine(
    model, volume: Volume, *, what=("b",), resolution: float | None = None, bodies: str = "model",
    reference=None, weight: float = 1.0, cycles: int = 3, iterations: int = 25,
    device: str | None = None, progress: bool = True,
) -> Refinement:  # fmt: skip
    """Improve a model by the correlation of its map with a map.

    Parameters
    ----------
    model : gemmi.Structure
        Where it belongs in the map to within a few Å (else see `nb.fit`).
    volume : Volume
        The map.
    what : str or sequence of str
        * "rigid": where the model lies, as one body or chain by chain (`bodies`); first at 8 Å,
          then at the resolution, and before all others.
        * "xyz": each atom's position, with springs that hold bonds, angles, planes and handedness
          as they were (`cryonb.fitting.restraints`).
        * "b", "occupancy", "resolution": of each atom; within 1 to 500 Å², 0.05 to 1, and 2/3 to
          3 times the resolution (not below twice the voxel size). Bonded atoms are held alike.
    resolution : float, optional
        d in Å, of all atoms or, for "resolution", at the start; that which a `DensityMap` knows by
        default.
    bodies : {"model", "chain"}
        What moves as one body.
    reference : gemmi.Structure, optional
        The same atoms in the same order, whose geometry the springs aim at instead.
    weight : float
        Of the map against springs and likeness. With 1 they are in proportion if the error of the
        map were noise, independent from one (d/2)³ to the next: errors that are shared by
        neighbouring voxels, as experimental maps have them, call for less. With 1, positions of
        two deposited models moved by 0.4 and 0.5 Å r.m.s., with 0.1 the latter by 0.06 Å
        (benchmarks/bench_refine.py), but then a wrong start is left slowly, too.
    cycles, iterations : int
        Of L-BFGS, and in each cycle at most. Which voxels count is settled anew in each cycle.
    device : str, optional
        Where torch computes, in float64; the CPU by default.
    progress : bool
        Show a bar. To interrupt it (KeyboardInterrupt) ends the refinement with the best so far.

    Returns
    -------
    Refinement
        With `.model`, `.summary`, `.history` and `.table`. Hydrogens are no part of the model's
        map; they move with the nearest atom and take its B and occupancy.

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
    The model's map is that of `cryonb.simulate.shells.shell_density`, each atom's image drawn up to
    two resolutions, on voxels of a third of the resolution (those of the map if they are larger).
    Over the voxels within the resolution (3 to 10 Å) of an atom cc is Pearson's correlation, and
    what is made small is weight · N/2 · ln(1 - cc²) + restraints: with N the volume of these voxels
    in units of (d/2)³ this is the negative logarithm of the likelihood of the map if it were the
    model's, scaled, plus Gaussian noise of a size that is not known.

    B, occupancy and resolution of an atom all change how high and wide it is: refined together
    they share out what only their combination tells, and B without "resolution" also stands for a
    map that is locally coarser.
    """
    what = (what,) if isinstance(what, str) else tuple(what)
    if not what or not set(what) <= set(_WHAT):
        raise CryonbError(f"Some of {', '.join(_WHAT)} were expected, but what={what!r} was given.")
    if bodies not in _BODIES:
        raise CryonbError(f"Bodies of model or chain were expected, but {bodies!r} was given.")
    if not (weight > 0 and cycles >= 1 and iterations >= 1):
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
    run = Descent(core, altloc[heavy], restraints, weight, d, max(work.voxel_size), device)
    if bodies == "chain":
        run.body = np.unique(core.residues.chain[core.residue], return_inverse=True)[1]
    targets = []
    if "rigid" in what:
        coarse = max(_COARSE, d)
        if coarse > d:
            rough = _thinned(band_filter(near, low=coarse), coarse)
            targets += [("rigid, coarse", ("rigid",), rough, coarse)] * 2
        targets.append(("rigid", ("rigid",), work, d))
    together = tuple(name for name in _WHAT[1:] if name in what)
    targets += [(" ".join(together), together, work, d)] * (cycles if together else 0)
    start = run.state
    before = run.correlation(work, d)
    bar = tqdm(total=len(targets) * iterations, desc="refine", disable=not progress)
    try:
        for number, (stage, keys, part, least) in enumerate(targets, start=1):
            run.improve(stage, keys, part, least, iterations, bar)
            bar.update(number * iterations - bar.n)
    except KeyboardInterrupt:
        bar.set_description("interrupted")
    bar.close()
    after = run.correlation(work, d)
    refined = _written(model, atoms, heavy, start, run.state, what)
    return Refinement(
        refined, _summary(run, start, before, after),
        pd.DataFrame(run.rows, columns=["stage", "cc", "restraints"]).rename_axis("iteration"),
        _table(core, start, run.state),
    )  # fmt: skip


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
        return Restraints.of(core.position, core.element, altloc)
    other, _ = _every_atom(reference)
    other = other.select(other.element > 1)
    if len(other) != len(core) or (other.name != core.name).any():
        raise ModelError(
            f"A reference of the same {len(core)} atoms in the same order was expected, but it has "
            f"{len(other)} or others."
        )
    return Restraints.of(other.position, core.element, altloc, start=core.position)


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


def _summary(run: Descent, start: State, before: float, after: float) -> pd.Series:
    end = run.state
    bonds, angles = run.restraints.deviations(start.position, end.position)
    return pd.Series(
        {
            "cc_before": before, "cc_after": after,
            "shift": float(np.sqrt((_shift(start, end) ** 2).mean())),
            "b_before": start.b.mean(), "b_after": end.b.mean(), "bonds": bonds, "angles": angles,
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
