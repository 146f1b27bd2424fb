"""Compare `cryonb.label.secondary_structure` with the program mkdssp, in codes and in time.

    CRYONB_DATA=... python benchmarks/bench_dssp.py [--limit N] [--reference CSV]

reads every structures/*/*.pdb.gz below CRYONB_DATA. mkdssp 4 is the Debian package `dssp`. It is
given a minimal PDB file of the same model, because it stops on some SHEET records and on a missing
HEADER. Modified residues (MSE) travel under the name of the residue that they derive from: mkdssp
drops, from a PDB file, those that its chemical dictionary does not hold. mkdssp's time is that of
the process alone; ours is given from a model in memory, and with reading the gzipped file as well.
With --reference it writes mkdssp's codes of every 20th file, for tests that run without mkdssp.
"""

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import gemmi
import numpy as np

from cryonb.atoms import Atoms
from cryonb.label.dssp import states_of
from cryonb.label.secondary_structure import secondary_structure

REFERENCE_STEP = 20
STANDARD = set(gemmi.expand_one_letter_sequence("ACDEFGHIKLMNPQRSTVWY", gemmi.ResidueKind.AA))


def text_for_mkdssp(structure):
    """A minimal PDB file with parents' names for modified residues."""
    structure = structure.clone()
    structure.helices.clear()
    structure.sheets.clear()
    structure.name = "XXXX"
    for chain in structure[0]:
        for residue in chain:
            if residue.name not in STANDARD and residue.find_atom("CA", "*", gemmi.Element("C")):
                parent = gemmi.find_tabulated_residue(residue.name).one_letter_code.upper().strip()
                name = gemmi.expand_one_letter(parent, gemmi.ResidueKind.AA) if parent else None
                residue.name = name if name in STANDARD else "ALA"
                residue.het_flag = "A"
    structure.setup_entities()
    body = structure.make_pdb_string(gemmi.PdbWriteOptions(minimal=True))
    return f"HEADER    PROTEIN                                 01-JAN-26   1XXX\n{body}"


def run_mkdssp(structure, folder):
    """Codes by (chain, number, insertion code), in mkdssp's order, and seconds."""
    source, target = folder / "in.pdb", folder / "out.dssp"
    source.write_text(text_for_mkdssp(structure))
    started = time.perf_counter()
    command = ["mkdssp", "--quiet", "--output-format", "dssp", str(source), str(target)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if result.returncode:
        return None, seconds
    lines = iter(target.read_text().splitlines())
    for line in lines:
        if line.startswith("  #  RESIDUE"):
            break
    return {
        (line[11], int(line[5:10]), line[10].strip()): line[16].replace(" ", "-")
        for line in lines
        if line[13] != "!"
    }, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="take this many files, evenly spread")
    parser.add_argument("--reference", type=Path, help="write mkdssp's codes to this CSV")
    options = parser.parse_args()
    data = os.environ.get("CRYONB_DATA")
    if not data or not shutil.which("mkdssp"):
        print("skipped: needs CRYONB_DATA (real structures) and mkdssp (Debian package dssp)")
        return 0
    folder = Path(data) / "structures"
    files = sorted(folder.glob("*/*.pdb.gz"))
    if options.limit:
        step = np.linspace(0, len(files) - 1, min(options.limit, len(files))).astype(int)
        files = [files[i] for i in step]

    seconds = Counter()
    n_files = n_residues = same_code = same_state = only_one = 0
    failed, rows, different = [], [], []
    with tempfile.TemporaryDirectory() as name:
        for path in files:
            started = time.perf_counter()
            structure = gemmi.read_structure(str(path))
            read = time.perf_counter()
            ours = secondary_structure(structure)
            done = time.perf_counter()
            if not any(ours.dssp != ""):
                continue  # nucleic acid only
            reference, mkdssp_seconds = run_mkdssp(structure, Path(name))
            if reference is None:
                failed.append(path.name)
                continue
            atoms = Atoms.from_structure(structure)
            again = time.perf_counter()
            secondary_structure(atoms)
            seconds["columns"] += time.perf_counter() - again
            seconds["read"] += read - started
            seconds["ours"] += done - read
            seconds["mkdssp"] += mkdssp_seconds
            n_files += 1

            table = ours.residues
            keys = zip(table.chain.tolist(), table.number.tolist(), table.icode.tolist(),
                       strict=True)  # fmt: skip
            mine = {key: code for key, code in zip(keys, ours.dssp.tolist(), strict=True) if code}
            both = [key for key in mine if key in reference]
            only_one += len(mine) + len(reference) - 2 * len(both)
            left = np.array([mine[key] for key in both])
            right = np.array([reference[key] for key in both])
            equal = states_of(left) == states_of(right)
            n_residues += len(both)
            same_code += int((left == right).sum())
            same_state += int(equal.sum())
            if not equal.all():
                different.append(f"{path.name} ({int((~equal).sum())})")
            if (n_files - 1) % REFERENCE_STEP == 0:
                chains = dict.fromkeys(key[0] for key in reference)
                rows += [
                    (path.relative_to(folder).as_posix(), chain,
                     "".join(code for key, code in reference.items() if key[0] == chain))
                    for chain in chains
                ]  # fmt: skip

    version = subprocess.run(["mkdssp", "--version"], capture_output=True, text=True, check=True)
    version = version.stdout.split("\n")[0]
    each = 1000 / max(n_files, 1)
    print(f"{version}; Python {platform.python_version()}; {n_files} files, {n_residues} residues")
    print(
        f"equal in three states {same_state / n_residues:.4%}, "
        f"in codes {same_code / n_residues:.4%}; "
        f"residues that only one program has: {only_one}"
    )
    if different:
        print("three-state differences in:", ", ".join(different))
    if failed:
        print("mkdssp gave no answer for:", ", ".join(failed))
    times = {
        "from columns": seconds["columns"],
        "from gemmi.Structure": seconds["ours"],
        "with reading the file": seconds["ours"] + seconds["read"],
    }
    print(f"mkdssp {seconds['mkdssp'] * each:.1f} ms a file")
    for name, total in times.items():
        ratio = seconds["mkdssp"] / total
        print(f"ours, {name}: {total * each:.2f} ms a file, {ratio:.0f} times faster")

    if options.reference:
        temporary = options.reference.with_suffix(".part")
        with temporary.open("w", newline="") as stream:
            stream.write(f"# codes of {version} for files of CRYONB_DATA/structures, made by\n")
            stream.write("# python benchmarks/bench_dssp.py --reference "
                         "tests/reference/dssp_mkdssp4.csv\n")  # fmt: skip
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("file", "chain", "codes"))
            writer.writerows(rows)
        temporary.replace(options.reference)
        print(f"wrote {options.reference} ({len(rows)} chains)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
