"""Ask cctbx's mtriage for resolutions: the reference of tests/evaluate.

    pip install cctbx-base==2025.11 mrcfile gemmi scipy       # in an environment of its own
    CRYONB_DATA=<folder of maps> python tests/reference/mtriage_fsc.py

writes mtriage_fsc.json beside this file: d_fsc (0.143), d_fsc_05 of the half maps of half_maps.py,
d_fsc_model_05 and d_fsc_model_0143 of their mean with the model, without and with mtriage's own
mask around the model.
"""

import json
import os
import tempfile
from pathlib import Path

# isort: off
# cctbx crashes unless its data manager is imported first of all.
from iotbx.data_manager import DataManager
from iotbx.map_model_manager import map_model_manager
from mmtbx.maps import mtriage
from half_maps import write_all
# isort: on

KEYS = ("d_fsc", "d_fsc_05", "d_fsc_model_05", "d_fsc_model_0143")

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    write_all(os.environ["CRYONB_DATA"], folder)
    manager = DataManager()
    half1, half2, full = (
        manager.get_real_map(str(folder / f"{key}.mrc")) for key in ("half1", "half2", "full")
    )
    both = map_model_manager(
        map_manager=full, map_manager_1=half1, map_manager_2=half2,
        model=manager.get_model(str(folder / "model.cif")), ignore_symmetry_conflicts=True,
    )  # fmt: skip
found = {}
for key in ("unmasked", "masked"):
    parameters = mtriage.master_params().extract()
    parameters = getattr(parameters, "mtriage", parameters)
    parameters.resolution = 3.0
    parameters.mask_maps = key == "masked"
    parameters.scattering_table = "electron"
    parameters.compute.d_fsc_half_map_05 = True
    for what in ("d_model", "d_model_b0", "d99"):
        setattr(parameters.compute, what, False)
    atoms = both.model().get_xray_structure()
    atoms.scattering_type_registry(table="electron")
    task = mtriage.mtriage(
        map_data=both.map_manager().map_data(), map_data_1=both.map_manager_1().map_data(),
        map_data_2=both.map_manager_2().map_data(), xray_structure=atoms,
        crystal_symmetry=both.crystal_symmetry(), params=parameters,
    )  # fmt: skip
    result = getattr(task.get_results(), key)
    found[key] = {name: round(getattr(result, name), 4) for name in KEYS}
    found[key]["radius_smooth"] = result.radius_smooth
target = Path(__file__).parent / "mtriage_fsc.json"
target.write_text(json.dumps(found, indent=1) + "\n")
