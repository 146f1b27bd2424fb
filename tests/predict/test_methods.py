"""`predict_sse` with each kind of network: the grid of the result, and what reaches the network."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from cryonb.errors import CryonbError
from cryonb.grid import Grid
from cryonb.networks.emap2sec import Emap2sec, truncated
from cryonb.networks.haruspex import Haruspex
from cryonb.networks.weights import load_module, save_weights
from cryonb.opening import example, example_model
from cryonb.predict.secondary_structure import emap2sec_windows, predict_sse
from cryonb.volume import Volume


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("weights")
    small = truncated(Emap2sec(dense=False), rank=2, rank_two=2)
    paths = {"unet": "unet"}
    for name, network in (("emap2sec", small), ("haruspex", Haruspex())):
        paths[name] = str(folder / f"{name}.safetensors")
        save_weights(network, paths[name], metadata={"architecture": name, "voxel_size": 1.0})
    return paths


@pytest.fixture(scope="module")
def volume():
    shape = (17, 24, 30)
    z, y, x = np.ogrid[:17, :24, :30]
    ball = np.exp(-((z - 8) ** 2 + (y - 11) ** 2 + (x - 14) ** 2) / 40)
    return Volume(ball.astype(np.float32), Grid(shape, (1.3,) * 3, (4.0, -5.0, 6.0)))


@pytest.mark.parametrize("name", ["unet", "emap2sec", "haruspex"])
def test_classes_sum_to_one_on_either_grid(volume, weights, name):
    for on in ("input", "network"):
        found = predict_sse(volume, method=weights[name], on=on, device="cpu", progress=False)
        assert found.grid.is_close(volume.grid) == (on == "input")
        np.testing.assert_allclose(found.values.sum(axis=0, dtype=np.float32), 1, atol=2e-3)


@pytest.mark.parametrize(("name", "sizes"), [("unet", {"tile": 64, "batch": 2}),
    ("haruspex", {"tile": 48, "batch": 3}), ("emap2sec", {"batch": 77})])  # fmt: skip
def test_sizes_asked_for_reach_the_network(volume, weights, monkeypatch, name, sizes):
    seen = {}

    def spy(*_, **options):
        seen.update(options)
        raise StopIteration

    place = {
        "unet": "cryonb.predict.secondary_structure.predict_tiles",
        "haruspex": "cryonb.predict.haruspex.predict_tiles",
        "emap2sec": "cryonb.predict.emap2sec.phase_one",
    }[name]
    monkeypatch.setattr(place, spy)
    with pytest.raises(StopIteration):
        predict_sse(volume, method=weights[name], device="cpu", progress=False, **sizes)
    assert seen["batch"] == sizes["batch"]
    assert seen.get("edge") == sizes.get("tile")


def test_an_average_over_all_rotations_knows_no_direction(rng):
    # An edge of a tile, so that nothing is padded on one side alone.
    ball = rng.random((32, 32, 32), dtype=np.float32)
    ball[:6] = ball[-6:] = ball[:, :6] = ball[:, -6:] = ball[..., :6] = ball[..., -6:] = 0
    turned = np.ascontiguousarray(np.rot90(ball, 1, (0, 2)))

    def asymmetry(rotations):
        one, other = (
            predict_sse(
                Volume(values, Grid(values.shape, 1.0)), rotations=rotations, device="cpu",
                progress=False,
            ).values.astype(np.float32)
            for values in (ball, turned)
        )  # fmt: skip
        return np.abs(other - np.rot90(one, 1, (1, 3))).mean()

    # What is left is the rounding of bfloat16, where the processor has it.
    assert asymmetry(24) < 0.1 * asymmetry(1)


def test_rotations_are_of_the_unet_alone(volume, weights):
    with pytest.raises(CryonbError, match="by the method 'unet' alone"):
        predict_sse(volume, method=weights["haruspex"], rotations=4, progress=False)


def test_emap2sec_has_no_tiles(volume, weights):
    with pytest.raises(CryonbError, match="tiles of 64"):
        predict_sse(volume, method=weights["emap2sec"], tile=64)


def test_weights_of_a_family_are_not_finer_than_the_map(weights, tmp_path, monkeypatch):
    from shutil import copyfile

    from cryonb.networks import weights as room

    for name in ("windows_6A", "windows_10A"):
        for suffix in (".safetensors", ".json"):
            source = weights["emap2sec"].removesuffix(".safetensors") + suffix
            about = tmp_path / f"{name}{suffix}"
            copyfile(source, about)
        about.write_text(about.read_text().replace("{", f'{{"made": "{name}", ', 1))
    monkeypatch.setattr(room, "_FOLDER", tmp_path)
    chosen = {d: load_module("windows", resolution=d)[1]["made"] for d in (None, 3, 6, 6.5, 20)}
    assert chosen == {None: "windows_6A", 3: "windows_6A", 6: "windows_6A", 6.5: "windows_10A",
                      20: "windows_10A"}  # fmt: skip


def test_our_haruspex_gets_the_only_voxels_that_it_knows(monkeypatch):
    # On voxels of 1.0 Å, which the original may have, everything is a tenth larger to it.
    seen = {}

    def spy(volume, network, **options):
        seen.update(options)
        raise StopIteration

    monkeypatch.setattr("cryonb.predict.haruspex.predict_haruspex", spy)
    m = Volume(np.ones((8, 8, 8), np.float32), Grid((8, 8, 8)))
    with pytest.raises(StopIteration):
        predict_sse(m, method="haruspex", device="cpu", progress=False)
    assert seen["voxel_size"] == pytest.approx(1.1)
    assert seen["scaled"]


@pytest.mark.parametrize(("finest", "blurs"), [(6.0, True), (3.0, False), (None, False)])
def test_finer_maps_are_blurred_for_emap2sec(volume, monkeypatch, finest, blurs):
    torch.manual_seed(4)
    network = truncated(Emap2sec(dense=False), rank=2, rank_two=2)
    seen = []
    monkeypatch.setattr(
        "cryonb.predict.emap2sec.predict_windows", lambda unit, *_, **__: seen.append(unit)
    )
    emap2sec_windows(volume, network, {"resolution": finest, "contour": 0.1}, resolution=4.0)
    for note in ("blurred from 4 to 6", "as molmap's at 6 Å"):
        assert any(note in line for line in seen[0].history) == blurs


def test_a_contour_level_of_a_finer_map_is_not_that_of_the_blurred_one(monkeypatch):
    torch.manual_seed(4)
    network = truncated(Emap2sec(dense=False), rank=2, rank_two=2)
    seen = []
    monkeypatch.setattr(
        "cryonb.predict.emap2sec.predict_windows",
        lambda unit, _, contour: seen.append((unit, contour)),
    )
    values = np.zeros((40, 40, 40), np.float32)
    values[18:22, 18:22, 18:22] = 5.0
    values[5:8, 5:8, 5:8] = 1.0
    m = Volume(values, Grid((40, 40, 40), (1.0,) * 3, (0.0,) * 3))
    about = {"resolution": 8.0, "contour": 0.1}
    for contour in (2.0, None):
        emap2sec_windows(m, network, about, contour=contour, resolution=3.0)
    (cut, level), (whole, same) = seen
    # What is below the level is gone before the map is blurred, and the level falls with the map.
    assert abs(cut.values[6, 6, 6]) < 1e-3 < whole.values[6, 6, 6]
    assert level == pytest.approx(0.1 * cut.max)
    assert level < 2.0
    assert same == pytest.approx(0.1 * whole.max)
    with pytest.raises(CryonbError, match="above the contour level 6"):
        emap2sec_windows(m, network, about, contour=6.0, resolution=3.0)
    emap2sec_windows(m, network, about, contour=2.0, resolution=9.0)
    assert seen[-1][1] == 2.0


def test_haruspex_reads_a_map_on_voxels_of_one_angstrom():
    if find_spec("nglview") is None:  # Importing it here would be too early for the viewer.
        pytest.skip("the model of rhodopsin comes with nglview")
    m = example("rhodopsin", resolution=3.0)
    assert m.voxel_size == (1.0, 1.0, 1.0)
    found = m.predict_sse(method="haruspex", device="cpu", progress=False).background_as_coil()
    # Taken for voxels of 1.1 Å, helices were called strand, and 0.30 of the residues were right.
    assert found.evaluate(example_model("rhodopsin")).summary["q3"] > 0.6
