"""Ask cctbx's chain_comparison to compare small models: the reference of tests/evaluate.

    pip install cctbx-base==2025.11                          # in an environment of its own
    python tests/reference/cctbx_chain_comparison.py

writes cctbx_chain_comparison.json beside this file: for each case the Cα atoms of the truth and of
what was found (chain, number, name, x, y, z), and counts, r.m.s.d. and percentages; of the case
"copies", whose chains are far from each other, also those of each chain of the truth by itself.
"""

import io
import json
from pathlib import Path

import numpy as np

NAMES = ("ALA", "GLY", "LEU", "SER", "LYS", "ASP")


def walk(rng, n, start):
    """A chain of 3.8 Å steps that bends at random."""
    steps = np.cumsum(rng.normal(0, 1, (n, 3)), axis=0)
    steps /= np.linalg.norm(steps, axis=1)[:, None]
    return start + np.cumsum(3.8 * steps, axis=0)


def model(chain, points, names):
    return [
        [chain, k + 1, str(name), *np.round(point, 3).tolist()]
        for k, (point, name) in enumerate(zip(points, names, strict=True))
    ]


def cases():
    rng = np.random.default_rng(8)
    for name in ("near", "far", "reversed", "pieces"):
        spread = 1.6 if name == "far" else 0.7
        truth, found = [], []
        for chain, n in (("A", 60), ("B", 35)):
            points = walk(rng, n, rng.uniform(-15, 15, 3) + 40)
            types = rng.choice(NAMES, n)
            truth += model(chain, points, types)
            guess = np.where(rng.random(n) < 0.3, rng.choice(NAMES, n), types)
            points = points + rng.normal(0, spread, points.shape)
            if name == "reversed":
                points, guess = points[::-1], guess[::-1]
            if name == "pieces":
                order = np.concatenate([np.arange(20, n), np.arange(14), np.arange(17, 13, -1)])
                points, guess = points[order], guess[order]
                points = np.vstack([points, points[:5] + 0.4, points[:3] + 60])
                guess = np.concatenate([guess, guess[:5], guess[:3]])
            found += model(chain, points, guess)
        yield name, truth, found
    yield "copies", *copies(np.random.default_rng(9))


def copies(rng):
    """Three chains of one protein, of which one lacks residues, and one of another."""
    truth, found = [], []
    types = rng.choice(NAMES, 50)
    for number, (chain, kept, spread) in enumerate(
        (("A", slice(0, 50), 0.5), ("B", slice(6, 50), 1.2), ("C", slice(0, 45), 2.0))
    ):
        points = walk(rng, 50, (300.0 * number, 0, 0))
        part = model(chain, points, types)[kept]
        truth += part
        guess = np.where(rng.random(50) < 0.2 * number, rng.choice(NAMES, 50), types)[kept]
        points = (points + rng.normal(0, spread, points.shape))[kept]
        if chain == "B":
            # In two pieces, of which one runs backwards.
            points, guess = [np.concatenate([one[:15], one[:14:-1]]) for one in (points, guess)]
        found += model("XYZ"[number], points, guess)
    points, types = walk(rng, 30, (0, 300.0, 0)), rng.choice(NAMES, 30)
    truth += model("D", points, types)
    found += model("V", points[:12] + 0.3, types[:12]) + model("W", points[18:] - 0.4, types[18:])
    return truth, found


def text(atoms):
    lines = [
        f"ATOM  {k + 1:5d}  CA  {name} {chain}{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
        f"  1.00 20.00           C"
        for k, (chain, number, name, x, y, z) in enumerate(atoms)
    ]
    return "\n".join([*lines, "END"])


def compare(truth, found):
    import iotbx.pdb
    from mmtbx.validation.chain_comparison import run

    trees = [
        iotbx.pdb.input(source_info=None, lines=text(atoms).split("\n")).construct_hierarchy()
        for atoms in (truth, found)
    ]
    value = run(
        target_hierarchy=trees[0], chain_hierarchy=trees[1], use_crystal_symmetry=False,
        quiet=True, out=io.StringIO(), args=["test_unique_part_of_target_only=False"],
    )  # fmt: skip
    rmsd, n = value.get_values("close")
    return {
        "n_matched": n, "rmsd": rmsd, "n_far": value.get_values("far_away")[1],
        "forward": value.n_forward, "reverse": value.n_reverse,
        "unordered": value.get_values("unaligned")[1],
        "identity": value.get_match_percent("close"),
        "matched": value.get_close_to_target_percent("close"),
    }  # fmt: skip


def main():
    rows = [
        {"case": name, "truth": truth, "found": found, "values": compare(truth, found)}
        for name, truth, found in cases()
    ]
    for row in rows[-1:]:
        chains = dict.fromkeys(atom[0] for atom in row["truth"])
        row["chains"] = {
            chain: compare([atom for atom in row["truth"] if atom[0] == chain], row["found"])
            for chain in chains
        }
    path = Path(__file__).with_suffix(".json")
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    # isort: off
    # cctbx crashes unless its data manager is imported first of all.
    from iotbx.data_manager import DataManager  # noqa: F401
    # isort: on

    main()
