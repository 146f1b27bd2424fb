"""Which ingredient of the U-Net's training mattered: the same few steps more, with one at a time.

    python benchmarks/bench_ablation.py RUNS [--steps 400] [--only NAME ...]

CRYONB_DATA names the folder of maps and structures; RUNS keeps runs, weights and rows, so that a
run that was cut off goes on. Every variant begins with the weights of recipes/unet-first.toml
(--start, runs/unet-first/unet-first.safetensors) and learns for the same number of steps, at a rate
that falls to zero, from the same scenes. Judged are, as bench_accuracy.py does, the validation
domains at 6 and 10 Å without noise, and the measured maps, of which none is in any training.
"before" is the network that they begin with.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

import pandas as pd
from bench_accuracy import cases, figure, judged

from cryonb.train.loop import train_network

BASE = {
    "seed": 61, "warmup": 50, "rate": 5e-4, "phantoms": 150, "look": 10**6,
    "exclude": ("pool_protein/7cec_A.pdb.gz", "pool_protein/4oyn_A.pdb.gz",
                "pool_nucleic/1sfo.pdb.gz"),
}  # fmt: skip
LARGER = {"edge": 64, "scenes": 3, "measured": 2}
REALISM = {"faded": 0.7, "overstated": 0.35, "belts": 0.15}
VARIANTS = {
    "no change": {},
    "larger crops": LARGER,
    "clean maps": {"clean": 0.15},
    "weak side chains, overstated resolution, belts": REALISM,
    "one falloff": {"levelled": True},
    "two more blocks at 2 Å": {"extra": 2},
    "all": {**LARGER, **REALISM, "clean": 0.15, "levelled": True, "extra": 2},
}
#: Heading, kind of maps, limits of their resolution, figure.
COLUMNS = (
    ("6 Å Q3", "simulated", (6, 6), "q3"),
    ("10 Å Q3", "simulated", (10, 10), "q3"),
    ("measured to 4 Å Q3", "measured", (0, 4), "q3"),
    ("F1, Haruspex's", "measured", (0, 4), "haruspex_f1"),
    ("4.3 and 4.5 Å Q3", "measured", (4.3, 7), "q3"),
    ("calibration error", "measured", (0, 7), "calibration_error"),
)


def judge(weights: Path, rows: Path) -> dict[str, float]:
    found = []
    known = [json.loads(line) for line in rows.read_text().splitlines()] if rows.is_file() else []
    done = {(row["kind"], row["name"], row["resolution"]): row for row in known}
    for case in cases("validation", None, str(weights)):
        key = (case["kind"], case["name"], case["resolution"])
        if key[0] == "complexes" or (key[0] == "simulated" and key[2] not in (6.0, 10.0)):
            continue
        if key not in done:
            done[key] = dict(zip(("kind", "name", "resolution"), key, strict=True)) | judged(case)
            with rows.open("a") as file:
                print(json.dumps(done[key], default=float), file=file)
        found.append(done[key])
    return {
        heading: figure(
            [r for r in found if r["kind"] == kind and low <= r["resolution"] <= high], name
        )
        for heading, kind, (low, high), name in COLUMNS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--start", default="runs/unet-first/unet-first.safetensors")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    if "CRYONB_DATA" not in os.environ:
        sys.exit("CRYONB_DATA must name the folder of maps and structures")
    warnings.simplefilter("ignore")
    options.runs.mkdir(parents=True, exist_ok=True)
    table = {"before": judge(Path(options.start), options.runs / "before.jsonl")}
    for name in options.only:
        run = options.runs / "".join(c if c.isalnum() else "_" for c in name)
        recipe = BASE | {
            "name": "unet", "start": options.start, "steps": options.steps,
            "tail": options.steps - BASE["warmup"],
        }  # fmt: skip
        train_network(recipe | VARIANTS[name], run)
        table[name] = judge(run / "unet.safetensors", run / "rows.jsonl")
        print(pd.DataFrame(table).T.round(3).to_string(), flush=True)


if __name__ == "__main__":
    main()
