"""Symmetry about any axis: assemblies with known operations, and the maps that have or lack it."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.process.point_groups import axes_of, group_rotations
from cryonb.process.symmetrize import symmetrize
from cryonb.process.symmetry import _aligned, find_symmetry
from cryonb.simulate.gaussian import gaussians

CENTRE = np.array([10.0, 20.0, 30.0])
#: Where the unit stands, from the centre, so that units touch and do not overlap.
PLACE = {"C1": (30, 5, 8), "C3": (25, 5, 8), "D2": (22, 14, 20), "T": (35, 12, 40)}


def assembly(name, *, seed=5, noise=0.1):
    """A noisy map of an assembly in a random orientation, and its operations."""
    atoms = nb.Atoms.from_structure(nb.example_model("phantom"))
    turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    rotations = turn @ group_rotations(name) @ turn.T
    unit = atoms.position - atoms.position.mean(axis=0) + PLACE[name]
    points = np.einsum("kij,nj->kni", rotations, unit).reshape(-1, 3) + CENTRE
    grid = nb.Grid.around(points, 2.0, 15)
    m = gaussians(points, np.tile(atoms.element, len(rotations)), grid, resolution=6.0)
    inside = m.values[m.values > 0.2 * m.max].std()
    rough = np.random.default_rng(0).normal(0, noise * inside, m.shape).astype(np.float32)
    return nb.DensityMap(m.values + rough, grid, resolution=6.0), rotations


def same_set(one, two, tolerance=0.02):
    """Whether two groups are the same rotations, in any order."""
    distance = np.abs(one[:, None] - two[None]).max(axis=(2, 3))
    return (distance.min(axis=0) < tolerance).all() and (distance.min(axis=1) < tolerance).all()


@pytest.mark.parametrize(
    "name", ["C3", "D2", pytest.param("C1", marks=pytest.mark.slow),
             pytest.param("T", marks=pytest.mark.slow)]
)  # fmt: skip
def test_assemblies_are_recognised_in_any_orientation(name):
    m, rotations = assembly(name)
    found = find_symmetry(m, orders=(2, 3, 4), progress=False)
    assert found.name == name
    assert same_set(found.rotations, rotations)
    if name != "C1":
        assert found.score > 0.9
        # The centre may slide along the axis of a cyclic group.
        off = found.centre - CENTRE
        axis = axes_of(rotations)[0][0] if name == "C3" else np.zeros(3)
        assert np.linalg.norm(off - axis * (axis @ off)) < 0.1


def noisy_dimer(atoms, seed, *, n):
    """Put `n` copies around an axis into a box that noise fills up to its corners."""
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=rng).as_matrix()
    rotations = group_rotations("C2")[:n]
    beside = atoms.position - atoms.position.mean(axis=0) + [18 + 6 * np.sqrt(n), 5, 14]
    points = np.concatenate([beside @ (turn @ rotation).T for rotation in rotations])
    grid = nb.Grid.around(points, 1.5, 12.0)
    m = gaussians(points, np.tile(atoms.element, n), grid, resolution=5.0, recipe="molmap")
    noise = rng.normal(0, m.values[m.values > 0.1 * m.max].std(), m.shape).astype(np.float32)
    return nb.DensityMap(m.values + noise, grid, resolution=5.0)


def test_noise_all_over_a_box_does_not_hide_an_axis():
    m = noisy_dimer(nb.Atoms.from_structure(nb.example_model("phantom")), 2, n=2)
    assert find_symmetry(m, progress=False, helical=False).name == "C2"


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_all_over_a_box_makes_no_axis(data, seed):
    # Specks above the noise level fill the box, and have the symmetry of the box.
    model = nb.open_model(data / "structures" / "scope_a" / "d1c75a_.pdb.gz")
    m = noisy_dimer(nb.Atoms.from_structure(model), seed, n=1)
    assert find_symmetry(m, progress=False, helical=False).name == "C1"


def test_axes_of_cubic_groups_fit_by_either_end():
    # Two axes of a group, seen as lines, are two or four pairs of directions.
    turn = Rotation.random(random_state=3).as_matrix()
    for name in "TOI":
        standard = group_rotations(name)
        axis, order = axes_of(standard)
        wanted = turn @ standard @ turn.T
        for i, j in combinations(range(min(len(axis), 12)), 2):
            if max(order[i], order[j]) < 3:
                continue
            for one, two in product((1, -1), (1, -1)):
                lines = one * turn @ axis[i], two * turn @ axis[j]
                fits = _aligned(lines, (axis[i], axis[j]))
                assert any(same_set(fit @ standard @ fit.T, wanted) for fit in fits), (name, i, j)


def test_what_it_found_can_be_used():
    m, _ = assembly("C3", noise=0.3)
    found = find_symmetry(m, orders=(2, 3), progress=False)
    for matrix, vector in found.operators():
        np.testing.assert_allclose(matrix @ found.centre + vector, found.centre, atol=1e-9)
    # One unit holds a third of the mass, and its images give back the whole.
    one = found.unit_of(m)
    positive = [np.maximum(v.values, 0).sum() for v in (one, m)]
    assert positive[0] / positive[1] == pytest.approx(1 / 3, abs=0.02)
    # The average has less noise than the map: nearer to what there is without.
    clean = assembly("C3", noise=0.0)[0]
    after = np.abs(symmetrize(m, found).values - clean.values).mean()
    assert after < 0.75 * np.abs(m.values - clean.values).mean()
    model = nb.example_model("phantom")
    whole = found.apply(model)
    atoms = nb.Atoms.from_structure(model).position
    expected = found.images(atoms).reshape(-1, 3)
    made = nb.Atoms.from_structure(whole).position
    key = np.lexsort(np.round(made, 2).T), np.lexsort(np.round(expected, 2).T)
    np.testing.assert_allclose(made[key[0]], expected[key[1]], atol=0.02)
    assert len(model[0]) * 3 == len(whole[0])


def test_a_map_is_averaged_over_the_symmetry_that_it_has(rng):
    m, _ = assembly("C3", noise=0.3)
    np.testing.assert_allclose(m.symmetrize().values, m.symmetrize(m.find_symmetry()).values)
    one = nb.example("phantom", resolution=6.0)
    with pytest.raises(CryonbError, match="a symmetry was expected, but none was found"):
        one.symmetrize()


def test_groups_are_groups():
    for name, size in (("C1", 1), ("C5", 5), ("D4", 8), ("T", 12), ("O", 24), ("I", 60)):
        rotations = group_rotations(name)
        assert len(rotations) == size
        np.testing.assert_allclose(rotations[0], np.eye(3), atol=1e-12)
        products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 3, 3)
        assert same_set(products, rotations, 1e-6)
    with pytest.raises(CryonbError, match="point group"):
        group_rotations("Q7")


def test_an_empty_map_is_refused():
    m = nb.Volume(np.eye(9)[None].repeat(9, axis=0), nb.Grid((9, 9, 9)))
    with pytest.raises(CryonbError, match="lower contour"):
        find_symmetry(m, contour=2.0)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "name"),
    [("ngl-betaGal/betaGal.mrc.gz", "D2"), ("6272/6272_zone4A.mrc.gz", "C1"),
     ("0093/MAP_m4A.mrc.gz", "C4")],
)  # fmt: skip
def test_maps_of_experiments(data, path, name):
    m = nb.open_map(data / "maps" / path, resolution={"D2": 9.0, "C1": 2.6, "C4": 3.4}[name])
    assert find_symmetry(m, progress=False).name == name
