"""A model judged by its map: the tables, what they show of a bad fit, figures and report."""

import re

import numpy as np
import pandas as pd
import pytest

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.errors import CryonbError, MapModelMismatchError
from cryonb.evaluate.correlation import correlate
from cryonb.evaluate.qscore import qscore
from cryonb.evaluate.secondary_structure import evaluate_sse
from cryonb.evaluate.validation import SUMMARY_KEYS, Validation, validate

KEYS = [
    "cc_mask", "cc_volume", "cc_peaks", "cc_box", "q_mean", "q_expected", "fsc_model_0.5",
    "fsc_model_0.143",
]  # fmt: skip
# Residues of the embedded example that the tests move away: the middle of its longest chain.
BAD = slice(80, 88)


@pytest.fixture(scope="module")
def m():
    return nb.example(resolution=3.0)


@pytest.fixture(scope="module")
def good(m):
    return m.evaluate(nb.example_model())


@pytest.fixture(scope="module")
def bad(m):
    atoms = Atoms.from_structure(nb.example_model())
    position = atoms.position.copy()
    moved = np.isin(atoms.residue, np.arange(BAD.start, BAD.stop))
    position[moved] += [2.5, -2.0, 1.5]
    return m.evaluate(atoms.moved_to(position))


def test_the_summary_has_its_keys_and_good_values(m, good):
    assert list(good.summary.index)[:8] == KEYS == list(SUMMARY_KEYS)
    assert good.summary[["cc_mask", "cc_volume", "cc_box"]].min() > 0.6
    assert good.summary["q_mean"] > 0.5
    assert good.summary["fsc_model_0.143"] < good.summary["fsc_model_0.5"] < 4.5
    assert "σ = 0.6 Å" in good.settings["Q-score"]
    assert good.settings["resolution"] == "3 Å"


def test_the_columns_are_those_of_the_single_scores(m, good):
    model = nb.example_model()
    cc, q = correlate(m, model).residues, qscore(m, model).residues
    assert len(good.residues) == len(cc) == len(q)
    for column in ("cc", "cc_main_chain", "cc_side_chain", "smoc"):
        np.testing.assert_array_equal(good.residues[column], cc[column])
    for column in ("q", "q_backbone", "q_sidechain", "q_expected"):
        np.testing.assert_array_equal(good.residues[column], q[column])
    assert good.chains["n_residues"].sum() == len(cc)
    assert good.chains[["cc", "smoc", "q", "q_expected"]].notna().all(axis=None)


def test_a_displaced_stretch_is_the_worst(good, bad):
    moved = bad.residues.index.isin(range(BAD.start, BAD.stop))
    for score in ("cc", "smoc", "q"):
        drop = good.residues[score] - bad.residues[score]
        assert drop[moved].mean() > 0.1 + drop[~moved].mean(), score
        worst = bad.worst(score).iloc[0]
        numbers = bad.residues["number"][moved]
        assert worst["chain"] == bad.residues["chain"][BAD.start]
        # SMOC, itself of windows, is low far around.
        reach = 9 if score == "smoc" else 3
        assert numbers.min() - reach <= worst["first"] <= numbers.min() + 3, score
        assert numbers.max() - 3 <= worst["last"] <= numbers.max() + reach, score
        assert worst["z"] < -1.5
    for key in ("cc_mask", "q_mean"):
        assert bad.summary[key] < good.summary[key]


def test_a_shift_of_the_whole_model_shows_in_every_score(m, good):
    atoms = Atoms.from_structure(nb.example_model())
    shifted = m.evaluate(atoms.moved_to(atoms.position + [1.5, 0, 0])).summary
    for key in ("cc_mask", "cc_volume", "cc_peaks", "cc_box", "q_mean", "smoc"):
        assert shifted[key] < good.summary[key] - 0.02, key
    assert shifted["fsc_model_0.5"] > good.summary["fsc_model_0.5"] + 0.2


def test_stretches_end_where_chains_break():
    table = pd.DataFrame(
        {
            "chain": list("AAAAAAAABBBB"), "number": [1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17],
            "icode": "", "name": "ALA", "kind": ["protein"] * 11 + ["water"],
            "q": [0.8, 0.8, 0.8, 0.1, 0.1, 0.8, 0.8, 0.1, 0.1, 0.8, 0.8, 0.0],
        }
    )  # fmt: skip
    found = Validation(pd.Series(dtype=float), table, table, None).worst(window=1)
    assert sorted(zip(found["chain"], found["first"], found["last"], strict=True)) == [
        ("A", 4, 4), ("A", 10, 10), ("A", 13, 13), ("B", 14, 14),
    ]  # fmt: skip
    assert found["mean"].to_numpy() == pytest.approx(0.1)


def test_waters_without_numbers_keep_their_own_scores(m):
    import gemmi

    model = nb.example_model()
    chain = gemmi.Chain("W")
    for shift in (0.0, 1.0, 3.0):
        residue = gemmi.Residue()
        residue.name, residue.seqid, residue.het_flag = "HOH", gemmi.SeqId(1, " "), "H"
        atom = gemmi.Atom()
        atom.name, atom.element = "O", gemmi.Element("O")
        at = Atoms.from_structure(model).position[0] + shift
        atom.pos, atom.b_iso = gemmi.Position(*at), 30.0
        residue.add_atom(atom)
        chain.add_residue(residue)
        spacer = gemmi.Residue()
        spacer.name, spacer.seqid = "NA", gemmi.SeqId(2, " ")
        spacer.add_atom(atom)
        chain.add_residue(spacer)
    model[0].add_chain(chain)
    found = m.evaluate(model).residues
    waters = found[found["name"] == "HOH"]
    assert len(waters) == 3
    assert (waters["kind"] == "water").all()
    assert waters["cc"].nunique() == waters["q"].nunique() == 3
    assert (found[found["name"] == "NA"]["kind"] == "ion").all()


def test_figures_and_report_stand_alone(bad, tmp_path):
    assert bad.plot()._repr_png_().startswith(b"\x89PNG")
    assert bad.fsc.plot()._repr_png_().startswith(b"\x89PNG")
    assert bad.plot(scores=("cc",), width=40)._repr_png_().startswith(b"\x89PNG")
    path = bad.save(tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]
    assert not re.search(r'(src|href)="(?!data:)', page)
    for text in ("cc_mask", "fsc_model_0.5", "Worst stretches", "σ = 0.6 Å", "data:image/png"):
        assert text in page
    assert len(re.findall("<tr", page)) > len(bad.residues)
    assert "cc_mask" in bad._repr_html_()
    assert "FSC = 0.5 at" in repr(bad)


def test_a_model_without_polymer_is_judged_and_drawn(m):
    atoms = Atoms.from_structure(nb.example_model())
    residues = atoms.residues
    ligand = type(residues)(**(vars(residues) | {"kind": np.full(len(residues), 2, np.uint8)}))
    alone = type(atoms)(
        **{k: v for k, v in vars(atoms).items() if k != "kind"} | {"residues": ligand}
    )
    found = m.evaluate(alone)
    assert np.isnan(found.summary["q_expected"])
    assert np.isnan(found.summary["cc_main_chain"])
    assert len(found.worst()) == 0
    assert found.plot()._repr_png_().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def predicted(m):
    """The truth as a prediction, but for a stretch called strand and a single residue."""
    model = nb.example_model()
    labels = nb.label_volume(model, m.grid).values
    values = np.stack([labels == k for k in range(5)]).astype(np.float32)
    atoms = Atoms.from_structure(model)
    # The nearest residue to each voxel of the helix that begins in the middle of the model.
    helix = np.flatnonzero(nb.secondary_structure(atoms).to_frame()["state"] == "helix")
    stretch, single = helix[2:7], helix[10]
    for residues, k, sure in ((stretch, 2, 0.9), ([single], 3, 0.95)):
        near = nb.label_volume(atoms.select(np.isin(atoms.residue, residues)), m.grid).values > 0
        values[:, near] = (1 - sure) / 4
        values[k, near] = sure
    return nb.ProbabilityVolume(values, m.grid), stretch, single


@pytest.fixture(scope="module")
def checked(m, predicted):
    return m.evaluate(nb.example_model(), prediction=predicted[0])


def test_a_prediction_adds_its_scores(m, good, checked, predicted):
    keys = ["q3", "haruspex_precision", "haruspex_recall", "haruspex_f1"]
    assert list(checked.summary.index) == [*good.summary.index, *keys]
    alone = evaluate_sse(predicted[0], nb.example_model(), density=m)
    pd.testing.assert_series_equal(checked.summary[keys], alone.summary[keys])
    np.testing.assert_array_equal(checked.residues["predicted"], alone.residues["predicted"])
    assert 0.8 < checked.summary["q3"] < 1
    assert "Q3 of the prediction" in repr(checked)
    assert "Q3" not in repr(good)


def test_disagreements_are_stretches_with_reasons(checked, predicted):
    _, stretch, single = predicted
    numbers = checked.residues["number"]
    found = checked.disagreements(0.6)
    first = found.iloc[0]
    assert (first["modelled"], first["predicted"]) == ("helix", "strand")
    assert first["chain"] == checked.residues["chain"][stretch[0]]
    assert abs(first["first"] - numbers[stretch[0]]) <= 1
    assert abs(first["last"] - numbers[stretch[-1]]) <= 1
    assert first["length"] == first["last"] - first["first"] + 1 >= 4
    assert found["weight"].is_monotonic_decreasing
    alone = found[found["predicted"] == "coil"].iloc[0]
    assert alone["first"] <= numbers[single] <= alone["last"]
    assert "modelled as helix, but strand is predicted with a probability of 0." in first["reason"]
    assert f"CC {first['cc']:.2f}" in first["reason"]
    assert first["reason"].endswith(").")
    assert ". " not in first["reason"]
    assert len(checked.disagreements(1.0)) == 0


def test_disagreements_are_merged_where_they_adjoin():
    table = pd.DataFrame(
        {
            "chain": list("AAAAAAABB"), "number": [1, 2, 3, 4, 5, 9, 10, 1, 2], "icode": "",
            "name": "ALA", "cc": 0.5, "q": [0.5] * 4 + [0.2] * 5,
            "modelled": ["helix"] * 4 + ["coil", "helix", "coil", "strand", "strand"],
            "predicted": ["helix", "strand", "strand", "strand", "strand", "strand", "coil",
                          "background", None],
            "confidence": [1.0, 0.9, 0.5, 0.9, 1.0, 0.9, 1.0, 0.85, np.nan],
        }
    )  # fmt: skip
    validation = Validation(pd.Series(dtype=float), table, table, None)
    found = validation.disagreements()
    assert list(zip(found["chain"], found["first"], found["last"], strict=True)) == [
        ("A", 4, 5), ("A", 2, 2), ("A", 9, 9), ("B", 1, 1),
    ]  # fmt: skip
    assert found["weight"].to_numpy() == pytest.approx([1.9, 0.9, 0.9, 0.85])
    assert "nothing is predicted there" in found["reason"].iloc[-1]
    assert validation.disagreements(0.5)["length"].tolist() == [4, 1, 1]


def test_a_report_names_the_disagreements(checked, good, tmp_path):
    page = checked.save(tmp_path / "a.html").read_text(encoding="utf-8")
    assert "Model and prediction disagree" in page
    assert "haruspex_f1" in page
    assert checked.disagreements()["reason"].iloc[0][:20] in page
    assert "disagree" not in good.save(tmp_path / "b.html").read_text(encoding="utf-8")


def test_half_maps_are_compared_by_the_facade(m):
    rng = np.random.default_rng(1)
    other = m.replace(m.values + rng.normal(0, m.std, m.shape).astype(np.float32))
    found = m.fsc(other)
    assert found.resolution(0.5) > found.resolution(0.143) >= 2.0
    assert found.plot()._repr_png_().startswith(b"\x89PNG")


def test_bad_requests_are_refused(m, good):
    model = nb.example_model()
    with pytest.raises(CryonbError, match="needs the map's resolution"):
        validate(nb.Volume(m.values, m.grid), model)
    atoms = Atoms.from_structure(model)
    with pytest.raises(MapModelMismatchError, match="do not overlap"):
        m.evaluate(atoms.moved_to(atoms.position + 500))
    with pytest.raises(CryonbError, match="A score among"):
        good.worst("name")
    with pytest.raises(CryonbError, match="none was given"):
        good.disagreements()
    with pytest.raises(CryonbError, match="prediction of classes"):
        m.evaluate(model, prediction=m)
    with pytest.raises(CryonbError, match="odd number"):
        good.worst(window=2)
