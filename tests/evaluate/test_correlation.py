"""Correlations against closed forms, brute force, cctbx and TEMPy."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from cryonb.atoms import Atoms
from cryonb.density_map import DensityMap
from cryonb.errors import CryonbError, GridError
from cryonb.evaluate.correlation import _MAIN, carbon_radius, correlate
from cryonb.evaluate.overlap import overlap, overlap_along_chain
from cryonb.grid import Grid
from cryonb.opening import open_map, open_model
from cryonb.process.spheres import molecular_mask
from cryonb.simulate.fourier import fourier_map
from cryonb.simulate.gaussian import gaussian_map
from cryonb.simulate.phantom import alpha_helix, example
from cryonb.simulate.shells import shell_map
from cryonb.volume import Volume

REFERENCE = Path(__file__).parents[1] / "reference"
CC = ["cc_mask", "cc_volume", "cc_peaks", "cc_box", "cc_image"]


@pytest.fixture(scope="module")
def case():
    structure = example().structure
    atoms = Atoms.from_structure(structure)
    grid = Grid.around(atoms.position, (1.3, 1.2, 1.25), 7.0)
    rng = np.random.default_rng(5)
    true = fourier_map(atoms, grid, resolution=4.0, periodic=True)
    noisy = true.replace(true.values + rng.normal(0, 4 * true.std, grid.shape).astype(np.float32))
    return structure, atoms, true, noisy


def test_a_scaled_and_shifted_model_map_gets_full_marks(case):
    structure, _, true, _ = case
    found = correlate(true.replace(3 * true.values + 0.7), structure, resolution=4.0)
    assert found.summary[[*CC, "cc_main_chain", "cc_side_chain"]].to_numpy() == pytest.approx(
        1, abs=1e-5
    )
    assert found.residues["cc"].min() > 0.99999
    assert found.chains["cc"].min() > 0.99999
    assert found.summary["ccc"] < 0.99  # it is not centred, and its model map is another


def test_each_correlation_is_over_the_voxels_that_it_names(case):
    structure, atoms, true, noisy = case
    found = correlate(noisy, structure, resolution=4.0, radius=3.0)
    m, c = noisy.values.ravel().astype(float), true.values.ravel().astype(float)
    inside = molecular_mask(structure, noisy.grid).values.ravel() > 0
    n = int(inside.sum())
    top_m, top_c = (np.argsort(-part)[: n + 1] for part in (m, c))
    main = np.isin(atoms.name, _MAIN)
    centres = noisy.grid.to_points(np.indices(noisy.shape).reshape(3, -1).T)

    def near(which):
        return cKDTree(atoms.position[which]).query(centres)[0] <= 3.0

    expected = {
        "cc_mask": inside, "cc_volume": top_c, "cc_peaks": np.union1d(top_m, top_c),
        "cc_box": slice(None), "cc_main_chain": near(main & (atoms.kind == 0)),
        "cc_side_chain": near(~(main & (atoms.kind == 0))),
    }  # fmt: skip
    for key, which in expected.items():
        value = np.corrcoef(m[which], c[which])[0, 1]
        assert found.summary[key] == pytest.approx(value, abs=2e-5), key
    for row in (0, 17, len(found.residues) - 1):
        which = near(atoms.residue == row)
        value = np.corrcoef(m[which], c[which])[0, 1]
        assert found.residues["cc"][row] == pytest.approx(value, abs=2e-4)
    chain = found.chains.iloc[-1]
    which = near((atoms.residues.chain == chain["chain"])[atoms.residue])
    assert chain["cc"] == pytest.approx(np.corrcoef(m[which], c[which])[0, 1], abs=2e-5)
    assert chain["n_atoms"] == (atoms.residues.chain[atoms.residue] == chain["chain"]).sum()


def test_a_noisier_half_has_the_worse_residues(case):
    structure, atoms, true, noisy = case
    left = (
        true.grid.to_points(np.indices(true.shape).reshape(3, -1).T)[:, 0]
        < atoms.position[:, 0].mean()
    )
    mixed = np.where(left.reshape(true.shape), noisy.values, true.values)
    found = correlate(true.replace(mixed), structure, resolution=4.0).residues
    at = np.array([atoms.position[atoms.residue == k, 0].mean() for k in range(len(found))])
    worse = at < atoms.position[:, 0].mean()
    assert found["cc"][worse].mean() < found["cc"][~worse].mean() - 0.1
    assert found["smoc"][worse].mean() < found["smoc"][~worse].mean() - 0.05


def test_blocks_of_residues_change_nothing(case, monkeypatch):
    structure, _, _, noisy = case
    whole = correlate(noisy, structure, resolution=4.0).residues
    monkeypatch.setattr("cryonb.evaluate.residue_voxels._PAIRS", 20_000)
    parts = correlate(noisy, structure, resolution=4.0).residues
    for column in ("cc", "cc_main_chain", "cc_side_chain", "smoc"):
        np.testing.assert_allclose(parts[column], whole[column], rtol=1e-9)


def test_ccc_is_of_cryofits_gaussian(case):
    structure, atoms, _, noisy = case
    found = correlate(noisy, structure, resolution=4.0)
    points = noisy.grid.to_points(np.indices(noisy.shape).reshape(3, -1).T)
    tree = cKDTree(atoms.position)
    pairs = tree.sparse_distance_matrix(cKDTree(points), 10.0, output_type="coo_matrix")
    gaussian = np.bincount(pairs.col, np.exp(-(pairs.data**2) / 8), len(points))  # σ = d/2 = 2
    m = noisy.values.ravel().astype(float)
    expected = m @ gaussian / np.sqrt((m @ m) * (gaussian @ gaussian))
    assert found.summary["ccc"] == pytest.approx(expected, abs=2e-4)


def test_windows_end_at_breaks(case):
    structure, atoms, true, noisy = case
    smoc = overlap_along_chain(noisy, structure, resolution=4.0, window=3, model_map=true)
    m, c = (v.values.ravel().astype(float) for v in (noisy, true))
    centres = true.grid.to_points(np.indices(true.shape).reshape(3, -1).T)
    residues = atoms.residues
    starts = np.flatnonzero(
        (residues.chain[1:] != residues.chain[:-1]) | (np.diff(residues.number) != 1)
    )
    first = int(starts[0]) + 1  # the first residue after a break: its window has two residues
    for middle, members in ((5, [4, 5, 6]), (first, [first, first + 1])):
        which = cKDTree(atoms.position[np.isin(atoms.residue, members)]).query(centres)[0] <= 2.5
        assert smoc[middle] == pytest.approx(overlap(m[which], c[which]), abs=1e-9)


def test_a_map_with_a_resolution_for_each_atom_can_be_compared(case):
    structure, atoms, true, _ = case
    # One half of the molecule at 4 Å, the other blurred to 7 Å: a map of local resolution.
    d = np.where(atoms.position[:, 0] < np.median(atoms.position[:, 0]), 4.0, 7.0)
    local = shell_map(atoms, true.grid, resolution=d, reach=2.0)
    one, own = (
        correlate(local, structure, resolution=4.0, model_map=model_map).summary["cc_mask"]
        for model_map in (None, local)
    )
    assert own == pytest.approx(1)
    assert one < 0.97
    with pytest.raises(GridError, match="model map on the grid"):
        correlate(true, structure, resolution=4.0, model_map=gaussian_map(atoms, resolution=4.0))


def test_a_local_resolution_is_taken_into_account():
    atoms = Atoms.from_structure(alpha_helix(16).structure)
    grid = Grid.around(atoms.position, 1.3, 5.0)
    z = np.median(atoms.position[:, 2])
    d = np.where(atoms.position[:, 2] > z, 3.0, 5.0)
    mixed = DensityMap.from_volume(shell_map(atoms, grid, resolution=d, reach=4.0), resolution=3.0)
    found = correlate(mixed, atoms, resolution=d, overlaps=False).summary
    alone = correlate(mixed, atoms, overlaps=False).summary
    assert found["cc_mask_local"] > 0.995
    assert found["cc_mask_local"] > found["cc_mask"] + 0.02
    # All others are as they would be at the map's own resolution.
    np.testing.assert_array_equal(found[alone.index], alone)
    assert "cc_mask_local" not in alone
    # As a map of the local resolution that does not reach everywhere
    local = np.broadcast_to(np.where(grid.axes()[2] > z, 3.0, 5.0)[:, None, None], grid.shape)
    part = Volume(local[:, :, 8:], grid.crop((0, 0, 8), local[:, :, 8:].shape))
    of_map = correlate(mixed, atoms, resolution=part, overlaps=False).summary
    assert found["cc_mask"] + 0.01 < of_map["cc_mask_local"] < found["cc_mask_local"]
    # Without a resolution of the map the median of the atoms stands for it.
    plain = correlate(Volume(mixed.values, grid), atoms, resolution=d, overlaps=False).summary
    assert plain["resolution"] == pytest.approx(np.median(d))


def test_with_one_resolution_everywhere_the_local_one_is_the_usual_one(case):
    structure, atoms, _, noisy = case
    each = np.full(len(atoms), 4.0)
    # Where the Fourier map repeats itself, more comes in at the faces.
    for periodic, tolerance in ((True, 5e-4), (False, 2e-5)):
        found = correlate(
            noisy, structure, resolution=each, overlaps=False, periodic=periodic
        ).summary
        assert found["cc_mask_local"] == pytest.approx(found["cc_mask"], abs=tolerance)


def test_a_local_resolution_that_fits_no_atom_is_refused(case):
    structure, atoms, true, _ = case
    with pytest.raises(CryonbError, match=f"each of the {len(atoms)} atoms"):
        correlate(true, structure, resolution=[3.0, 4.0])
    with pytest.raises(CryonbError, match=f"each of the {len(atoms)} atoms"):
        correlate(true, structure, resolution=np.zeros(len(atoms)))
    with pytest.raises(CryonbError, match="no positive value"):
        correlate(true, structure, resolution=true.replace(np.zeros(true.shape, np.float32)))


def test_radius_of_carbon_follows_resolution_and_b():
    # cctbx: maptbx.atom_curves("C", "electron").image(d_min, b_iso, 15, 0.1).radius
    # (and, with steps of 0.01, its own cc_image)
    assert carbon_radius(2.6, 20.0, step=0.1) == pytest.approx(2.1)
    assert carbon_radius(2.9, 189.55, step=0.1) == pytest.approx(3.3)
    assert carbon_radius(2.6, 20.0) == pytest.approx(2.17)
    assert carbon_radius(3.9, 145.525) == pytest.approx(3.53)
    assert carbon_radius(6, 50) > carbon_radius(3, 50)


def test_bad_requests_are_refused(case):
    structure, _, true, _ = case
    with pytest.raises(CryonbError, match="needs the map's resolution"):
        correlate(true, structure)
    with pytest.raises(CryonbError, match="positive resolution"):
        correlate(true, structure, resolution=-1)
    with pytest.raises(CryonbError, match="odd number"):
        overlap_along_chain(true, structure, resolution=4, window=4)
    other = gaussian_map(structure, resolution=4)
    with pytest.raises(GridError, match="model map on the grid"):
        overlap_along_chain(true, structure, resolution=4, model_map=other)


# ---- other programs --------------------------------------------------------------------------


def pytest_generate_tests(metafunc):
    if "row" in metafunc.fixturenames:
        table = pd.read_csv(REFERENCE / "cctbx_correlation.csv", dtype={"entry": str})
        metafunc.parametrize("row", table.to_dict("records"), ids=table["entry"])


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:.*machine stamp:cryonb.errors.HeaderWarning")
def test_correlations_are_those_of_cctbx(data, row):
    """Values by cctbx_correlation.py, beside the table.

    cctbx's own model map, from a fast transform, is off by up to 1 %, which moves a correlation by
    up to 0.0023; with exact structure factors cctbx agrees with us to parts in 10⁴.
    """
    volume = open_map(data / "maps" / row["map"], resolution=row["d"])
    model = open_model(data / "maps" / row["model"])
    found = correlate(volume, model)
    assert found.summary["n_mask"] == row["n_mask"]
    assert found.summary["radius"] == pytest.approx(row["radius"], abs=1e-6)
    for key in CC:
        assert found.summary[key] == pytest.approx(row[f"{key}_direct"], abs=3e-4), key
        assert found.summary[key] == pytest.approx(row[key], abs=0.0025), key
    for key in ("cc_main_chain", "cc_side_chain"):
        if not np.isnan(row[key]):
            assert found.summary[key] == pytest.approx(row[key], abs=0.002), key
    table = pd.read_csv(REFERENCE / "cctbx_residues.csv", dtype={"entry": str, "residue": str})
    table = table[table["entry"] == row["entry"]]
    if len(table):
        ours = found.residues.assign(
            residue=found.residues["number"].astype(str) + found.residues["icode"]
        )
        both = table.merge(ours, on=["chain", "residue", "name"], suffixes=("_cctbx", ""))
        assert len(both) == len(table)
        assert np.corrcoef(both["cc"], both["cc_cctbx"])[0, 1] > 0.999
        assert np.abs(both["cc"] - both["cc_cctbx"]).max() < 0.01


@pytest.mark.data
def test_smoc_is_that_of_tempy(data):
    reference = pd.read_csv(REFERENCE / "tempy_smoc.csv")
    volume = open_map(data / "maps/5925/5925_from_situs.mrc.gz")
    model = open_model(data / "maps/5925/5925_native.pdb")
    other = volume.replace(np.roll(volume.values, 2, axis=2))
    smoc = overlap_along_chain(volume, model, resolution=3.64, model_map=other)
    np.testing.assert_allclose(smoc, reference["smoc"], atol=2e-5)
