"""Refinement: the truth from which a map was simulated is found again."""

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.errors import CryonbError, MapModelMismatchError, ModelError, ModelWarning
from cryonb.fitting import target
from cryonb.fitting.refine import refine
from cryonb.simulate import phantom

RESOLUTION = 3.0


def changed(structure, **columns):
    """A copy with other values in columns of `gemmi.FlatStructure`: pos, b_iso, occ."""
    flat = gemmi.FlatStructure(structure)
    for name, values in columns.items():
        getattr(flat, name)[:] = values
    return flat.generate_structure()


def distance(one, other):
    a, b = (nb.Atoms.from_structure(model).position for model in (one, other))
    return np.sqrt(((a - b) ** 2).sum(axis=1).mean())


def noisy(m, rng, share=0.3):
    inside = m.values[m.values > 0.2 * m.max]
    return m.replace(m.values + rng.normal(0, share * inside.std(), m.shape).astype(np.float32))


def improve(model, m, **options):
    return refine(model, m, progress=False, **options)


@pytest.fixture(scope="module")
def helices():
    """Two helices side by side, two chains."""
    parts = [phantom.alpha_helix(7), phantom.alpha_helix(6).moved(translation=(9.5, 0, 1))]
    return phantom.combine(parts).structure


@pytest.fixture(scope="module")
def atoms(helices):
    return nb.Atoms.from_structure(helices)


@pytest.fixture(scope="module")
def m(helices):
    """Their Fourier map: not made by the function by which refinement makes the model's."""
    return nb.simulate(helices, resolution=RESOLUTION, voxel_size=1.2)


def test_b_factors_are_found_also_in_noise(helices, atoms, rng):
    wave = np.sin(atoms.position[:, 2] / 4 + atoms.position[:, 0] / 5)
    truth = 60 + 30 * wave + rng.normal(0, 3, len(atoms))
    m = nb.simulate(changed(helices, b_iso=truth), resolution=RESOLUTION, voxel_size=1.2)
    start = changed(helices, b_iso=60.0)
    for seen, least, error in ((m, 0.98, 3.0), (noisy(m, rng), 0.9, 7.0)):
        found = improve(start, seen, cycles=2)
        b = found.table["b"].to_numpy()
        assert np.corrcoef(b, truth)[0, 1] > least
        assert np.abs(b - truth).mean() < error
        assert found.summary["cc_after"] > found.summary["cc_before"] + 0.005
        np.testing.assert_allclose(nb.Atoms.from_structure(found.model).b_iso, b, rtol=1e-5)
        assert found.summary[["shift", "bonds", "angles"]].max() == 0
    # What was given is as it was, and the history tells of each iteration.
    assert set(nb.Atoms.from_structure(start).b_iso) == {60.0}
    assert len(found.history) == found.summary["n_iterations"] > 5
    assert found.history["cc"].iloc[-1] == pytest.approx(found.summary["cc_after"], abs=1e-3)


def test_each_atoms_resolution_is_found(helices, atoms):
    truth = np.where(atoms.residue < 7, 2.6, 4.0) + 0.02 * atoms.position[:, 2]
    m = nb.simulate(helices, resolution=truth, method="shells", voxel_size=0.9, reach=4.0)
    found = improve(helices, m, what="resolution", resolution=RESOLUTION, cycles=1)
    d = found.table["resolution"].to_numpy()
    assert np.corrcoef(d, truth)[0, 1] > 0.99
    assert np.abs(d - truth).mean() < 0.1
    # Not finer than two thirds of the map's resolution.
    assert d.min() >= 2 / 3 * RESOLUTION - 1e-9


def test_occupancies_are_found(helices, atoms):
    truth = np.where(atoms.residue % 6 < 2, 0.5, 1.0)
    m = nb.simulate(changed(helices, occ=truth), resolution=RESOLUTION, voxel_size=1.2)
    found = improve(helices, m, what="occupancy", cycles=2)
    occupancy = found.table["occupancy"].to_numpy()
    assert np.corrcoef(occupancy, truth)[0, 1] > 0.97
    assert np.abs(occupancy - truth).mean() < 0.08
    assert occupancy.max() <= 1
    np.testing.assert_allclose(nb.Atoms.from_structure(found.model).occupancy, occupancy, rtol=1e-5)


@pytest.mark.parametrize("bodies", ["model", "chain"])
def test_bodies_come_back_to_their_place(helices, m, bodies):
    away = helices.clone()
    for number, chain in enumerate(away[0]):
        # As one body, or each chain its own way.
        sign = -1 if bodies == "chain" and number else 1
        turn = Rotation.from_rotvec(sign * np.radians(10) * np.array([0.6, 0.64, 0.48]))
        matrix = gemmi.Mat33(turn.as_matrix().tolist())
        move = gemmi.Transform(matrix, gemmi.Vec3(1.4, sign * -1.4, 1.2))
        for residue in chain:
            for atom in residue:
                atom.pos = gemmi.Position(move.apply(atom.pos))
    assert distance(away, helices) > 1.8
    found = improve(away, m, what="rigid", bodies=bodies)
    assert distance(found.model, helices) < 0.1
    assert found.summary["shift"] == pytest.approx(distance(away, helices), abs=0.1)
    if bodies == "model":
        assert found.summary["bonds"] < 1e-6
    assert set(found.history["stage"]) == {"rigid, coarse", "rigid"}


def displaced(atoms, rng, size, wave=24.0):
    """Positions moved smoothly, by `size` r.m.s.; bonds change by a tenth of that."""
    k = rng.normal(0, 2 * np.pi / wave, (20, 3))
    phase, amplitude = rng.uniform(0, 2 * np.pi, 20), rng.normal(0, 1, (20, 3))
    shift = np.cos(atoms.position @ k.T + phase) @ amplitude
    return atoms.position + shift * size / np.sqrt((shift**2).sum(axis=1).mean())


@pytest.mark.parametrize("quiet", [True, False])
def test_displaced_atoms_come_back_and_bonds_stay(helices, atoms, m, rng, quiet):
    start = changed(helices, pos=displaced(atoms, rng, 0.3))
    found = improve(start, m if quiet else noisy(m, rng), what="xyz", cycles=2)
    assert distance(start, helices) == pytest.approx(0.3, abs=0.01)
    assert distance(found.model, helices) < (0.12 if quiet else 0.15)
    # The start's bonds are a tenth of the shift astray; they are mended.
    assert found.summary["bonds_before"] > 0.02 > 1.5 * found.summary["bonds_after"]
    assert found.summary["angles_before"] > 1.5 * found.summary["angles_after"]
    assert found.table["shift"].max() < 1.5
    # The weight was found, and what was left out is explained better.
    assert found.summary["weight"] in found.trials["weight"].to_numpy()
    assert found.summary["free"] == found.trials["free"].min() < 0 or not quiet
    assert found.worse == ()


def test_bad_geometry_is_mended_by_a_reference(helices, atoms, m, rng):
    rough = changed(helices, pos=atoms.position + rng.normal(0, 0.17, (len(atoms), 3)))
    elsewhere = helices.clone()
    elsewhere[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(), gemmi.Vec3(50, 0, 0)))
    found = improve(rough, m, what=("xyz",), reference=elsewhere, cycles=2)
    assert distance(rough, helices) > 0.27
    assert distance(found.model, helices) < 0.13


def test_atoms_that_are_displaced_at_random_come_back(helices, atoms, m, rng):
    """Without a reference: bonds by name, lengths and angles as those of their kind."""
    rough = changed(helices, pos=atoms.position + rng.normal(0, 0.17, (len(atoms), 3)))
    found = improve(rough, m, what="xyz", cycles=1)
    assert distance(rough, helices) > 0.27
    assert distance(found.model, helices) < 0.18
    assert found.summary["bonds_after"] < 0.25 * found.summary["bonds_before"]


def test_positions_and_b_are_found_together(helices, atoms, rng):
    truth = 50 + 25 * np.sin(atoms.position[:, 2] / 4)
    m = nb.simulate(changed(helices, b_iso=truth), resolution=RESOLUTION, voxel_size=1.2)
    start = changed(helices, b_iso=50.0, pos=displaced(atoms, rng, 0.3))
    found = improve(start, m, what=("xyz", "b"), cycles=2)
    assert distance(found.model, helices) < 0.15
    assert np.corrcoef(found.table["b"], truth)[0, 1] > 0.95
    assert list(dict.fromkeys(found.history["stage"])) == ["xyz", "b"]


def test_hydrogens_ride_and_alternatives_are_kept_apart(helices, m):
    model = helices.clone()
    residue = model[0][0][3]
    hydrogen = residue["CA"][0].clone()
    hydrogen.name, hydrogen.element = "HA", gemmi.Element("H")
    hydrogen.pos += gemmi.Position(0, 0, 1.0)
    residue.add_atom(hydrogen)
    other = residue["CB"][0].clone()
    residue["CB"][0].altloc, other.altloc = "A", "B"
    residue["CB"][0].occ, other.occ = 0.6, 0.4
    other.pos += gemmi.Position(0.5, 0.5, 0)
    residue.add_atom(other)
    moved = model.clone()
    moved[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(), gemmi.Vec3(0.4, 0, 0)))
    found = improve(moved, m, what=("xyz", "b"), cycles=1)
    n = model[0].count_atom_sites()
    assert found.model[0].count_atom_sites() == n == found.summary["n_atoms"] + 1
    after = found.model[0][0][3]
    step = {atom.name + atom.altloc: atom for atom in after}
    ride = np.array((step["HA\0"].pos - step["CA\0"].pos).tolist())
    np.testing.assert_allclose(ride, [0, 0, 1.0], atol=1e-4)
    assert step["HA\0"].b_iso == step["CA\0"].b_iso
    assert [step[name].occ for name in ("CBA", "CBB")] == pytest.approx([0.6, 0.4])
    assert step["CBA"].pos.dist(step["CBB"].pos) > 0.3


def test_to_interrupt_gives_the_best_so_far(helices, m, monkeypatch):
    start = changed(helices, b_iso=90.0)
    draw, calls = target.shell_density, []

    def interrupted(*arguments, **options):
        calls.append(None)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return draw(*arguments, **options)

    monkeypatch.setattr(target, "shell_density", interrupted)
    found = improve(start, m)
    assert 0 < found.summary["n_iterations"] < 8
    assert found.summary["cc_after"] > found.summary["cc_before"]
    assert nb.Atoms.from_structure(found.model).b_iso.mean() < 90


def test_the_result_tells_what_it_is(helices, m):
    found = nb.refine(helices, m, what="b", cycles=1, iterations=2, progress=False)
    assert "in 2 iterations: CC" in repr(found)
    assert "clashes 0 to 0" in repr(found)
    page = found._repr_html_()
    assert f"{found.summary['cc_after']:.3f}" in page
    assert "bonds off their targets" in page
    assert list(found.table) == [
        "chain", "number", "icode", "residue", "name", "b", "occupancy", "resolution", "shift",
    ]  # fmt: skip
    assert (found.table["resolution"] == RESOLUTION).all()


def test_the_models_map_is_the_fourier_map(helices, m):
    """By wide Gaussians and Fourier terms as by the images, which another module draws."""
    from cryonb.fitting.descent import Descent
    from cryonb.fitting.restraints import Restraints
    from cryonb.fitting.target import Correlation
    from cryonb.simulate.fourier import fourier_map

    core = nb.Atoms.from_structure(changed(helices, b_iso=np.linspace(20, 150, 65)))
    truth = fourier_map(core, m.grid, resolution=RESOLUTION, periodic=True)
    springs = Restraints.of_atoms(core)
    none = np.zeros(len(core), dtype=int)
    run = Descent(core, none, springs, RESOLUTION, 1.2, None, varies_resolution=False)
    drawn = Correlation(run, truth, RESOLUTION).density(run.now()).numpy()
    error = np.abs(drawn - truth.values).max() / truth.max
    assert error < 0.004


def test_a_worse_model_is_called_worse(helices, atoms, m):
    """A weight that lets the map do everything, and a map that is noise."""
    noise = np.random.default_rng(0).normal(0, 1, m.shape).astype(np.float32)
    with pytest.warns(ModelWarning, match="made something worse"):
        found = improve(helices, m.replace(noise), what="xyz", weight=1000.0, cycles=1)
    assert any("off their targets" in text for text in found.worse)
    assert "worse: " in repr(found)
    assert "worse: " in found._repr_html_()


def test_noise_moves_less_with_the_weight_that_was_found(helices, atoms, m, rng):
    """From the truth, every step is one after noise."""
    seen = noisy(m, rng, share=1.0)
    found = improve(helices, seen, what="xyz", cycles=1)
    after_noise = improve(helices, seen, what="xyz", cycles=1, weight=3.0)
    assert found.summary["shift"] < 0.7 * after_noise.summary["shift"]
    assert after_noise.trials.empty
    assert np.isnan(after_noise.summary["free"])


def test_half_maps_judge_the_weight(helices, atoms, m, rng):
    halves = noisy(m, rng, share=0.7), noisy(m, rng, share=0.7)
    whole = m.replace((halves[0].values + halves[1].values) / 2)
    start = changed(helices, pos=displaced(atoms, rng, 0.4))
    found = improve(start, whole, what="xyz", half_maps=halves, cycles=1)
    assert found.summary["free"] < 0
    assert distance(found.model, helices) < 0.5 * distance(start, helices)
    # The other half says something else than shells that are left out.
    other = improve(start, whole, what="xyz", cycles=1)
    assert found.trials["free"].iloc[0] != other.trials["free"].iloc[0]


def test_bad_requests_are_refused(helices, atoms, m):
    with pytest.raises(CryonbError, match="Some of rigid, xyz, b, occupancy, resolution"):
        improve(helices, m, what="everything")
    with pytest.raises(CryonbError, match="Bodies of model or chain"):
        improve(helices, m, bodies="residue")
    with pytest.raises(CryonbError, match="positive weight"):
        improve(helices, m, weight=0)
    with pytest.raises(CryonbError, match="needs the map's resolution"):
        improve(helices, nb.Volume(m.values, m.grid))
    with pytest.raises(ModelError, match=r"gemmi\.Structure"):
        improve(atoms, m)
    with pytest.raises(ModelError, match="same 65 atoms"):
        improve(helices, m, what="xyz", reference=phantom.alpha_helix(9).structure)
    away = changed(helices, pos=atoms.position + 500)
    with pytest.raises(MapModelMismatchError, match="no voxel of the map"):
        improve(away, m)
    with pytest.raises(CryonbError, match="same everywhere"):
        improve(helices, m.replace(np.zeros(m.shape, dtype=np.float32)))
