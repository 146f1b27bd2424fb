"""From a map to a model, with a stand-in for the network: heat maps of the truth with noise."""

from importlib.util import find_spec

import gemmi
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import cryonb as nb
from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.cli import main
from cryonb.errors import CryonbError, ModelWarning, WeightsError
from cryonb.files.model import read_model
from cryonb.grid import Grid
from cryonb.networks.backbone import HEAT, SECONDARY
from cryonb.predict.backbone import BackbonePrediction
from cryonb.simulate import phantom
from cryonb.simulate.fourier import fourier_map
from cryonb.train.backbone import heat_maps
from cryonb.volume import ProbabilityVolume


def stand_in(model, volume, rng, *, missing=()) -> BackbonePrediction:
    """What a good network would give: humps on atoms, less sure of residue types, with noise."""
    atoms = Atoms.from_structure(model)
    grid = Grid.around(atoms.position, 1.0, 6.0)
    kind = np.array([HEAT.index(name) if name in HEAT else -1 for name in atoms.name])
    kind[(kind == 0) & np.isin(atoms.residue, missing)] = -1
    heat = heat_maps(grid.to_index(atoms.position[kind >= 0]), kind[kind >= 0], grid.shape)
    noise = gaussian_filter(rng.normal(size=heat.shape), (0, 1, 1, 1))
    heat = np.clip(0.9 * heat + 0.04 * noise / noise.std(), 0, 1).astype(np.float32)
    alpha = atoms.select(atoms.name == "CA")
    logits = rng.normal(0, 1, (len(alpha), 20))
    names = alpha.residues.name[alpha.residue]
    known = np.isin(names, AMINO_ACIDS)
    logits[known, [AMINO_ACIDS.index(name) for name in names[known]]] += 3
    table = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    voxels = grid.to_points(np.argwhere(np.ones(grid.shape, dtype=bool)))
    apart, near = cKDTree(alpha.position).query(voxels, distance_upper_bound=2.5)
    types = np.where(
        np.isfinite(apart)[:, None], table[np.minimum(near, len(alpha) - 1)], 1 / 20
    ).T.reshape(20, *grid.shape)
    states = np.full((3, *grid.shape), 1 / 3)
    return BackbonePrediction(
        ProbabilityVolume(heat, grid, classes=HEAT),
        ProbabilityVolume(types.astype(np.float32), grid, classes=AMINO_ACIDS),
        ProbabilityVolume(states.astype(np.float32), grid, classes=SECONDARY),
        volume,
    )


@pytest.fixture(scope="module")
def truth():
    """Two helices of mixed residues with their side chains, side by side."""
    rng = np.random.default_rng(7)
    model = phantom.alpha_helix(32).structure
    second = model[0][0].clone()
    second.name = "B"
    for residue in second:
        for atom in residue:
            atom.pos = gemmi.Position(atom.pos.x + 11, atom.pos.y + 2, atom.pos.z)
    model[0].add_chain(second)
    for chain in model[0]:
        for residue in chain:
            residue.name = AMINO_ACIDS[rng.choice([0, 1, 3, 6, 8, 10, 11, 12, 13, 17, 18])]
    model = nb.add_side_chains(model).model
    for place in model[0].all():
        place.atom.b_iso = 30.0
    return model


@pytest.fixture(scope="module")
def density(truth):
    made = fourier_map(truth, resolution=2.8, margin=8.0)
    return nb.DensityMap.from_volume(made, resolution=2.8)


@pytest.fixture(scope="module")
def built(truth, density):
    rng = np.random.default_rng(8)
    return nb.map_to_model(
        density, nb.open_sequences(truth), prepared=False, refine=False, progress=False,
        prediction=stand_in(truth, density, rng, missing=[10, 45, 46, 47]),
    )  # fmt: skip


def test_a_whole_model_is_built(built, truth):
    assert built.steps["step"].tolist() == ["trace", "backbone", "sequence", "side chains"]
    assert built.steps["done"].all()
    summary = built.evaluate(truth).summary
    assert summary["matched"] > 90
    assert summary["identity"] > 95
    assert summary["rmsd"] < 0.7
    names = {atom.name for chain in built.model[0] for residue in chain for atom in residue}
    assert {"N", "CA", "C", "O", "CB", "CG", "CD1"} <= names
    # Side chains lie where the true ones are: atoms beyond Cβ of the same residues.
    there = Atoms.from_structure(truth)
    ours = Atoms.from_structure(built.model)
    beyond = ~np.isin(ours.name, ("N", "CA", "C", "O", "CB"))
    apart = np.linalg.norm(ours.position[beyond][:, None] - there.position[None], axis=2)
    assert np.median(apart.min(axis=1)) < 0.8


def test_what_has_no_place_is_listed(built, truth):
    lengths = [len(chain) for chain in truth[0]]
    placed = [len(chain) for chain in built.model[0]]
    assert built.gaps.n.sum() == sum(lengths) - sum(placed)
    # One residue without a candidate is placed, three in a row are not.
    assert built.gaps[["first", "last", "n"]].to_numpy().tolist() == [[14, 16, 3]]
    assert built.trace.table.bridged.sum() == 1
    assert f"{built.gaps.n.sum()} residues" in built.steps.what[0]
    for gap in built.gaps.itertuples():
        numbers = [residue.seqid.num for residue in built.model[0][gap.chain]]
        assert not set(numbers) & set(range(gap.first, gap.last + 1))


def test_b_is_the_confidence_of_the_trace(built):
    b_iso = {residue[0].b_iso for chain in built.model[0] for residue in chain}
    assert len(b_iso) > 5
    assert all(0 <= value <= 100 for value in b_iso)
    assert_traced_confidence(built)


def assert_traced_confidence(built):
    traced = [atom.b_iso for chain in built.trace.model[0] for r in chain for atom in r]
    ours = [r.find_atom("CA", "*").b_iso for chain in built.model[0] for r in chain]
    np.testing.assert_allclose(ours, traced, atol=1e-3)


@pytest.mark.slow
def test_refinement_fits_better_and_keeps_the_confidence(truth, density):
    found = nb.map_to_model(
        density, nb.open_sequences(truth), prepared=False, progress=False,
        prediction=stand_in(truth, density, np.random.default_rng(8), missing=[10, 45]),
    )  # fmt: skip
    assert_traced_confidence(found)
    words = found.steps.set_index("step").what["refine"].split()
    assert float(words[3].rstrip(",")) > float(words[1])
    # The stand-in's atoms are nearly exact, which the map's are not.
    assert found.evaluate(truth).summary["rmsd"] < 0.4


def test_it_is_saved_and_shown(built, tmp_path):
    paths = built.save(tmp_path, stem="x")
    assert all(path.exists() for path in paths)
    assert {path.name for path in paths} >= {
        "x_model.cif", "x_steps.csv", "x_chains.csv", "x_gaps.csv", "x_side_chains.csv",
        "x_residues.csv", "x_placements.csv",
    }  # fmt: skip
    assert read_model(paths[0])[0].count_atom_sites() == built.model[0].count_atom_sites()
    assert len(pd.read_csv(tmp_path / "x_steps.csv")) == len(built.steps)
    assert "residues in 2 chains" in repr(built)
    assert "side chains" in built._repr_html_()


def test_without_a_sequence_residues_are_unknown(truth, density):
    rng = np.random.default_rng(9)
    found = nb.map_to_model(
        density, prepared=False, refine=False, progress=False,
        prediction=stand_in(truth, density, rng, missing=[10, 45]),
    )  # fmt: skip
    assert {residue.name for chain in found.model[0] for residue in chain} == {"UNK"}
    assert found.trace.table.bridged.sum() == 2
    assert found.evaluate(truth).summary["matched"] > 90
    what = found.steps.set_index("step").what
    assert "give a sequence" in what["side chains"]
    assert "2 of them placed" in what["trace"]
    assert not len(found.gaps)
    assert "refine" not in what


def test_names_that_nothing_bears_out_are_not_given(truth, density):
    rng = np.random.default_rng(14)
    other = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 40)) for _ in "ab"]
    options = {"prepared": False, "refine": False, "progress": False}
    options["prediction"] = stand_in(truth, density, rng)
    sure = nb.map_to_model(density, other, **options)
    assert {residue.name for chain in sure.model[0] for residue in chain} == {"UNK"}
    assert sure.gaps.n.sum() == 80
    assert sure.evaluate(truth).summary["matched"] > 90
    assert "0 named by density" in sure.steps.what[0]
    threaded = nb.map_to_model(density, other, sure=False, **options)
    assert "UNK" not in {residue.name for chain in threaded.model[0] for residue in chain}


def test_a_step_that_fails_is_told(truth, density, monkeypatch):
    def broken(*_, **__):
        raise CryonbError("It was expected to fail, and it did.")

    monkeypatch.setattr("cryonb.trace.side_chains.add_side_chains", broken)
    prediction = stand_in(truth, density, np.random.default_rng(10))
    with pytest.warns(ModelWarning, match="'side chains' failed: It was expected"):
        found = nb.map_to_model(
            density, nb.open_sequences(truth), prepared=False, refine=False, progress=False,
            prediction=prediction,
        )  # fmt: skip
    row = found.steps.set_index("step").loc["side chains"]
    assert not row.done
    assert "It was expected" in row.what
    assert "FAILED" in repr(found)
    assert found.model[0][0][3].find_atom("N", "*") is not None


def test_what_cannot_be_done_is_said(truth, density):
    prediction = stand_in(truth, density, np.random.default_rng(11))
    plain = nb.Volume(density.values, density.grid)
    with pytest.raises(CryonbError, match="resolution was expected"):
        nb.map_to_model(plain, prepared=False, prediction=prediction)
    with pytest.raises(CryonbError, match=r"given as pathlib\.Path"):
        nb.map_to_model(density, "protein.fasta", prepared=False, prediction=prediction)
    with pytest.raises(WeightsError, match="no-such"):
        nb.map_to_model(density, prepared=False, weights="no-such", progress=False)
    with pytest.raises(CryonbError, match="none has a score"):
        nb.map_to_model(density, prepared=False, prediction=prediction, threshold=2.0)


def test_the_command_builds(truth, density, tmp_path, monkeypatch, capsys):
    prediction = stand_in(truth, density, np.random.default_rng(12))
    monkeypatch.setattr(
        "cryonb.predict.backbone.predict_backbone", lambda *_, **__: prediction
    )  # fmt: skip
    path = density.save(tmp_path / "small.mrc")
    fasta = tmp_path / "small.fasta"
    records = zip("AB", nb.open_sequences(truth), strict=True)
    fasta.write_text("".join(f">{name}\n{text}\n" for name, text in records))
    arguments = ["build", str(path), "--sequence", str(fasta), "--resolution", "2.8", "--as-is",
                 "--no-refine", "--out", str(tmp_path)]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "residues in 2 chains" in said
    assert (tmp_path / "small_model.cif").exists()
    assert main(["build", str(path), "--as-is", "--out", str(tmp_path)]) == 2
    assert "resolution" in capsys.readouterr().err


@pytest.mark.slow
def test_a_map_is_prepared_and_built():
    if find_spec("nglview") is None:
        pytest.skip("the model of rhodopsin comes with nglview")
    truth = nb.example_model("rhodopsin")
    density = nb.DensityMap.from_volume(fourier_map(truth, resolution=3.0, margin=20.0))
    prediction = stand_in(truth, density, np.random.default_rng(13), missing=range(7, 340, 12))
    found = nb.map_to_model(
        density, nb.open_sequences(truth), resolution=3.0, prediction=prediction, progress=False
    )
    assert found.steps["step"].tolist()[:4] == ["sharpen", "symmetry", "contour", "box"]
    assert found.steps["done"].all()
    assert found.prepared.symmetry.name == "C1"
    assert found.density.grid.n_voxels < density.grid.n_voxels
    summary = found.evaluate(truth).summary
    assert summary["matched"] > 85
    assert summary["identity"] > 95
    assert summary["rmsd"] < 0.8
