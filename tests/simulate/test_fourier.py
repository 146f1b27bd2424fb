"""Fourier and Gaussian maps against closed forms and gemmi."""

import gemmi
import numpy as np
import pytest
import torch

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.fourier import fourier_map, gaussian_sum, isotropic_parts, refit
from cryonb.simulate.gaussian import RECIPES, gaussian_map, gaussians, sigma_of
from cryonb.simulate.scattering import electron_coefficients, ionic_coefficients
from cryonb.simulate.structure_factors import (
    _chebyshev,
    _functions,
    _reduced,
    frequencies,
    structure_factors,
)


def molecule(rng, n=60, size=18.0):
    structure = gemmi.Structure()
    model, chain = gemmi.Model(1), gemmi.Chain("A")
    for number in range(n):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(number + 1, " ")
        atom = gemmi.Atom()
        atom.name, atom.element = "CA", gemmi.Element(["C", "N", "O", "S"][number % 4])
        atom.pos = gemmi.Position(*rng.uniform(0, size, 3))
        atom.b_iso, atom.occ = float(rng.uniform(10, 90)), float(rng.uniform(0.3, 1))
        residue.add_atom(atom)
        chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    return structure


def test_coefficients_are_those_of_the_international_tables():
    a, b = electron_coefficients([6, 8, 6])
    # International Tables C, table 4.3.2.2, carbon
    np.testing.assert_allclose(a[0], [0.0893, 0.2563, 0.7570, 1.0487, 0.3575])
    np.testing.assert_allclose(b[0], [0.2465, 1.7100, 6.4094, 18.6113, 50.2523])
    np.testing.assert_array_equal(a[0], a[2])
    assert a[1].sum() < a[0].sum()  # f(0) of oxygen is below carbon's for electrons


def test_structure_factors_are_the_direct_sum(rng):
    shape, voxel = (20, 24, 28), (1.1, 1.0, 0.9)
    atoms = Atoms.from_structure(molecule(rng))
    grid = Grid(shape, voxel, (0, 0, 0))
    a, b = electron_coefficients(atoms.element)
    a, b = a * atoms.occupancy[:, None], b + atoms.b_iso[:, None]
    got = structure_factors(
        torch.from_numpy(np.ascontiguousarray(grid.to_index(atoms.position))),
        torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32),
        shape, voxel, s_max=1 / 3,
    )[0].numpy()  # fmt: skip
    s2 = frequencies(shape, voxel).numpy()
    for h in [(0, 0, 0), (1, 2, 3), (-2, 1, 0), (3, -4, 5), (5, 5, 2)]:
        s = np.array(h[::-1]) / (np.array(shape[::-1]) * voxel)
        q = (s**2).sum() / 4
        assert s2[h] == pytest.approx(4 * q, rel=1e-5)
        f = (a * np.exp(-b * q)).sum(axis=1)
        expected = (f * np.exp(-2j * np.pi * atoms.position @ s)).sum()
        f0 = a.sum()
        assert abs(got[h] - expected) < 0.004 * f0


def test_maps_of_several_owners_are_those_of_each(rng):
    shape, voxel = (16, 16, 18), (1.0, 1.0, 1.0)
    index = torch.from_numpy(rng.uniform(2, 14, (30, 3)))
    a, b = torch.ones(30, 1), torch.full((30, 1), 40.0)
    owner = torch.arange(30) % 2
    both = structure_factors(index, a, b, shape, voxel, owner=owner, n_maps=2)
    for number in (0, 1):
        mine = owner == number
        alone = structure_factors(index[mine], a[mine], b[mine], shape, voxel)[0]
        np.testing.assert_allclose(both[number], alone, atol=1e-4)


def test_fourier_map_agrees_with_gemmi(rng):
    d, margin = 3.0, 20.0
    structure = molecule(rng)
    atoms = Atoms.from_structure(structure)
    grid = Grid.around(atoms.position, 1.0, margin)
    ours = fourier_map(structure, grid, resolution=d)

    # gemmi.DensityCalculatorE on a grid twice as fine in the same box, cut at d by numpy
    moved = structure.clone()
    n = np.array(grid.shape[::-1])
    moved.cell = gemmi.UnitCell(*n, 90, 90, 90)
    moved.spacegroup_hm = "P 1"
    for atom in moved[0].all():
        atom.atom.pos = gemmi.Position(*(np.array(atom.atom.pos.tolist()) - grid.lower))
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min, calculator.rate, calculator.cutoff = d, 2, 1e-7
    calculator.grid.set_size(*(int(k) * 2 for k in n))
    calculator.grid.set_unit_cell(moved.cell)
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.add_model_density_to_grid(moved[0])
    f = np.fft.fftn(np.array(calculator.grid.array, dtype=np.float64))
    s = [np.fft.fftfreq(k, 0.5) for k in f.shape]
    s2 = s[0][:, None, None] ** 2 + s[1][None, :, None] ** 2 + s[2][None, None, :] ** 2
    theirs = np.fft.ifftn(np.where(s2 <= 1 / d**2, f, 0)).real[::2, ::2, ::2].T
    inner = (slice(12, -12),) * 3
    x, y = ours.values[inner].ravel(), theirs[inner].ravel()
    assert np.corrcoef(x, y)[0, 1] > 0.9995
    assert (x @ y) / (y @ y) == pytest.approx(1, abs=0.005)
    # In a box that repeats itself, as gemmi's does, nothing is left of the difference.
    around = fourier_map(structure, grid, resolution=d, periodic=True).values
    assert np.abs(around - theirs).max() < 1e-4 * theirs.max()


def anisotropic(rng, size=1.0):
    """A molecule of which every second atom has an anisotropic displacement."""
    structure = molecule(rng, n=40)
    for number, place in enumerate(structure[0].all()):
        if number % 2:
            root = rng.normal(0, 0.6 * size, (3, 3))
            u = root @ root.T + 0.1 * np.eye(3)
            place.atom.aniso = gemmi.SMat33f(
                *(u[k] for k in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
            )
    return structure


@pytest.mark.parametrize("d", [1.5, 3.0])
def test_anisotropic_displacements_are_those_of_gemmi(rng, d):
    structure = anisotropic(rng)
    grid = Grid((48, 50, 54), 24 / 48 * d / 1.5)
    cell = gemmi.UnitCell(*grid.extent, 90, 90, 90)
    structure.cell = cell
    map_ = fourier_map(structure, grid, resolution=d, periodic=True)
    f = np.fft.fftn(map_.values.astype(np.float64)) * grid.voxel_volume
    calculator = gemmi.StructureFactorCalculatorE(cell)
    f0 = abs(f[0, 0, 0])
    for h in [(0, 0, 0), (1, 2, 3), (-4, 1, 0), (3, -5, 7), (12, 0, 2), (0, 11, 4), (2, 3, -12)]:
        theirs = calculator.calculate_sf_from_model(structure[0], h)
        assert cell.calculate_d(h) > d or h == (0, 0, 0)
        ours = np.conj(f[h[2], h[1], h[0]])
        assert abs(ours - theirs) < 2e-4 * f0, h
    # They matter: the isotropic ones alone would be far off.
    atoms = Atoms.from_structure(structure)
    assert atoms.aniso is None
    other = fourier_map(atoms, grid, resolution=d, periodic=True)
    assert np.abs(other.values - map_.values).max() > 0.05 * map_.max


def test_charges_are_those_of_gemmi(rng):
    structure = anisotropic(rng, size=0.5)
    for number, place in enumerate(structure[0].all()):
        name, charge = [("Zn", 2), ("O", -1), ("C", 0), ("C", 4), ("Cl", -1)][number % 5]
        place.atom.element, place.atom.charge = gemmi.Element(name), charge
    d, grid = 2.5, Grid((36, 38, 40), 1.0)
    cell = gemmi.UnitCell(*grid.extent, 90, 90, 90)
    structure.cell = cell
    map_ = fourier_map(structure, grid, resolution=d, periodic=True, charges=True)
    neutral = fourier_map(structure, grid, resolution=d, periodic=True)
    f, f_neutral = (
        np.fft.fftn(part.values.astype(np.float64)) * grid.voxel_volume for part in (map_, neutral)
    )
    electrons = gemmi.StructureFactorCalculatorE(cell)
    rays = gemmi.StructureFactorCalculatorX(cell)

    def x_rays(h, ignored):
        gemmi.IT92_set_ignore_charge(ignored)
        try:
            return rays.calculate_sf_from_model(structure[0], h)
        finally:
            gemmi.IT92_set_ignore_charge(True)

    largest = np.abs(f).max()
    for h in [(1, 0, 0), (0, 1, 2), (-4, 1, 0), (3, -5, 7), (12, 0, 2), (0, 11, 4), (2, 3, -12)]:
        # gemmi's factor is of the coefficient that was calculated last, and negative.
        by_charge = (x_rays(h, False) - x_rays(h, True)) * rays.mott_bethe_factor()
        theirs = electrons.calculate_sf_from_model(structure[0], h) + by_charge
        assert abs(np.conj(f[h[2], h[1], h[0]]) - theirs) < 2e-4 * largest, h
    assert abs(f[0, 0, 0] - f_neutral[0, 0, 0]) < 1e-3 * abs(f_neutral[0, 0, 0])
    assert np.abs(map_.values - neutral.values).max() > 0.05 * neutral.max
    assert gemmi.IT92_get_ignore_charge()


def test_coefficients_of_ions_begin_at_their_charge():
    a, b = ionic_coefficients([30, 8, 12, 6, 6], [2, -1, 2, 0, 5])
    # 1 / (2 π² a₀) a charge, a₀ = 0.529177 Å; the tables' own sums are off by a hundredth of an
    # electron.
    assert a.sum(axis=1) * 2 * np.pi**2 * 0.529177 == pytest.approx([2, -1, 2, 0, 0], abs=0.03)
    assert not a[3:].any()
    assert b.shape == (5, 10)


def test_parts_of_an_anisotropic_atom_are_its_displacement_factor(rng):
    u = np.array([[0.9, 0.2, 0.1], [0.2, 0.3, -0.15], [0.1, -0.15, 0.5]])
    rows = np.array([[0] * 6, [0.9, 0.3, 0.5, 0.2, 0.1, -0.15]])
    position, weight, b, of = isotropic_parts(
        np.zeros((2, 3)), np.array([20.0, 99.0]), rows, s_max=0.5
    )
    np.testing.assert_array_equal(np.unique(of), [0, 1])
    assert (b[of == 0], weight[of == 0]) == (20.0, 1.0)
    s = rng.normal(0, 1, (50, 3))
    s *= 0.5 / np.linalg.norm(s, axis=1, keepdims=True) * rng.uniform(0, 1, (50, 1))
    mine = of == 1
    wave = np.exp(-2j * np.pi * s @ position[mine].T - b[mine] * (s**2).sum(axis=1)[:, None] / 4)
    expected = np.exp(-2 * np.pi**2 * np.einsum("ni,ij,nj->n", s, u, s))
    np.testing.assert_allclose(wave @ weight[mine], expected, atol=1e-5)


def test_gaussian_sum_is_the_closed_form(rng):
    position = rng.uniform(8, 20, (12, 3))
    b, a = np.full((12, 1), 60.0), rng.uniform(1, 8, (12, 1))
    grid = Grid((25, 27, 29), (1.0, 1.1, 0.9), (0.3, -0.2, 0.5))
    volume = gaussian_sum(position, a, b, grid)
    points = grid.to_points(np.stack(np.indices(grid.shape), axis=-1).reshape(-1, 3))
    r2 = ((points[:, None] - position) ** 2).sum(-1)
    k = 4 * np.pi / b[0, 0]
    expected = (a[:, 0] * k**1.5 * np.exp(-np.pi * k * r2)).sum(1).reshape(grid.shape)
    np.testing.assert_allclose(volume.values, expected, atol=2e-3 * expected.max())


@pytest.mark.parametrize("spread", [1.0, 200.0, 2000.0])
def test_precise_factors_are_the_direct_sum(rng, spread):
    # Widths from a few Å² to thousands, on a grid half again as fine as the limit needs.
    shape, voxel, s_max = (24, 27, 30), (1.0, 1.1, 0.9), 1 / 3.3
    position = rng.uniform(0, 20, (40, 3))
    a, b = rng.uniform(-1, 3, (40, 2)), 3 + rng.uniform(0, spread, (40, 2))
    index = Grid(shape, voxel).to_index(position)
    got = structure_factors(
        torch.from_numpy(np.ascontiguousarray(index)), torch.tensor(a, dtype=torch.float32),
        torch.tensor(b, dtype=torch.float32), shape, voxel, s_max=s_max, precise=True,
    )[0].numpy()  # fmt: skip
    for h in [(0, 0, 0), (1, 2, 3), (-2, 1, 0), (3, -4, 5), (6, 0, 0), (0, 8, 0), (0, 0, 8)]:
        s = np.array(h[::-1]) / (np.array(shape[::-1]) * voxel)
        f = (a * np.exp(-b * (s @ s) / 4)).sum(axis=1)
        expected = (f * np.exp(-2j * np.pi * position @ s)).sum()
        assert abs(got[h] - expected) < 2e-4 * np.abs(a).sum()
    assert got[7, 0, 0] == 0  # beyond the limit


def test_few_functions_stand_for_many_widths(rng):
    b = torch.tensor(rng.uniform(5, 400, (300, 1)) + rng.uniform(0, 40, (300, 5)))
    a = torch.tensor(rng.uniform(0.1, 2, (300, 5)))
    q_max = 1 / (4 * 2.0**2)
    knots, shares = _chebyshev(a, b, q_max)
    of_atom, functions = _reduced(knots, shares, q_max)
    assert of_atom.shape[1] < 0.5 * len(knots)
    q = torch.linspace(0, q_max, 37, dtype=torch.float64)
    exact = (a[:, :, None] * torch.exp(-b[:, :, None] * q)).sum(dim=1)
    found = of_atom @ _functions(functions, knots, q)
    rms = (exact**2).mean(dim=0).sqrt()
    assert (((found - exact) ** 2).mean(dim=0).sqrt() / rms).max() < 1e-4
    assert (found - exact).abs().max() < 2e-5 * exact.max()


@pytest.mark.parametrize(("old", "new"), [((8, 9, 10), (12, 11, 16)), ((12, 11, 16), (8, 9, 10))])
def test_a_map_without_high_frequencies_is_the_same_on_another_grid(rng, old, new):
    def wave(shape):
        z, y, x = np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij")
        turn = 2 * np.pi
        return 1 + np.cos(turn * (3 * z - 2 * y + x) + 0.3) + np.sin(turn * (y - 3 * x))

    coefficients = torch.fft.rfftn(torch.from_numpy(wave(old)))
    found = torch.fft.irfftn(refit(coefficients, old, new), s=new) * np.prod(new) / np.prod(old)
    np.testing.assert_allclose(found, wave(new), atol=1e-10)


@pytest.mark.parametrize(("recipe", "sigma"), [("molmap", 5 * 0.22508), ("emready", 0.94533)])
def test_gaussian_recipes_integrate_to_the_atomic_number(rng, recipe, sigma):
    structure = molecule(rng, n=1)
    atoms = Atoms.from_structure(structure)
    volume = gaussian_map(structure, resolution=5.0, recipe=recipe, voxel_size=0.8)
    assert volume.values.sum() * volume.grid.voxel_volume == pytest.approx(6, rel=1e-3)
    peak = volume.sample(atoms.position, order=3)[0]
    assert peak == pytest.approx(6 / (2 * np.pi * sigma**2) ** 1.5, rel=0.02)


# Of one carbon atom at d = 6 Å: width, integral (None: not fixed) and height (None: follows).
@pytest.mark.parametrize(
    ("recipe", "sigma", "integral", "height"),
    [
        ("molmap", 6 * 0.22508, 6, None),
        ("emready", (1.2 + 3.6) / 4.44288, 6, None),
        ("cryofit", 3.0, None, 1),
        ("demo-emfit", (2.4 + 4.8) / 4.44288, 12.011, None),
        ("tempy", 2.136, 12.011, None),
        ("qscore", 0.6, None, 1),
    ],
)
def test_every_recipe_has_its_width_and_weight(rng, recipe, sigma, integral, height):
    structure = molecule(rng, n=1)
    atom = Atoms.from_structure(structure).position[0]
    grid = Grid((61, 61, 61), 0.5, atom - 15)  # a voxel is centred on the atom
    values = gaussian_map(structure, grid, resolution=6.0, recipe=recipe).values
    assert sigma_of(6.0, recipe) == pytest.approx(sigma, rel=1e-4)
    norm = (2 * np.pi * sigma**2) ** 1.5
    assert values.sum() * 0.125 == pytest.approx(integral or norm, rel=2e-3)
    assert values[30, 30, 30] == pytest.approx(height or integral / norm, rel=2e-3)
    # two sigma away
    steps = round(2 * sigma / 0.5)
    expected = np.exp(-((steps * 0.5) ** 2) / (2 * sigma**2))
    assert values[30, 30, 30 + steps] / values[30, 30, 30] == pytest.approx(expected, abs=2e-3)


def test_narrow_and_wide_gaussians_are_the_same_sum(rng):
    # Narrow ones are added up directly, wide ones through Fourier space; a device means Fourier.
    position, element = rng.uniform(-3, 23, (50, 3)), rng.integers(6, 9, 50)
    grid = Grid((20, 21, 22), (1.0, 1.1, 0.9))
    for d in (4.0, 8.0):
        direct = gaussians(position, element, grid, resolution=d).values
        fourier = gaussians(position, element, grid, resolution=d, device="cpu").values
        np.testing.assert_allclose(direct, fourier, atol=3e-3 * fourier.max())
    assert {RECIPES[name].weight for name in RECIPES} == {"number", "mass", "one"}


def test_bad_requests_are_refused(rng):
    structure = molecule(rng, n=3)
    with pytest.raises(CryonbError, match="positive resolution"):
        fourier_map(structure, resolution=0)
    with pytest.raises(CryonbError, match="voxels of at most"):
        fourier_map(structure, Grid((9, 9, 9), 2.0), resolution=3)
    with pytest.raises(CryonbError, match="recipe of molmap"):
        gaussian_map(structure, resolution=3, recipe="best")
