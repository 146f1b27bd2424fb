"""The classifiers of residue types: rows, a run that goes on, and what lies beside the weights."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.neural_network import MLPClassifier

import cryonb as nb
from cryonb import cli
from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.errors import CryonbError
from cryonb.simulate import phantom
from cryonb.trace.residue_frames import half_ball, side_lattice
from cryonb.trace.residue_training import (
    loosen,
    make_rows,
    planned,
    residue_types,
    train_residue_types,
)
from cryonb.trace.residue_types import FILE, features
from cryonb.train.kinds import ResidueTypesRecipe
from cryonb.train.library import split
from cryonb.train.recipe import Recipe

SHIPPED = FILE.with_suffix(".toml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder of helices that have every amino acid by name."""
    root = tmp_path_factory.mktemp("data")
    rows = []
    (root / "structures/scope_a").mkdir(parents=True)
    for number in range(8):
        structure = phantom.alpha_helix(22 + number).structure
        for k, residue in enumerate(structure[0][0]):
            residue.name = AMINO_ACIDS[(k + number) % 20]
        name = f"scope_a/{number}.pdb"
        structure.write_pdb(str(root / "structures" / name))
        rows.append((name, f"x{number}", "a", f"a.{number}.1.1", f"c{number}", 22 + number))
    columns = ["file", "pdb_id", "scope_class", "scope_sf", "cluster_id", "n_residues"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "structures/INDEX.csv", index=False)
    return root


@pytest.fixture
def small(folder):
    """Settings of a run of a few seconds."""
    return {
        "name": "small", "architecture": "residue-types", "seed": 3, "maps": 4, "shortest": 10,
        "held_out": 3, "hidden": 4, "epochs": 2, "batch": 16, "data": str(folder),
    }  # fmt: skip


@pytest.fixture(scope="module")
def atoms():
    return Atoms.from_structure(nb.example_model("phantom"))


def test_rows_know_their_residues(atoms):
    rows = make_rows(atoms, np.random.default_rng(1), ResidueTypesRecipe())
    assert rows["backbone"].shape == (len(rows["backbone_type"]), len(side_lattice(True)))
    assert rows["trace"].shape == (len(rows["trace_type"]), len(side_lattice(False)))
    assert rows["direction"].shape == (len(rows["trace"]), len(half_ball()))
    assert (rows["backbone_type"] == AMINO_ACIDS.index("ALA")).mean() > 0.9
    assert list(residue_types(["MSE", "TRP", "UNK"])) == [12, 17, -1]
    looser = loosen(atoms, np.random.default_rng(1))
    assert (looser.b_iso >= atoms.b_iso).all()


def test_a_run_that_is_cut_off_goes_on_to_the_same_weights(small, folder, tmp_path, capsys):
    whole = train_residue_types(small, tmp_path / "whole", progress=False)
    for name in (".safetensors", ".json", ".toml", "_manifest.csv", "_validation.csv"):
        assert whole.with_name(f"small{name}").is_file()

    # The command, with the folder beside the recipe, after half of the maps.
    recipe = tmp_path / "r.toml"
    recipe.write_text(Recipe.of(small | {"data": ""}).to_toml())
    cut = tmp_path / "cut"
    train_residue_types(small | {"maps": 3}, cut, progress=False)
    made = {path: path.stat().st_mtime_ns for path in (cut / "rows").glob("*.npz")}
    assert len(made) == 3
    arguments = ["train", str(recipe), "--data", str(folder), "--run", str(cut)]
    assert cli.main(arguments) == 0
    assert "small.safetensors" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    one, two = load_file(whole), load_file(cut / "small.safetensors")
    assert one.keys() == two.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(two[key], value)

    about = json.loads((cut / "small.json").read_text())
    assert about["recipe"] == json.loads(json.dumps(Recipe.of(small | {"data": ""}).to_dict()))
    table = pd.read_csv(cut / "small_validation.csv", index_col="classifier")
    for kind, scores in about["validation"].items():
        assert table.loc[kind].dropna().to_dict() == scores
    manifest = pd.read_csv(cut / "small_manifest.csv")
    assert list(manifest) == ["file", "part", "pass"]
    assert set(manifest["part"]) == {"train", "validation"}


def test_an_interruption_leaves_no_half_learned_weights(small, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    # scikit-learn calls it after each epoch, and makes a warning of an interruption.
    monkeypatch.setattr(MLPClassifier, "_update_no_improvement_count", stop)
    with (
        pytest.warns(UserWarning, match="interrupted"),
        pytest.raises(KeyboardInterrupt, match="fits anew"),
    ):
        train_residue_types(small, tmp_path, progress=False)
    assert not list(tmp_path.glob("*.safetensors"))


def test_bad_runs_are_refused(small, folder, tmp_path):
    with pytest.raises(CryonbError, match="'residue-types' was expected"):
        train_residue_types({"architecture": "unet"}, tmp_path)
    with pytest.raises(CryonbError, match="`cryonb train` takes it"):
        nb.train_network(small, tmp_path)
    with pytest.raises(CryonbError, match="of 500 to 600 residues"):
        train_residue_types(small | {"shortest": 500, "longest": 600}, tmp_path / "a")
    with pytest.raises(CryonbError, match="of 1 none is of the part 'train'"):
        train_residue_types(small | {"maps": 1}, tmp_path / "b", progress=False)
    with pytest.raises(CryonbError, match="made with another seed, clean;"):
        train_residue_types(small | {"seed": 4, "clean": 0.5}, tmp_path / "b", progress=False)
    whole = pd.read_csv(folder / "structures/INDEX.csv")
    for name in whole["file"]:
        target = tmp_path / "poor/structures" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        structure = gemmi.read_structure(str(folder / "structures" / name))
        for residue in structure[0][0]:
            residue.name = "ALA" if residue.name == "TRP" else residue.name
        structure.write_pdb(str(target))
    whole.to_csv(tmp_path / "poor/structures/INDEX.csv", index=False)
    with pytest.raises(CryonbError, match="but TRP is not there"):
        train_residue_types(
            small | {"data": str(tmp_path / "poor")}, tmp_path / "c", progress=False
        )


def test_the_shipped_recipe_is_that_of_the_shipped_weights():
    recipe, about = Recipe.read(SHIPPED), json.loads(FILE.with_suffix(".json").read_text())
    assert recipe == Recipe.read(Path(__file__).parents[2] / "recipes/residue_types.toml")
    assert about["recipe"] == json.loads(json.dumps(recipe.to_dict()))
    assert about["sha256"] == hashlib.sha256(FILE.read_bytes()).hexdigest()
    weights = load_file(FILE)
    assert about["parameters"] == sum(value.size for value in weights.values())
    assert weights["backbone.w1"].shape[1] == weights["trace.w1"].shape[1] == recipe.hidden
    table = pd.read_csv(FILE.with_name("residue_types_validation.csv"), index_col="classifier")
    assert {kind: row.dropna().to_dict() for kind, row in table.iterrows()} == about["validation"]
    # Resolutions beyond what the recipe draws count as its limits.
    d = features(np.zeros((3, 1)), np.array([recipe.finest - 1, 3.0, recipe.coarsest + 1]))[:, 1]
    np.testing.assert_allclose(d, np.array([recipe.finest, 3.0, recipe.coarsest]) - 3, atol=1e-6)


@pytest.mark.data
def test_the_classifiers_have_seen_nothing_of_the_test_part(data):
    recipe = Recipe.read(SHIPPED)
    short, long = (planned(data / "structures", replace(recipe, maps=maps)) for maps in (30, 900))
    pd.testing.assert_frame_equal(long[:30], short)
    assert not long.duplicated(["file", "pass"]).any()
    part = split(pd.read_csv(data / "structures/INDEX.csv"), exclude=recipe.exclude)
    maps = pd.read_csv(FILE.with_name("residue_types_manifest.csv"))
    assert len(maps) == recipe.maps > 500
    assert set(part[maps["file"]]) == {"train", "validation"}
    assert (part[maps["file"]].to_numpy() == maps["part"]).all()
    pd.testing.assert_frame_equal(maps, planned(data / "structures", recipe)[list(maps)])
