"""Backbone atoms from a map: grids, what reaches the network, peaks on the facade."""

import numpy as np
import pytest
import torch

import cryonb as nb
from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.errors import CryonbError, WeightsError
from cryonb.grid import Grid
from cryonb.networks.backbone import HEAT, SECONDARY, Backbone
from cryonb.networks.unet import UNet
from cryonb.networks.weights import save_weights
from cryonb.predict.backbone import predict_backbone
from cryonb.predict.tiles import predict_tiles
from cryonb.results import BackboneMap
from cryonb.simulate import phantom
from cryonb.trace.peaks import find_ca
from cryonb.train.backbone import heat_maps
from cryonb.volume import CLASSES, ProbabilityVolume


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    about = {"architecture": "backbone", "classes": list(Backbone.channels), "voxel_size": 1.0,
             "rim": 8}  # fmt: skip
    save_weights(Backbone(widths=(8, 8)), path, metadata=about)
    return path


@pytest.fixture(scope="module")
def helix():
    return phantom.alpha_helix(10).structure


@pytest.fixture(scope="module")
def density(helix):
    return nb.simulate(helix, resolution=3.0, voxel_size=1.3)


def test_heads_lie_on_one_grid_of_one_angstrom(density, weights):
    before = density.values.copy()
    found = density.predict_backbone(weights=weights, device="cpu", progress=False, tile=32)
    assert type(found) is BackboneMap
    assert found.heat.classes == HEAT
    assert found.residue.classes == AMINO_ACIDS
    assert found.secondary.classes == SECONDARY
    assert found.density is density
    for part in (found.heat, found.residue, found.secondary):
        assert part.voxel_size == (1.0, 1.0, 1.0)
        assert part.grid == density.grid.with_voxel_size(1.0)
    # Where nothing was looked at, there is nothing; elsewhere types sum to one.
    total = found.residue.values.sum(axis=0, dtype=np.float32)
    np.testing.assert_allclose(total[total > 0], 1, atol=1e-2)
    assert (total > 0).any()
    np.testing.assert_array_equal(density.values, before)


def test_empty_voxels_have_no_atoms():
    values = np.zeros((20, 20, 200), np.float32)
    values[:, :, :10] = 1

    def predictor(batch):
        return np.full((len(batch), 3, *batch.shape[2:]), 0.5)

    options = {"n_classes": 3, "edge": 16, "rim": 2, "multiple": 1, "progress": False}
    found = predict_tiles(values, predictor, background=False, **options)
    assert not found[..., 40:].any()
    assert (found[..., 2:10] == 0.5).all()
    found = predict_tiles(values, predictor, **options)
    assert (found[0, ..., 40:] == 1).all()


def test_peaks_of_true_heat_are_the_atoms(helix, density, tmp_path):
    atoms = Atoms.from_structure(helix)
    grid = Grid.around(atoms.position, 1.0, 5.0)
    channel = {name: k for k, name in enumerate(HEAT)}
    kept = np.isin(atoms.name, HEAT)
    heat = heat_maps(
        grid.to_index(atoms.position[kept]), np.array([channel[n] for n in atoms.name[kept]]),
        grid.shape,
    )  # fmt: skip
    residue = np.full((20, *grid.shape), 0.01, np.float32)
    residue[0] = 0.81
    state = np.ones((3, *grid.shape), np.float32) / 3
    found = BackboneMap(
        ProbabilityVolume(heat, grid, classes=HEAT, name="made"),
        ProbabilityVolume(residue, grid, classes=AMINO_ACIDS),
        ProbabilityVolume(state, grid, classes=SECONDARY),
        density,
    )
    scores = found.evaluate(helix).summary
    assert scores["f1"] == scores["type_accuracy"] == 1
    assert scores["rmsd"] < 0.1
    assert len(found.peaks(threshold=0.5)) == 10
    np.testing.assert_array_equal(found.peaks().position, find_ca(found.heat["CA"]).position)
    paths = found.save(tmp_path)
    assert [path.name for path in paths] == [f"made_{name}.mrc" for name in HEAT]
    np.testing.assert_allclose(nb.open_map(paths[0]).values, heat[0], atol=1e-6)
    assert "CA, N, C, P" in repr(found)


def test_without_weights_the_error_says_what_to_do(density):
    with pytest.raises(WeightsError, match=r"cryonb train recipes/backbone\.toml") as caught:
        density.predict_backbone(weights="backbone-of-nobody")
    assert "weights import" in str(caught.value)


def test_other_weights_and_maps_are_refused(density, weights, tmp_path):
    path = tmp_path / "unet.safetensors"
    about = {"architecture": "unet", "classes": list(CLASSES), "voxel_size": 1.0, "rim": 8}
    save_weights(UNet(5, (8, 8)), path, metadata=about)
    with pytest.raises(WeightsError, match="are those of unet"):
        predict_backbone(density, weights=path, device="cpu")
    with pytest.raises(WeightsError, match="are those of backbone; see"):
        density.predict_sse(method=weights, device="cpu")
    with pytest.raises(CryonbError, match="positive density"):
        predict_backbone(density.replace(-np.abs(density.values)), weights=weights)
