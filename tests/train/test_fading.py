"""Weak side chains and overstated resolutions of simulated maps."""

import numpy as np
import pytest

import cryonb as nb
from cryonb.simulate.experiment import Experiment
from cryonb.train.fading import faded, overstated
from cryonb.train.library import model_columns
from cryonb.train.samples import Scenes


@pytest.fixture(scope="module")
def atoms():
    """Columns of a model with side chains."""
    return model_columns(nb.example_model("rhodopsin"))


@pytest.mark.parametrize("seed", range(3))
def test_side_chains_fade_away_from_the_main_chain(atoms, seed):
    occupancy, b = faded(atoms, np.random.default_rng(seed))
    assert occupancy.shape == b.shape == atoms["residue"].shape
    main = (atoms["role"] != 0) & ~atoms["acid"]
    assert main.any()
    assert (occupancy[main] == 1).all()
    assert (b[main] == 0).all()
    assert occupancy.max() <= 1
    assert b.min() >= 0
    assert b.max() > 20
    assert (occupancy[atoms["acid"]] <= 0.6).all()
    # Within a residue, the farther atom has the larger B.
    alpha = np.full((atoms["residue"].max() + 1, 3), np.nan)
    alpha[atoms["residue"][atoms["alpha"]]] = atoms["position"][atoms["alpha"]]
    away = np.linalg.norm(atoms["position"] - alpha[atoms["residue"]], axis=1)
    for residue in np.unique(atoms["residue"]):
        mine = (atoms["residue"] == residue) & (atoms["role"] == 0) & np.isfinite(away)
        assert (np.diff(b[mine][np.argsort(away[mine])]) >= 0).all()


def test_what_has_no_alpha_carbon_stays(atoms):
    rng = np.random.default_rng(1)
    nothing = atoms | {"alpha": np.zeros_like(atoms["alpha"])}
    occupancy, b = faded(nothing, rng)
    assert (b == 0).all()
    assert (occupancy[~atoms["acid"]] == 1).all()


def test_overstated_maps_are_noise_at_their_resolution():
    rng = np.random.default_rng(1)
    noise = [overstated(Experiment(3.0, noise=0.1), rng).noise for _ in range(50)]
    assert 4 < min(noise) < max(noise) < 60


def test_scenes_fade_and_overstate_in_the_shares_that_are_asked(library):
    options = {"seed": 3, "edge": 16, "measured": 2}
    weight = np.ones(len(library.files))
    plain, same = Scenes(library, weight, **options), Scenes(library, weight, **options, faded=0.0)
    weak = Scenes(library, weight, **options, faded=1.0)
    noisy = Scenes(library, weight, **options, overstated=1.0)
    for number in range(3):
        one, two, three, four = (list(s.measurements(number)) for s in (plain, same, weak, noisy))
        assert all(np.array_equal(a[1], b[1]) for a, b in zip(one, two, strict=True))
        assert not np.array_equal(one[0][1], three[0][1])
        assert all(experiment.noise > 4 for *_, experiment in four)
