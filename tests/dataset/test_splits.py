"""Splits: parts as asked, clusters whole, and no entry moved by others."""

import numpy as np
import pandas as pd
import pytest

from cryonb.dataset.splits import SPLITS, split_entries
from cryonb.errors import CryonbError


@pytest.fixture
def table(rng):
    n = 400
    return pd.DataFrame(
        {
            "id": [f"EMD-{k}" for k in range(n)],
            "resolution": rng.choice([1.8, 2.5, 3.5, 5.0], n, p=[0.1, 0.3, 0.5, 0.1]),
            "cluster": rng.integers(0, 120, n),
        }
    )


def test_each_range_of_resolution_is_split_alike(table):
    found = split_entries(table)["split_resolution"]
    for _, part in found.groupby(table["resolution"]):
        counts = part.value_counts().reindex(SPLITS, fill_value=0).to_numpy()
        assert np.abs(counts - len(part) * np.array([0.8, 0.1, 0.1])).max() <= 2


def test_clusters_stay_whole_and_parts_are_met(table):
    found = split_entries(table)["split_cluster"]
    assert (found.groupby(table["cluster"]).nunique() == 1).all()
    share = found.value_counts(normalize=True)
    assert abs(share["train"] - 0.8) < 0.02
    assert abs(share["test"] - 0.1) < 0.02


def test_an_entry_stays_where_its_id_puts_it(table):
    found = split_entries(table)["split_id"]
    fewer = split_entries(table[100:200])["split_id"]
    assert fewer.equals(found[100:200])
    assert abs((found == "train").mean() - 0.8) < 0.06
    assert not split_entries(table, seed=1)["split_id"].equals(found)


def test_a_part_of_zero_stays_empty(table):
    found = split_entries(table, fractions=(0.9, 0.1, 0.0))
    assert not (found == "test").any(axis=None)
    assert set(found["split_cluster"]) == {"train", "validation"}


def test_parts_must_sum_to_one(table):
    for fractions in ((0.5, 0.1, 0.1), (1.2, -0.1, -0.1), (0.9, 0.1)):
        with pytest.raises(CryonbError, match="sum to 1"):
            split_entries(table, fractions=fractions)
