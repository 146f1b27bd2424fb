"""Models against truth: cctbx's values, cases counted by hand, and TM-scores that are known."""

import json
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import cryonb as nb
from cryonb.errors import CryonbError, ModelError
from cryonb.evaluate.chain import SUMMARY_KEYS, compare_chains, superposed_tm, tm_scale

REFERENCE = Path(__file__).parents[1] / "reference" / "cctbx_chain_comparison.json"


def structure(atoms):
    """A model of Cα atoms: rows of chain, number, name, x, y, z."""
    found = gemmi.Structure()
    model = gemmi.Model(1)
    for name, number, residue_name, *point in atoms:
        if not len(model) or model[-1].name != name:
            model.add_chain(gemmi.Chain(name))
        residue = gemmi.Residue()
        residue.name, residue.seqid = residue_name, gemmi.SeqId(int(number), " ")
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(*point)
        residue.add_atom(atom)
        model[-1].add_residue(residue)
    found.add_model(model)
    found.setup_entities()
    return found


def line(n, *, chain="A", name="ALA", shift=(0.0, 0.0, 0.0), numbers=None):
    numbers = range(1, n + 1) if numbers is None else numbers
    points = np.outer(np.arange(n), (3.8, 0, 0)) + shift
    return [[chain, k, name, *point] for k, point in zip(numbers, points.tolist(), strict=True)]


@pytest.mark.parametrize("case", json.loads(REFERENCE.read_text()), ids=lambda case: case["case"])
def test_published_matching_is_that_of_cctbx(case):
    found = compare_chains(structure(case["found"]), structure(case["truth"])).summary
    for key, value in case["values"].items():
        assert found[key] == pytest.approx(value, abs=1e-6), key


def test_a_shifted_copy():
    found = compare_chains(structure(line(40, shift=(0, 1.0, 0))), structure(line(40)))
    summary = found.summary
    assert tuple(summary.index) == SUMMARY_KEYS
    assert summary.rmsd == pytest.approx(1.0)
    assert summary[["matched", "identity", "found_matched"]].tolist() == [100, 100, 100]
    assert summary[["forward", "reverse", "unordered", "n_far"]].tolist() == [40, 0, 0, 0]
    assert summary.tm_frame == pytest.approx(1 / (1 + 1 / tm_scale(40) ** 2))
    assert summary.tm == pytest.approx(1.0)


def test_a_chain_read_backwards():
    truth = line(30)
    turned = [["Q", k + 1, "GLY", *row[3:]] for k, row in enumerate(truth[::-1])]
    found = compare_chains(structure(turned), structure(truth))
    assert found.summary[["forward", "reverse"]].tolist() == [0, 30]
    assert found.summary.identity == 0
    assert set(found.residues.order) == {"reverse"}
    assert found.chains.found.tolist() == ["Q"]


def test_a_gap_begins_a_stretch_anew():
    # Residue 6 of 10 is not found: 4 of its neighbours' links are lost in neither stretch.
    truth = line(10)
    left = truth[:5] + truth[6:]
    found = compare_chains(structure(left), structure(truth))
    assert found.summary.n_matched == 9
    # The one after the gap links to nothing before it.
    assert found.residues.order.tolist() == ["forward"] * 5 + ["", "unordered"] + ["forward"] * 3


def test_each_residue_is_paired_once():
    truth = line(1)
    found = structure([["A", 1, "ALA", 1.0, 0, 0], ["A", 2, "ALA", 0.1, 0, 0]])
    first = compare_chains(found, structure(truth))
    assert first.summary.rmsd == pytest.approx(1.0)
    assert first.summary[["n_matched", "n_far"]].tolist() == [1, 1]
    for matching in ("greedy", "optimal"):
        nearest = compare_chains(found, structure(truth), matching=matching)
        assert nearest.summary.rmsd == pytest.approx(0.1)
        assert nearest.residues.found_number.tolist() == [2]


def test_chains_are_rows():
    truth = line(20) + line(10, chain="B", shift=(0, 30, 0)) + line(5, chain="C", shift=(0, 60, 0))
    found = line(20, chain="X", shift=(0, 0.5, 0)) + line(6, chain="Y", shift=(0, 31, 0))
    table = compare_chains(structure(found), structure(truth)).chains
    assert table.chain.tolist() == ["A", "B", "C"]
    assert table.found.tolist() == ["X", "Y", ""]
    assert table.n_found_chains.tolist() == [1, 1, 0]
    np.testing.assert_allclose(table.matched, [100, 60, 0])
    np.testing.assert_allclose(table.rmsd, [0.5, 1.0, np.nan])
    assert table.tm_frame.iloc[2] == 0
    assert table.identity.isna().tolist() == [False, False, True]


def test_chains_are_those_of_cctbx():
    (case,) = [case for case in json.loads(REFERENCE.read_text()) if "chains" in case]
    found = compare_chains(structure(case["found"]), structure(case["truth"]))
    rows = found.chains.set_index("chain")
    assert list(rows.index) == list(case["chains"]) == ["A", "B", "C", "D"]
    for chain, values in case["chains"].items():
        # The first and the last of a chain have neighbours in the next one, if that is there.
        for key in ("n_matched", "rmsd", "identity", "matched", "reverse"):
            assert rows.loc[chain, key] == pytest.approx(values[key], abs=1e-6), (chain, key)
    assert rows.reverse["B"] > 20


def test_copies_are_a_protein():
    (case,) = [case for case in json.loads(REFERENCE.read_text()) if "chains" in case]
    found = compare_chains(structure(case["found"]), structure(case["truth"]))
    rows, proteins = found.chains.set_index("chain"), found.proteins
    assert proteins.protein.tolist() == ["A, B, C", "D"]
    assert proteins.n_chains.tolist() == [3, 1]
    copies = rows.loc[["A", "B", "C"]]
    assert proteins.n_matched[0] == copies.n_matched.sum()
    square = copies.rmsd**2 @ copies.n_matched / copies.n_matched.sum()
    assert proteins.rmsd[0] == pytest.approx(np.sqrt(square))
    assert proteins.tm[0] == pytest.approx(copies.tm.mean())
    # Two pieces of 12 residues, of 30.
    assert rows.coverage["D"] == pytest.approx(40)
    assert rows.matched["D"] == pytest.approx(80)
    assert rows.n_found_chains["D"] == 2
    table = found.table
    assert table.part.tolist() == ["A", "B", "C", "D", "A, B, C", "all"]
    assert table.n_matched.iloc[-1] == found.summary.n_matched
    assert table.isna().sum().sum() == 0
    assert "A, B, C" in repr(found)
    assert f"({found.summary.matched:.1f} %)" in repr(found)
    assert "A, B, C" in found._repr_html_()


def test_one_chain_is_one_row():
    found = compare_chains(structure(line(20)), structure(line(20)))
    assert found.table.part.tolist() == ["A"]
    assert found.table.coverage.tolist() == [100]


def test_a_model_elsewhere_matches_nothing(tmp_path):
    found = compare_chains(structure(line(9, shift=(0, 50, 0))), structure(line(9)))
    assert found.summary[["n_matched", "matched", "tm_frame", "tm"]].tolist() == [0, 0, 0, 0]
    assert np.isnan(found.summary.rmsd)
    assert found.summary.n_far == 9
    found.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "summary.csv", "chains.csv", "proteins.csv", "residues.csv",
    }  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 40), m=st.integers(1, 40),
    matching=st.sampled_from(["published", "greedy", "optimal"]),
)  # fmt: skip
def test_counts_add_up(seed, n, m, matching):
    rng = np.random.default_rng(seed)
    points = [rng.uniform(0, 12, (k, 3)).tolist() for k in (n, m)]
    truth, found = (
        structure([["A", k + 1, "ALA", *point] for k, point in enumerate(some)]) for some in points
    )
    compared = compare_chains(found, truth, matching=matching)
    summary, residues = compared.summary, compared.residues
    assert summary.forward + summary.reverse + summary.unordered == summary.n_matched
    assert summary.n_matched + summary.n_far == m
    numbers = residues.found_number.dropna()
    assert numbers.is_unique
    assert not residues.distance.max() > 3
    if len(numbers):
        rows = residues.index[residues.found_number.notna()]
        away = np.array(points[1])[numbers.astype(int) - 1] - np.array(points[0])[rows]
        np.testing.assert_allclose(residues.distance[rows], np.linalg.norm(away, axis=1))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), n=st.integers(4, 80))
def test_tm_ignores_motion_of_the_whole(seed, n):
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 15, (n, 3))
    turn = Rotation.random(random_state=seed)
    assert superposed_tm(turn.apply(points) + rng.normal(0, 50, 3), points) == pytest.approx(1)
    # A mirror image is not a motion.
    assert superposed_tm(points * (-1, 1, 1), points) < 0.999
    assert superposed_tm(points, points, length=2 * n) == pytest.approx(0.5)


def test_tm_of_a_hinge_is_its_larger_part():
    rng = np.random.default_rng(5)
    points = np.cumsum(rng.normal(0, 2.2, (100, 3)), axis=0)
    moved = points.copy()
    moved[60:] += (400, 0, 0)
    # The other part is 400 Å away in that superposition.
    rest = 40 / (1 + (400 / tm_scale(100)) ** 2)
    assert superposed_tm(moved, points) == pytest.approx((60 + rest) / 100, abs=2e-3)


def test_tm_is_no_less_than_that_of_least_squares():
    rng = np.random.default_rng(6)
    for spread in (0.5, 2.0, 5.0):
        points = np.cumsum(rng.normal(0, 2.2, (70, 3)), axis=0)
        moved = points + rng.normal(0, spread, points.shape)
        turn, _ = Rotation.align_vectors(points - points.mean(0), moved - moved.mean(0))
        apart = np.linalg.norm(turn.apply(moved - moved.mean(0)) - points + points.mean(0), axis=1)
        least = (1 / (1 + (apart / tm_scale(70)) ** 2)).mean()
        assert superposed_tm(moved, points) >= least - 1e-9


def test_scale_is_the_published_one():
    # 1.24 (115 - 15)^(1/3) - 1.8, by hand.
    assert tm_scale(115) == pytest.approx(1.24 * 4.641588833612779 - 1.8)
    assert tm_scale(10) == 0.5


def test_bad_input():
    model = structure(line(3))
    with pytest.raises(CryonbError, match="published, greedy or optimal"):
        compare_chains(model, model, matching="best")
    water = gemmi.Structure()
    water.add_model(gemmi.Model(1))
    water[0].add_chain(gemmi.Chain("W"))
    residue = gemmi.Residue()
    residue.name = "GOL"
    residue.add_atom(gemmi.Atom())
    water[0]["W"].add_residue(residue)
    with pytest.raises(ModelError, match="truth has none"):
        compare_chains(model, water)


def test_it_is_public():
    model = structure(line(3))
    assert nb.compare_chains(model, model).summary.matched == 100
