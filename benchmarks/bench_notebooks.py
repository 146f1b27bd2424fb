"""Seconds and peak memory of each notebook's kernel, run from top to bottom.

    python benchmarks/bench_notebooks.py [NOTEBOOK ...]

Every notebook must stay under 2 GB: it ends with an error otherwise.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

LIMIT = 2.0
FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
# resource is not there on Windows, whose users can look into the task manager.
PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb"))
    above = []
    print("notebook                         seconds  peak (GB)")
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
        begin = time.perf_counter()
        client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": FOLDER}})
        client.execute()
        seconds = time.perf_counter() - begin
        peak = float(notebook.cells[-1].outputs[-1]["text"])
        print(f"{path.name:32s} {seconds:7.0f}  {peak:9.2f}", flush=True)
        if peak > LIMIT:
            above.append(path.name)
    sys.exit(f"more than {LIMIT} GB: {', '.join(above)}" if above else 0)


if __name__ == "__main__":
    main()
