"""Correlation of a map with its model by residue, beside servalcat's `localcc`, in one run.

    python benchmarks/bench_local_correlation.py --servalcat /path/to/servalcat

cryonb has no map of the local correlation of half maps; the nearest are the correlations by residue
of `m.evaluate(model)` (cc: unweighted, over the voxels near its atoms; smoc) and the local
resolution by band-passed correlations. servalcat weights the terms by the half maps' FSC and
correlates within 5 voxels of each; its value of a residue is the mean at its atoms. What the two
agree upon is the ranking of residues (Spearman) and so which are the worst. Half maps are 6272 of
CRYONB_DATA with noise (tests/reference/half_maps.py). Times are CPU times: servalcat's of its whole
process, cryonb's of opening the files, the correlation and no import.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

import cryonb as nb
from cryonb.evaluate.correlation import correlate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reference"))
from half_maps import write_all

RESOLUTION = 2.6
# Of servalcat's table; half is the correlation of the half maps.
_COLUMNS = ("chain", "number", "residue", "localcc", "half", "full")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--servalcat", help="the command")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_all(os.environ["CRYONB_DATA"], folder)
        times = {}
        for overlaps in (False, True):
            start = time.process_time()
            halves = nb.half_maps(folder / "half1.mrc", folder / "half2.mrc")
            model = nb.open_model(folder / "model.cif")
            found = correlate(halves.mean, model, resolution=RESOLUTION, overlaps=overlaps)
            times["cc and smoc" if overlaps else "cc"] = time.process_time() - start
        start = time.process_time()
        halves.local_resolution(method="bandpass", resolution=RESOLUTION)
        times["local resolution"] = time.process_time() - start
        for key, seconds in times.items():
            print(f"cryonb    {key:18s} CPU {seconds:5.2f} s")
        if not options.servalcat:
            return
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [options.servalcat, "localcc", "--halfmaps", "half1.mrc", "half2.mrc",
                   "--kernel", "5", "--mask", "mask.mrc", "--model", "model.cif",
                   "--resolution", str(RESOLUTION)]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"servalcat {'localcc':18s} CPU {used:5.2f} s")
        log = next(folder.glob("ccmap*byresidue.log"))
        rows = [line.split() for line in log.read_text().splitlines()]
        rows = [row for row in rows if len(row) == 6 and row[1].isdigit()]
        theirs = pd.DataFrame(rows, columns=_COLUMNS)
        both = found.residues.merge(
            theirs.astype({"number": int, "localcc": float, "half": float}), on=["chain", "number"]
        )
        print(f"{len(both)} residues")
        print(both[["cc", "smoc", "localcc", "half"]].corr("spearman").round(3).to_string())
        worst = len(both) // 10
        sets = [set(both.nsmallest(worst, column).index) for column in ("cc", "localcc")]
        print(f"worst {worst} residues: {len(sets[0] & sets[1])} in common")


if __name__ == "__main__":
    main()
