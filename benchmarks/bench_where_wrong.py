"""Where the network is wrong: at the ends of elements or within them, and for which DSSP letters.

    python benchmarks/bench_where_wrong.py [--weights unet] [--part test] [--resolution 6]

CRYONB_DATA names the folder of maps and structures. The first table counts protein residues by how
far they are, along the chain, from where the class changes in the truth (0: the first or last
residue of a helix, strand or stretch of coil), the second by their letter of DSSP, of which H, G
and I are helix here, E and B strand. Over simulated maps of the SCOPe domains of one part of the
split (train: those that were learned from), and over the measured maps.
"""

import argparse
import os
import sys
import warnings

import numpy as np
import pandas as pd
from bench_accuracy import STATES, cases, opened


def from_an_end(residues: pd.DataFrame) -> np.ndarray:
    """Give residues between each and the nearest change of class, or end of a chain: 0, 1, ..."""
    chain, truth = residues["chain"].to_numpy(), residues["truth"].to_numpy()
    starts = (chain[1:] != chain[:-1]) | (truth[1:] != truth[:-1])
    stretch = np.cumsum(np.concatenate([[0], starts]))
    place = pd.Series(stretch).groupby(stretch)
    return np.minimum(place.cumcount(), place.cumcount(ascending=False)).to_numpy()


def judged(case: dict) -> pd.DataFrame:
    m, model = opened(case)
    found = m.predict_sse(method=case["weights"], on="network", progress=False)
    residues = found.evaluate(model).residues
    residues = residues[residues["truth"].isin(STATES)]
    return residues.assign(kind=case["kind"], end=from_an_end(residues).clip(max=4))


def say(rows: pd.DataFrame, by: str) -> None:
    table = rows.groupby(by)["correct"].agg(residues="size", right="mean")
    wrong = (~rows["correct"]).groupby(rows[by]).sum()
    table["share of residues"] = table["residues"] / len(rows)
    table["share of errors"] = wrong / wrong.sum()
    print(table.round(3).to_string(), "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="unet")
    parser.add_argument("--part", choices=["test", "validation", "train"], default="test")
    parser.add_argument("--resolution", type=float, default=6.0, help="of simulated maps, in Å")
    options = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of maps and structures")
    warnings.simplefilter("ignore")
    rows = pd.concat(
        judged(case)
        for case in cases(options.part, None, options.weights)
        if case["kind"] == "measured" or (case["kind"] == "simulated"
                                          and case["resolution"] == options.resolution)
    )  # fmt: skip
    for kind, group in rows.groupby("kind"):
        print(f"{kind}: {len(group)} residues, {group['correct'].mean():.3f} of them right")
        for by in ("end", "dssp"):
            say(group, by)


if __name__ == "__main__":
    main()
