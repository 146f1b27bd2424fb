"""Ask cctbx for Q-scores (32 probes): the reference of tests/evaluate.

    pip install cctbx-base==2025.11 mrcfile gemmi pandas scipy   # in an environment of its own
    CRYONB_DATA=<folder of maps> python tests/reference/cctbx_qscore.py

writes cctbx_qscore.csv beside this file: a row a residue of EMD-30342 with 7CEC, chain A.
"""

import os
import tempfile
from pathlib import Path

# isort: off
# cctbx crashes unless its data manager is imported first of all.
from iotbx.data_manager import DataManager
from iotbx.map_model_manager import map_model_manager
from cctbx.maptbx import qscore
from cctbx_correlation import CASES, one_frame
# isort: on

_, map_name, model_name, _ = CASES[0]
data = Path(os.environ["CRYONB_DATA"]) / "maps"
with tempfile.TemporaryDirectory() as folder:
    files = one_frame(data / map_name, data / model_name, Path(folder))
    manager = DataManager()
    both = map_model_manager(
        map_manager=manager.get_real_map(str(files[0])),
        model=manager.get_model(str(files[1])),
        ignore_symmetry_conflicts=True,
    )
shells = [round(0.1 * k, 1) for k in range(1, 21)]
found = qscore.calc_qscore(both, shells=shells, n_probes=32)["qscore_dataframe"]
table = found.drop_duplicates(["chain_id", "resseq"])[["chain_id", "resseq", "Q-Residue"]]
table.columns = ["chain", "number", "q"]
table = table.assign(number=table["number"].astype(str).str.strip())
table.to_csv(Path(__file__).parent / "cctbx_qscore.csv", index=False, float_format="%.5f")
