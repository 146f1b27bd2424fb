"""`nb.map_to_model` on whole measured maps, as `cryonb build MAP --sequence FASTA` does it.

    python benchmarks/bench_build.py [--maps 6374 20026 ...] [--rows build.csv] [--models FOLDER]

Each map is as it came: not cut around the model, its half maps not known, its resolution given. The
sequence is that of the residues that the model has, a record a chain; where the map has symmetry
and is prepared, that of one unit. The model that is built is judged before and after the
refinement: matched, identity and rmsd by the rule of `phenix.chain_comparison` (3 Å), tm after
superposition, of the whole and of each chain of the true model (of all units, which
`prepared.symmetry.apply` makes); built_right is the share of what was built that has a pair, and
cc_mask is against the map as it was given, all B alike. truth_cc is that of the true model's atoms
in the same way. A map is a process of its own: CPU seconds of it, and its peak memory with Python
and the libraries. With --rows, rows are kept as they come, and what is there is not done again.
Needs CRYONB_DATA.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pandas as pd

import cryonb as nb
from cryonb.evaluate.correlation import correlate

#: Map, model, resolution in Å, and how many units of the model one sequence stands for.
MAPS = {
    "20026": ("20026/emd20026_prot.mrc.gz", "20026/3ajo_fitted_refined.pdb", 1.75, 1),
    "6374": ("6374/6374.mrc.gz", "6374/3jb0-D.pdb", 2.9, 1),
    "5778": ("5778/5778_ChainA.mrc.gz", "5778/3j5p.pdb", 3.28, 1),
    "0093": ("0093/MAP_m4A.mrc.gz", "0093/6gyn.pdb", 3.4, 4),
    "1461": ("1461/emd_1461.mrc.gz", "1461/vp6_gorgon.pdb", 3.8, 1),
}
KEYS = ("n_truth", "n_matched", "matched", "rmsd", "identity", "tm")


def with_b(model, value=50.0):
    """The model with one B: what a built one holds as B is its confidence."""
    made = model.clone()
    for place in made[0].all():
        place.atom.b_iso = value
    return made


def one(name: str, models: Path | None) -> list[dict]:
    density, truth, d, units = MAPS[name]
    folder = Path(os.environ["CRYONB_DATA"]) / "maps"
    m = nb.open_map(folder / density, resolution=d)
    truth = nb.open_model(folder / truth)
    sequences = nb.open_sequences(truth)
    sequences = sequences[: len(sequences) // units]
    begin = time.process_time()
    built = nb.map_to_model(m, sequences, refine=False, progress=False)
    build_s = time.process_time() - begin
    print(built, file=sys.stderr)
    begin = time.process_time()
    plain = with_b(built.model)
    refined = nb.refine(plain, built.density, what="xyz", resolution=d, progress=False)
    refine_s = time.process_time() - begin
    symmetry = built.prepared.symmetry
    rows = []
    for state, model in (("built", plain), ("refined", refined.model)):
        whole = symmetry.apply(model) if len(symmetry) > 1 else model
        found = nb.compare_chains(whole, truth)
        common = {"map": name, "resolution": d, "model": state, "symmetry": symmetry.name}
        summary = found.summary
        rows.append(common | {"chain": "all"} | {key: summary[key] for key in KEYS})
        rows[-1] |= {
            "n_built": summary.n_found, "built_right": summary.found_matched,
            "cc_mask": correlate(m, whole, overlaps=False).summary.cc_mask,
            "truth_cc": correlate(m, with_b(truth), overlaps=False).summary.cc_mask,
            "build_s": build_s, "refine_s": refine_s,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }  # fmt: skip
        if len(found.chains) > 1:
            each = found.chains[["chain", *KEYS]].to_dict("records")
            rows += [common | row for row in each]
        if models:
            built.save(models, stem=name)
            whole.make_mmcif_document().write_file(str(models / f"{name}_{state}.cif"))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--maps", nargs="+", choices=list(MAPS), default=list(MAPS))
    parser.add_argument("--rows", type=Path, help="CSV of rows, by which a run goes on")
    parser.add_argument("--models", type=Path, help="folder for the models and their tables")
    parser.add_argument("--one", choices=list(MAPS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.one:
        print(json.dumps(one(options.one, options.models)))
        return
    known = options.rows and options.rows.exists()
    rows = pd.read_csv(options.rows, dtype={"map": str}) if known else pd.DataFrame()
    if options.models:
        options.models.mkdir(parents=True, exist_ok=True)
    for name in options.maps:
        if name in set(rows.get("map", ())):
            continue
        command = [sys.executable, __file__, "--one", name]
        command += ["--models", str(options.models)] if options.models else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{name}: FAILED", flush=True)
            continue
        rows = pd.concat([rows, pd.DataFrame(json.loads(done.stdout))], ignore_index=True)
        if options.rows:
            rows.to_csv(options.rows, index=False)
    print(rows.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
