"""CPU time of Emap2sec and Haruspex, cryonb's way against the published way, in one run.

    python benchmarks/bench_published_speed.py [--edge 96] [--tensorflow PYTHON]

Same networks (random weights), same simulated map, same machine. "Published way": Emap2sec in
batches of 100 windows that are run twice (probabilities, then classes), Haruspex in tiles of 40
voxels of which 20 are kept, both in float32 with torch's default layout. The ceiling is what the
processor gives in products of large matrices, over the operations of a window. With --tensorflow,
an interpreter that has TensorFlow runs tensorflow_phase_one.py, each window once.
"""

import argparse
import resource
import subprocess
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import cryonb as nb
from cryonb.networks.emap2sec import Emap2sec
from cryonb.networks.haruspex import Haruspex
from cryonb.predict.emap2sec import phase_one, unit_range, windows_of
from cryonb.predict.haruspex import predict_haruspex
from cryonb.process.crop import pad
from cryonb.simulate.gaussian import gaussian_map

#: Windows that the published way is timed on; its time grows in proportion.
_SAMPLE = 400


def cpu(function, *arguments, **options):
    """Give the result and the CPU seconds of all threads."""
    begin = time.process_time()
    result = function(*arguments, **options)
    return result, time.process_time() - begin


def plain_windows(network, windows):
    """Run windows as the published program does."""
    with torch.inference_mode():
        for first in range(0, len(windows), 100):
            x = torch.from_numpy(windows[first : first + 100][:, None])
            probabilities = torch.softmax(network(x), dim=1)
            network(x).argmax(dim=1)
    return probabilities


def ceiling(kind) -> float:
    """Give operations per CPU-second of a product of large matrices."""
    a = torch.randn(3000, 3000).to(kind)
    torch.mm(a, a)
    _, seconds = cpu(lambda: [torch.mm(a, a) for _ in range(3)])
    return 3 * 2 * 3000**3 / seconds


def operations_of_a_window(network) -> int:
    """Count the operations of one window."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, 11, 11, 11))
    return counter.get_total_flops()


def plain_tiles(network, values):
    """Run tiles of 40 voxels in steps of 20."""
    with torch.inference_mode():
        for start in product(*(range(0, n - 39, 20) for n in values.shape)):
            tile = values[tuple(slice(s, s + 40) for s in start)]
            torch.softmax(network(torch.from_numpy(tile.copy())[None, None]), dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--edge", type=int, default=96, help="of Haruspex's box, in voxels")
    parser.add_argument("--tensorflow", help="an interpreter that has TensorFlow")
    arguments = parser.parse_args()
    model = nb.example_model("rhodopsin")
    torch.manual_seed(0)

    values = unit_range(gaussian_map(model, resolution=6.0).values)
    values[values < 0.1] = 0
    windowed, dense = Emap2sec().eval(), Emap2sec(dense=True).eval()
    thin, thin_dense = Emap2sec(rank=32).eval(), Emap2sec(dense=True, rank=32).eval()
    centre = np.argwhere(values[::2, ::2, ::2] > 0)
    view = windows_of(values)
    sample = np.ascontiguousarray(view[tuple(centre[:_SAMPLE].T)])
    plain_windows(windowed.one, sample[:100])
    _, seconds = cpu(plain_windows, windowed.one, sample)
    rate = len(sample) / seconds
    print(f"Emap2sec, phase 1, {len(centre)} windows: windows per CPU-second (ratio)")
    print(f"  published way           {rate:9.0f}  ({1:.1f})")
    for name, module in (
        ("windows", windowed.one), ("windows, rank 32", thin.one), ("dense", dense.one),
        ("dense, rank 32", thin_dense.one),
    ):  # fmt: skip
        phase_one(module, values[:40], progress=False)
        _, seconds = cpu(phase_one, module, values, progress=False)
        mine = len(centre) / seconds
        print(f"  {name:22s}  {mine:9.0f}  ({mine / rate:.1f})")

    operations = operations_of_a_window(windowed.one)
    print(f"  a window is {operations / 1e9:.2f} GFLOP; the most that the processor allows:")
    for kind in (torch.float32, torch.bfloat16):
        most = ceiling(kind)
        text = f"{str(kind).removeprefix('torch.')}, {most / 1e9:.0f} GFLOP a CPU-second"
        print(f"    {text:38s}{most / operations:6.0f} windows a CPU-second")
    if arguments.tensorflow:
        script = Path(__file__).with_name("tensorflow_phase_one.py")
        subprocess.run([arguments.tensorflow, str(script)], check=True)

    rng = np.random.default_rng(0)
    shape = (arguments.edge,) * 3
    # A full box of noise: nothing is skipped.
    box = nb.Volume(rng.normal(size=shape).astype(np.float32), nb.Grid(shape, (1.1,) * 3))
    network = Haruspex().eval()
    part = box.values[:60, :60, :60]
    plain_tiles(network, part[:40, :40, :40])
    _, seconds = cpu(plain_tiles, network, part)
    plain = seconds / (40**3 / 1e6)
    _, seconds = cpu(predict_haruspex, box, network, skip=False, progress=False)
    mine = seconds / (box.values.size / 1e6)
    # A molecule in a box of three times its own, as maps are deposited.
    tight = gaussian_map(model, resolution=4.0, voxel_size=1.1)
    wide = pad(tight, np.round(0.5 * (3 ** (1 / 3) - 1) * np.array(tight.shape)).astype(int))
    _, seconds = cpu(predict_haruspex, wide, network, progress=False)
    sparse = seconds / (wide.values.size / 1e6)
    print("Haruspex: CPU-seconds per million voxels that are predicted (ratio)")
    print(f"  published way           {plain:9.1f}  ({1:.1f})")
    print(f"  cryonb, nothing skipped {mine:9.1f}  ({plain / mine:.1f})")
    print(f"  cryonb, a third filled  {sparse:9.1f}  ({plain / sparse:.1f})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of all of it: {peak:.1f} GB")


if __name__ == "__main__":
    main()
