"""Q3 on simulated maps of SCOPe domains whose superfamilies were not in training.

    python benchmarks/bench_scope_domains.py [--weights unet] [--csv OUT]

Maps by the recipe of ChimeraX's molmap (a Gaussian falloff, as the maps of Emap2sec) on 1 Å voxels
at 6 and 10 Å; at least 15 domains a fold class, by the split of `cryonb.train.library.split`.
CRYONB_DATA names the folder of structures. Published (Emap2sec, 2019): 0.831 and 0.798.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

import cryonb as nb
from cryonb.evaluate.secondary_structure import evaluate_sse
from cryonb.predict.secondary_structure import predict_sse
from cryonb.simulate.gaussian import gaussian_map
from cryonb.train.library import split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", default="unet")
    parser.add_argument("--resolutions", type=float, nargs="+", default=[6.0, 10.0])
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of structures")
    folder = Path(os.environ["CRYONB_DATA"]) / "structures"
    index = pd.read_csv(folder / "INDEX.csv")
    test = index[(split(index) == "test").to_numpy()]
    warnings.simplefilter("ignore")
    rows = []
    for entry in tqdm(list(test.itertuples())):
        model = nb.open_model(folder / entry.file)
        for d in arguments.resolutions:
            volume = gaussian_map(model, resolution=d)
            sse = predict_sse(volume, method=arguments.weights, progress=False)
            summary = evaluate_sse(sse, model).summary
            about = {"file": entry.file, "class": entry.scope_class, "resolution": d}
            rows.append(about | {key: summary[key] for key in ("q3", "voxel_accuracy")})
    table = pd.DataFrame(rows)
    print(table.pivot_table("q3", index="class", columns="resolution", margins=True).round(3))
    print(table.groupby(["resolution", "class"]).size().unstack())
    if arguments.csv:
        table.round(4).to_csv(arguments.csv, index=False)


if __name__ == "__main__":
    main()
