"""Ask servalcat for Fourier shell correlations: the reference of tests/evaluate.

    pip install servalcat==0.4.105 "pandas<3" mrcfile scipy       # in an environment of its own
    CRYONB_DATA=<folder of maps> python tests/reference/servalcat_fsc.py

writes servalcat_fsc.csv beside this file: the curves of `servalcat fsc` for the half maps, mask and
model of half_maps.py.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from half_maps import write_all

COLUMNS = [
    "d_min", "d_max", "ncoeffs", "fsc_half_unmasked", "fsc_half_masked", "fsc_half_masked_rand",
    "fsc_half_masked_corrected", "fsc_FC_full",
]  # fmt: skip

with tempfile.TemporaryDirectory() as folder:
    write_all(os.environ["CRYONB_DATA"], folder)
    subprocess.run(
        [
            str(Path(sys.executable).with_name("servalcat")), "fsc", "--halfmaps", "half1.mrc",
            "half2.mrc", "--model", "model.cif", "--mask", "mask.mrc", "-o", "fsc", "--csv",
        ],
        check=True, cwd=folder, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    table = pd.read_csv(Path(folder) / "fsc.csv")[COLUMNS]
table.to_csv(Path(__file__).parent / "servalcat_fsc.csv", index=False, float_format="%.6g")
