"""Speed of the correlations of a map with a model against cctbx, in one run.

    python benchmarks/bench_correlation.py --cctbx /path/to/python   # of an env. with cctbx-base

Both compute the model's map, CC_mask, CC_volume, CC_peaks, CC_box, and the correlation of each
residue, the chain, main and side chain; cryonb always computes CC_image, too, and cctbx is timed
with it and without (its default, the better of two runs). The last line is cryonb with CCC and
SMOC. CPU times tell what a busy machine hides. Reading files and importing do not count. Needs
CRYONB_DATA.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from cryonb import Grid, open_map, open_model
from cryonb.evaluate.correlation import correlate
from cryonb.files.model import write_model

CCTBX = """
import json, sys, time
from iotbx.data_manager import DataManager
from iotbx.map_model_manager import map_model_manager
from mmtbx.maps import map_model_cc
m = DataManager()
both = map_model_manager(map_manager=m.get_real_map(sys.argv[1]), model=m.get_model(sys.argv[2]),
                         ignore_symmetry_conflicts=True)
p = map_model_cc.master_params().extract().map_model_cc
p.resolution = float(sys.argv[3])
p.scattering_table = "electron"
times = []
for image in (False, False, True):
    p.compute.cc_image = image
    t, c = time.perf_counter(), time.process_time()
    task = map_model_cc.map_model_cc(map_data=both.map_data(), params=p,
        pdb_hierarchy=both.model().get_hierarchy(), crystal_symmetry=both.crystal_symmetry())
    task.run()
    times.append((time.perf_counter() - t, time.process_time() - c))
print(json.dumps([min(times[:2]), times[2], task.get_results().cc_mask]))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cctbx", required=True, help="python of an environment with cctbx-base")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    folder = Path(os.environ["CRYONB_DATA"]) / "maps" / "30342"
    volume = open_map(folder / "390_emd_30342_A_z4.mrc.gz", resolution=3.9)
    model = open_model(folder / "390_7cec_A.cif")
    # cctbx reads neither the ORIGIN words nor a position: both are moved to the origin.
    for site in model[0].all():
        site.atom.pos -= type(site.atom.pos)(*volume.origin)
    volume = volume.replace(grid=Grid(volume.shape, volume.voxel_size))

    def timed(**options_of):
        times = []
        for _ in range(options.repeats):
            start, used = time.perf_counter(), time.process_time()
            found = correlate(volume, model, **options_of)
            times.append((time.perf_counter() - start, time.process_time() - used))
        return *(min(part) for part in zip(*times, strict=True)), found

    ours, cpu, found = timed(overlaps=False)
    whole, whole_cpu, _ = timed()
    with tempfile.TemporaryDirectory() as name:
        files = volume.save(Path(name) / "map.mrc"), write_model(model, Path(name) / "model.cif")
        run = subprocess.run(
            [options.cctbx, "-c", CCTBX, *map(str, files), "3.9"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    theirs, with_image, cc_mask = json.loads(run.stdout.splitlines()[-1])
    print(f"{len(found.residues)} residues, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, (wall, their_cpu) in (("with", with_image), ("without", theirs)):
        print(
            f"cryonb {ours:.2f} s, cctbx {name} CC_image {wall:.2f} s: {wall / ours:.1f} times as "
            f"fast (CPU: {cpu:.2f} s, {their_cpu:.2f} s: {their_cpu / cpu:.1f} times)"
        )
    print(f"with CCC and SMOC cryonb {whole:.2f} s (CPU {whole_cpu:.2f} s)")
    print(f"CC_mask {found.summary['cc_mask']:.4f} and {cc_mask:.4f}")


if __name__ == "__main__":
    main()
