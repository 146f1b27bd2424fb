"""Peak memory and CPU seconds of each map tool on a map of 200³, each in a process of its own.

    python benchmarks/bench_tools_memory.py [--edge 200] [--tools sharpen symmetrize ...]

The map is made: 36 copies of a phantom in C4, at 3.5 Å on voxels of 1.2 Å (for `--edge 200`), with
noise in two halves; for the helix one copy is repeated along a screw instead. Memory is the peak
resident set of the process, with Python, the libraries and the maps that the tool is given
("import" has what the first two of these take). The goal is 2 GB for each. Times are CPU times of
the process, without opening the files.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import cryonb as nb

RESOLUTION, VOXEL, GOAL = 3.5, 1.2, 2.0


class Inputs:
    """What a tool may ask for, opened when it does."""

    def __init__(self, folder):
        self.folder = Path(folder)

    @property
    def map(self):
        return nb.open_map(self.folder / "map.mrc", resolution=RESOLUTION)

    @property
    def halves(self):
        return nb.half_maps(self.folder / "half1.mrc", self.folder / "half2.mrc")

    @property
    def helix(self):
        return nb.open_map(self.folder / "helix.mrc", resolution=RESOLUTION)

    @property
    def model(self):
        return nb.open_model(self.folder / "model.cif")

    def symmetry(self, name):
        """C4 as it was made, so that only what follows is measured."""
        import pandas as pd

        from cryonb.process.helical import HelicalSymmetry
        from cryonb.process.operators import Symmetry
        from cryonb.process.point_groups import group_rotations

        grid = self.map.grid
        centre = (grid.lower + grid.upper) / 2
        if name != "helix":
            return Symmetry(name, group_rotations(name), centre, 1.0, pd.DataFrame())
        made = HelicalSymmetry(
            "H", np.eye(3)[None], centre, 1.0, pd.DataFrame(), twist=22.0, rise=1.4,
            axis=np.array([0.0, 0.0, 1.0]), grid=grid,
        )  # fmt: skip
        return made.filling(grid)


#: What is given, and what is done with it.
TOOLS = {
    "import": (lambda i: [], lambda: None),
    "sharpen": (lambda i: [i.map], lambda m: m.sharpen()),
    "sharpen b_iso=": (lambda i: [i.map], lambda m: m.sharpen(b_iso=50)),
    "sharpen half_maps=": (lambda i: [i.map, i.halves], lambda m, h: m.sharpen(half_maps=h)),
    "sharpen model=": (lambda i: [i.map, i.model], lambda m, x: m.sharpen(model=x)),
    "sharpen local=": (lambda i: [i.map], lambda m: m.sharpen(local=True)),
    "sharpen half_maps=, local=": (
        lambda i: [i.map, i.halves], lambda m, h: m.sharpen(half_maps=h, local=True)
    ),
    "half_maps fsc": (lambda i: [i.halves], lambda h: h.fsc()),
    "local_resolution fsc": (lambda i: [i.halves], lambda h: h.local_resolution()),
    "local_resolution bandpass": (
        lambda i: [i.halves], lambda h: h.local_resolution(method="bandpass")
    ),
    "density_modify": (lambda i: [i.map, i.halves], lambda m, h: m.density_modify(h)),
    "find_symmetry": (lambda i: [i.map], lambda m: m.find_symmetry(progress=False)),
    "find_symmetry of a helix": (lambda i: [i.helix], lambda m: m.find_symmetry(progress=False)),
    "symmetrize C4": (lambda i: [i.map, i.symmetry("C4")], lambda m, s: m.symmetrize(s)),
    "symmetrize I": (lambda i: [i.map, i.symmetry("I")], lambda m, s: m.symmetrize(s)),
    "symmetrize a helix": (lambda i: [i.map, i.symmetry("helix")], lambda m, s: m.symmetrize(s)),
    "box density": (lambda i: [i.map], lambda m: m.box()),
    "box model": (lambda i: [i.map, i.model], lambda m, x: m.box(around=x)),
    "box unit": (lambda i: [i.map, i.symmetry("C4")], lambda m, s: m.box(around=s)),
    "combine": (
        lambda i: [*i.halves, i.model],
        lambda a, b, x: nb.combine([a, b], [x, x], resolution=RESOLUTION),
    ),
    "difference model": (lambda i: [i.map, i.model], lambda m, x: m.difference(x)),
    "difference map": (lambda i: [*i.halves], lambda a, b: a.difference(b, resolution=RESOLUTION)),
    "difference half_maps=": (
        lambda i: [i.map, i.model, i.halves], lambda m, x, h: m.difference(x, half_maps=tuple(h))
    ),
    "difference peaks": (
        lambda i: [i.map, i.model], lambda m, x: m.difference(x).peaks()
    ),
    "add_waters": (lambda i: [i.map, i.model], lambda m, x: m.add_waters(x)),
    "mask model=": (lambda i: [i.map, i.model], lambda m, x: m.mask(model=x)),
    "mask contour=": (lambda i: [i.map], lambda m: m.mask(contour=m.mean + 3 * m.std)),
    "contour_level": (lambda i: [i.map], lambda m: m.contour_level()),
    "segment": (lambda i: [i.map], lambda m: m.segment()),
    "filter": (lambda i: [i.map], lambda m: m.filter(low=6)),
    "flip_hand": (lambda i: [i.map], lambda m: m.flip_hand()),
    "confidence": (lambda i: [i.map], lambda m: m.confidence()),
    "resample": (lambda i: [i.map], lambda m: m.resample(1.0)),
    "normalize": (lambda i: [i.map], lambda m: m.normalize()),
    "prepare": (lambda i: [i.map], lambda m: nb.prepare(m, progress=False)),
}  # fmt: skip


def make(folder: Path, edge: int) -> None:
    """Write the maps and the model."""
    from cryonb.files.model import write_model
    from cryonb.process.helical import screws
    from cryonb.process.point_groups import group_rotations

    unit = nb.example_model("phantom")
    atoms = nb.Atoms.from_structure(unit)
    middle = atoms.position.mean(axis=0)
    grid = nb.Grid((edge,) * 3, VOXEL)
    centre = (grid.lower + grid.upper) / 2
    size = edge * VOXEL / 240
    whole = unit.clone()
    del whole[0][0:]
    number = 0
    for turn in group_rotations("C4"):
        for place in ([26, 26, -45], [26, 26, 0], [26, 26, 45], [72, 5, -45], [72, 5, 0],
                      [72, 5, 45], [60, 55, -45], [60, 55, 0], [60, 55, 45]):  # fmt: skip
            copy = unit.clone()
            shift = size * (turn @ place) + centre - turn @ middle
            import gemmi

            copy[0].transform_pos_and_adp(
                gemmi.Transform(gemmi.Mat33(turn.tolist()), gemmi.Vec3(*shift.tolist()))
            )
            for chain in copy[0]:
                number += 1
                chain.name = f"{chain.name}{number}"
                whole[0].add_chain(chain)
    write_model(whole, folder / "model.cif")
    clean = nb.fourier_map(whole, grid, resolution=RESOLUTION)
    rng = np.random.default_rng(0)
    noise = clean.values[clean.values > 0.1 * clean.max].std()
    halves = [clean.values + rng.normal(0, noise, grid.shape).astype(np.float32) for _ in range(2)]
    for name, values in (("half1", halves[0]), ("half2", halves[1]), ("map", sum(halves) / 2)):
        nb.DensityMap(values, grid).save(folder / f"{name}.mrc")
    steps = np.arange(-90, 91)
    matrices, vectors = screws([0, 0, 1], centre, 22.0 * steps, 1.4 * steps)
    start = size * np.array([60, 0, 0]) + atoms.position - middle + centre
    points = (np.einsum("kij,nj->kni", matrices, start) + vectors[:, None]).reshape(-1, 3)
    every = np.tile(atoms.element, len(steps))
    near = ((points > grid.lower - 10) & (points < grid.upper + 10)).all(axis=1)
    from cryonb.simulate.gaussian import gaussians

    m = gaussians(points[near], every[near], grid, resolution=RESOLUTION)
    rough = rng.normal(0, 0.5 * m.values[m.values > 0.1 * m.max].std(), grid.shape)
    nb.DensityMap(m.values + rough.astype(np.float32), grid).save(folder / "helix.mrc")


def peak_memory() -> float:
    """Peak resident set of this process in GB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike ru_maxrss this does not begin with what the parent had when it forked.
        lines = status.read_text().splitlines()
        return int(next(one for one in lines if one.startswith("VmHWM")).split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


def measure(name: str, folder: str) -> None:
    """Run one tool in this process and print what it took."""
    given, tool = TOOLS[name]
    inputs = given(Inputs(folder))
    start = time.process_time()
    tool(*inputs)
    print(json.dumps({"seconds": time.process_time() - start, "gb": peak_memory()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--edge", type=int, default=200, help="voxels")
    parser.add_argument("--tools", nargs="+", default=list(TOOLS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(*options.one)
        return
    over = []
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), options.edge)
        print(f"{options.edge}³ voxels\n{'tool':28s} peak GB   CPU s")
        for tool in options.tools:
            command = [sys.executable, __file__, "--one", tool, name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{tool:28s} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
                over.append(tool)
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            print(f"{tool:28s} {row['gb']:7.2f} {row['seconds']:7.1f}", flush=True)
            if row["gb"] > GOAL:
                over.append(tool)
    print(f"above {GOAL:g} GB, or failed: {', '.join(over) or 'none'}")


if __name__ == "__main__":
    main()
