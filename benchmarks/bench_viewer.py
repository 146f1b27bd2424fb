"""What the viewer costs: seconds to the first picture, seconds and kB of each tick of a slider.

    python benchmarks/bench_viewer.py [--sizes 64 100 200] [--ticks 8]

Needs the extra `test` and Chromium, which draws by software here; a GPU draws faster. A tick is
over when the browser has the new level and its surface. Beside it, what nglview's `update_surface`
sends for the same change. The last lines are the time from starting JupyterLab to the first
pictures of 00_quickstart, all of whose cells are run.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "browser"))
import notebook_page as lab  # noqa: E402 (lies with the tests)

# Smooth noise, weaker outside a ball: a surface as rough as a map's.
CODE = """
import numpy as np
from scipy.ndimage import gaussian_filter
import cryonb as nb

noise = np.random.default_rng(1).normal(size=({n},) * 3).astype("float32")
away = np.linalg.norm(np.indices(noise.shape) - {n} / 2, axis=0)
values = gaussian_filter(noise, 2.0) * np.where(away < 0.45 * {n}, 1.0, 0.2)
grid = nb.Grid(values.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
shown = nb.DensityMap(values, grid).view()
shown
"""
_PLAIN = "shown.scene.widget.update_surface(isolevel={level}, component=0)"
_IDLE = f"({lab.VIEW}).stage.tasks.count === 0"


def notebook(folder: Path, n: int) -> str:
    """Write a notebook that shows a map of n³ voxels."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE.format(n=n))])
    nbformat.write(made, folder / f"map{n}.ipynb")
    return lab.fresh_copy(folder / f"map{n}.ipynb", folder)


def ticks(page, times: int) -> tuple[list[float], float]:
    """Move the level; seconds of each tick, and kB."""
    seconds, before = [], page.received
    for _ in range(times):
        level = page.parameter("density", "isolevel")
        begin = time.perf_counter()
        page.press("level", "ArrowRight")
        page.raw.wait_for_function(
            f"""level => {_IDLE} && ({lab.VIEW}).stage.compList.find(c => c.name === "density")
              .reprList[0].getParameters().isolevel !== level""",
            arg=level, polling=10,
        )  # fmt: skip
        seconds.append(time.perf_counter() - begin)
        page.raw.wait_for_timeout(300)
    return seconds, (page.received - before) / 1e3 / times


def run_more(page, code: str) -> float:
    """Run code in the notebook's kernel; kB that the page received by it."""
    page.raw.wait_for_timeout(500)
    before = page.received
    page.raw.evaluate(
        """async code => {
          const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
          await kernel.requestExecute({code}).done;
        }""",
        code,
    )
    page.raw.wait_for_timeout(1500)
    return (page.received - before) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 100, 200])
    parser.add_argument("--ticks", type=int, default=8)
    arguments = parser.parse_args()
    if lab.chromium() is None:
        sys.exit("no chromium is installed; CHROMIUM may name one")
    root, scratch = (Path(tempfile.mkdtemp()) for _ in range(2))
    print("voxels  first picture (s)  sent (kB)  tick, median (s)  worst (s)  kB a tick  nglview's")
    with lab.jupyter_lab(root, scratch) as address:
        for n in arguments.sizes:
            with lab.browser_page() as page:
                page.open(address, notebook(root, n))
                begin = time.perf_counter()
                errors = page.run_all()
                page.scroll_to_view(0)
                page.wait_until_drawn(settle=0)
                first, sent = time.perf_counter() - begin, page.received / 1e3
                if errors:
                    sys.exit("\n".join(errors))
                seconds, each = ticks(page, arguments.ticks)
                plain = run_more(page, _PLAIN.format(level=0.05))
                print(f"{n}³  {first:13.1f}  {sent:12.0f}  {statistics.median(seconds):12.2f}  "
                      f"{max(seconds):12.2f}  {each:10.1f}  {plain:10.0f}", flush=True)  # fmt: skip
    begin = time.perf_counter()
    root, scratch = (Path(tempfile.mkdtemp()) for _ in range(2))
    name = lab.fresh_copy(HERE.parent / "notebooks" / "00_quickstart.ipynb", root)
    with lab.jupyter_lab(root, scratch) as address, lab.browser_page() as page:
        page.open(address, name)
        opened = time.perf_counter() - begin
        page.run_all()
        page.scroll_to_view(0)
        page.wait_until_drawn(settle=0)
        print(f"\n00_quickstart: opened after {opened:.1f} s, first view drawn after "
              f"{time.perf_counter() - begin:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
