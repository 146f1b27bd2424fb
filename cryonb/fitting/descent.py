"""Atoms moved downhill to a higher correlation with a map: the state, what varies, one cycle.

What is made small is stated at `cryonb.fitting.refine.refine`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, minimize

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.process.mask import model_mask
from cryonb.simulate.scattering import electron_coefficients
from cryonb.simulate.shells import image_radius, quadrature_profiles, shell_density
from cryonb.volume import Volume

__all__ = ["LEAST", "Descent", "State"]

#: Å² and a share within which B and occupancies stay.
_B_LIMITS, _OCCUPANCY_LIMITS = (1.0, 500.0), (0.05, 1.0)
#: Standard deviations of what bonded atoms differ by in the logarithm; and of what each differs by
#: from its start, which decides only where the map says nothing.
_ALIKE = {"b": 0.2, "occupancy": 0.1, "resolution": 0.05}
_PRIOR = {"b": 2.0, "occupancy": 1.0, "resolution": 1.0}
#: How far an atom's image is drawn, in resolutions.
_REACH = 2.0
#: Voxels within the resolution of an atom are compared, but within these limits in Å.
LEAST, _MOST = 3.0, 10.0


@dataclass(frozen=True)
class State:
    """What an atom has that can be refined; (n, 3) and (n,) arrays of float64."""

    position: np.ndarray
    b: np.ndarray
    occupancy: np.ndarray
    resolution: np.ndarray


class Descent:
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
        self.state = State(
            atoms.position, np.clip(atoms.b_iso.astype(float), *_B_LIMITS),
            np.clip(atoms.occupancy.astype(float), *_OCCUPANCY_LIMITS),
            np.full(len(atoms), max(d, finest)),
        )  # fmt: skip
        self.rows: list[dict] = []
        self.a, self.b = (self.tensor(part) for part in electron_coefficients(atoms.element))

    def tensor(self, values, **options):
        """Make a float64 tensor where torch computes."""
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
            self.state = State(**{key: value.cpu().numpy() for key, value in now.items()})
            self.rows.append(dict(last))
            bar.set_postfix(cc=f"{last['cc']:.4f}", refresh=False)
            bar.update()

        minimize(
            loss, variables.start, jac=True, method="L-BFGS-B", bounds=variables.bounds,
            callback=accept, options={"maxiter": iterations, "maxcor": 20},
        )  # fmt: skip


class _Target:
    """A map where it is compared, and which voxels each atom reaches: fixed for one cycle."""

    def __init__(self, run: Descent, volume: Volume, resolution: float):
        state = run.state
        self._run, self._grid, self._around = run, volume.grid, state.position
        # A coarser map than the model's is compared with a coarser model.
        self._least = resolution if resolution > state.resolution.max() else 0.0
        d = np.maximum(state.resolution, self._least)
        self._radius = image_radius(d, state.b, reach=_REACH)
        radius = float(np.clip(resolution, LEAST, _MOST))
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

    def __init__(self, run: Descent, keys):
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
