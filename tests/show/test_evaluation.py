"""What an evaluation draws and says of itself."""

import numpy as np
import pandas as pd
import pytest

import cryonb as nb
from cryonb.errors import CryonbError
from cryonb.evaluate.secondary_structure import SUMMARY_KEYS
from cryonb.show.evaluation import DrawnEvaluation
from cryonb.volume import CLASSES


@pytest.fixture
def judged():
    """Four residues, one of them wrong."""
    truth = ["helix", "helix", "strand", "coil"]
    found = ["helix", "coil", "strand", "coil"]
    table = pd.DataFrame(
        {"chain": "A", "number": [1, 2, 3, 4], "icode": "", "name": "ALA", "truth": truth,
         "predicted": found}
    )  # fmt: skip
    table["correct"] = table["truth"] == table["predicted"]
    for name in CLASSES:
        table[name] = np.where(table["predicted"] == name, 0.75, 0.0625)
    summary = pd.Series(dict.fromkeys(SUMMARY_KEYS, 0.5))
    summary["q3"], summary["n_residues"] = 0.75, 4
    return DrawnEvaluation(summary, table, pd.DataFrame())


def test_confusion_counts_truth_by_prediction(judged):
    table = judged.confusion()
    assert list(table.index) == ["helix", "strand", "coil"]
    assert table.loc["helix", "coil"] == 1
    assert table.to_numpy().sum() == 4
    assert np.trace(table.to_numpy()) == 3


def test_it_says_the_main_figures(judged):
    text = judged._repr_html_()
    assert "4 residues" in text
    assert "Q3 0.750" in text
    # Sure to 0.75 and right in three of four.
    assert "calibration error 0.000" in text
    assert "image/png" in text


def test_fractions_are_drawn_as_counted(judged):
    axes = judged.plot("fractions").axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [0.5, 0.25, 0.25, 0.25, 0.25, 0.5]
    assert len({bar.get_hatch() for bar in axes.patches[3:]}) == 3


def test_an_unknown_kind_is_refused(judged):
    with pytest.raises(CryonbError, match="residues, fractions, calibration"):
        judged.plot("pie")


def test_thumbnails_have_the_colours_of_classes():
    import base64
    import io
    import re

    from matplotlib.image import imread

    values = np.zeros((5, 6, 7, 8), dtype=np.float32)
    values[0], values[1, 3], values[0, 3] = 1, 1, 0
    sse = nb.ProbabilityVolume(values, nb.Grid((6, 7, 8), (1.0,) * 3, (0.0,) * 3))
    from cryonb.show.repr import html_of

    pictures = re.findall(r"base64,([^\"]+)", html_of(sse))
    first = imread(io.BytesIO(base64.b64decode(pictures[0])))[..., :3]
    assert first.shape == (7, 8, 3)
    np.testing.assert_allclose(first[0, 0] * 255, (213, 94, 0), atol=1)
    second = imread(io.BytesIO(base64.b64decode(pictures[1])))[..., :3]
    np.testing.assert_allclose(second[0], 1)
