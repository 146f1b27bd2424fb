"""Emap2sec over a map: fast paths against plain loops."""

import numpy as np
import pytest
import torch

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.networks.emap2sec import Emap2sec
from cryonb.predict import emap2sec
from cryonb.predict.emap2sec import Windows, predict_windows, unit_range, window_grid, windows_of
from cryonb.volume import CLASSES, Volume


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(17, 14, 21)).astype(np.float32)
    return Volume(values, Grid((17, 14, 21), (1.0, 1.0, 1.0), (5.0, -3.0, 40.0)), name="v")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return Emap2sec(rank=4).eval()


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    # Equality is proven in float32, whatever the processor prefers.
    monkeypatch.setattr("cryonb.networks.weights.bfloat16_is_fast", lambda device: False)


def test_density_is_scaled_as_the_paper_says():
    values = np.array([-1.0, 0.0, 0.5, 1.0, 2.0], dtype=np.float32)
    np.testing.assert_allclose(unit_range(values), [0, 0, 0.25, 0.5, 1])
    np.testing.assert_allclose(unit_range(values, contour=0.6), [0, 0, 0, 0.5, 1])
    code = unit_range(values, contour=0.4, convention="code")
    np.testing.assert_allclose(code, [0, 0, 0, 1 / 3, 1])
    with pytest.raises(CryonbError, match="above the contour level 3"):
        unit_range(values, contour=3.0, convention="code")
    with pytest.raises(CryonbError, match="'paper' or 'code'"):
        unit_range(values, convention="book")


@pytest.mark.parametrize("stride", [2, 4])
def test_both_phases_are_what_a_plain_loop_gives(volume, network, stride):
    found = predict_windows(volume, network, contour=0.3, stride=stride, batch=37, progress=False)
    values = unit_range(volume.values, contour=0.3)
    padded = np.pad(values, 5)
    centre, one = [], {}
    for z in range(0, 17, stride):
        for y in range(0, 14, stride):
            for x in range(0, 21, stride):
                if values[z, y, x] > 0:
                    window = padded[z : z + 11, y : y + 11, x : x + 11].copy()
                    with torch.inference_mode():
                        logits = network.one(torch.from_numpy(window)[None, None])
                    centre.append((z // stride, y // stride, x // stride))
                    one[centre[-1]] = torch.softmax(logits, dim=1)[0].numpy()
    np.testing.assert_array_equal(found.centre, centre)
    np.testing.assert_allclose(found.one, [one[c] for c in centre], atol=1e-5)
    two = []
    for z, y, x in centre:
        row = []
        for dz in (-1, 0, 1):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    p = one.get((z + dz, y + dy, x + dx))
                    row += [0, 0, 0, 1] if p is None else [*p, 0]
        with torch.inference_mode():
            logits = network.two(torch.tensor([row], dtype=torch.float32))
        two.append(torch.softmax(logits, dim=1)[0].numpy())
    np.testing.assert_allclose(found.two, two, atol=1e-5)


def test_dense_blocks_fit_together(volume, monkeypatch):
    torch.manual_seed(2)
    network = Emap2sec(dense=True, rank=4).eval()
    whole = predict_windows(volume, network, progress=False)
    monkeypatch.setattr(emap2sec, "_BLOCK", 3)
    blocks = predict_windows(volume, network, progress=False)
    np.testing.assert_allclose(blocks.one, whole.one, atol=1e-5)
    with pytest.raises(CryonbError, match="stride of 2"):
        predict_windows(volume, network, stride=4, progress=False)


def test_windows_lie_where_their_centres_are(volume):
    grid = window_grid(volume.grid)
    view = windows_of(volume.values)
    assert view.shape[:3] == grid.shape
    np.testing.assert_array_equal(view[2, 3, 4, 5, 5, 5], volume.values[4, 6, 8])
    np.testing.assert_allclose(grid.to_points([[2, 3, 4]]), volume.grid.to_points([[4, 6, 8]]))


def windows(keep):
    one = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]], dtype=np.float32)
    two = np.array(
        [[0.9, 0.0, 0.1, 0.0], [0.1, 0.8, 0.1, 0.0], [0.1, 0.1, 0.1, 0.7]], dtype=np.float32
    )
    grid = Grid((2, 2, 2), (2.0, 2.0, 2.0), (1.0, 2.0, 3.0))
    return Windows(grid, np.array([[0, 0, 0], [0, 1, 0], [1, 1, 1]]), one, two, keep)


def test_rule_for_experimental_maps_keeps_structure():
    assert windows(False).label_two.tolist() == [0, 1, 3]
    assert windows(True).label_two.tolist() == [2, 1, 3]
    assert set(windows(False).class_two.tolist()) <= {0, 1, 2}
    assert windows(False).class_two[:2].tolist() == [0, 1]
    assert windows(True).class_two[:2].tolist() == [2, 1]
    # The probabilities say the same as the labels.
    for keep, first in ((False, "coil"), (True, "helix")):
        volume = windows(keep).volume()
        labels = volume.values.argmax(axis=0)[tuple(windows(keep).centre.T)]
        assert [CLASSES[k] for k in labels] == [first, "strand", "background"]
        np.testing.assert_allclose(volume.values.sum(axis=0), 1, atol=1e-6)


def test_files_of_the_original_are_written(tmp_path):
    import gemmi

    paths = windows(True).write(tmp_path, "map")
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in paths}
    lines = (tmp_path / "outputP2_map").read_text().splitlines()
    assert lines[:3] == ["#map", "0;0;0;", "2;1;3;"]
    assert [float(v) for v in lines[3].strip("[]").split(", ")] == pytest.approx([0.9, 0, 0.1, 0])
    assert len(lines) == 6
    assert (tmp_path / "outputP1_map").read_text().splitlines()[1] == "0.0;0.0;0.0;"
    model = gemmi.read_pdb(str(tmp_path / "map.pdb"))[0]
    assert {chain.name: len(chain) for chain in model} == {"B": 1, "C": 1, "D": 1}
    atom = model["C"][0][0]
    assert (atom.name, atom.pos.tolist()) == ("CA", [1.0, 2.0, 3.0])
    assert "magenta" in (tmp_path / "map.pml").read_text()
