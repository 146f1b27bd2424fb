"""Q-scores against their definition written out, against MapQ's own table and against cctbx."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, MapModelMismatchError
from cryonb.evaluate.qscore import atom_q, expected_q, qscore, spiral
from cryonb.grid import Grid
from cryonb.opening import open_map, open_model
from cryonb.simulate.gaussian import gaussian_map
from cryonb.simulate.phantom import example
from cryonb.volume import LabelVolume, Volume

REFERENCE = Path(__file__).parents[1] / "reference"


def plain_q(volume, position, which, method, sigma):
    """Q of one atom, as the papers and programs put it, one point at a time."""
    others = np.delete(position, which, axis=0)
    centre = position[which]

    def kept(points, radius, share):
        nearest = np.linalg.norm(points[:, None] - others[None], axis=-1).min(axis=1)
        return points[nearest >= share * radius]

    density, height = [], []
    if method == "mapq":
        density += [volume.sample(centre[None])[0]] * 8
        height += [1.0] * 8
    for radius in np.arange(1, 21) * 0.1:
        for count in range(8, 108, 2) if method == "mapq" else (32,):
            points = kept(centre + radius * spiral(count), radius, 0.9 if method == "mapq" else 1)
            if len(points) >= 8 or method == "cctbx":
                density += volume.sample(points).tolist()
                height += [np.exp(-0.5 * (radius / sigma) ** 2)] * len(points)
                break
    return np.corrcoef(density, height)[0, 1]


@given(seed=st.integers(0, 2**32 - 1), method=st.sampled_from(["mapq", "cctbx"]))
@settings(max_examples=12, deadline=None)
def test_scores_are_the_definition_written_out(seed, method):
    rng = np.random.default_rng(seed)
    grid = Grid((24, 26, 28), rng.uniform(0.4, 0.9, 3), rng.uniform(-50, 50, 3))
    volume = Volume(rng.normal(size=grid.shape), grid)
    # A dense crowd, so that many points are claimed by others.
    middle = (grid.lower + grid.upper) / 2
    position = middle + rng.uniform(-2.2, 2.2, (14, 3))
    found = atom_q(volume, position, method=method, sigma=0.5)
    for which in range(0, 14, 3):
        assert found[which] == pytest.approx(
            plain_q(volume, position, which, method, 0.5), abs=2e-4
        )


@pytest.mark.parametrize("count", [8, 32, 106])
def test_the_spiral_covers_the_sphere_evenly(count):
    points = spiral(count)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    assert np.abs(points.mean(axis=0)).max() < 0.07
    np.testing.assert_allclose(points.T @ points / count, np.eye(3) / 3, atol=0.1)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + 9 * np.eye(count)
    assert gaps.min() > 1.0 / np.sqrt(count)


@pytest.fixture(scope="module")
def case():
    structure = example().structure
    atoms = Atoms.from_structure(structure)
    grid = Grid.around(atoms.position, 0.5, 4.0)
    return structure, atoms, gaussian_map(structure, grid, resolution=2.0, recipe="qscore")


def test_the_reference_map_scores_nearly_one_and_noise_none(case):
    structure, atoms, volume = case
    found = qscore(volume, structure)
    assert found.summary["q_mean"] > 0.93  # neighbours overlap within 2 Å, so not quite 1
    assert found.sigma == 0.6
    assert "σ = 0.6 Å" in repr(found)
    assert "sigma" in found._repr_html_()
    noise = volume.replace(np.random.default_rng(1).normal(size=volume.shape).astype(np.float32))
    assert abs(qscore(noise, structure).summary["q_mean"]) < 0.05
    moved = atoms.moved_to(atoms.position + 1.0)
    assert qscore(volume, moved).summary["q_mean"] < found.summary["q_mean"] - 0.3


def test_tables_are_means_of_atoms(case):
    structure, atoms, volume = case
    found = qscore(volume, structure, resolution=3.0)
    q = found.atoms["q"].to_numpy()
    assert len(q) == len(atoms)
    first = atoms.residue == 0
    assert found.residues["q"][0] == pytest.approx(q[first].mean())
    assert found.residues["q_backbone"][0] == pytest.approx(q[first & atoms.backbone].mean())
    chain = found.chains.iloc[0]
    assert chain["q"] == pytest.approx(
        q[(atoms.residues.chain == chain["chain"])[atoms.residue]].mean()
    )
    protein = found.residues["kind"] == "protein"
    assert found.residues["q_expected"][protein].unique() == pytest.approx([-0.5325 + 1.1192])
    nucleic = found.residues["kind"] == "nucleic"
    assert found.residues["q_expected"][nucleic].unique() == pytest.approx([-0.4131 + 0.9973])
    assert -0.5325 + 1.1192 > found.summary["q_expected"] > -0.4131 + 0.9973


def test_threads_and_scale_change_nothing(case):
    _, atoms, volume = case
    one = atom_q(volume, atoms.position, workers=1)
    np.testing.assert_array_equal(atom_q(volume, atoms.position, workers=3), one)
    scaled = volume.replace(5 * volume.values - 2)
    inner = volume.grid.pad(-6).contains(atoms.position)
    np.testing.assert_allclose(atom_q(scaled, atoms.position)[inner], one[inner], atol=1e-5)


def test_outside_the_map_there_is_nothing():
    volume = Volume(np.ones((20, 20, 20)), Grid((20, 20, 20)))
    q = atom_q(volume, [[9.5, 9.5, 9.5], [60, 60, 60], [9.0, 9.0, 19.0]])
    assert np.isnan(q[:2]).all()  # constant density has no shape
    assert q[2] > 0  # half of it outside, where the map is zero


def test_bad_requests_are_refused(case):
    structure, atoms, volume = case
    with pytest.raises(CryonbError, match="method of mapq, cctbx"):
        qscore(volume, structure, method="best")
    with pytest.raises(CryonbError, match="positive sigma"):
        qscore(volume, structure, sigma=0)
    with pytest.raises(CryonbError, match="A kind of protein"):
        expected_q(3.0, "sugar")
    with pytest.raises(CryonbError, match="density was expected"):
        qscore(LabelVolume(np.zeros((3, 3, 3), np.uint8), Grid((3, 3, 3))), structure)
    with pytest.raises(MapModelMismatchError, match="do not overlap"):
        qscore(volume, atoms.moved_to(atoms.position + 500))


# ---- other programs --------------------------------------------------------------------------


def mapq_table(path):
    """Q_residue by number, of the first columns of MapQ's table."""
    lines = (line.split("\t") for line in path.read_text().splitlines())
    return {
        int(words[2]): float(words[5])
        for words in lines
        if len(words) > 6 and len(words[1]) == 3 and words[2].isdigit()
    }


@pytest.mark.data
def test_scores_are_those_of_mapq(data):
    """The table that MapQ's author published with its test map."""
    folder = data / "maps" / "30342"
    volume = open_map(folder / "390_emd_30342_A_z4.mrc.gz", resolution=3.9)
    found = qscore(volume, open_model(folder / "390_7cec_A.cif"))
    table = mapq_table(folder / "390_7cec_A__Q__390_emd_30342_A_z4_All.txt")
    theirs = np.array([table[number] for number in found.residues["number"]])
    ours = found.residues["q"].to_numpy()
    assert len(theirs) == 553
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.01)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.994
    assert np.abs(ours - theirs).max() < 0.065
    # The table has 0.424740; the formula in its own head gives 0.42695.
    assert found.residues["q_expected"][0] == pytest.approx(0.424740, abs=0.003)


@pytest.mark.data
def test_scores_of_the_other_rule_are_those_of_cctbx(data):
    """Values by cctbx_qscore.py, beside the table."""
    folder = data / "maps" / "30342"
    volume = open_map(folder / "390_emd_30342_A_z4.mrc.gz")
    found = qscore(volume, open_model(folder / "390_7cec_A.cif"), method="cctbx").residues
    theirs = pd.read_csv(REFERENCE / "cctbx_qscore.csv")
    both = theirs.merge(found, on=["chain", "number"], suffixes=("_cctbx", ""))
    assert len(both) == len(found)
    np.testing.assert_allclose(both["q"], both["q_cctbx"], atol=2e-4)
