"""A model improved against its map: `nb.refine`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, minimize
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, ModelError
from cryonb.evaluate.correlation import usable_resolution
from cryonb.fitting.restraints import Restraints
from cryonb.process.crop import crop
from cryonb.process.filter import band_filter
from cryonb.process.mask import model_mask
from cryonb.process.resample import resample
from cryonb.simulate.scattering import electron_coefficients
from cryonb.simulate.shells import image_radius, quadrature_profiles, shell_density
from cryonb.volume import Volume

__all__ = ["Refinement", "refine"]

_WHAT = ("rigid", "xyz", "b", "occupancy", "resolution")
_BODIES = ("model", "chain")
#: Å² and a share within which B and occupancies stay.
_B_LIMITS, _OCCUPANCY_LIMITS = (1.0, 500.0), (0.05, 1.0)
#: Standard deviations of what bonded atoms differ by in the logarithm; and of what each differs by
#: from its start, which decides only where the map says nothing.
_ALIKE = {"b": 0.2, "occupancy": 0.1, "resolution": 0.05}
_PRIOR = {"b": 2.0, "occupancy": 1.0, "resolution": 1.0}
#: Bodies are first moved at this resolution in Å, where what is near can be seen from afar.
_COARSE = 8.0
#: How far an atom's image is drawn, in resolutions.
_REACH = 2.0
#: Voxels within the resolution of an atom are compared, but within these limits in Å.
_LEAST, _MOST = 3.0, 10.0


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


@dataclass(frozen=True)
class _State:
    """What an atom has that can be refined; (n, 3) and (n,) arrays of float64."""

    position: np.ndarray
    b: np.ndarray
    occupancy: np.ndarray
    resolution: np.ndarray


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
    near = crop(volume, model=core, margin=3 * max(d, _LEAST))
    work = _thinned(near, d)
    run = _Run(core, altloc[heavy], restraints, weight, d, max(work.voxel_size), device)
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


class _Run:
    """A refinement under way: what does not change, the state reached, and the history."""

    def __init__(self, atoms: Atoms, altloc, restraints, weight, d, voxel_size, device):
        import torch

        self.atoms, self.restraints, self.weight = atoms, restraints, weight
        self.device = torch.device(device or "cpu")
        self.body = np.zeros(len(atoms), dtype=int)
        same = altloc[restraints.bonds[:, 0]] == altloc[restraints.bonds[:, 1]]
        self.alike = restraints.bonds[same]
        # Voxels hold nothing finer than twice their size.
        finest = max(2 * voxel_size, 2 / 3 * d)
        self.limits = {
            "b": np.log(_B_LIMITS), "occupancy": np.log(_OCCUPANCY_LIMITS),
            "resolution": np.log([finest, 3 * d]),
        }  # fmt: skip
        self.state = _State(
            atoms.position, np.clip(atoms.b_iso.astype(float), *_B_LIMITS),
            np.clip(atoms.occupancy.astype(float), *_OCCUPANCY_LIMITS),
            np.full(len(atoms), max(d, finest)),
        )  # fmt: skip
        self.rows: list[dict] = []
        self.a, self.b = (self.tensor(part) for part in electron_coefficients(atoms.element))

    def tensor(self, values, **options):
        import torch

        values = np.ascontiguousarray(values)
        return torch.tensor(values, dtype=torch.float64, device=self.device, **options)

    def correlation(self, volume: Volume, resolution: float) -> float:
        """Correlate a map with that of the model as it is."""
        now = {key: self.tensor(value) for key, value in vars(self.state).items()}
        return _Target(self, volume, resolution).correlation(now).item()

    def improve(self, stage, keys, volume: Volume, resolution, iterations, bar) -> None:
        """Do one cycle; the state is that after the last iteration that was finished."""
        import torch

        target, variables = _Target(self, volume, resolution), _Variables(self, keys)
        last = {}

        def loss(x):
            moved = self.tensor(x, requires_grad=True)
            now, strain = variables.applied(moved)
            if "xyz" in keys:
                strain = strain + self.restraints.energy(now["position"])
            cc = target.correlation(now)
            # cc·|cc|, so that a negative correlation is no good one.
            error = torch.log1p(1e-6 - cc * cc.abs())
            total = 0.5 * self.weight * target.count * error + strain
            total.backward()
            last.update(stage=stage, cc=cc.item(), restraints=float(strain.detach()))
            return total.item(), moved.grad.cpu().numpy()

        def accept(x):
            now, _ = variables.applied(self.tensor(x))
            self.state = _State(**{key: value.cpu().numpy() for key, value in now.items()})
            self.rows.append(dict(last))
            bar.set_postfix(cc=f"{last['cc']:.4f}", refresh=False)
            bar.update()

        minimize(
            loss, variables.start, jac=True, method="L-BFGS-B", bounds=variables.bounds,
            callback=accept, options={"maxiter": iterations, "maxcor": 20},
        )  # fmt: skip


class _Target:
    """A map where it is compared, and which voxels each atom reaches: fixed for one cycle."""

    def __init__(self, run: _Run, volume: Volume, resolution: float):
        state = run.state
        self._run, self._grid, self._around = run, volume.grid, state.position
        # A coarser map than the model's is compared with a coarser model.
        self._least = resolution if resolution > state.resolution.max() else 0.0
        d = np.maximum(state.resolution, self._least)
        self._radius = image_radius(d, state.b, reach=_REACH)
        radius = float(np.clip(resolution, _LEAST, _MOST))
        near = model_mask(
            run.atoms.moved_to(state.position), volume.grid, radius=radius, soft_edge=0.0
        )
        inside = np.flatnonzero(near.values > 0)
        values = volume.values.reshape(-1)[inside].astype(np.float64)
        values -= values.mean()
        if not values.any():
            raise CryonbError(
                "A map that varies near the model was expected, but it is the same everywhere."
            )
        import torch

        self._map = run.tensor(values / np.linalg.norm(values))
        self._inside = torch.as_tensor(inside, device=run.device)
        #: Independent voxels, if there is nothing finer than the resolution.
        self.count = len(inside) * volume.grid.voxel_volume / (resolution / 2) ** 3

    def correlation(self, now):
        """Pearson's correlation of the map with that of a model."""
        density = shell_density(
            now["position"], self._run.a * now["occupancy"][:, None],
            self._run.b + now["b"][:, None], now["resolution"].clamp(min=self._least),
            self._grid,
            radius=self._radius, around=self._around, profile=quadrature_profiles,
        )  # fmt: skip
        values = density.reshape(-1)[self._inside]
        values = values - values.mean()
        return values @ self._map / values.norm().clamp(min=1e-12)


class _Variables:
    """What a cycle changes, as one vector whose parts have a natural unit each.

    Å for positions, shifts and turns (an arc at the body's radius of gyration), and logarithms.
    """

    def __init__(self, run: _Run, keys):
        self._run = run
        # Of the cycle's start: the run's own goes on under way.
        self._state = state = run.state
        n = len(run.atoms)
        if "rigid" in keys:
            size = np.bincount(run.body)
            self._centre = np.stack(
                [np.bincount(run.body, state.position[:, k]) / size for k in range(3)], axis=1
            )
            away = ((state.position - self._centre[run.body]) ** 2).sum(axis=1)
            self._reach = np.sqrt(np.bincount(run.body, away) / size).clip(min=1.0)
        begin = {
            "rigid": np.zeros(6 * (run.body.max() + 1)), "xyz": np.zeros(3 * n),
            **{key: np.log(getattr(state, key)) for key in _ALIKE},
        }  # fmt: skip
        self.start = np.concatenate([begin[key] for key in keys])
        self._parts, first, low, high = {}, 0, [], []
        for key in keys:
            size = len(begin[key])
            self._parts[key] = slice(first, first + size)
            first += size
            limits = run.limits.get(key, (-np.inf, np.inf))
            low.append(np.full(size, limits[0]))
            high.append(np.full(size, limits[1]))
        self.bounds = Bounds(np.concatenate(low), np.concatenate(high))

    def applied(self, x):
        """Give the state that a vector stands for, as tensors, and the strain of likeness."""
        run = self._run
        now = {key: run.tensor(value) for key, value in vars(self._state).items()}
        strain = x.new_zeros(())
        for key, part in self._parts.items():
            values = x[part]
            if key == "rigid":
                now["position"] = self._moved(now["position"], values.reshape(-1, 6))
            elif key == "xyz":
                now["position"] = now["position"] + values.reshape(-1, 3)
            else:
                now[key] = values.exp()
                one, two = run.alike.T
                unlike = (values[one] - values[two]) / _ALIKE[key]
                astray = (values - run.tensor(self.start[part])) / _PRIOR[key]
                strain = strain + 0.5 * (unlike**2).sum() + 0.5 * (astray**2).sum()
        return now, strain

    def _moved(self, position, moves):
        import torch

        run = self._run
        turn = moves[:, :3] / run.tensor(self._reach)[:, None]
        zero = torch.zeros_like(turn[:, 0])
        x, y, z = turn.T
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
        body = torch.as_tensor(run.body, device=run.device)
        centre = run.tensor(self._centre)[body]
        turned = torch.einsum("nij,nj->ni", torch.linalg.matrix_exp(skew)[body], position - centre)
        return turned + centre + moves[:, 3:][body]


def _written(model, atoms: Atoms, heavy, start: _State, end: _State, what):
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


def _shift(start: _State, end: _State) -> np.ndarray:
    return np.linalg.norm(end.position - start.position, axis=1)


def _summary(run: _Run, start: _State, before: float, after: float) -> pd.Series:
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


def _table(core: Atoms, start: _State, end: _State) -> pd.DataFrame:
    residues, of = core.residues, core.residue
    return pd.DataFrame(
        {
            "chain": residues.chain[of], "number": residues.number[of],
            "icode": residues.icode[of], "residue": residues.name[of], "name": core.name,
            "b": end.b, "occupancy": end.occupancy, "resolution": end.resolution,
            "shift": _shift(start, end),
        }
    )  # fmt: skip
