"""Fourier and Gaussian maps against closed forms and gemmi."""

import gemmi
import numpy as np
import pytest
import torch

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.simulate.fourier import fourier_map, frequencies, gaussian_sum, structure_factors
from cryonb.simulate.gaussian import gaussian_map
from cryonb.simulate.scattering import electron_coefficients


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


@pytest.mark.parametrize(("recipe", "sigma"), [("molmap", 5 * 0.22508), ("emready", 0.94533)])
def test_gaussian_recipes_integrate_to_the_atomic_number(rng, recipe, sigma):
    structure = molecule(rng, n=1)
    atoms = Atoms.from_structure(structure)
    volume = gaussian_map(structure, resolution=5.0, recipe=recipe, voxel_size=0.8)
    assert volume.values.sum() * volume.grid.voxel_volume == pytest.approx(6, rel=1e-3)
    peak = volume.sample(atoms.position, order=3)[0]
    assert peak == pytest.approx(6 / (2 * np.pi * sigma**2) ** 1.5, rel=0.02)


def test_bad_requests_are_refused(rng):
    structure = molecule(rng, n=3)
    with pytest.raises(CryonbError, match="positive resolution"):
        fourier_map(structure, resolution=0)
    with pytest.raises(CryonbError, match="voxels of at most"):
        fourier_map(structure, Grid((9, 9, 9), 2.0), resolution=3)
    with pytest.raises(CryonbError, match="recipe of molmap"):
        gaussian_map(structure, resolution=3, recipe="best")
