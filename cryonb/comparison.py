"""Many maps, many methods, one tidy table: `nb.benchmark`."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

import pandas as pd
from tqdm.auto import tqdm

from cryonb.errors import CryonbError
from cryonb.evaluate.benchmark import judge
from cryonb.files.atomic import written_beside

__all__ = ["Benchmark", "benchmark", "in_processes", "stored_benchmark"]

_TABLES = Path(__file__).parent / "evaluate" / "tables"


@dataclass(frozen=True)
class Benchmark:
    """Scores of methods on maps.

    Attributes
    ----------
    table : pandas.DataFrame
        A row a map and method; see `cryonb.evaluate.benchmark.judge` for the columns, and `error`
        where a map could not be judged.
    """

    table: pd.DataFrame

    def plot(self, kind: str = "methods", **options):
        """Draw the table as the papers do.

        Parameters
        ----------
        kind : {"groups", "resolution", "phases", "precision_recall", "methods"}
            Box plots of Q3 by group (such as the SCOPe fold class), Q3 against resolution, the
            first phase of Emap2sec against the second, precision against recall with one mark a
            map, one method against another.
        **options
            Of the function of that name in `cryonb.show.benchmark`.
        """
        from cryonb.show import benchmark as pictures

        kinds = {name.removeprefix("plot_"): name for name in pictures.__all__}
        if kind not in kinds:
            raise CryonbError(
                f"A kind of {', '.join(sorted(kinds))} was expected, but {kind!r} was given."
            )
        return getattr(pictures, kinds[kind])(self.table, **options)

    def summary(self, score: str = "q3") -> pd.DataFrame:
        """Give the mean of a score by method and group."""
        table = self.table.assign(group=self.table.get("group", "all"))
        return table.pivot_table(score, index="method", columns="group", margins=True)

    def save(self, path) -> Path:
        """Write the table as CSV."""
        path = Path(path)
        with written_beside(path) as beside:
            self.table.to_csv(beside, index=False)
        return path

    def _repr_html_(self) -> str:
        return self.table.round(3).to_html()


def stored_benchmark(name: str) -> Benchmark:
    """Open a table of scores that comes with cryonb.

    Parameters
    ----------
    name : {"scope_domains", "real_maps"}
        Simulated maps of SCOPe domains at 6 and 10 Å (group: the fold class), or maps of
        experiments, 1.75 to 4.5 Å; written by `benchmarks/bench_<name>.py` with the weights that
        are shipped.

    Returns
    -------
    Benchmark
        A row a map and method, with the columns that `benchmark` gives but for the seconds.

    Raises
    ------
    CryonbError
        If there is no such table.
    """
    known = sorted(path.name.removesuffix(".csv") for path in _TABLES.glob("*.csv"))
    if name not in known:
        raise CryonbError(f"A table of {', '.join(known)} was expected, but {name!r} was asked.")
    return Benchmark(pd.read_csv(_TABLES / f"{name}.csv"))


def benchmark(
    maps, methods=("unet",), *, out=None, workers: int = 1, device: str | None = None,
    executor=None, progress: bool = True,
) -> Benchmark:  # fmt: skip
    """Judge methods on maps.

    Parameters
    ----------
    maps : DataFrame or sequence of dict
        A row or dict a case: model (path), map (path; none for a map simulated from the model at
        `resolution`), name (the file's by default), resolution in Å, group (such as the SCOPe
        class), contour, and anything else that should stand in the table.
    methods : sequence of str
        Weights by name or file, as for `predict_sse`.
    out : path, optional
        A file of finished rows, one JSON object a line. A call with the same file does only what
        it lacks, so an interrupted benchmark goes on.
    workers : int
        Processes, each with its share of the processor's cores.
    device : str, optional
        Where torch computes.
    executor : concurrent.futures.Executor, optional
        Runs the cases instead of local processes, for instance
        `dask.distributed.Client(...).get_executor()`.
    progress : bool
        Show a bar.

    Returns
    -------
    Benchmark
        With `.table`, `.plot(kind)`, `.summary(score)` and `.save(path)`. A case that fails has its
        reason in the column `error`, and does not stop the others.
    """
    cases = maps.to_dict("records") if isinstance(maps, pd.DataFrame) else [dict(m) for m in maps]
    for case in cases:
        if not case.get("model"):
            raise CryonbError(f"Every case needs a model, but {case} has none.")
        for key in ("map", "model"):
            value = case.get(key)
            case[key] = None if value is None or value != value else str(value)
        case.setdefault("name", Path(case["map"] or case["model"]).name)
    names = [(case["name"], case.get("resolution")) for case in cases]
    if len(set(names)) < len(names):
        raise CryonbError("Names of the cases (with their resolution) must differ, but some agree.")
    done = _finished(out)
    rows, waiting = [], []
    for case in cases:
        for method in methods:
            row = done.get(_key(case, method))
            if row is not None:
                rows.append(row)
            else:
                waiting.append((case, method))
    bar = tqdm(total=len(waiting), desc="maps", disable=not progress)
    tasks = [(*task, device) for task in waiting]
    for row in in_processes(_one, tasks, workers=workers, executor=executor):
        rows.append(row)
        bar.update()
        if out is not None:
            _keep(Path(out), rows, done)
    bar.close()
    table = pd.DataFrame(rows).sort_values(["method", "name"], kind="stable")
    return Benchmark(table.reset_index(drop=True))


def _key(case: dict, method: str) -> tuple:
    return case["name"], case.get("resolution"), str(method)


def _finished(out) -> dict[tuple, dict]:
    if out is None or not Path(out).is_file():
        return {}
    rows = [json.loads(line) for line in Path(out).read_text().splitlines()]
    # What failed is tried again.
    return {_key(row, row["method"]): row for row in rows if not row.get("error")}


def _keep(out: Path, rows, done) -> None:
    every = done | {_key(row, row["method"]): row for row in rows}
    with written_beside(out) as beside:
        beside.write_text("".join(json.dumps(row, default=float) + "\n" for row in every.values()))


def _one(case: dict, method: str, device, threads: int | None) -> dict:
    import torch

    if threads:
        torch.set_num_threads(threads)
    try:
        return judge(case, method, device=device)
    except CryonbError as error:
        about = {key: value for key, value in case.items() if key not in ("map", "model")}
        return about | {"method": method, "error": str(error)}


def in_processes(function, tasks, *, workers: int = 1, executor=None):
    """Call a function on many tasks, here or in processes, and give results as they come.

    Parameters
    ----------
    function : callable
        Called as ``function(*task, threads)``, with the number of threads that it may use, or None
        for its own choice.
    tasks : list of tuple
        Its arguments.
    workers : int
        Processes; with one the calls happen here.
    executor : concurrent.futures.Executor, optional
        Takes the tasks instead.

    Yields
    ------
    object
        What a call returned, in no order.

    Raises
    ------
    CryonbError
        If a process ended at once, for instance for lack of memory.
    """
    if executor is None and workers <= 1:
        for task in tasks:
            yield function(*task, None)
        return
    threads = max((os.cpu_count() or 1) // workers, 1) if executor is None else None
    # A fork would share torch's threads in an unknown state.
    own = executor is None
    pool = executor or ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    try:
        futures = [pool.submit(function, *task, threads) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise CryonbError(
            "A process ended before its work did, perhaps for lack of memory; call again with "
            "fewer workers: what was finished is kept."
        ) from error
    finally:
        if own:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when the one that started it is killed: it would wait for work forever."""

    def watch():
        wait([parent_process().sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
