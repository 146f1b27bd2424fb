"""Ask cctbx for local resolution: the reference of tests/process.

    pip install cctbx-base==2025.11 mrcfile gemmi scipy       # in an environment of its own
    CRYONB_DATA=<folder of maps> python tests/reference/cctbx_local_resolution.py

writes cctbx_local_resolution.csv beside this file: d (Å) at voxels (z, y, x) of the map of
map_model_manager.local_resolution_map, for the half maps uneven_halves of half_maps.py at 2.8 Å.
"""

import csv
import os
import sys
import tempfile
from pathlib import Path

# isort: off
# cctbx crashes unless its data manager is imported first of all.
from iotbx.data_manager import DataManager
from iotbx.map_model_manager import map_model_manager
import mrcfile
import numpy as np
from half_maps import uneven_halves
# isort: on

RESOLUTION = 2.8
VOXELS = 600

first, second, voxel = uneven_halves(os.environ["CRYONB_DATA"])
with tempfile.TemporaryDirectory() as name:
    for key, values in (("half1", first), ("half2", second)):
        with mrcfile.new(str(Path(name) / f"{key}.mrc")) as file:
            file.set_data(values)
            file.voxel_size = voxel
            file.header.ispg = 1
    manager = DataManager()
    half1, half2 = (manager.get_real_map(str(Path(name) / f"{k}.mrc")) for k in ("half1", "half2"))
    both = map_model_manager(map_manager_1=half1, map_manager_2=half2)
both.set_resolution(RESOLUTION)
found = both.local_resolution_map().map_data().as_numpy_array().transpose(2, 1, 0)
if len(sys.argv) > 1:
    np.save(sys.argv[1], found.astype(np.float32))
index = np.argwhere(np.ones(found.shape, bool))
chosen = index[np.random.default_rng(5).choice(len(index), VOXELS, replace=False)]
with (Path(__file__).parent / "cctbx_local_resolution.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["z", "y", "x", "d"])
    writer.writerows([*map(int, zyx), f"{found[tuple(zyx)]:.4f}"] for zyx in chosen)
