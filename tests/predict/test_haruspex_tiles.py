"""Haruspex over a map: coverage, and what the original's stitching does instead."""

import numpy as np
import pytest
import torch

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.label.haruspex import ORDER
from cryonb.networks.haruspex import Haruspex
from cryonb.predict.haruspex import predict_haruspex, write_haruspex
from cryonb.volume import CLASSES, ProbabilityVolume, Volume


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return Haruspex().eval()


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    monkeypatch.setattr("cryonb.networks.weights.bfloat16_is_fast", lambda device: False)


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(5)
    shape = (14, 23, 38)
    return Volume(rng.normal(size=shape).astype(np.float32), Grid(shape, (1.1,) * 3), name="v")


def test_tiles_make_no_difference(volume, network):
    options = {"skip": False, "progress": False}
    small = predict_haruspex(volume, network, tile=48, **options)
    large = predict_haruspex(volume, network, tile=72, **options)
    assert small.grid == large.grid == volume.grid
    np.testing.assert_allclose(small.values.astype(float), large.values.astype(float), atol=2e-3)
    # The same as one tile over all of it, with zeros around.
    x = np.pad(volume.values, [(14, 20), (14, 15), (14, 16)])
    with torch.inference_mode():
        logits = network(torch.from_numpy(x)[None, None])
    whole = torch.softmax(logits, dim=1)[0, :, 4:18, 4:27, 4:42].numpy()
    for channel, ours in ((0, "strand"), (1, "helix"), (2, "nucleotide"), (3, "background")):
        np.testing.assert_allclose(large[ours].values, whole[channel], atol=2e-3)
    assert not large["coil"].values.any()


def original_stitching(values, tile_of):
    """Where the published program takes and puts its tiles, along one axis."""
    n = len(values)
    out = np.zeros(n)
    for i in range(int(np.ceil((n - 20) / 20))):
        start = min(20 * i, n - 40)
        target = min(20 * i + 10, n - 40)
        out[target : target + 20] = tile_of(values[start : start + 40])
    return out


def test_the_originals_last_tile_is_misplaced_and_ours_is_not(volume, network):
    # A "network" that gives back the middle of its tile shows where things land.
    ramp = np.arange(1, 101.0)
    landed = original_stitching(ramp, lambda tile: tile[10:30])
    assert (landed[80:] == 0).all()
    np.testing.assert_array_equal(landed[60:80], ramp[70:90])
    assert (landed[:10] == 0).all()

    found = predict_haruspex(volume, network, tile=56, skip=False, progress=False)
    total = found.values.astype(float).sum(axis=0)
    np.testing.assert_allclose(total, 1, atol=4e-3)


def test_voxels_outside_1_to_1_2_are_resampled(network):
    rng = np.random.default_rng(6)
    values = rng.normal(size=(12, 12, 12)).astype(np.float32)
    for size, expected in ((1.15, 1.15), (1.4, 1.1), (0.8, 1.1)):
        volume = Volume(values, Grid(values.shape, (size,) * 3))
        found = predict_haruspex(volume, network, progress=False)
        assert found.voxel_size == pytest.approx((expected,) * 3)
    close = Volume(values, Grid(values.shape, (1.0,) * 3))
    for exact in (1.1, 1.0):
        found = predict_haruspex(close, network, voxel_size=exact, progress=False)
        assert found.voxel_size == pytest.approx((exact,) * 3)
    kept = predict_haruspex(volume, network, rescale=False, progress=False)
    assert kept.voxel_size == (0.8,) * 3
    with pytest.raises(CryonbError, match="multiple of 4"):
        predict_haruspex(volume, network, tile=42)


def test_files_of_the_original_are_written(tmp_path, volume):
    import mrcfile

    rng = np.random.default_rng(7)
    values = rng.dirichlet(np.ones(len(CLASSES)), size=volume.shape).astype(np.float32)
    found = ProbabilityVolume(np.moveaxis(values, -1, 0), volume.grid)
    written = write_haruspex(found, tmp_path, "m", density=volume)
    names = {"m_sheet.mrc", "m_helix.mrc", "m_npair.mrc", "m_predict4.npz"}
    assert {p.name for p in tmp_path.iterdir()} == names == {p.name for p in written}
    with mrcfile.open(tmp_path / "m_npair.mrc") as file:
        np.testing.assert_allclose(file.data, found["nucleotide"].values * volume.values)
    with np.load(tmp_path / "m_predict4.npz") as stored:
        assert stored["map"].shape == (*volume.shape, 4)
        sheet = stored["map"][..., ORDER.index("sheet")]
        np.testing.assert_allclose(sheet, found["strand"].values * volume.values)
    with pytest.raises(CryonbError, match="resample it first"):
        write_haruspex(found, tmp_path, "m", density=Volume(np.ones((3, 3, 3)), Grid((3, 3, 3))))
