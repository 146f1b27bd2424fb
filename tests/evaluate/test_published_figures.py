"""Figures of the papers, as their text has them."""

import pytest

import cryonb as nb
from cryonb.errors import CryonbError


def test_means_are_those_of_table_1():
    table = nb.published_scores()
    assert table.loc[(6.0, "q3"), "all"] == 0.831
    assert table.loc[(10.0, "q3"), "all"] == 0.798
    # The drop that the paper's text gives.
    assert table.loc[(6.0, "q3"), "all"] - table.loc[(10.0, "q3"), "all"] == pytest.approx(0.033)
    assert table.loc[(6.0, "q3"), "helix"] - table.loc[(10.0, "q3"), "helix"] == pytest.approx(
        0.023
    )
    assert table["all"].isna().sum() == 2


@pytest.mark.parametrize("resolution", [6, 10.0])
def test_quartiles_are_in_order(resolution):
    found = nb.published_quartiles(resolution)
    assert sorted(found) == list("abcd")
    assert all(low <= middle <= high for low, middle, high in found.values())
    found.clear()
    assert nb.published_quartiles(resolution)


def test_other_resolutions_are_refused():
    with pytest.raises(CryonbError, match="6 or 10 Å was expected, but 8"):
        nb.published_quartiles(8)
