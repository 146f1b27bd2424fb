"""Temperatures of classes: found again where they are known, and stored with weights."""

import json

import numpy as np
import pytest

from cryonb.evaluate.calibration import calibration, calibration_error
from cryonb.networks.tempering import tempered
from cryonb.networks.weights import load_network
from cryonb.train.calibrate import fit_tempering
from cryonb.train.loop import train_network

TEMPERATURE, OFFSET = np.array([1.6, 0.8, 1.2, 1.0]), np.array([0.3, -0.4, 0.1, 0.0])


def drawn(n, rng):
    """Probabilities of one atom a residue, and classes that follow them."""
    p = rng.dirichlet([0.6, 0.6, 0.6, 0.6], size=n)
    truth = 1 + (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=3)
    return np.pad(p, ((0, 0), (1, 0))).astype(np.float32), truth


def test_known_temperatures_are_found_again(rng):
    p, truth = drawn(20_000, rng)
    # What a network with these temperatures would have said: the inverse of `tempered`.
    wrong = tempered(p, 1 / TEMPERATURE, -OFFSET * TEMPERATURE)
    owner, weight = np.arange(len(truth)), np.ones(len(truth))
    fitted = fit_tempering(wrong, owner, truth, weight)
    right = tempered(wrong, **fitted)
    assert np.abs(fitted["temperature"] - TEMPERATURE).max() < 0.1
    assert calibration_error(calibration(truth, wrong)) > 0.05
    assert calibration_error(calibration(truth, right)) < 0.015


def test_rare_classes_keep_their_own(rng):
    p, truth = drawn(5_000, rng)
    kept = (truth != 4) | (np.cumsum(truth == 4) < 50)
    fitted = fit_tempering(p[kept], np.arange(kept.sum()), truth[kept], np.ones(kept.sum()))
    assert (fitted["temperature"][3], fitted["offset"][3]) == (1, 0)
    nothing = fit_tempering(p[:9], np.arange(9), truth[:9], np.ones(9))
    assert nothing == {"temperature": [1.0] * 4, "offset": [0.0] * 4}


def test_background_and_sums_stay(rng):
    p = rng.dirichlet(np.ones(5), size=(2, 3, 4, 6)).transpose(0, 4, 1, 2, 3).astype(np.float32)
    made = tempered(p, TEMPERATURE, OFFSET)
    assert made.shape == p.shape
    np.testing.assert_array_equal(made[:, 0], p[:, 0])
    np.testing.assert_allclose(made.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(tempered(p, np.ones(4), np.zeros(4)), p, atol=1e-5)
    # Nothing but background, and certainty, come through.
    sure = np.eye(5, dtype=np.float32)[None].transpose(0, 2, 1)
    np.testing.assert_allclose(tempered(sure, np.ones(4), np.zeros(4)), sure, atol=1e-4)


@pytest.mark.slow
def test_recipes_calibrate_on_measured_maps(data, tmp_path):
    recipe = {
        "name": "tiny", "architecture": "unet", "data": str(data), "widths": (8, 8), "edge": 16,
        "scenes": 1, "measured": 1, "steps": 2, "workers": 0, "phantoms": 2,
        "calibrate": ("6272/6272_zone4A.mrc.gz",),
    }  # fmt: skip
    weights = train_network(recipe, tmp_path, device="cpu", progress=False)
    stored = json.loads(weights.with_suffix(".json").read_text())["tempering"]
    assert len(stored["temperature"]) == 4
    assert stored["temperature"] != [1.0] * 4
    x = np.random.default_rng(1).random((1, 1, 16, 16, 16)).astype(np.float32)
    network = load_network(weights, device="cpu")
    found = network(x)
    del network.description["tempering"]
    np.testing.assert_allclose(tempered(network(x), **stored), found, atol=1e-5)
