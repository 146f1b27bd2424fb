"""Ask cctbx's auto_sharpen how much it sharpens: the reference of tests/process.

    pip install cctbx-base==2025.11 mrcfile                   # in an environment of its own
    CRYONB_DATA=<folder of maps> python tests/reference/cctbx_sharpen.py

writes cctbx_sharpen.json beside this file: for each map and resolution B before, the share of the
molecule, the B values that were tried with their scores and numbers of regions, and the chosen B
to take away.
"""

import gzip
import json
import os
import re
import sys
import tempfile
import time
import types
from pathlib import Path

# isort: off
# cctbx crashes unless its data manager is imported first of all.
from iotbx.data_manager import DataManager  # noqa: F401
import mrcfile
import numpy as np
# isort: on

CASES = (
    ("6272/6272_zone4A.mrc.gz", 2.6),
    ("6272/6272_zone4A.mrc.gz", 3.0),
    ("30342/390_emd_30342_A_z4.mrc.gz", 3.9),
)
ROW = re.compile(r"^ +(-?[\d.]+) +(-?[\d.]+) +10\.0 +(-?[\d.]+) +[\d.]+ +[\d.]+ +([\d.]+)$")


def ask(path, resolution, folder):
    """Run auto_sharpen on a map without its frame; give what its log says."""
    # The command imports its window, which cctbx-base does not have.
    sys.modules["wxGUI2"] = sys.modules["wxGUI2.utils"] = types.ModuleType("wxGUI2")
    sys.modules["wxGUI2"].utils = sys.modules["wxGUI2"]
    from cctbx.maptbx.auto_sharpen import run

    plain = folder / "plain.mrc"
    plain.write_bytes(gzip.decompress(Path(path).read_bytes()))
    with mrcfile.open(plain) as file:
        values, voxel = np.asarray(file.data, np.float32), float(file.voxel_size.x)
    with mrcfile.new(folder / "map.mrc", overwrite=True) as file:
        file.set_data(values)
        file.voxel_size = voxel
        file.header.ispg = 1
    os.chdir(folder)
    start, used = time.time(), time.process_time()
    with Path("log").open("w") as log:
        run(args=["map_file=map.mrc", f"resolution={resolution}"], out=log)
    seconds, cpu = time.time() - start, time.process_time() - used
    lines = Path("log").read_text().splitlines()

    def number(text):
        return float(next(re.search(r"-?[\d.]+", line.split(text)[1])[0]
                          for line in lines if text in line))  # fmt: skip

    rows = [[float(x) for x in found.groups()] for line in lines if (found := ROW.match(line))]
    return {
        "b_before": number("Effective B-iso ="),
        "share": round(1 - number("Solvent fraction from overall mask:"), 3),
        "b_sharpen": number("Overall b_sharpen applied:"),
        "seconds": round(seconds, 1),
        "cpu": round(cpu, 1),
        "columns": ["b_sharpen", "b_iso", "score", "regions"],
        "rows": rows,
    }


if __name__ == "__main__":
    target = Path(__file__).resolve().parent / "cctbx_sharpen.json"
    maps = Path(os.environ["CRYONB_DATA"]) / "maps"
    with tempfile.TemporaryDirectory() as name:
        found = {f"{path} {d}": ask(maps / path, d, Path(name)) for path, d in CASES}
    for one in found.values():
        # Times are for benchmarks/bench_map_tools.py; they are no reference.
        del one["seconds"], one["cpu"]
    target.write_text(json.dumps(found) + "\n")
