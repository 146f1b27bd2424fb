"""What makes a simulated map look measured: falloff, noise, sharpening, solvent, masks.

The order is that of a real reconstruction: the specimen's signal decays (B factors), noise of a
constant power per coefficient is added, the sum is sharpened, weighted and cut at the resolution,
and the map is masked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.scattering import electron_coefficients
from cryonb.simulate.structure_factors import frequencies, structure_factors
from cryonb.volume import Volume

__all__ = ["Experiment", "experimental_map", "local_b", "local_occupancy", "observe", "zone"]


@dataclass(frozen=True)
class Experiment:
    """Conditions of a simulated measurement.

    Attributes
    ----------
    resolution : float
        d in Å, where the transfer has fallen to one half.
    b_overall : float
        Decay of the signal in Å², beyond the model's own B.
    b_sharpen : float
        Taken away from the decay after the noise was added, Å²; negative blurs.
    noise : float
        Power of the noise over that of the signal at the resolution limit; 0 for none.
    edge : float
        Width of the cut at the resolution, as a share of 1/d.
    solvent, b_solvent : float
        Share of the low-frequency contrast that the solvent takes away, and its decay in Å².
    weighted : bool
        Whether coefficients are weighted by their expected signal-to-noise ratio.
    gaussian : bool
        A Gaussian falloff exp(-(s d)²) (as model maps have) instead of decay and cut.
    mask : {"none", "zone", "contour"}
        Whether all is kept, what is near the model, or what is above a low-passed contour.
    mask_radius, mask_edge : float
        Radius and soft edge of the mask in Å.
    """

    resolution: float
    b_overall: float = 0.0
    b_sharpen: float = 0.0
    noise: float = 0.0
    edge: float = 0.1
    solvent: float = 0.0
    b_solvent: float = 250.0
    weighted: bool = False
    gaussian: bool = False
    mask: str = "none"
    mask_radius: float = 5.0
    mask_edge: float = 2.0

    def __post_init__(self):
        if not self.resolution > 0:
            raise CryonbError(
                f"A positive resolution in Å was expected, but {self.resolution} was given."
            )
        if self.mask not in ("none", "zone", "contour"):
            raise CryonbError(
                f"A mask of none, zone or contour was expected, but {self.mask!r} was given."
            )

    @classmethod
    def draw(cls, rng: np.random.Generator, *, finest=1.6, coarsest=10.5) -> Experiment:
        """Draw conditions as they vary among deposited maps."""
        d = float(np.exp(rng.uniform(np.log(finest), np.log(coarsest))))
        decay = float(rng.uniform(0.3, 1.3) * 8 * d**2)
        return cls(
            resolution=d,
            b_overall=decay,
            b_sharpen=float(rng.uniform(0.0, 1.15) * decay),
            noise=float(np.exp(rng.uniform(np.log(0.05), np.log(4.0)))) * (rng.random() < 0.85),
            edge=float(rng.uniform(0.02, 0.3)),
            solvent=float(rng.uniform(0.0, 0.95)),
            b_solvent=float(rng.uniform(100, 500)),
            weighted=bool(rng.random() < 0.6),
            gaussian=bool(rng.random() < 0.2),
            mask=str(rng.choice(["none", "zone", "contour"], p=[0.3, 0.5, 0.2])),
            mask_radius=float(rng.uniform(2.5, 7.0)),
            mask_edge=float(rng.choice([0.0, 1.0]) * rng.uniform(0.5, 6.0)),
        )

    def to_dict(self) -> dict:
        """Give the conditions by name."""
        return asdict(self)


def local_b(position: np.ndarray, rng: np.random.Generator, *, largest: float) -> np.ndarray:
    """Draw a B factor that grows smoothly from one side of the molecule to the other.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        (x, y, z) in Å.
    rng : numpy.random.Generator
        Source of the direction and of the steepness.
    largest : float
        Å² at the far end.

    Returns
    -------
    ndarray, shape (n,)
    """
    return largest * _along(position, rng) ** rng.uniform(1.0, 4.0)


def local_occupancy(position: np.ndarray, rng: np.random.Generator, *, least: float) -> np.ndarray:
    """Draw an occupancy that falls somewhere from one to `least`, as on parts that come and go.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        (x, y, z) in Å.
    rng : numpy.random.Generator
        Source of the direction, of the place and of the width of the fall.
    least : float
        At the far end.

    Returns
    -------
    ndarray, shape (n,)
    """
    middle, width = rng.uniform(0.2, 0.9), rng.uniform(0.02, 0.15)
    fall = 1 / (1 + np.exp((middle - _along(position, rng)) / width))
    return 1 - (1 - least) * fall


def _along(position, rng) -> np.ndarray:
    """Place of each point along a random direction, from 0 to 1."""
    direction = rng.normal(size=3)
    along = position @ (direction / np.linalg.norm(direction))
    return (along - along.min()) / max(np.ptp(along), 1e-6)


def zone(index: torch.Tensor, shape, voxel_size, radius: float, edge: float) -> torch.Tensor:
    """Mask what lies within `radius` Å of the points (by voxel), with a soft edge of `edge` Å.

    Parameters
    ----------
    index : Tensor, shape (n, 3)
        Fractional (z, y, x) indices; those outside the box are left out.

    Returns
    -------
    Tensor of float32, shape (z, y, x)
    """
    sizes = torch.tensor(shape, device=index.device)
    at = torch.round(index).long()
    at = at[((at >= 0) & (at < sizes)).all(dim=1)]
    points = torch.zeros(tuple(shape), device=index.device)
    points[at[:, 0], at[:, 1], at[:, 2]] = 1.0
    axes = [
        torch.fft.fftfreq(n, device=index.device) * n * voxel
        for n, voxel in zip(shape, voxel_size[::-1], strict=True)
    ]
    z, y, x = axes
    r2 = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    ball = (r2 <= radius**2).float()
    near = torch.fft.irfftn(torch.fft.rfftn(points) * torch.fft.rfftn(ball), s=tuple(shape)) > 0.5
    mask = near.float()
    if edge > 0:
        s2 = frequencies(shape, voxel_size, index.device)
        blur = torch.exp(-2 * np.pi**2 * (edge / 2) ** 2 * s2)
        mask = torch.fft.irfftn(torch.fft.rfftn(mask) * blur, s=tuple(shape)).clamp(0, 1)
        mask = mask * (mask > 0.02)
    return mask


def _radial_power(coefficients, s2, at: float) -> float:
    """Mean power of the coefficients in a thin shell about s = at."""
    shell = (s2 > (0.92 * at) ** 2) & (s2 < (1.08 * at) ** 2)
    if not bool(shell.any()):
        shell = s2 > 0.8 * s2.max()
    return float(coefficients[shell].abs().square().mean())


def observe(
    coefficients: torch.Tensor, shape, voxel_size, experiment: Experiment,
    rng: np.random.Generator, *, index: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Turn a molecule's Fourier coefficients into a map as an experiment would give it.

    Parameters
    ----------
    coefficients : Tensor of complex64, shape (z, y, x // 2 + 1)
        From `structure_factors`.
    shape : tuple of int
        (z, y, x) of the map.
    voxel_size : tuple of float
        (x, y, z) in Å.
    experiment : Experiment
        The conditions.
    rng : numpy.random.Generator
        Source of the noise.
    index : Tensor, shape (n, 3), optional
        Fractional indices of the atoms that a "zone" mask keeps.

    Returns
    -------
    Tensor of float32, shape (z, y, x)
        Density per Å³, up to scale.
    """
    device = coefficients.device
    shape = tuple(shape)
    s2 = frequencies(shape, voxel_size, device)
    q = s2 / 4
    d = experiment.resolution
    if experiment.gaussian:
        signal = coefficients * torch.exp(-s2 * d**2)
        transfer = torch.ones_like(s2)
    else:
        signal = coefficients * torch.exp(-experiment.b_overall * q)
        if experiment.solvent > 0:
            signal = signal * (1 - experiment.solvent * torch.exp(-experiment.b_solvent * q))
        s = s2.sqrt()
        transfer = torch.special.expit((1 / d - s) * 4 * d / max(experiment.edge, 1e-3))
        transfer = transfer * torch.exp(experiment.b_sharpen * q.clamp(max=0.5 / d**2))
    total = signal
    if experiment.noise > 0:
        # White noise is drawn in the map, so that the coefficients have the symmetry of a real one.
        white = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(device)
        power = experiment.noise * _radial_power(signal, s2, 1 / d)
        noise = torch.fft.rfftn(white) * np.sqrt(power / np.prod(shape))
        if experiment.gaussian:
            noise = noise * torch.exp(-s2 * d**2 / 2)
        total = signal + noise
        if experiment.weighted:
            envelope = torch.exp(-2 * experiment.b_overall * (q - 0.25 / d**2))
            transfer = transfer * (envelope / (envelope + experiment.noise)).sqrt()
    total = total * transfer
    density = torch.fft.irfftn(total, s=shape)
    if experiment.mask == "zone" and index is not None:
        density = density * zone(
            index, shape, voxel_size, experiment.mask_radius, experiment.mask_edge
        )
    elif experiment.mask == "contour":
        smooth = torch.fft.irfftn(signal * torch.exp(-s2 * 60.0), s=shape)
        level = 0.15 * smooth.max()
        width = max(experiment.mask_edge, 0.3) / 6 * level
        density = density * torch.special.expit((smooth - level) / width).round(decimals=2)
    return density


def experimental_map(
    model, grid: Grid, *, experiment: Experiment, rng: np.random.Generator,
    device: str | None = None,
) -> Volume:  # fmt: skip
    """Simulate a map of a model as an experiment would give it.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model.
    grid : Grid
        Where the map is wanted; it is treated as periodic, so leave a margin.
    experiment : Experiment
        The conditions.
    rng : numpy.random.Generator
        Source of the noise.
    device : str, optional
        Where torch computes; the CPU by default.

    Returns
    -------
    Volume
    """
    atoms = Atoms.from_structure(model)
    device = torch.device(device or "cpu")
    a, b = electron_coefficients(atoms.element)
    a = a * atoms.occupancy[:, None]
    b = b + atoms.b_iso[:, None]
    index = torch.as_tensor(np.ascontiguousarray(grid.to_index(atoms.position)), device=device)
    coefficients = structure_factors(
        index,
        torch.as_tensor(a, dtype=torch.float32, device=device),
        torch.as_tensor(b, dtype=torch.float32, device=device),
        grid.shape,
        grid.voxel_size,
    )[0]
    density = observe(coefficients, grid.shape, grid.voxel_size, experiment, rng, index=index)
    return Volume._adopt(
        density.cpu().numpy().astype(np.float32),
        grid,
        history=(f"simulated as measured at {experiment.resolution:.3g} Å",),
    )
