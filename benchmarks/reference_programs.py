"""cctbx and servalcat, asked for what the map tools do: shared by the benchmarks.

Both are named by the command line of a benchmark and live in environments of their own. cctbx-base
runs as a script in its python; what it imports and reads does not count. servalcat is a command,
whose imports count; what `servalcat --version` takes tells how much they are.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from pathlib import Path

import numpy as np

import cryonb as nb
from cryonb.files.model import write_model

# cctbx crashes unless its data manager is imported first of all. A script leaves in `found` what it
# has to say, and in out.npy the map, (z, y, x), if there is one.
_HEAD = """
from iotbx.data_manager import DataManager
from iotbx.map_model_manager import map_model_manager
from libtbx.utils import null_out
import json, sys, time
import numpy as np
dm = DataManager()
def managed(**files):
    given = {key: dm.get_model(path) if key == "model" else dm.get_real_map(path)
             for key, path in files.items()}
    made = map_model_manager(ignore_symmetry_conflicts=True, **given)
    made.set_log(null_out())
    made.set_resolution(RESOLUTION)
    return made
def keep(manager):
    np.save("out.npy", manager.map_data().as_numpy_array().transpose(2, 1, 0).astype(np.float32))
found = {}
"""
_TIMED = """
begin, used = time.perf_counter(), time.process_time()
BODY
found.update(wall=time.perf_counter() - begin, cpu=time.process_time() - used)
"""
#: Before the time is taken, what is timed, and after.
SCRIPTS = {
    "sharpen": (
        "import cctbx_sharpen; from pathlib import Path",
        "found.update(cctbx_sharpen.ask('map.mrc.gz', RESOLUTION, Path.cwd()))",
        "found.update(wall=found['seconds'], cpu=found['cpu'])",
    ),
    "sharpen half_maps=": (
        "m = managed(map_manager_1='half1.mrc', map_manager_2='half2.mrc')",
        "m.half_map_sharpen()",
        "keep(m.get_map_manager_by_id('map_manager_scaled'))",
    ),
    "sharpen model=": (
        "m = managed(map_manager='map.mrc', model='model.pdb')",
        "m.model_sharpen()",
        "keep(m.get_map_manager_by_id('map_manager_scaled'))",
    ),
    "local_resolution": (
        "m = managed(map_manager_1='half1.mrc', map_manager_2='half2.mrc')",
        "d = m.local_resolution_map()",
        "keep(d)",
    ),
    "find_symmetry": (
        "m = dm.get_real_map('map.mrc'); m.set_log(null_out()); m.set_resolution(RESOLUTION)\n"
        "m.shift_origin()",
        "m.find_map_symmetry(symmetry='ALL')",
        "o = m.ncs_object(); found.update(operators=o.max_operators() if o else 1)",
    ),
    "box": (
        "m = managed(map_manager='map.mrc', model='model.pdb')",
        "m.box_all_maps_around_model_and_shift_origin(box_cushion=5.0)",
        "keep(m.map_manager())",
    ),
    "mask": (
        "m = managed(map_manager='map.mrc', model='model.pdb')",
        "m.create_mask_around_atoms(mask_atoms_atom_radius=3.0)",
        "keep(m.get_map_manager_by_id('mask'))",
    ),
    "difference": (
        "from mmtbx.command_line.real_space_diff_map import compdiff\n"
        "m = managed(map_manager='map.mrc', model='model.pdb')\n"
        "xrs = m.model().get_xray_structure(); xrs.scattering_type_registry(table='electron')",
        "made = compdiff(m.map_manager().map_data(), xrs, RESOLUTION, False)",
        "np.save('out.npy', made.map_result.as_numpy_array().transpose(2, 1, 0)"
        ".astype(np.float32))",
    ),
    "add_waters": (
        "from mmtbx.solvent import map_to_water as w\n"
        "m = managed(map_manager='map.mrc', model='model.pdb')",
        "made = w.run_one(ma=w.msg_accumulator(log=null_out()), map_model_manager=m,\n"
        "  resolution=RESOLUTION, dist_min=2.0, dist_max=3.2, cc_mask_filter=False,\n"
        "  map_threshold_scale=0.5, log=null_out())",
        "model = made.map_model_manager.model() if not hasattr(made, 'model') else made.model\n"
        "sites = model.select(model.selection('water')).get_sites_cart()\n"
        "found.update(sites=[list(s) for s in sites])",
    ),
}


def at_the_origin(m, model=None):
    """Move a map, and a model with it, to where its origin is zero: neither program reads ORIGIN.

    The structure is changed; cctbx wants a CRYST1 record of the map's box.
    """
    import gemmi

    if model is not None:
        for site in model[0].all():
            site.atom.pos -= gemmi.Position(*m.origin)
        model.cell = gemmi.UnitCell(*m.grid.extent, 90, 90, 90)
        model.spacegroup_hm = "P 1"
    return m.replace(grid=nb.Grid(m.shape, m.voxel_size)), model


def write_inputs(folder: Path, *, m=None, model=None, halves=None) -> None:
    """Write map.mrc, model.pdb and model.cif, half1.mrc and half2.mrc."""
    if m is not None:
        m.save(folder / "map.mrc")
    if model is not None:
        write_model(model, folder / "model.pdb")
        write_model(model, folder / "model.cif")
    for number, half in enumerate(halves or (), start=1):
        half.save(folder / f"half{number}.mrc")


def ask_cctbx(python: str, task: str, resolution: float, folder: Path) -> tuple[dict, np.ndarray]:
    """Run a task of `SCRIPTS` in a folder: what it found (with wall, cpu), and its map or None."""
    before, body, after = SCRIPTS[task]
    script = f"RESOLUTION = {resolution}\n{_HEAD}\n{before}\n{_TIMED.replace('BODY', body)}\n"
    script += f"{after}\nprint()\nprint(json.dumps(found))"
    paths = [str(Path(__file__).resolve().parents[1] / "tests" / "reference")]
    run = subprocess.run(
        [python, "-c", script], check=False, cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    if run.returncode:
        raise RuntimeError(f"cctbx failed: {(run.stderr or run.stdout).strip().splitlines()[-1]}")
    out = folder / "out.npy"
    return json.loads(run.stdout.splitlines()[-1]), np.load(out) if out.exists() else None


def ask_servalcat(program: str, arguments: list[str], folder: Path) -> dict:
    """Run a command of servalcat in a folder: seconds (wall, cpu), and CPU of its imports alone."""
    empty, whole = (_command([program, *some], folder) for some in (["--version"], arguments))
    return {**whole, "imports": empty["cpu"]}


def _command(command: list[str], folder: Path) -> dict:
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}
