"""Three ways to label one map, against their definitions."""

import numpy as np
import pytest

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.label.published import published_labels
from cryonb.label.secondary_structure import secondary_structure
from cryonb.simulate import phantom
from cryonb.simulate.gaussian import gaussian_map
from cryonb.volume import CLASSES


@pytest.fixture(scope="module")
def structure():
    made = phantom.combine(
        [phantom.alpha_helix(12), phantom.beta_sheet(2, length=6).moved(translation=(18, 0, 0))]
    )
    return made.structure


@pytest.fixture(scope="module")
def volume(structure):
    return gaussian_map(structure, resolution=4.0, margin=5.0)


@pytest.fixture(scope="module")
def alpha(structure):
    atoms = Atoms.from_structure(structure)
    is_ca = atoms.name == "CA"
    return atoms.position[is_ca], secondary_structure(atoms).state[atoms.residue[is_ca]]


def test_emap2sec_takes_the_nearest_alpha_carbon(structure, volume, alpha):
    position, state = alpha
    found = published_labels(structure, volume, "emap2sec")
    points = volume.grid.to_points(np.argwhere(np.ones(volume.shape, dtype=bool)))
    away = np.linalg.norm(points[:, None] - position, axis=-1)
    expected = np.where(away.min(axis=1) < 3, state[away.argmin(axis=1)], 0)
    assert (found.values.ravel() == expected).mean() > 0.9999
    assert {"helix", "strand", "coil"} <= {n for n, k in found.counts().items() if k}


def test_haruspex_knows_no_coil_and_masks(structure, volume):
    found = published_labels(structure, volume, "haruspex")
    counts = found.counts()
    assert found.classes == (*CLASSES, "masked")
    assert counts["coil"] == 0
    assert min(counts["helix"], counts["strand"]) > 300


def test_cryo2struct_marks_single_voxels(structure, volume, alpha):
    position, state = alpha
    found = published_labels(structure, volume, "cryo2struct")
    counts = found.counts()
    assert sum(counts.values()) - counts["background"] == len(position)
    z, y, x = np.floor((position[5] - volume.origin) / 1.0)[::-1].astype(int)
    assert found.values[z, y, x] == state[5]


def test_other_schemes_are_refused(structure, volume):
    with pytest.raises(CryonbError, match="scheme of emap2sec"):
        published_labels(structure, volume, "stride")
