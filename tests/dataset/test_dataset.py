"""`nb.build_dataset` and `nb.validate_dataset`: files, resuming, failures, repeated builds."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cryonb as nb
from cryonb import cli
from cryonb.dataset import build as building
from cryonb.dataset import entry as one_entry
from cryonb.dataset.boxes import join_boxes
from cryonb.dataset.build import write_manifest
from cryonb.dataset.check import dataset_statistics
from cryonb.errors import CryonbError
from cryonb.files.archive import Entry
from cryonb.files.mrc import read_map, write_map
from cryonb.simulate import phantom

LABELS = ("atom", "atom_ca", "amino", "sec_struc")


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("entries")
    made = {
        "helix": phantom.alpha_helix(14),
        "sheet": phantom.beta_sheet(3, length=6).moved(translation=(31.3, -12.2, 5.1)),
    }
    rows = []
    for name, one in made.items():
        path = folder / f"{name}.pdb"
        one.structure.write_pdb(str(path))
        rows.append({"id": name, "model": path, "resolution": 3.0})
    whole = nb.fourier_map(made["sheet"].structure, resolution=3.0, voxel_size=1.2, margin=6.0)
    write_map(whole, folder / "sheet.mrc")
    rows[1]["map"] = folder / "sheet.mrc"
    rows.append({"id": "gone", "model": folder / "none.pdb", "resolution": 3.0})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def built(entries, tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    return folder, nb.build_dataset(entries, folder, progress=False)


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_an_entry_has_the_published_files(built, entries):
    folder, table = built
    assert {path.name for path in (folder / "sheet").iterdir()} == {
        "emd_normalized_map.mrc", "entry.json", "model.pdb", "grids.npz", "deposited.fasta",
        "built.fasta", "aligned.fasta", *(f"{name}_emd_normalized_map.mrc" for name in LABELS),
    }  # fmt: skip
    m = read_map(folder / "sheet" / "emd_normalized_map.mrc")
    assert m.voxel_size == (1.0, 1.0, 1.0)
    assert 0 <= m.min < 0.1 < m.max == 1
    labels = {
        name: read_map(folder / "sheet" / f"{name}_emd_normalized_map.mrc") for name in LABELS
    }
    rows = table.set_index("id")
    assert (labels["atom_ca"].values > 0).sum() == rows.loc["sheet", "ca_voxels"] == 18
    assert rows.loc["sheet", "strand"] == (labels["sec_struc"].values == 3).sum() > 5
    assert rows.loc["helix", "helix"] > 5
    assert rows["source"].to_dict() == {"gone": "", "helix": "simulated", "sheet": "measured"}
    assert rows.loc["helix", "cc_mask"] > 0.99
    assert rows.loc["sheet", "explained"] > 0.99
    raw = read_map(entries["map"][1])
    assert rows.loc["sheet", "shape_z"] == np.floor((raw.shape[0] - 1) * 1.2) + 1


def test_boxes_hold_map_and_labels(built):
    folder, table = built
    place = folder / "helix"
    with np.load(place / "grids.npz") as boxes:
        assert sorted(boxes) == sorted(("start", "map", *LABELS))
        for name in ("map", *LABELS):
            file = "emd_normalized_map.mrc" if name == "map" else f"{name}_emd_normalized_map.mrc"
            values = read_map(place / file).values
            assert np.array_equal(join_boxes(boxes[name], values.shape), values)
        assert len(boxes["start"]) == table.set_index("id").loc["helix", "n_grids"]


def test_a_failed_entry_is_a_row_and_stops_nothing(built):
    folder, table = built
    rows = table.set_index("id")
    assert list(rows.index) == ["gone", "helix", "sheet"]
    assert rows.loc["gone", "error"] == "No such file or directory: none.pdb"
    assert not (folder / "gone").exists()
    assert list(rows["error"][["helix", "sheet"]]) == ["", ""]
    again = pd.read_csv(folder / "manifest.csv", keep_default_na=False, dtype=str)
    assert list(again["id"]) == list(rows.index)


def test_a_table_of_failures_only_is_a_manifest_too(entries, tmp_path):
    table = nb.build_dataset(entries[2:], tmp_path / "set", progress=False)
    assert list(table["cluster"]) == list(table["split_id"]) == [""]
    assert nb.validate_dataset(tmp_path / "set").empty
    assert dataset_statistics(tmp_path / "set")["total"]["count"]["failed"] == 1


def test_a_second_build_gives_the_same_bytes(built, entries, tmp_path):
    folder, table = built
    # Through an executor, and in another order.
    with ThreadPoolExecutor(1) as pool:
        other = nb.build_dataset(entries[::-1], tmp_path / "b", pool, progress=False)
    pd.testing.assert_frame_equal(table, other)
    assert hashes(folder) == hashes(tmp_path / "b")


def test_a_finished_entry_is_not_built_again_but_a_changed_one_is(
    built, entries, tmp_path, monkeypatch
):
    asked = []

    def count(case, folder, settings, threads):
        asked.append(case["id"])

    monkeypatch.setattr(building, "build_entry", count)
    folder = built[0]
    nb.build_dataset(entries, folder, progress=False)
    assert asked == ["gone"]
    asked.clear()
    changed = entries.copy()
    changed.loc[0, "resolution"] = 4.0
    nb.build_dataset(changed, folder, progress=False)
    assert asked == ["helix", "gone"]
    asked.clear()
    nb.build_dataset(entries, folder, convention="published", progress=False)
    assert asked == ["helix", "sheet", "gone"]


KILLED = """
import sys, pandas as pd, cryonb as nb
if __name__ == "__main__":
    nb.build_dataset(pd.read_csv(sys.argv[1]), sys.argv[2], workers=int(sys.argv[3]),
                     progress=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_is_gone_on_with(built, entries, tmp_path, workers):
    entries.to_csv(tmp_path / "entries.csv", index=False)
    (tmp_path / "run.py").write_text(KILLED)
    out = tmp_path / "out"
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "entries.csv"), str(out)]
    root = str(Path(nb.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root}
    with subprocess.Popen([*command, str(workers)], env=environment) as process:
        limit = time.monotonic() + 120
        while not list(out.glob(".work/*/emd_normalized_map.mrc")) and time.monotonic() < limit:
            time.sleep(0.005)
        process.kill()
    assert process.returncode != 0
    assert not (out / "manifest.csv").exists()
    time.sleep(1)  # processes end with their parent
    left = hashes(out)
    time.sleep(1)
    assert hashes(out) == left
    subprocess.run([*command, str(workers)], env=environment, check=True)
    assert hashes(out) == hashes(built[0])


def test_validation_finds_what_was_spoiled(built, entries, tmp_path):
    folder = tmp_path / "set"
    twins = pd.concat([entries[:1], entries[:1].assign(id="twin"), entries[1:2]])
    nb.build_dataset(twins, folder, grids=False, quality=False, progress=False)
    sound = nb.validate_dataset(folder).set_index("id")
    assert sound["ok"].to_dict() == {"helix": True, "sheet": True, "twin": False}
    assert sound.loc["twin", "duplicate_of"] == "helix"
    assert (sound["in_voxel"] == 1).all()
    assert sound["within_half"].between(0.2, 0.9).all()
    place = folder / "helix" / "emd_normalized_map.mrc"
    raw = bytearray(place.read_bytes())
    raw[1024:1028] = np.float32(7).tobytes()
    place.write_bytes(raw)
    label = folder / "sheet" / "amino_emd_normalized_map.mrc"
    raw = bytearray(label.read_bytes())
    raw[1024] = 99
    label.write_bytes(raw)
    spoiled = nb.validate_dataset(folder).set_index("id")
    assert not spoiled.loc[["helix", "sheet"], ["ok", "hashes", "mrc", "range"]].any(axis=None)
    assert not spoiled.loc["sheet", "alpha"]
    (folder / "twin" / "atom_emd_normalized_map.mrc").unlink()
    assert not nb.validate_dataset(folder).set_index("id").loc["twin", "ok"]


def test_published_labels_bring_fewer_alpha_carbons_back(entries, tmp_path):
    shares = {}
    for convention in ("corrected", "published"):
        folder = tmp_path / convention
        nb.build_dataset(
            entries[:2], folder, convention=convention, grids=False, quality=False, progress=False
        )
        found = nb.validate_dataset(folder)
        assert found["ok"].all()
        shares[convention] = found["within_half"].mean()
    assert shares["corrected"] > 2 * shares["published"]
    assert (found["same_integers"] > 0.1).all()


def test_an_archive_entry_is_fetched_with_what_is_known_of_it(entries, tmp_path, monkeypatch):
    asked = []

    def fetch(name, *, model, progress):
        asked.append((name, model))
        found = None if name == "EMD-9999" else Path(entries["model"][1])
        return Entry(name, "a sheet", 3.1, 0.02, ("1ABC",), Path(entries["map"][1]), found)

    monkeypatch.setattr(one_entry, "fetch_entry", fetch)
    rows = [{"emdb": "EMD-1234"}, {"emdb": "EMD-9999"}]
    table = nb.build_dataset(rows, tmp_path / "set", grids=False, progress=False).set_index("id")
    assert asked == [("EMD-1234", True), ("EMD-9999", True)]
    row = table.loc["EMD-1234"]
    assert (row["resolution"], row["contour"], row["title"]) == (3.1, 0.02, "a sheet")
    assert row["ca_voxels"] == 18
    assert "EMD-9999 has none" in table.loc["EMD-9999", "error"]


@pytest.mark.data
def test_labels_of_a_real_map_lie_in_its_density(data, tmp_path):
    place = data / "maps" / "2566"
    row = {"map": place / "2566_3J6B_9.mrc.gz", "model": place / "3J6B_9.pdb"}
    table = nb.build_dataset([row | {"resolution": 3.2}], tmp_path / "set", progress=False)
    found = table.iloc[0]
    assert found["error"] == ""
    assert found["n_ca"] == found["ca_voxels"] == 195
    # EMDB's own average at this resolution
    assert found["q_mean"] == pytest.approx(found["q_expected"], abs=0.1)
    folder = tmp_path / "set" / "2566_3J6B_9"
    values = read_map(folder / "emd_normalized_map.mrc").values
    alpha = read_map(folder / "atom_ca_emd_normalized_map.mrc").values > 0
    assert values[alpha].mean() > 3 * values.mean()
    assert nb.validate_dataset(tmp_path / "set")["ok"].all()


def test_manifest_is_made_from_what_lies_there(built):
    folder, table = built
    before = (folder / "manifest.csv").read_bytes()
    (folder / "manifest.csv").unlink()
    with pytest.raises(CryonbError, match=r"manifest\.csv"):
        nb.validate_dataset(folder)
    pd.testing.assert_frame_equal(write_manifest(folder), table)
    assert (folder / "manifest.csv").read_bytes() == before
    record = json.loads((folder / "helix" / "entry.json").read_text())
    assert record["settings"] == {"convention": "corrected", "grids": True, "quality": True}


def test_statistics_count_every_entry(built):
    found = dataset_statistics(built[0])
    assert found["total"]["count"].to_dict()["entries"] == 2
    assert found["total"]["count"].to_dict()["failed"] == 1
    for name in ("split_resolution", "split_id", "split_cluster"):
        assert found[name].to_numpy().sum() == 2


def test_the_command_builds_checks_and_counts(entries, tmp_path, capsys):
    table, folder = tmp_path / "entries.csv", str(tmp_path / "out")
    entries[:1].to_csv(table, index=False)
    options = ["--no-grids", "--no-quality"]
    assert cli.main(["dataset", "build", str(table), folder, *options]) == 0
    assert "1 entries, 0 failed" in capsys.readouterr().out
    assert cli.main(["dataset", "validate", folder]) == 0
    assert "all 1 entries are sound" in capsys.readouterr().out
    assert cli.main(["dataset", "stats", folder]) == 0
    assert "ca_voxels" in capsys.readouterr().out
    place = tmp_path / "out" / "helix" / "built.fasta"
    place.write_text(place.read_text() + "A")
    assert cli.main(["dataset", "validate", folder]) == 2
    assert "built.fasta is missing or was changed" in capsys.readouterr().err


def test_bad_tables_get_one_sentence(entries, tmp_path):
    row = entries.iloc[0].to_dict()
    for table, text in (
        ([], "At least one entry"),
        ([row | {"model": None}], "needs a model"),
        ([row | {"resolution": None}], "needs a resolution"),
        ([row, row], "more than once"),
        ([row | {"id": "../out"}], "letters, digits"),
    ):
        with pytest.raises(CryonbError, match=text):
            nb.build_dataset(table, tmp_path / "none", progress=False)
    with pytest.raises(CryonbError, match="corrected or published"):
        nb.build_dataset([row], tmp_path / "none", convention="best", progress=False)
    with pytest.raises(CryonbError, match="sum to 1"):
        nb.build_dataset([row], tmp_path / "none", fractions=(1, 1, 1), progress=False)
    assert not (tmp_path / "none").exists()
