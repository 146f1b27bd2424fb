"""A data folder for training."""

import pandas as pd
import pytest

from cryonb.simulate import phantom


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder with phantoms as structures."""
    root = tmp_path_factory.mktemp("data")
    rows = []
    for number, kind in enumerate(["a", "b"] * 6):
        if kind == "a":
            made = phantom.alpha_helix(14 + number).structure
        else:
            made = phantom.beta_sheet(3, length=6 + number).structure
        name = f"scope_{kind}/{number}.pdb"
        (root / "structures" / f"scope_{kind}").mkdir(parents=True, exist_ok=True)
        made.write_pdb(str(root / "structures" / name))
        rows.append((name, f"x{number}", kind, f"{kind}.{number}.1.1", f"c{number}"))
    columns = ["file", "pdb_id", "scope_class", "scope_sf", "cluster_id"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "structures" / "INDEX.csv", index=False)
    return root
