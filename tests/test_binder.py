"""The environment of Binder links holds what the package asks for."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Names on conda-forge that differ from those on PyPI.
CONDA = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}


def names(requirements):
    return {re.match(r"[A-Za-z0-9_-]+", text)[0].lower() for text in requirements}


def test_binder_installs_every_dependency():
    # postBuild installs the package without its dependencies, so that none comes from two places.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = names([*project["dependencies"], *project["optional-dependencies"]["notebook"]])
    lines = (ROOT / "binder" / "environment.yml").read_text().splitlines()
    listed = names(line.strip()[2:] for line in lines if line.strip().startswith("- "))
    assert {CONDA.get(name, name) for name in needed} <= listed
