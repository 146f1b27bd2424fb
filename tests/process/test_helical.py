"""Helices: operations, the search for them, and what is done with what it finds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.cli import main
from cryonb.process import symmetrize as averaging
from cryonb.process.cylinder import screw_maps
from cryonb.process.helical import HelicalSymmetry, axis_frame, screws
from cryonb.process.symmetrize import symmetrize
from cryonb.process.symmetry import find_symmetry
from cryonb.simulate.gaussian import gaussians

#: Twist, rise, order, and whether there is a two-fold axis across.
HELICES = {
    "left": (-166.7, 27.5, 1, False),
    "right": (43.0, 9.0, 1, False),
    "c2": (-15.0, 12.0, 2, False),
    "dyad": (53.0, 14.0, 1, True),
}


def helix(name, *, seed=0, noise=0.3, n=64, voxel=2.5, resolution=7.5, length=None):
    """A noisy map of blobs on a helix in a random orientation; its axis and a point on that."""
    twist, rise, order, dyad = HELICES[name]
    rng = np.random.default_rng(seed)
    unit = rng.normal(0, 8, (40, 3)) + [22, 0, 5]
    if dyad:
        unit = np.concatenate([unit, unit * [1, -1, -1]])
    grid = nb.Grid((n, n, n), voxel, (5.0, -20.0, 30.0))
    axis = Rotation.random(rng=rng).as_matrix()[2]
    point = (grid.lower + grid.upper) / 2 + rng.uniform(-6, 6, 3)
    half = n * voxel if length is None else length / 2
    steps = np.arange(-int(half / rise), int(half / rise) + 1)
    matrices, vectors = screws(axis, point, twist * steps, rise * steps, order=order)
    start = unit @ axis_frame(axis) + point
    points = (np.einsum("kij,nj->kni", matrices, start) + vectors[:, None]).reshape(-1, 3)
    clean = gaussians(points, np.full(len(points), 7), grid, resolution=resolution).values
    inside = clean[clean > 0.1 * clean.max()].std()
    rough = rng.normal(0, noise * inside, grid.shape).astype(np.float32)
    return nb.DensityMap(clean + rough, grid, resolution=resolution), axis, point


def known(name, m, axis, point):
    """The symmetry as it was made."""
    twist, rise, order, dyad = HELICES[name]
    made = HelicalSymmetry(
        "H", np.eye(3)[None], point, 1.0, pd.DataFrame(), twist=twist, rise=rise, order=order,
        axis=axis, dyad=axis_frame(axis)[0] if dyad else None, grid=m.grid,
    )  # fmt: skip
    return made.filling(m.grid)


# ---- operations ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    st.floats(-180, 180), st.floats(0.5, 60), st.integers(1, 5), st.booleans(),
)  # fmt: skip
def test_screws_are_a_group(direction, twist, rise, order, dyad):
    axis, point = np.array(direction) / np.linalg.norm(direction), np.array([3.0, -8.0, 11.0])
    frame = axis_frame(axis)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(frame[2], axis, atol=1e-12)
    assert np.linalg.det(frame) > 0
    steps = np.array([0, 1, -1, 2])
    half = frame[1] if dyad else None
    matrices, vectors = screws(axis, point, steps * twist, steps * rise, order=order, dyad=half)
    assert len(matrices) == 4 * order * (2 if dyad else 1)
    np.testing.assert_allclose(matrices[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(vectors[0], 0, atol=1e-9)
    one, back, two = (order * k for k in (1, 2, 3))
    np.testing.assert_allclose(matrices[one] @ matrices[one], matrices[two], atol=1e-9)
    np.testing.assert_allclose(matrices[one] @ vectors[one] + vectors[one], vectors[two], atol=1e-7)
    np.testing.assert_allclose(matrices[one] @ vectors[back] + vectors[one], 0, atol=1e-7)
    # A point on the axis rises along it.
    moved = matrices[one] @ point + vectors[one]
    np.testing.assert_allclose(moved, point + rise * axis, atol=1e-9)
    if dyad:
        across = matrices[4 * order]
        np.testing.assert_allclose(across @ axis, -axis, atol=1e-9)
        np.testing.assert_allclose(across @ point + vectors[4 * order], point, atol=1e-9)


def test_a_positive_twist_is_right_handed():
    matrices, vectors = screws([0, 0, 1], np.zeros(3), 90.0, 5.0)
    # A right-handed screw turns counter-clockwise as it comes towards the eye.
    np.testing.assert_allclose(matrices[0] @ [1, 0, 0] + vectors[0], [0, 1, 5], atol=1e-12)


def test_correlations_over_all_screws_know_the_generator():
    m, axis, point = helix("right", noise=0)
    twist, rise, _, _ = HELICES["right"]
    found, upside_down = screw_maps(
        m, axis, point, radius=45, low=-70, high=70, spacing=2.5, dyad=True
    )
    k = np.arange(1, 5)
    assert found.at(k * twist, k * rise).min() > 0.97
    assert found.at(-k * twist, -k * rise).min() > 0.97
    # Another twist, another rise, the other hand.
    assert max(found.at(twist + 30, rise), found.at(twist, 2 * rise), found.at(-twist, rise)) < 0.7
    assert found.at(0.0, 0.0) == pytest.approx(1, abs=1e-4)
    assert upside_down.values.max() < 0.8
    m, axis, point = helix("dyad", noise=0)
    _, upside_down = screw_maps(m, axis, point, radius=45, low=-70, high=70, spacing=2.5, dyad=True)
    # About the frame's first axis, at the height of the point.
    assert upside_down.at(0.0, 140.0) > 0.97


# ---- the search ----------------------------------------------------------------------------------


def errors(found, name, axis, point):
    twist, rise, order, _ = HELICES[name]
    turn = (found.twist - twist + 180 / order) % (360 / order) - 180 / order
    away = np.cross(found.centre - point, axis)
    return abs(turn), abs(found.rise - rise), np.linalg.norm(away)


@pytest.mark.parametrize(
    ("name", "seed"),
    [("left", 0), pytest.param("right", 1, marks=pytest.mark.slow),
     pytest.param("c2", 2, marks=pytest.mark.slow), ("dyad", 3)],
)  # fmt: skip
def test_helices_are_found_in_any_orientation(name, seed):
    m, axis, point = helix(name, seed=seed)
    found = find_symmetry(m, progress=False)
    twist, rise, order, dyad = HELICES[name]
    turn, up, off = errors(found, name, axis, point)
    assert turn < 0.2
    assert up < 0.1
    assert off < 0.3
    assert found.order == order
    assert (found.dyad is not None) == dyad
    assert np.sign(found.twist) == np.sign(twist)
    assert found.score > 0.9
    assert abs(found.axis @ axis) > np.cos(np.radians(0.2))
    shown = f"{'D' if dyad else 'C'}{order}"
    assert found.name == f"H {found.twist:.2f}° {found.rise:.3f} Å {shown}"
    assert found.tried["name"][0] == found.name
    if dyad:
        clean, _, _ = helix(name, seed=seed, noise=0)
        assert abs((found.centre - point) @ axis) < rise
        half = Rotation.from_rotvec(np.pi * found.dyad).as_matrix()
        points = clean.grid.to_points(np.argwhere(clean.values > 0.1 * clean.max))
        turned = clean.sample((points - found.centre) @ half.T + found.centre, order=3)
        good = np.isfinite(turned)
        assert np.corrcoef(clean.sample(points)[good], turned[good])[0, 1] > 0.97


@pytest.mark.slow
def test_the_other_hand_turns_the_other_way():
    m, _, _ = helix("right", seed=4)
    found = find_symmetry(m.flip_hand(), progress=False)
    assert found.twist == pytest.approx(-43.0, abs=0.2)


@pytest.mark.slow
def test_a_helix_that_ends_within_the_box_is_found_on_request():
    m, axis, point = helix("right", seed=5, length=100, n=64)
    assert not find_symmetry(m, orders=(2,), progress=False).name.startswith("H")
    found = find_symmetry(m, helical=True, progress=False)
    turn, up, _ = errors(found, "right", axis, point)
    assert turn < 0.3
    assert up < 0.2


@pytest.mark.slow
def test_what_is_no_helix_is_none():
    grid = nb.Grid((48, 48, 48), 2.5)
    x, y, _ = np.meshgrid(*grid.axes(), indexing="ij")
    rng = np.random.default_rng(1)
    # A smooth rod is the same under all screws, so it has no generator.
    rod = np.exp(-((x - 60) ** 2 + (y - 55) ** 2) / 300) + rng.normal(0, 0.05, grid.shape)
    m = nb.DensityMap(rod, grid, resolution=7.5)
    assert not find_symmetry(m, orders=(2,), progress=False).name.startswith("H")
    # Blobs anywhere all over the box.
    points = rng.uniform(grid.lower, grid.upper, (300, 3))
    m = gaussians(points, np.full(300, 7), grid, resolution=7.5)
    assert find_symmetry(m, orders=(2,), helical=True, progress=False).name == "C1"


# ---- what it is for ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["left", "c2", "dyad"])
def test_images_of_a_point_fill_the_box(name):
    m, axis, point = helix(name, seed=6, noise=0)
    helical = known(name, m, axis, point)
    # Wherever along the helix one begins, the same set of points comes out.
    start = point + 20 * axis_frame(axis)[1] + 4 * axis
    images = helical.images(start[None])[:, 0]
    assert len({tuple(image) for image in images.round(3)}) == len(images)
    again = helical.images(images[-1][None])[:, 0]
    a, b = (np.sort((one - point) @ axis) for one in (images, again))
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert len(helical) == len(helical.operators()) == len(helical.rotations)
    np.testing.assert_allclose(helical.operators()[0][0], np.eye(3), atol=1e-12)
    # The axis pierces the box at the ends of the images.
    twice = 2 if helical.dyad is not None else 1
    low, high = helical._chord(m.grid)
    expected = (high - low) / helical.rise * helical.order * twice
    assert len(images) == pytest.approx(expected, abs=1.01 * helical.order * twice + 1)


def test_a_model_is_repeated_along_the_helix(alpha_carbons):
    m, axis, point = helix("left", seed=6, noise=0)
    helical = known("left", m, axis, point)
    low, _ = helical._chord(m.grid)
    unit = point + (low + 5) * axis + 20 * axis_frame(axis)[0] + [[0, 0, 0], [3, 0, 1], [1, 2, 5]]
    whole = helical.apply(alpha_carbons(unit))
    centres = np.array([np.mean([r[0].pos.tolist() for r in chain], axis=0) for chain in whole[0]])
    rises = np.sort((centres - point) @ axis)
    assert len(rises) > 4
    np.testing.assert_allclose(np.diff(rises), helical.rise, atol=1e-6)
    assert len({chain.name for chain in whole[0]}) == len(rises)


@pytest.mark.parametrize("slab", [1, 10_000])
def test_averages_have_less_noise(monkeypatch, slab):
    monkeypatch.setattr(averaging, "_SLAB", slab)
    m, axis, point = helix("right", seed=7, noise=1.0)
    clean, _, _ = helix("right", seed=7, noise=0.0)
    mean = symmetrize(m, known("right", m, axis, point))
    inside = clean.values > 0.1 * clean.max
    before, after = (np.std((one.values - clean.values)[inside]) for one in (m, mean))
    # Some fifteen images of most points lie in the box.
    assert after < 0.4 * before
    assert mean.history[-1].startswith("averaged over")
    # A helix without noise is its own average, and a constant is one everywhere.
    same = symmetrize(clean, known("right", m, axis, point))
    assert np.corrcoef(same.values[inside], clean.values[inside])[0, 1] > 0.99
    flat = m.replace(np.ones(m.shape, np.float32))
    inner = symmetrize(flat, known("right", m, axis, point)).values[8:-8, 8:-8, 8:-8]
    np.testing.assert_allclose(inner, 1, atol=1e-3)


def test_units_make_up_the_helix():
    m, axis, point = helix("right", seed=8, noise=0)
    helical = known("right", m, axis, point)
    unit = helical.unit_of(m)
    low, high = helical._chord(m.grid)
    share = unit.values.sum() / m.values.sum()
    assert share == pytest.approx(helical.rise / (high - low), rel=0.25)
    # Units do not overlap: where one is, the next one's is zero.
    matrix, vector = helical.operators()[1]
    there = m.grid.to_points(np.argwhere(unit.values > 0.2 * m.max))
    moved = unit.sample(there @ matrix.T + vector, order=0)
    assert np.nanmean(moved > 0.2 * m.max) < 0.02
    box = m.box(around=helical)
    assert box.grid.n_voxels < 0.3 * m.grid.n_voxels


@pytest.mark.slow
def test_a_command_says_it(tmp_path, capsys):
    m, _, _ = helix("left", seed=9, n=56)
    m.save(tmp_path / "m.mrc")
    words = ["symmetry", str(tmp_path / "m.mrc"), "--resolution", "7.5", "--helical"]
    assert main([*words, "--symmetrize", str(tmp_path / "mean.mrc")]) == 0
    line = capsys.readouterr().out.splitlines()[0].split()
    assert line[:2] == ["symmetry", "H"]
    assert float(line[2].rstrip("°")) == pytest.approx(-166.7, abs=0.3)
    assert nb.open_map(tmp_path / "mean.mrc").shape == m.shape


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("path", ["5185/3j06_box.ccp4.gz", "6272/6272_strudel.mrc.gz"])
def test_one_subunit_is_no_helix(data, path):
    m = nb.open_map(data / "maps" / path, resolution=3.3)
    assert find_symmetry(m, helical=True, progress=False).name == "C1"
