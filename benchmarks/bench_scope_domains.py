r"""Q3 on simulated maps of SCOPe domains whose superfamilies were not in training.

    python benchmarks/bench_scope_domains.py [--weights unet ...] [--rows OUT] [--csv OUT]
    python benchmarks/bench_scope_domains.py --part validation --resolutions 7 \
        --weights emap2sec-dense_6A emap2sec-dense_10A

The second compares weights on domains that no figure of the README is about.

Maps by the recipe of ChimeraX's molmap (a Gaussian falloff, as the maps of Emap2sec) on 1 Å voxels
at 6 and 10 Å; at least 15 domains a fold class and the two that the Emap2sec paper names, by the
split of `cryonb.train.library.split`. CRYONB_DATA names the folder of structures. With --rows, a
run that was cut off goes on; Emap2sec's windows take hours. The table that comes with the package
is that of --csv. Published (Emap2sec, 2019): 0.831 at 6 Å and 0.798 at 10 Å, over 34 domains.
"""

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

import cryonb as nb
from cryonb.comparison import Benchmark
from cryonb.train.library import split

_METHODS = ("emap2sec", "emap2sec-dense", "haruspex", "unet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", nargs="+", default=list(_METHODS))
    parser.add_argument("--part", choices=["test", "validation"], default="test")
    parser.add_argument("--resolutions", type=float, nargs="+", default=[6.0, 10.0])
    parser.add_argument("--rows", type=Path, help="file of finished rows")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of structures")
    folder = Path(os.environ["CRYONB_DATA"]) / "structures"
    index = pd.read_csv(folder / "INDEX.csv")
    part = index[(split(index) == arguments.part).to_numpy() & index["scope_class"].notna()]
    cases = pd.DataFrame(
        {"name": part["file"], "model": [str(folder / name) for name in part["file"]],
         "group": part["scope_class"]}
    )  # fmt: skip
    tables = []
    for method in arguments.weights:
        for d in arguments.resolutions:
            found = nb.benchmark(cases.assign(resolution=d), [method], out=arguments.rows)
            tables.append(found.table)
    both = Benchmark(pd.concat(tables, ignore_index=True))
    for score in ("q3", "window_q3"):
        print(f"\n{score}, mean by fold class")
        print(both.table.pivot_table(score, index=["method", "resolution"], columns="group",
                                     margins=True).round(3))  # fmt: skip
    by = both.table.groupby(["method", "resolution"])
    print("\nmaps and median seconds\n", by["seconds"].agg(["size", "median"]).round(1))
    if arguments.csv:
        # Seconds are those of the machine, and of what else it did.
        Benchmark(both.table.drop(columns="seconds").round(4)).save(arguments.csv)


if __name__ == "__main__":
    main()
