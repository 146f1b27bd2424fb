"""Fixtures that every test may use."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real maps and structures, named by CRYONB_DATA; skips without it."""
    name = os.environ.get("CRYONB_DATA")
    if not name:
        pytest.skip("CRYONB_DATA is not set: it names the folder of real maps and structures")
    folder = Path(name)
    if not folder.is_dir():
        # A name that leads nowhere is a mistake, not a machine without data.
        pytest.fail(f"CRYONB_DATA names {name}, which is not a folder")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator with a fixed seed for each test."""
    return np.random.default_rng(20240229)
