"""The map tools, one by one: agreement with reference programs or with a known truth, and seconds.

    python benchmarks/bench_map_tools.py [--cctbx PYTHON] [--servalcat COMMAND] [--rows FILE]
                                         [--threads 2] [--cases find_symmetry ...]

A row a tool and map: seconds (wall and CPU) of the reference program and of cryonb in the same run,
their ratio, what agrees, and the peak memory of the process. Rows that stand in FILE are not
computed again, unless their program was missing then. Without the programs their columns stay
empty; rows without a reference have a known truth, or that of the data. `--threads` binds all
processes to so many cores.

cctbx-base is the python of an environment with it and mrcfile; neither its imports nor its reading
counts. Of servalcat the whole command counts; what its imports take stands beside it. Of cryonb one
call counts, the first of a process that has imported the modules of the tools. What each row
compares stands in the function that makes it, in map_tool_rows.py. Needs CRYONB_DATA.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from map_tool_rows import CASES, Asked

#: Rooms of the package whose modules are imported before the time is taken.
_IMPORTED = ("process", "simulate", "evaluate", "trace", "field", "density_map", "derived",
             "results", "preparation")  # fmt: skip


def one(number: int, options) -> None:
    """Make one row in this process and print it."""
    import importlib
    import pkgutil

    import cryonb

    for found in pkgutil.walk_packages(cryonb.__path__, "cryonb."):
        if found.name.split(".")[1] in _IMPORTED:
            importlib.import_module(found.name)
    _, _, function, arguments = CASES[number]
    data = Path(os.environ["CRYONB_DATA"])
    with tempfile.TemporaryDirectory() as name:
        made = function(Asked(options.cctbx, options.servalcat, data, Path(name)), *arguments)
    made["gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    made["theirs"] = {key: made["theirs"].get(key) for key in ("wall", "cpu")}
    print("\n" + json.dumps(made))


def table(rows) -> str:
    import pandas as pd

    shown = []
    for tool, where, *_ in CASES:
        made = rows.get(f"{tool} | {where}")
        if made is None:
            continue
        theirs, ours = made["theirs"], made["ours"]
        shown.append(
            {"tool": tool, "map": where, "reference": made["program"]}
            | {f"theirs {key} s": theirs[key] for key in ("wall", "cpu")}
            | {f"ours {key} s": ours[key] for key in ("wall", "cpu")}
            | {f"ratio {key}": theirs[key] and theirs[key] / ours[key] for key in ("wall", "cpu")}
            | {"GB": made["gb"], "agreement": made["agreement"]}
        )
    made = pd.DataFrame(shown)
    return made.astype({c: float for c in made if c.split()[0] in ("theirs", "ratio")}).to_string(
        index=False, float_format="%.2f", na_rep="", justify="left"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cctbx", help="python of an environment with cctbx-base and mrcfile")
    parser.add_argument("--servalcat", help="the command")
    parser.add_argument("--rows", type=Path, help="JSON file that rows are kept in")
    parser.add_argument("--threads", type=int, default=2, help="cores (default: %(default)s)")
    parser.add_argument("--cases", nargs="+", help="only tools whose names begin so")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        one(options.one, options)
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    rows = json.loads(options.rows.read_text()) if options.rows and options.rows.exists() else {}
    print(f"{options.threads} cores, load {os.getloadavg()[0]:.1f}")
    for number, (tool, where, *_) in enumerate(CASES):
        key = f"{tool} | {where}"
        there = rows.get(key)
        named = there and getattr(options, there["program"], None)
        if there and (there["theirs"]["wall"] or not named):
            continue
        if options.cases and not tool.startswith(tuple(options.cases)):
            continue
        command = [sys.executable, __file__, "--one", str(number)]
        for name in ("cctbx", "servalcat"):
            if getattr(options, name):
                command += [f"--{name}", getattr(options, name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{key}: failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        rows[key] = json.loads(done.stdout.splitlines()[-1])
        if options.rows:
            options.rows.write_text(json.dumps(rows, indent=1))
        print(f"{key}: {rows[key]['agreement']}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
