"""Recommended contour levels, against volumes that are known."""

import numpy as np
import pytest

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.process.contour import VOLUME_PER_DALTON, contour_level, molecular_mass


@pytest.fixture
def ball(rng):
    """A ball of radius 20 Å and density 10 ± 1 in noise of deviation 0.5 about 2."""
    grid = nb.Grid((60, 60, 60), 1.5, (-44.25, -44.25, -44.25))
    r = np.linalg.norm(grid.to_points(np.indices(grid.shape).reshape(3, -1).T), axis=1)
    values = np.where(r <= 20, rng.normal(10, 1, r.size), rng.normal(2, 0.5, r.size))
    return nb.DensityMap(values.reshape(grid.shape), grid)


def test_noise_gives_the_level_where_the_mass_is_unknown(ball):
    found = ball.contour_level()
    # The ball, a sixth of the box, widens the median deviation a little.
    assert found.level == pytest.approx(2 + 5 * 0.5, rel=0.05)
    assert "noise" in found.reason.split(";")[0]
    assert found.noise == pytest.approx(5, abs=0.01)
    assert found.volume == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.02)
    assert found.sigma == pytest.approx((found.level - ball.mean) / ball.std)
    assert float(found) == found.level


def test_a_mass_gives_the_level_that_encloses_its_volume(ball):
    inner = 4 / 3 * np.pi * 16**3
    found = contour_level(ball, mass=inner / VOLUME_PER_DALTON / 1000)
    assert found.volume == pytest.approx(inner, rel=1e-3)
    assert found.reason.startswith("encloses")
    assert found.mass * 1000 * VOLUME_PER_DALTON == pytest.approx(found.volume)
    # A mass that does not fit the density cannot pull the level down into the noise.
    assert contour_level(ball, mass=100.0).level == contour_level(ball).level
    same = contour_level(ball, residues=200)
    assert same == contour_level(ball, mass=22.0)


def test_a_masked_map_tells_no_noise(ball):
    masked = ball.replace(np.where(ball.values > 5, ball.values, 0))
    found = masked.contour_level()
    assert np.isnan(found.noise)
    assert "masked" in found.reason
    assert 2 < found.level < 5


def test_the_mass_of_a_model_is_that_of_its_residues():
    model = nb.example_model("phantom")
    protein = nb.Atoms.from_structure(model)
    table = protein.residues
    import gemmi

    # Masses of free residues, less the water that a bond costs.
    weight = [gemmi.find_tabulated_residue(str(name)).weight - 18.02 for name in table.name]
    assert molecular_mass(model) == pytest.approx(sum(weight) / 1000, rel=0.1)


def test_impossible_wishes_are_refused(ball):
    with pytest.raises(CryonbError, match="One of mass, model and residues"):
        contour_level(ball, mass=1.0, residues=3)
    with pytest.raises(CryonbError, match="fits into the box"):
        contour_level(ball, mass=1e6)
    with pytest.raises(CryonbError, match="above zero"):
        contour_level(ball.replace(-np.abs(ball.values)))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "name", "model"),
    [("20026", "emd20026_prot.mrc.gz", "3ajo_fitted_refined.pdb"),
     ("5778", "5778_ChainA.mrc.gz", "3j5p.pdb"), ("4118", "5ly6_box.ccp4.gz", "5ly6_box_model.pdb"),
     ("1883", "emd_1883.map.mrc.gz", "1WCM_map_fitted.pdb")],
)  # fmt: skip
def test_real_backbones_lie_within_the_contour(data, folder, name, model):
    m = nb.open_map(data / "maps" / folder / name)
    atoms = nb.Atoms.from_structure(nb.open_model(data / "maps" / folder / model))
    atoms = atoms.select(atoms.backbone)
    assert np.mean(m.sample(atoms.position) >= m.contour_level().level) > 0.75
