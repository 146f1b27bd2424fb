"""Deleted parts of a model come back as the highest peaks of noisy difference maps."""

import gemmi
import numpy as np
import pytest

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.evaluate.difference import difference_peaks
from cryonb.process.difference import difference, measured_part
from cryonb.simulate.fourier import fourier_map

RESOLUTION = 2.8


def noisy(clean, share, seed):
    """A map with white noise of a share of its deviation within the molecule."""
    scale = share * clean.values[clean.values > clean.std].std()
    noise = np.random.default_rng(seed).normal(0, scale, clean.shape)
    return nb.DensityMap(clean.values + noise.astype(np.float32), clean.grid, resolution=RESOLUTION)


@pytest.fixture(scope="module")
def case():
    """A protein with a ring of six carbons beside it, its map, and the protein alone."""
    protein = nb.example_model("phantom")
    atoms = nb.Atoms.from_structure(protein)
    # The ring stands beyond the outermost atom of the first helix.
    outward = np.array([0.0, 0.0, 1.0])
    centre = atoms.position[atoms.position[:, 2].argmax()] + 5.0 * outward
    angle = np.arange(6) * np.pi / 3
    ring = centre + 1.39 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    whole = protein.clone()
    whole[0].add_chain(_chain_of(ring))
    everything = nb.Atoms.from_structure(whole)
    grid = nb.Grid.around(everything.position, 1.0, 8.0)
    return protein, ring, fourier_map(whole, grid, resolution=RESOLUTION)


@pytest.mark.parametrize("b_wrong", [0.0, 60.0])
def test_a_deleted_ligand_is_the_highest_peak(case, b_wrong):
    protein, ring, clean = case
    model = protein.clone()
    for site in model[0].all():
        site.atom.b_iso += b_wrong  # which the scale in shells takes up
    found = noisy(clean, 0.5, 1).difference(model, radius=6.0)
    table = found.peaks(count=5)
    top = table.iloc[0]
    assert top["kind"] == "peak"
    assert np.linalg.norm(ring - top[list("xyz")].to_numpy(float), axis=1).min() < 1.5
    assert top["sigma"] > 6
    assert 2 < top["distance"] < 7
    # The scale is right: what the model explains is gone.
    at = found.sample(nb.Atoms.from_structure(protein).position)
    assert abs(np.median(at)) < 1.5


def test_what_only_the_model_has_is_a_hole(case):
    protein, ring, clean = case
    without = fourier_map(protein, clean.grid, resolution=RESOLUTION)
    whole = protein.clone()
    whole[0].add_chain(_chain_of(ring))
    top = noisy(without, 0.5, 2).difference(whole).peaks().iloc[0]
    assert top["kind"] == "hole"
    assert top["sigma"] < -6
    assert top["chain"] == "L"
    assert top["distance"] < 1.5


def _chain_of(points):
    chain, residue = gemmi.Chain("L"), gemmi.Residue()
    residue.name, residue.seqid = "BNZ", gemmi.SeqId(1, " ")
    for number, point in enumerate(points, start=1):
        atom = gemmi.Atom()
        atom.name, atom.element, atom.b_iso = f"C{number}", gemmi.Element("C"), 20.0
        atom.pos = gemmi.Position(*point)
        residue.add_atom(atom)
    chain.add_residue(residue)
    return chain


def test_half_maps_weight_the_difference_and_keep_the_peak(case):
    protein, ring, clean = case
    a, b = noisy(clean, 1.5, 3), noisy(clean, 1.5, 4)
    mean = a.replace((a.values + b.values) / 2)
    plain = mean.difference(protein, radius=6.0)
    weighted = mean.difference(protein, radius=6.0, half_maps=(a, b))
    top = weighted.peaks(least=3).iloc[0]
    assert np.linalg.norm(ring - top[list("xyz")].to_numpy(float), axis=1).min() < 2.0
    # By the weights alone the peak stands out more, not less.
    unsharpened = mean.difference(protein, radius=6.0, half_maps=(a, b), flatten=False)
    assert unsharpened.sample(ring).max() > 0.95 * plain.sample(ring).max()
    # A map that was sharpened after averaging has the same weights.
    scaled = mean.replace(mean.values * 7).difference(protein, radius=6.0, half_maps=(a, b))
    np.testing.assert_allclose(scaled.values, weighted.values, atol=1e-3)


def test_maps_and_models_are_compared_with_their_own_kind(case):
    protein, ring, clean = case
    without = fourier_map(protein, clean.grid, resolution=RESOLUTION)
    between = noisy(clean, 0.3, 5).difference(noisy(without, 0.3, 6).replace())
    top = between.peaks().iloc[0]
    assert np.linalg.norm(ring - top[list("xyz")].to_numpy(float), axis=1).min() < 1.5
    assert between.model is None
    assert between.contour == 3
    whole = protein.clone()
    whole[0].add_chain(_chain_of(ring))
    models = difference(whole, protein, resolution=RESOLUTION, radius=6.0)
    strongest = models.grid.to_points(np.unravel_index(models.values.argmax(), models.shape))
    assert np.linalg.norm(ring - strongest, axis=1).min() < 2.0


def test_the_border_of_a_zone_makes_no_peaks(case):
    protein, _, clean = case
    m = noisy(clean, 0.3, 7).mask(model=protein, radius=4.0, soft_edge=0.0)
    part = measured_part(m)
    assert part[m.values == 0].max() < 0.3
    assert part.max() == 1
    assert np.all(measured_part(noisy(clean, 0.3, 7)) == 1)
    found = m.difference(protein)
    # The ring is mostly outside of the zone, and nothing else is there.
    assert len(found.peaks(least=6.5)) <= 2


def test_bad_requests_get_one_sentence(case):
    protein, _, clean = case
    m = noisy(clean, 0.3, 8)
    with pytest.raises(CryonbError, match="resolution"):
        nb.DensityMap(m.values, m.grid).difference(protein)
    with pytest.raises(CryonbError, match="Two half maps"):
        m.difference(protein, half_maps=m)
    with pytest.raises(CryonbError, match="on the grid of the map"):
        m.difference(protein, half_maps=(m, m.crop(start=(0, 0, 0), shape=(20, 20, 20))))
    with pytest.raises(CryonbError, match="within reach"):
        m.replace(grid=nb.Grid(m.shape, 1.0, (1e3, 0, 0))).difference(protein)
    with pytest.raises(CryonbError, match="nothing is left"):
        m.difference(m)
    with pytest.raises(CryonbError, match="other way round"):
        difference(protein, m, resolution=3)
    with pytest.raises(CryonbError, match="positive count"):
        difference_peaks(m, count=0)


@pytest.mark.data
def test_deleted_side_chains_come_back(data):
    model = nb.open_model(data / "structures" / "pool_protein" / "1a8o_A.pdb.gz")
    for site in model[0].all():
        site.atom.b_iso = 30.0
    grid = nb.Grid.around(nb.Atoms.from_structure(model).position, 1.0, 8.0)
    m = noisy(fourier_map(model, grid, resolution=RESOLUTION), 0.5, 9)
    cut, gone = model.clone(), {}
    for residue in cut[0][0]:
        if residue.name in ("TRP", "PHE", "ARG"):
            side = [a for a in residue if a.name not in ("N", "CA", "C", "O", "CB")]
            gone[residue.seqid.num] = np.array([a.pos.tolist() for a in side])
            for place in reversed(range(len(residue))):
                if residue[place].name not in ("N", "CA", "C", "O", "CB"):
                    del residue[place]
    assert len(gone) >= 3
    table = m.difference(cut).peaks(count=len(gone), radius=2.0)
    lost = np.concatenate(list(gone.values()))
    points = table[list("xyz")].to_numpy(float)
    near = np.linalg.norm(points[:, None] - lost, axis=2).min(axis=1) < 1.5
    assert (table["kind"] == "peak").all()
    assert near.all()
    assert set(table["number"]) & set(gone)
