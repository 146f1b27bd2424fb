"""Model maps with a resolution for each atom, by the shell decomposition of Urzhumtsev and Lunin.

At a resolution d an atom shows as a peak with ripples around it: the image. Its terms
(`cryonb.simulate.shell_terms`) do for every element, B and resolution, because

* the image of a point at a resolution d is that at 1 Å, stretched by d, so R goes with d and B with
  d²;
* a Gaussian exp(-b s²/4) turns Ω(r; R, B) into Ω(r; R, B + b), and a scattering factor is a sum of
  such Gaussians.

`shell_density` draws the images up to a radius. What is cut off are ripples, which near a model of
low B add up to a tenth of the map's peak. Therefore `whole_density` draws the near parts of the
images, which have none, and adds the ripples through Fourier space (`cryonb.simulate.ripples`).
"""

from __future__ import annotations

import numpy as np

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.ripples import ripple_density
from cryonb.simulate.scattering import electron_coefficients
from cryonb.simulate.shell_drawing import NODES, draw
from cryonb.simulate.shell_terms import load_near_terms, load_terms, omega
from cryonb.volume import Volume

__all__ = [
    "atom_image",
    "image_radius",
    "near_profiles",
    "near_radius",
    "profiles",
    "quadrature_profiles",
    "shell_density",
    "shell_map",
    "whole_density",
]

# B/d² from which on exp(-B/(4 d²)) is below 10⁻⁷.
_NO_RIPPLES = 64.0


def atom_image(r, element: int, *, resolution: float, b_iso: float = 0.0) -> np.ndarray:
    """Compute an atom's image by its defining integral, which is slow and exact.

    ∫ 4π s² f(s) exp(-B s²/4) sin(2πrs) / (2πrs) ds from 0 to 1/d, f the electron scattering factor.

    Parameters
    ----------
    r : array_like
        Distances from the atom, in Å.
    element : int
        Atomic number.
    resolution, b_iso : float
        d in Å, B in Å².

    Returns
    -------
    ndarray of float64
        As `r`, in Å⁻².
    """
    a, b = electron_coefficients([element])
    node, weight = np.polynomial.legendre.leggauss(400)
    s = (node + 1) / 2 / resolution
    f = (a * np.exp(-(b + b_iso) * s[:, None] ** 2 / 4)).sum(axis=1)
    part = weight / 2 / resolution * 4 * np.pi * s**2 * f
    return np.sinc(2 * np.asarray(r, dtype=np.float64)[..., None] * s) @ part


def profiles(a, b, resolution, nodes: int):
    """Compute the images of atoms on radii of k d / 32, by the shell terms; differentiable.

    Parameters
    ----------
    a, b : Tensor, shape (n, k)
        Gaussians of each atom, Σ aₖ exp(-bₖ s²/4), occupancy and B included.
    resolution : Tensor, shape (n,)
        d of each atom in Å.
    nodes : int
        Number of radii.

    Returns
    -------
    Tensor, shape (n, nodes)
        Å⁻² for amplitudes in Å.
    """
    import torch

    # In units of the atom's resolution. Where a Gaussian has died out before the limit the image
    # is the Gaussian itself.
    x = _radii(a, nodes)
    spread = b / resolution[:, None] ** 2
    wide = spread > _NO_RIPPLES
    narrow = spread.clamp(max=_NO_RIPPLES)
    total = _sums(load_terms(), torch.where(wide, torch.zeros_like(a), a), narrow, x)
    for column in range(a.shape[1]):
        k = 4 * np.pi / spread[:, column, None].clamp(min=_NO_RIPPLES)
        image = k**1.5 * torch.exp(-np.pi * k * x**2)
        total = total + torch.where(wide[:, column, None], a[:, column, None] * image, 0)
    return total / resolution[:, None] ** 3


def near_profiles(a, b, resolution, nodes: int):
    """Compute what `profiles` does of the images' near parts, which have no ripples.

    `cryonb.simulate.ripples.ripple_density` adds up what they lack.
    """
    x = _radii(a, nodes)
    spread = b / resolution[:, None] ** 2
    return _sums(load_near_terms(), a, spread, x) / resolution[:, None] ** 3


def _radii(like, nodes: int):
    """Radii of the nodes in units of the resolution; the first just above zero."""
    import torch

    x = torch.arange(nodes, dtype=like.dtype, device=like.device) / NODES
    x[0] = 1e-3
    return x


def _sums(terms, a, spread, x):
    """Add up terms of Gaussians of width `spread`, at radii x: Tensor, shape (n, nodes)."""
    import torch

    if not len(a):
        return a.new_zeros(0, len(x))
    # A term is left out where it lies 3.5 widths beyond the last radius.
    widest = (float(spread.detach().max()) + 7) / (8 * np.pi**2)
    used = terms.radius <= float(x[-1]) + 3.5 * np.sqrt(widest)
    total = a.new_zeros(len(a), len(x))
    for column in range(a.shape[1]):
        image = a.new_zeros(len(a), len(x))
        for radius, width, weight in zip(
            terms.radius[used], terms.width[used], terms.weight[used], strict=True
        ):
            add = spread[:, column, None] + width
            image = image + weight * omega(x, radius, add, torch.exp, torch.expm1)
        total = total + a[:, column, None] * image
    return total


def near_radius(resolution, b_iso):
    """Give the radius at which the near part of an atom's image has died out, in Å.

    Beyond it is less than 0.002 of the image's height.
    """
    return np.hypot(1.9 * resolution, 3.5 * np.sqrt((b_iso + 15.0) / (8 * np.pi**2)))


def image_radius(resolution, b_iso, *, reach: float = 3.0):
    """Give the radius within which an atom's image is drawn, in Å.

    `reach` resolutions, or 3.5 standard deviations of the atom's own peak where that is more: at a
    resolution finer than the B factor allows there are no ripples, but a wide peak.
    """
    return np.maximum(reach * resolution, 3.5 * np.sqrt((b_iso + 25.0) / (8 * np.pi**2)))


def quadrature_profiles(a, b, resolution, nodes: int):
    """Compute what `profiles` does from the defining integral, over 24 Gauss-Legendre nodes.

    For some ten thousand atoms on one grid of radii this is a product of two small matrices, and
    takes a twentieth of the time of the terms. Up to 4 resolutions and a B of 200 d² the error is
    below 10⁻⁵ of the image's height; `profiles` goes on from there.
    """
    import torch

    def like(values):
        return torch.as_tensor(values, dtype=a.dtype, device=a.device)

    node, weight = np.polynomial.legendre.leggauss(24)
    s = (node + 1) / 2
    radius = np.arange(nodes) / NODES
    wave = (weight / 2 * 4 * np.pi * s**2)[:, None] * np.sinc(2 * radius * s[:, None])
    decay = torch.exp(-(b / resolution[:, None] ** 2)[:, :, None] * like(s**2 / 4))
    return (a[:, :, None] * decay).sum(dim=1) @ like(wave) / resolution[:, None] ** 3


def shell_density(
    position, a, b, resolution, grid: Grid, *, radius, around=None, profile=profiles
):  # fmt: skip
    """Add up the images of atoms on a grid; differentiable in all that the atoms have.

    Parameters
    ----------
    position : Tensor, shape (n, 3)
        (x, y, z) in Å.
    a, b : Tensor, shape (n, k)
        As for `profiles`.
    resolution : Tensor, shape (n,)
        d of each atom in Å.
    grid : Grid
        Where the map is wanted.
    radius : ndarray, shape (n,)
        How far each image is drawn, in Å: see `image_radius`.
    around : ndarray, shape (n, 3), optional
        Points around which the voxels within `radius` are drawn, in place of the positions. While
        these stay, no voxel enters or leaves and the density is smooth in the positions; they may
        go up to 2 Å from there.
    profile : callable
        `profiles` or `quadrature_profiles`.

    Returns
    -------
    Tensor, shape (z, y, x)

    Notes
    -----
    The derivatives are written out, since torch's own would keep some twenty numbers for every
    pair of atom and voxel.
    """
    import torch

    spare = 0.0 if around is None else 2.0
    if around is None:
        around = position.detach().cpu().numpy()
    most = ((radius + spare) / resolution.detach().cpu().numpy()).max(initial=1.0)
    table = profile(a, b, resolution, int(np.ceil(most * NODES)) + 4)

    class Drawn(torch.autograd.Function):
        @staticmethod
        def forward(context, position, resolution, table):
            context.save_for_backward(position, resolution, table)
            return draw(position, resolution, table, grid, radius, around)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context, gradient):
            return draw(*context.saved_tensors, grid, radius, around, gradient.contiguous())

    return Drawn.apply(position, resolution, table).reshape(grid.shape)


def whole_density(
    position, a, b, resolution, grid: Grid, *, radius, levels: int = 16, edges=None
):  # fmt: skip
    """Add up the whole images of atoms on a grid; differentiable in all that the atoms have.

    Parameters
    ----------
    position, a, b, resolution, grid
        As for `shell_density`.
    radius : ndarray, shape (n,)
        How far the near part of each image is drawn, in Å: see `near_radius`.
    levels, edges
        As for `cryonb.simulate.ripples.ripple_density`.

    Returns
    -------
    Tensor, shape (z, y, x)
    """
    atoms = position, a, b, resolution
    near = shell_density(*atoms, grid, radius=radius, profile=near_profiles)
    return near + ripple_density(*atoms, grid, levels=levels, edges=edges)


def shell_map(
    model, grid: Grid | None = None, *, resolution, voxel_size: float = 1.0, b_add: float = 0.0,
    margin: float = 10.0, reach: float | None = None, levels: int = 16, device: str | None = None,
) -> Volume:  # fmt: skip
    """Compute the electrostatic map of a model whose atoms may differ in resolution.

    Parameters
    ----------
    model : gemmi.Structure or Atoms
        The model; its B and occupancy count.
    grid : Grid, optional
        Where the map is wanted; by default a box around the model.
    resolution : float or array_like, shape (n,)
        d in Å, of all atoms or of each (of those that `Atoms.from_structure` keeps).
    voxel_size, margin : float
        Spacing and margin in Å of the default grid.
    b_add : float
        Added to every atom's B, in Å².
    reach : float, optional
        In units of the resolution: draw each image only so far, and leave out the ripples beyond
        (`image_radius`), as cctbx does with 2. They fall with r² while the atoms that send them
        grow in number with r², so that no reach is enough where B is low. By default nothing is
        left out.
    levels : int
        In how many steps of 1/d the ripples of atoms that differ in resolution are worked out, each
        for some Fourier transforms (`cryonb.simulate.ripples.ripple_density`). One resolution for
        all takes one.
    device : str, optional
        Where torch computes; the CPU by default.

    Returns
    -------
    Volume
        Potential in Å⁻², as `fourier_map` gives.

    Raises
    ------
    CryonbError
        If a resolution is not positive, or there are not as many as atoms, or the reach or the
        levels are out of range.
    """
    import torch

    atoms = Atoms.from_structure(model)
    d = np.asarray(resolution, dtype=np.float64)
    if d.shape not in ((), (len(atoms),)) or not (np.isfinite(d).all() and (d > 0).all()):
        raise CryonbError(
            f"A positive resolution in Å was expected, one for all or one for each of "
            f"{len(atoms)} atoms, but {resolution!r} was given."
        )
    d = np.broadcast_to(d, len(atoms))
    if reach is not None and not 0.5 <= reach <= load_terms().reach - 1:
        raise CryonbError(
            f"A reach of 0.5 to {load_terms().reach - 1:g} resolutions was expected, not {reach}."
        )
    if grid is None:
        grid = Grid.around(atoms.position, min(voxel_size, float(d.min()) / 2), margin)
    a, b = electron_coefficients(atoms.element)
    a = a * atoms.occupancy[:, None]
    b = b + atoms.b_iso[:, None] + b_add
    b_iso = atoms.b_iso.astype(np.float64) + b_add
    whole = reach is None
    radius = near_radius(d, b_iso) if whole else image_radius(d, b_iso, reach=reach)
    # Atoms whose image does not meet the grid are left out.
    far = np.maximum(grid.lower - atoms.position, atoms.position - grid.upper).max(axis=1)
    near = far <= radius
    device = torch.device(device or "cpu")

    def as_tensor(values, dtype=torch.float32):
        return torch.tensor(np.ascontiguousarray(values), dtype=dtype, device=device)

    def of(which):
        return (
            as_tensor(atoms.position[which], torch.float64), as_tensor(a[which]),
            as_tensor(b[which]), as_tensor(d[which], torch.float64),
        )  # fmt: skip

    with torch.no_grad():
        density = shell_density(
            *of(near), grid, radius=radius[near],
            profile=near_profiles if whole else profiles,
        )  # fmt: skip
        if whole:
            density += ripple_density(*of(slice(None)), grid, levels=levels)
    values = density.cpu().numpy().astype(np.float32)
    spread = f"{d.min():g}" if np.ptp(d) == 0 else f"{d.min():g} to {d.max():g}"
    return Volume._adopt(
        values, grid, history=(f"simulated from {len(atoms)} atoms at {spread} Å, each its own",)
    )
