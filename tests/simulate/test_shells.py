"""Images by shells against the defining integrals, maps against Fourier maps, gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.fourier import fourier_map
from cryonb.simulate.scattering import electron_coefficients
from cryonb.simulate.shells import (
    atom_image,
    image_radius,
    near_profiles,
    near_radius,
    profiles,
    quadrature_profiles,
    shell_density,
    shell_map,
    whole_density,
)


@given(
    element=st.sampled_from([1, 6, 7, 8, 15, 16, 26, 30, 53, 92]),
    resolution=st.floats(0.5, 10),
    b_iso=st.floats(0, 300),
)
@settings(max_examples=20, deadline=None)
def test_profiles_are_the_images_of_atoms(element, resolution, b_iso):
    a, b = electron_coefficients([element])
    nodes = 4 * 32
    found = profiles(
        torch.tensor(a), torch.tensor(b + b_iso), torch.tensor([resolution], dtype=torch.float64),
        nodes,
    )[0].numpy()  # fmt: skip
    r = np.arange(nodes) / 32 * resolution
    expected = atom_image(r, element, resolution=resolution, b_iso=b_iso)
    # Worst at B = 43 d²: 3.4e-5.
    assert np.abs(found - expected).max() < 5e-5 * np.abs(expected).max()


@given(
    element=st.sampled_from([1, 6, 8, 16, 30, 92]),
    resolution=st.floats(1, 10),
    spread=st.floats(0, 190),
)
@settings(max_examples=20, deadline=None)
def test_quadrature_gives_the_same_images(element, resolution, spread):
    a, b = electron_coefficients([element])
    b_iso, nodes = spread * resolution**2, 4 * 32
    found = quadrature_profiles(
        torch.tensor(a), torch.tensor(b + b_iso), torch.tensor([resolution], dtype=torch.float64),
        nodes,
    )[0].numpy()  # fmt: skip
    r = np.arange(nodes) / 32 * resolution
    expected = atom_image(r, element, resolution=resolution, b_iso=b_iso)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def one_atom(position, element=8, b=30.0):
    atoms = Atoms.from_structure(nb.example_model()).select([0])
    return type(atoms)(
        **{k: v for k, v in vars(atoms).items() if k not in ("kind",)}
        | {
            "position": np.array([position], dtype=float),
            "element": np.array([element], np.uint8),
            "b_iso": np.array([b], np.float32),
        }
    )


@pytest.mark.parametrize(("d", "b"), [(1.5, 10.0), (3.0, 30.0), (6.0, 120.0)])
def test_the_map_of_an_atom_is_its_fourier_map(d, b):
    grid = Grid((30, 31, 32), d / 3, (1.0, -2.0, 3.0))
    atom = one_atom((grid.lower + grid.upper) / 2 + 0.123, b=b)
    image = shell_map(atom, grid, resolution=d, reach=9.0).values
    fourier = fourier_map(atom, grid, resolution=d).values
    assert np.abs(image - fourier).max() < 2e-3 * fourier.max()


def first_residues(n, b):
    atoms = Atoms.from_structure(nb.example_model())
    atoms = atoms.select(atoms.residue < n)
    return replace(atoms, b_iso=np.full(len(atoms), b, np.float32))


def compared(found, expected):
    """1 - correlation, and the largest difference in parts of the peak."""
    return (
        1 - np.corrcoef(found.ravel(), expected.ravel())[0, 1],
        np.abs(found - expected).max() / expected.max(),
    )


@pytest.mark.parametrize("b", [5.0, 30.0, 100.0, 250.0])
@pytest.mark.parametrize("d", [1.5, 2.0, 3.0, 4.0, 6.0])
def test_the_map_of_a_model_is_its_fourier_map(d, b):
    atoms = first_residues(30, b)
    grid = Grid.around(atoms.position, d / 3, 5.0)
    fourier = fourier_map(atoms, grid, resolution=d).values
    off, most = compared(shell_map(atoms, grid, resolution=d).values, fourier)
    assert off < 4e-5
    assert most < 0.008
    # Images that end at some radius leave ripples out.
    if b < 50 and d > 2.5:
        off, most = compared(shell_map(atoms, grid, resolution=d, reach=3.0).values, fourier)
        assert off > 5e-4
        assert most > 0.02


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("b", [15.0, None])
@pytest.mark.parametrize("d", [2.0, 3.0, 4.0, 6.0])
def test_the_map_of_a_large_model_is_its_fourier_map(data, d, b):
    atoms = Atoms.from_structure(nb.open_model(data / "maps/30342/390_7cec_A.cif"))
    if b is not None:
        atoms = replace(atoms, b_iso=np.full(len(atoms), b, np.float32))
    grid = Grid.around(atoms.position, d / 3, 5.0)
    fourier = fourier_map(atoms, grid, resolution=d).values
    off, most = compared(shell_map(atoms, grid, resolution=d).values, fourier)
    assert off < 5e-5
    assert most < 0.01


def test_the_map_does_not_depend_on_how_large_the_grid_is():
    atoms = first_residues(30, 30.0)
    small = Grid.around(atoms.position, 1.2, 5.0)
    large = small.pad(40)
    inner = (slice(40, -40),) * 3
    whole = shell_map(atoms, large, resolution=3.0).values
    off, most = compared(whole[inner], shell_map(atoms, small, resolution=3.0).values)
    assert off < 2e-4
    assert most < 0.01
    # Only ripples far away from the model are missing.
    fourier = fourier_map(atoms, large, resolution=3.0).values
    off, most = compared(whole[inner], fourier[inner])
    assert off < 1e-4
    assert most < 0.01
    assert np.abs(whole - fourier).max() < 0.01 * fourier.max()
    # Nothing is computed where there is nothing.
    assert not whole[:10].any()
    away = replace(small, origin=(500.0, 0.0, 0.0))
    assert not shell_map(atoms, away, resolution=3.0).values.any()


@pytest.mark.parametrize("b", [15.0, 60.0])
def test_atoms_of_different_resolution_add_up_to_their_images(b):
    atoms = first_residues(12, b)
    d = np.array([2.5, 2.73, 3.1, 3.58, 4.0])[atoms.residue % 5]
    grid = Grid.around(atoms.position, 1.1, 3.0)
    centres = grid.to_points(np.indices(grid.shape).reshape(3, -1).T)
    fine = np.arange(0, 60, 0.02)
    images = np.zeros(len(centres))
    for kind in sorted(set(zip(atoms.element.tolist(), d.tolist(), strict=True))):
        image = atom_image(fine, kind[0], resolution=kind[1], b_iso=b)
        for k in np.flatnonzero((atoms.element == kind[0]) & (d == kind[1])):
            r = np.linalg.norm(centres - atoms.position[k], axis=1)
            images += atoms.occupancy[k] * np.interp(r, fine, image)
    images = images.reshape(grid.shape)
    few, many = (
        compared(shell_map(atoms, grid, resolution=d, levels=n).values, images) for n in (3, 16)
    )
    cut = compared(shell_map(atoms, grid, resolution=d, reach=3.0).values, images)
    assert many[0] < 2e-4
    assert many[1] < 0.01
    assert many[0] < few[0] / 3
    assert many[0] < cut[0] / 3


def test_a_grid_too_coarse_for_the_resolution_is_a_part_of_a_finer_one():
    atom = one_atom((20.0, 21.0, 22.0), b=15.0)
    fine = Grid((40, 40, 40), 1.0, (0.0, 0.0, 0.0))
    coarse = Grid((20, 20, 20), 2.0, (0.0, 0.0, 0.0))
    expected = shell_map(atom, fine, resolution=2.5).values[::2, ::2, ::2]
    found = shell_map(atom, coarse, resolution=2.5).values
    assert np.abs(found - expected).max() < 3e-3 * expected.max()


@given(element=st.sampled_from([1, 6, 8, 16, 30, 92]), spread=st.floats(0, 60))
@settings(max_examples=20, deadline=None)
def test_near_parts_have_no_ripples(element, spread):
    a, b = electron_coefficients([element])
    d = 3.0
    b_iso = spread * d**2
    image = near_profiles(
        torch.tensor(a), torch.tensor(b + b_iso), torch.tensor([d], dtype=torch.float64), 8 * 32
    )[0].numpy()
    r = np.arange(8 * 32) / 32 * d
    height = atom_image(0.0, element, resolution=d, b_iso=b_iso)
    assert np.abs(image[r > near_radius(d, b_iso)]).max() < 2e-3 * height
    assert image[0] > 0.15 * height


def test_every_atom_has_its_own_resolution():
    grid = Grid((30, 30, 40), 0.7)
    one, two = one_atom([7.0, 10.0, 10.0]), one_atom([21.0, 10.0, 10.0], element=6)
    both = type(one)(
        **{
            key: np.concatenate([getattr(one, key), getattr(two, key)])
            for key in ("position", "element", "b_iso", "occupancy", "name", "residue", "role")
        },
        residues=one.residues,
    )
    for reach, tolerance in ((None, 2e-3), (3.0, 1e-5)):
        found = shell_map(both, grid, resolution=[2.0, 4.0], reach=reach).values
        apart = sum(
            shell_map(atom, grid, resolution=d, reach=reach).values
            for atom, d in ((one, 2.0), (two, 4.0))
        )
        np.testing.assert_allclose(found, apart, atol=tolerance * apart.max())
    assert found[14, 14, 10] > 1.5 * found[14, 14, 30]  # the finer one is the sharper one


@pytest.mark.parametrize("profile", [profiles, quadrature_profiles])
@pytest.mark.parametrize("fixed", [False, True])
def test_gradients_are_those_of_differences(rng, profile, fixed):
    grid = Grid((5, 6, 7), 0.9)
    position = torch.tensor(rng.uniform(1.0, 4.0, (2, 3)), requires_grad=True)
    a, b = (torch.tensor(part) for part in electron_coefficients([6, 16]))
    extra = torch.tensor(rng.uniform(10, 60, 2), requires_grad=True)
    occupancy = torch.tensor(rng.uniform(0.5, 1, 2), requires_grad=True)
    d = torch.tensor(rng.uniform(2.0, 3.5, 2), requires_grad=True)
    # Radii beyond the grid: no voxel enters or leaves while the parameters are varied.
    radius = np.full(2, 10.0)
    around = position.detach().numpy() + 0.3
    options = {"profile": profile}
    if fixed:
        # Also with some voxels only, which then stay the same ones.
        radius, options["around"] = np.array([3.0, 2.2]), around

    def density(position, extra, occupancy, d):
        return shell_density(
            position, a * occupancy[:, None], b + extra[:, None], d, grid, radius=radius, **options
        ).sum(dim=(0, 1))

    assert torch.autograd.gradcheck(
        density, (position, extra, occupancy, d), eps=1e-5, atol=1e-5, rtol=1e-3
    )


def test_gradients_of_whole_images_are_those_of_differences(rng):
    grid = Grid((5, 6, 7), 0.9)
    position = torch.tensor(rng.uniform(1.0, 4.0, (2, 3)), requires_grad=True)
    a, b = (torch.tensor(part) for part in electron_coefficients([6, 16]))
    extra = torch.tensor(rng.uniform(10, 60, 2), requires_grad=True)
    occupancy = torch.tensor(rng.uniform(0.5, 1, 2), requires_grad=True)
    d = torch.tensor(rng.uniform(2.8, 3.6, 2), requires_grad=True)
    weights = torch.tensor(rng.normal(size=(2, *grid.shape)))
    # Radii beyond the grid, and levels that stay.
    edges = np.linspace(0.2, 0.4, 5)

    def density(position, extra, occupancy, d):
        atoms = position, a * occupancy[:, None], b + extra[:, None], d
        found = whole_density(*atoms, grid, radius=np.full(2, 10.0), edges=edges)
        return (weights * found).sum(dim=(1, 2, 3))

    assert torch.autograd.gradcheck(
        density, (position, extra, occupancy, d), eps=1e-4, atol=1e-5, rtol=1e-3
    )
    with pytest.raises(CryonbError, match="last but one"):
        density(position, extra, occupancy, d.detach() * 3)


def test_one_resolution_has_a_slope_too():
    atoms = first_residues(3, 30.0)
    grid = Grid.around(atoms.position, 1.0, 3.0)
    a, b = (torch.tensor(part) for part in electron_coefficients(atoms.element))
    fixed = torch.tensor(atoms.position), a, b + 30.0
    radius = near_radius(np.full(len(atoms), 3.0), 30.0) + 0.5

    def peak(d, levels=16):
        each = d.expand(len(atoms))
        return (whole_density(*fixed, each, grid, radius=radius, levels=levels) ** 2).mean()

    d = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    peak(d).backward()
    with torch.no_grad():
        slope = (peak(d + 0.1) - peak(d - 0.1)) / 0.2
    assert d.grad.item() == pytest.approx(slope.item(), rel=0.05)


def test_the_radius_takes_in_a_wide_peak():
    assert image_radius(3.0, 20.0) == pytest.approx(9.0)
    assert image_radius(1.0, 300.0) == pytest.approx(3.5 * np.sqrt(325 / (8 * np.pi**2)))


def test_simulate_takes_every_method_and_a_map_for_its_grid():
    model = Atoms.from_structure(nb.example_model())
    model = model.select(model.residue < 16)
    m = nb.simulate(model, resolution=4.0)
    assert m.resolution == 4.0
    for method in ("shells", "molmap", "emready", "cryofit", "demo-emfit", "tempy", "qscore"):
        other = nb.simulate(model, resolution=4.0, method=method, grid=m)
        assert other.grid == m.grid
        assert np.corrcoef(other.values.ravel(), m.values.ravel())[0, 1] > 0.4, method
    each = np.linspace(3, 5, len(model))
    mixed = nb.simulate(model, resolution=each, method="shells", grid=m.grid, reach=2.0)
    assert mixed.resolution == pytest.approx(4.0)
    with pytest.raises(CryonbError, match="A method of fourier, shells, molmap"):
        nb.simulate(model, resolution=4.0, method="best")


def test_bad_requests_are_refused():
    model = nb.example_model()
    with pytest.raises(CryonbError, match="one for each"):
        shell_map(model, resolution=[3.0, 4.0])
    with pytest.raises(CryonbError, match="positive resolution"):
        shell_map(model, resolution=-1.0)
    with pytest.raises(CryonbError, match="A reach of"):
        shell_map(model, resolution=3.0, reach=50)
    with pytest.raises(CryonbError, match="At least one level"):
        shell_map(model, resolution=3.0, levels=0)
