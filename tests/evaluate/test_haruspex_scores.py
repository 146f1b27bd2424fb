"""Haruspex's measures, by hand."""

import numpy as np
import pytest

from cryonb.errors import CryonbError
from cryonb.evaluate.haruspex import ResidueCounts, level_histogram, medians, residue_counts

#        right    right    wrong     wrong     missed   neither  unseen   unknown
TRUTH = ["helix", "strand", "helix", "coil", "strand", "coil", "helix", "helix"]
FOUND = ["helix", "strand", "strand", "helix", "coil", "background", "helix", "helix"]
DENSITY = [1.0, 3.2, 2.0, 5.0, 1.4, 9.0, 0.9, np.nan]


def test_residues_are_counted_by_hand():
    counts = residue_counts(TRUTH, FOUND, DENSITY)
    assert counts == ResidueCounts(tp=2, fp=2, fn=1)
    assert counts.precision == 1 / 2
    assert counts.recall == 2 / 3
    assert counts.f1 == pytest.approx(4 / 7)
    assert residue_counts(TRUTH, FOUND, DENSITY, level=0).tp == 3
    nothing = residue_counts(TRUTH, FOUND, np.full(8, np.nan))
    assert np.isnan([nothing.precision, nothing.recall, nothing.f1]).all()


def test_the_papers_f1_is_the_mean_of_its_medians():
    # 95.1 % and 80.3 % give 87.05 % in the paper.
    counts = [ResidueCounts(803, 197, 41), ResidueCounts(80, 20, 1), ResidueCounts(806, 194, 60)]
    found = medians(counts)
    assert found["precision"] == pytest.approx(0.803)
    assert found["recall"] == pytest.approx(803 / 844)
    assert found["f1"] == pytest.approx(0.8705, abs=5e-4)
    assert found[["tp", "fp", "fn"]].sum() == pytest.approx(1)
    with pytest.raises(CryonbError, match="at least one map"):
        medians([])


def test_the_histogram_counts_what_the_levels_hold():
    table = level_histogram(TRUTH, FOUND, DENSITY, bins=[0, 1, 2, 10])
    assert table["tp"].tolist() == [1, 1, 1]
    assert table["fp"].tolist() == [0, 0, 2]
    assert table["fn"].tolist() == [0, 1, 0]
