"""Images by shells against the defining integrals, maps against Fourier maps, gradients."""

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
    profiles,
    quadrature_profiles,
    shell_density,
    shell_map,
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


def test_the_map_of_a_model_is_nearly_its_fourier_map():
    structure = Atoms.from_structure(nb.example_model())
    structure = structure.select(structure.residue < 40)
    grid = Grid.around(structure.position, 0.8, 5.0)
    fourier = fourier_map(structure, grid, resolution=2.5).values.ravel()
    correlation = [
        np.corrcoef(shell_map(structure, grid, resolution=2.5, reach=k).values.ravel(), fourier)[
            0, 1
        ]
        for k in (2.0, 3.0)
    ]
    assert correlation[1] > correlation[0] > 0.99
    assert correlation[1] > 0.996


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
    found = shell_map(both, grid, resolution=[2.0, 4.0]).values
    apart = sum(shell_map(atom, grid, resolution=d).values for atom, d in ((one, 2.0), (two, 4.0)))
    np.testing.assert_allclose(found, apart, atol=1e-5 * apart.max())
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
