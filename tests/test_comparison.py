"""`nb.benchmark`: rows, resuming, parallel runs, failures, figures."""

import json

import numpy as np
import pandas as pd
import pytest

import cryonb as nb
from cryonb import comparison
from cryonb.errors import CryonbError
from cryonb.simulate import phantom


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    made = {"a": phantom.alpha_helix(16), "b": phantom.beta_sheet(4, length=8)}
    rows = []
    for group, structure in made.items():
        path = folder / f"{group}.pdb"
        structure.structure.write_pdb(str(path))
        rows.append({"model": path, "name": group, "group": group, "resolution": 5.0})
    return pd.DataFrame(rows)


def test_rows_are_those_of_a_prediction_by_hand(cases):
    found = nb.benchmark(cases, ["unet"], device="cpu", progress=False)
    row = found.table.set_index("name").loc["a"]
    model = nb.open_model(cases["model"][0])
    m = nb.gaussian_map(model, resolution=5.0)
    sse = nb.DensityMap.from_volume(m).predict_sse(device="cpu", progress=False)
    expected = sse.evaluate(model).summary
    for key in ("q3", "f1_helix", "haruspex_recall", "n_residues"):
        np.testing.assert_equal(row[key], expected[key])
    assert row["seconds"] > 0
    assert 0 <= row["window_q3"] <= 1
    assert found.summary().loc["unet", "a"] == row["q3"]


def test_a_file_of_finished_rows_is_gone_on_with(cases, tmp_path, monkeypatch):
    calls = []

    def judge(case, method, device=None):
        if case["name"] == "b" and not calls:
            calls.append(case["name"])
            raise CryonbError("no such luck")
        calls.append(case["name"])
        return {"name": case["name"], "resolution": case["resolution"], "method": method, "q3": 1.0}

    monkeypatch.setattr(comparison, "judge", judge)
    out = tmp_path / "rows.jsonl"
    options = {"out": out, "progress": False}
    first = nb.benchmark(cases.iloc[::-1], ["one"], **options)
    assert first.table.set_index("name")["error"].to_dict() == {
        "a": pytest.approx(np.nan, nan_ok=True), "b": "no such luck"}  # fmt: skip
    assert calls == ["b", "a"]
    again = nb.benchmark(cases, ["one", "two"], **options)
    # What failed is tried again, what is done is not.
    assert sorted(calls[2:]) == ["a", "b", "b"]
    assert len(again.table) == 4
    assert "error" not in again.table
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 4


def test_cases_may_run_elsewhere(cases, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    def judge(case, method, device=None):
        return {"name": case["name"], "method": method}

    monkeypatch.setattr(comparison, "judge", judge)
    with ThreadPoolExecutor(2) as executor:
        found = nb.benchmark(cases, ["x", "y"], executor=executor, progress=False)
    assert found.table[["method", "name"]].to_numpy().tolist() == [
        ["x", "a"], ["x", "b"], ["y", "a"], ["y", "b"]]  # fmt: skip


def test_processes_of_their_own_give_the_same(cases):
    alone = nb.benchmark(cases.iloc[:1], device="cpu", progress=False).table
    apart = nb.benchmark(cases.iloc[:1], workers=2, device="cpu", progress=False).table
    columns = [name for name in alone if name != "seconds"]
    pd.testing.assert_frame_equal(alone[columns], apart[columns], rtol=1e-2)


def test_mistakes_are_named(cases):
    with pytest.raises(CryonbError, match="needs a model"):
        nb.benchmark([{"map": "m.mrc"}])
    with pytest.raises(CryonbError, match="must differ"):
        nb.benchmark(pd.concat([cases, cases]))
    nothing = nb.benchmark([{"model": cases["model"][0]}], progress=False).table
    assert "resolution to simulate" in nothing["error"][0]


def test_every_figure_can_be_drawn():
    rng = np.random.default_rng(0)
    rows = [
        {"name": f"m{k}", "group": "ab"[k % 2], "method": method, "resolution": 3.0 + k}
        | {key: rng.random() for key in ("q3", "window_q3", "window_q3_one", "haruspex_precision",
                                         "haruspex_recall")}
        for k in range(8)
        for method in ("one", "two")
    ]  # fmt: skip
    found = comparison.Benchmark(pd.DataFrame(rows))
    for kind in ("groups", "resolution", "phases", "precision_recall", "methods"):
        assert found.plot(kind)._repr_png_()[:4] == b"\x89PNG"
    published = {"paper": {"a": (0.7, 0.8, 0.9)}}
    assert len(found.plot("groups", published=published).axes) == 1
    with pytest.raises(CryonbError, match="kind of groups"):
        found.plot("pie")
    with pytest.raises(CryonbError, match="window_q3_one"):
        comparison.Benchmark(found.table.drop(columns="window_q3_one")).plot("phases")


@pytest.mark.parametrize("name", ["scope_domains", "real_maps"])
def test_stored_tables_hold_what_the_notebooks_read(name):
    table = nb.stored_benchmark(name).table
    assert {"unet", "haruspex", "emap2sec", "emap2sec-dense"} == set(table["method"])
    keys = ["name", "resolution", "method"]
    assert not table.duplicated(keys).any()
    # Every method has judged every map.
    assert table.groupby("method").size().nunique() == 1
    scores = table.filter(regex="q3|f1|precision|recall|accuracy|segments")
    assert scores.stack().dropna().between(0, 1).all()
    assert table["q3"].notna().mean() > 0.5


@pytest.mark.parametrize("method", ["unet", "haruspex", "emap2sec-dense"])
@pytest.mark.parametrize("name", ["scope_domains", "real_maps"])
def test_a_stored_row_is_what_its_method_gives_today(data, name, method):
    table = nb.stored_benchmark(name).table
    row = table[(table["method"] == method) & (table["n_protein"] > 0)].nsmallest(1, "n_protein")
    row = row.iloc[0]
    case = {"name": row["name"], "resolution": row["resolution"]}
    if name == "real_maps":
        index = pd.read_csv(data / "maps" / "INDEX.csv").set_index("map")
        case |= {"map": str(data / "maps" / row["name"]),
                 "model": data / "maps" / index.loc[row["name"], "model"]}  # fmt: skip
    else:
        case["model"] = data / "structures" / row["name"]
    found = nb.benchmark([case], [method], device="cpu", progress=False).table.iloc[0]
    assert found["q3"] == pytest.approx(row["q3"], abs=0.02)
    assert found["window_q3"] == pytest.approx(row["window_q3"], abs=0.02)


def test_an_unknown_table_is_refused():
    with pytest.raises(CryonbError, match="real_maps, scope_domains was expected"):
        nb.stored_benchmark("nothing")
