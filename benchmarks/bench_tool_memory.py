"""Peak memory of the map tools on a map of 220³ voxels, each in a process of its own.

    python benchmarks/bench_tool_memory.py [--only NAME ...]

CRYONB_DATA names the folder of maps; the map is 0093 with its model, half maps are that map with
noise of 0.3 standard deviations. `confidence` is not among them, since it refuses masked maps.
"""

import argparse
import os
import subprocess
import sys

TOOLS = {
    "sharpen": "m.sharpen()",
    "sharpen, local": "m.sharpen(local=True)",
    "sharpen, model": "m.sharpen(model=model)",
    "sharpen, half maps": "m.sharpen(half_maps=halves())",
    "local_resolution": "nb.half_maps(*halves()).local_resolution()",
    "density_modify": "m.density_modify(halves())",
    "find_symmetry, symmetrize": "m.symmetrize()",
    "box": "m.box(around=model)",
    "combine": "nb.combine([m, m], [model, model])",
    "difference": "m.difference(model)",
    "add_waters": "m.add_waters(model)",
    "mask": "m.mask()",
    "contour_level": "m.contour_level()",
    "segment": "m.segment(count=4)",
    "filter": "m.filter()",
    "flip_hand": "m.flip_hand()",
    "enhance": "m.enhance(progress=False)",
    "prepare": "nb.prepare(m, progress=False)",
}
CHILD = """
import os, pathlib, time, warnings
import numpy as np
import cryonb as nb
warnings.simplefilter("ignore")
folder = pathlib.Path(os.environ["CRYONB_DATA"]) / "maps" / "0093"
m = nb.open_map(folder / "MAP_m4A.mrc.gz", resolution=3.4)
model = nb.open_model(folder / "6gyn.pdb")

def halves():
    rng = np.random.default_rng(1)
    noise = (rng.normal(0, 0.3 * m.std, m.shape).astype(np.float32) for _ in range(2))
    return tuple(nb.DensityMap(m.values + one, m.grid, resolution=3.4) for one in noise)

begin = time.process_time()
TOOL
seconds = time.process_time() - begin
status = pathlib.Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**20
print(f"{peak:5.2f} GB {seconds:7.1f} CPU s")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TOOLS, default=list(TOOLS))
    options = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of maps and structures")
    for name in options.only:
        code = CHILD.replace("TOOL", TOOLS[name])
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        print(f"{name:26}", run.stdout.strip() or run.stderr.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
