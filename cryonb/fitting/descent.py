"""Atoms moved downhill to a higher correlation with a map: the state, what varies, one cycle.

What is made small is stated at `cryonb.fitting.refine.refine`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, minimize

from cryonb.atoms import Atoms
from cryonb.fitting.target import Correlation, Likelihood
from cryonb.simulate.scattering import electron_coefficients
from cryonb.volume import Volume

__all__ = ["Descent", "State"]

#: Å² and a share within which B and occupancies stay.
_B_LIMITS, _OCCUPANCY_LIMITS = (1.0, 500.0), (0.05, 1.0)
#: Standard deviations of what bonded atoms differ by in the logarithm; and of what each differs by
#: from its start, which decides only where the map says nothing.
_ALIKE = {"b": 0.2, "occupancy": 0.1, "resolution": 0.05}
_PRIOR = {"b": 2.0, "occupancy": 1.0, "resolution": 1.0}


@dataclass(frozen=True)
class State:
    """What an atom has that can be refined; (n, 3) and (n,) arrays of float64."""

    position: np.ndarray
    b: np.ndarray
    occupancy: np.ndarray
    resolution: np.ndarray


class Descent:
    """A refinement under way: what does not change, the state reached, and the history."""

    def __init__(
        self, atoms: Atoms, altloc, restraints, d, voxel_size, device, *, varies_resolution=False
    ):
        import torch

        self.atoms, self.restraints = atoms, restraints
        self.varies_resolution = varies_resolution
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

    def now(self) -> dict:
        """Give the state as tensors."""
        return {key: self.tensor(value) for key, value in vars(self.state).items()}

    def correlation(self, volume: Volume, resolution: float) -> float:
        """Correlate a map with that of the model as it is."""
        return Correlation(self, volume, resolution).correlation(self.now()).item()

    def target(self, keys, volume: Volume, resolution: float, **options):
        """Make what is compared while `keys` vary: likelihood for positions, else correlation."""
        if keys == ("xyz",):
            return Likelihood(self, volume, resolution, **options)
        return Correlation(self, volume, resolution)

    def improve(self, stage, keys, target, weight, iterations, bar=None) -> None:
        """Do one cycle; the state is that after the last iteration that was finished."""
        restraints = self.restraints.renewed(self.state.position)
        variables = _Variables(self, keys)
        if "xyz" in keys:
            variables.whiten(self._curvature(target, weight))
        last = {}

        def loss(x):
            moved = self.tensor(x, requires_grad=True)
            now, strain = variables.applied(moved)
            if "xyz" in keys:
                strain = strain + restraints.energy(now["position"])
            misfit, cc = target.misfit(now)
            total = weight * misfit + strain
            total.backward()
            last.update(stage=stage, cc=cc.item(), restraints=float(strain.detach()))
            return total.item(), moved.grad.cpu().numpy()

        def accept(x):
            now, _ = variables.applied(self.tensor(x))
            self.state = State(**{key: value.cpu().numpy() for key, value in now.items()})
            if bar is not None:
                self.rows.append(dict(last))
                bar.set_postfix(cc=f"{last['cc']:.4f}", refresh=False)
                bar.update()

        minimize(
            loss, variables.start, jac=True, method="L-BFGS-B", bounds=variables.bounds,
            callback=accept, options={"maxiter": iterations, "maxcor": 20},
        )  # fmt: skip

    def _curvature(self, target, weight) -> float:
        """Mean second derivative of the weighted misfit by a coordinate, about; 1/Å²."""
        # By a difference of gradients along a random displacement, the same each time.
        step = np.random.default_rng(0).choice([-0.05, 0.05], self.state.position.shape)
        slopes = []
        for sign in (1, -1):
            now = self.now()
            now["position"] = self.tensor(self.state.position + sign * step, requires_grad=True)
            target.misfit(now)[0].backward()
            slopes.append(now["position"].grad.cpu().numpy())
        curvature = ((slopes[0] - slopes[1]) * step).sum() / (2 * (step**2).sum())
        return weight * max(curvature, 0.1)


class _Variables:
    """What a cycle changes, as one vector whose parts have a natural unit each.

    Å for shifts and turns (an arc at the body's radius of gyration), and logarithms; positions are
    in Å, too, until `whiten` makes them such that all directions are about as stiff as each other.
    """

    def __init__(self, run: Descent, keys):
        self._run, self._whitening = run, None
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

    def whiten(self, curvature: float) -> None:
        """Count positions in y = D½ Lᵀ x, where L D Lᵀ is how stiff the model is in x.

        That is what restraints say, and a curvature (1/Å²) in every direction from the map. Bonds
        are a thousand times as stiff as a bend of the whole, for which descent would take as many
        small steps.
        """
        from scipy.sparse import eye_array
        from scipy.sparse.linalg import splu

        run = self._run
        stiff = run.restraints.stiffness(run.state.position)
        stiff = stiff + (curvature + 1e-3) * eye_array(stiff.shape[0])
        # Without pivoting, LU of a symmetric matrix is L (D Lᵀ), in another order of the atoms.
        factors = splu(
            stiff.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )  # fmt: skip
        self._whitening = _Whitening(factors)

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
                if self._whitening is not None:
                    values = self._whitening(values)
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


class _Whitening:
    """x = P' L⁻ᵀ D⁻½ y of a tensor y, differentiable, from a factorization P (L D Lᵀ) P'."""

    def __init__(self, factors):
        self._order = factors.perm_c
        self._lower = factors.L.tocsr()
        self._upper = self._lower.T.tocsr()
        self._root = np.sqrt(np.abs(factors.U.diagonal()))

    def __call__(self, y):
        import torch
        from scipy.sparse.linalg import spsolve_triangular

        order, lower, upper, root = self._order, self._lower, self._upper, self._root

        class Solved(torch.autograd.Function):
            @staticmethod
            def forward(context, y):
                solved = spsolve_triangular(
                    upper, y.cpu().numpy() / root, lower=False, unit_diagonal=True
                )
                return y.new_tensor(solved[order])

            @staticmethod
            def backward(context, gradient):
                given = np.empty(len(order))
                given[order] = gradient.cpu().numpy()
                solved = spsolve_triangular(lower, given, lower=True, unit_diagonal=True)
                return gradient.new_tensor(solved / root)

        return Solved.apply(y)
