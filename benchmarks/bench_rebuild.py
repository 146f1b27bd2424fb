"""Backbones from Cα atoms and side chains from density, beside the true ones.

    python benchmarks/bench_rebuild.py --rows rows.csv [--backbones 60] [--side-chains 30] [--real]

Domains whose superfamilies, clusters and entries were not among what the tables were made of
(`cryonb.train.library.split`, part "test", 50 to 400 residues), in an order that the number of
domains does not change; a run that was cut off goes on. Backbones: errors of N, C and O in Å from
exact Cα atoms and from such with noise (r.m.s. 0.5 and 1.0 Å, isotropic), with and without a
simulated map at 3 Å, and from the chain in reverse order, where a reversed chain must fail; flips
are oxygens more than 1.5 Å off; outliers are φ, ψ where known structures have less than 5 % of the
uniform density. Side chains: on true backbones with maps simulated at 2, 3 and 4 Å; beside them the
most frequent rotamer of each type, the choice without a map, and maps on rebuilt backbones. Proline
is left out. χ1 is right within 40°. --real: two measured maps; the weights of
the density were chosen on these and on the validation part, so they are no unseen test of them.
Needs CRYONB_DATA.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

import cryonb as nb
from cryonb.atoms import Atoms
from cryonb.errors import ModelWarning
from cryonb.label.secondary_structure import ramachandran
from cryonb.trace.known import CHI_GROUPS, REAL_MAPS, slot_positions, slots
from cryonb.trace.peptides import load_table, residue_classes
from cryonb.trace.rotamers import SYMMETRIC, chi_angles, load_rotamers, place
from cryonb.train.library import split

REAL = {"20026": ("20026/emd20026_prot.mrc.gz", "20026/3ajo_fitted_refined.pdb"),
        "6272": ("6272/6272_zone4A.mrc.gz", "6272/3j9s.pdb")}  # fmt: skip


def test_domains(folder):
    index = pd.read_csv(folder / "INDEX.csv")
    parts = split(index, exclude=REAL_MAPS).to_numpy()
    wanted = (parts == "test") & index["n_residues"].between(50, 400)
    return index["file"][wanted].sample(frac=1, random_state=1).tolist()


def as_traced(model, noise, rng, *, reverse=False):
    """Cα atoms with errors; reversed: the same residues in the places of the reversed chain."""
    new = gemmi.Structure()
    new.add_model(gemmi.Model(1))
    for chain in model[0]:
        alphas = [r.find_atom("CA", "*") for r in chain]
        residues = [r for r, a in zip(chain, alphas, strict=True) if a]
        points = [a.pos.tolist() for a in alphas if a]
        points = np.array(points) + rng.normal(0, noise / np.sqrt(3), (len(points), 3))
        if reverse:
            # Numbers follow the places, so gaps stay where they are.
            residues, points = residues[::-1], points[::-1]
        made = gemmi.Chain(chain.name)
        for old, point in zip(residues, points, strict=True):
            residue = gemmi.Residue()
            residue.name = old.name
            number = -old.seqid.num if reverse else old.seqid.num
            residue.seqid = gemmi.SeqId(number, old.seqid.icode)
            atom = gemmi.Atom()
            atom.name, atom.element = "CA", gemmi.Element("C")
            atom.pos, atom.b_iso = gemmi.Position(*point), old.find_atom("CA", "*").b_iso
            residue.add_atom(atom)
            made.add_residue(residue)
        new[0].add_chain(made)
    new.setup_entities()
    return new


def outliers(model):
    atoms = Atoms.from_structure(model)
    phi, psi = ramachandran(atoms)
    name = atoms.residues.name
    kind = residue_classes(name, np.append(name[1:] == "PRO", False))
    known = np.isfinite(phi) & np.isfinite(psi)
    bins = [np.round(v[known] / 10).astype(int) % 36 for v in (phi, psi)]
    return int((load_table().ramachandran[(kind[known], *bins)] < np.log(0.05)).sum()), known.sum()


def paired(found, truth, *, reverse=False):
    """Slots of the residues that both have."""
    one, two = Atoms.from_structure(found), Atoms.from_structure(truth)
    sign = -1 if reverse else 1
    keys = {
        key: row for row, key in enumerate(
            zip(two.residues.chain.tolist(), (sign * two.residues.number).tolist(),
                two.residues.icode.tolist(), strict=True))
    }  # fmt: skip
    own = zip(one.residues.chain.tolist(), one.residues.number.tolist(),
              one.residues.icode.tolist(), strict=True)  # fmt: skip
    pairs = np.array([(row, keys[key]) for row, key in enumerate(own) if key in keys])
    (name, p), (_, q) = slot_positions(one), slot_positions(two)
    return name[pairs[:, 0]], p[pairs[:, 0]], q[pairs[:, 1]]


def backbone_row(model, noise, seed, *, reverse=False, volume=None):
    # The same errors with and without a map.
    rng = np.random.default_rng([seed, int(10 * noise)])
    begin = time.process_time()
    found = nb.rebuild_backbone(as_traced(model, noise, rng, reverse=reverse), volume)
    seconds = time.process_time() - begin
    _, p, q = paired(found, model, reverse=reverse)
    apart = np.linalg.norm(p[:, :4] - q[:, :4], axis=2)
    apart = apart[np.isfinite(apart).all(axis=1)]
    row = {f"square_{atom}": (apart[:, k] ** 2).sum() for k, atom in enumerate("NACO")}
    row |= {"residues": len(apart), "flips": (apart[:, 3] > 1.5).sum(), "seconds": seconds}
    row["outliers"], row["angles"] = outliers(found)
    row["true_outliers"], row["true_angles"] = outliers(model)
    return row


def side_row(found, truth):
    name, p, q = paired(found, truth)
    chi1, both, squares, atoms, n, n_both = 0, 0, 0.0, 0, 0, 0
    for kind in sorted(set(CHI_GROUPS) - {"PRO"}):
        count = len(slots(kind))
        rows = np.flatnonzero(name == kind)
        rows = rows[np.isfinite(p[rows, :count]).all(axis=(1, 2))
                    & np.isfinite(q[rows, :count]).all(axis=(1, 2))]  # fmt: skip
        if not len(rows):
            continue
        chi = chi_angles(kind, p[rows])
        error = np.abs((chi - chi_angles(kind, q[rows]) + np.pi) % (2 * np.pi) - np.pi)
        apart = ((p[rows, 5:count] - q[rows, 5:count]) ** 2).sum(axis=2)
        if kind in SYMMETRIC:
            k = SYMMETRIC[kind]
            error[:, k] = np.minimum(error[:, k], np.pi - error[:, k])
            chi[:, k] += np.pi
            other = place(load_rotamers()[kind], *(p[rows, j] for j in (0, 1, 4)), chi[:, None])
            other = ((other[:, 0] - q[rows, 5:count]) ** 2).sum(axis=2)
            apart = np.where((other.sum(1) < apart.sum(1))[:, None], other, apart)
        right = error < np.radians(40)
        n, chi1 = n + len(rows), chi1 + right[:, 0].sum()
        if right.shape[1] > 1:
            n_both, both = n_both + len(rows), both + right[:, :2].all(axis=1).sum()
        squares, atoms = squares + apart.sum(), atoms + apart.size
    return {"residues": n, "chi1": chi1, "two": n_both, "chi12": both, "square": squares,
            "atoms": atoms}  # fmt: skip


def most_frequent(model):
    """Each residue with the first rotamer of its type, clashes or not."""
    found = nb.add_side_chains(model).model
    position = slot_positions(Atoms.from_structure(model))[1]
    row = -1
    for chain in found[0]:
        for residue in chain:
            row += 1
            if residue.name not in CHI_GROUPS or not np.isfinite(position[row, :3]).all():
                continue
            rotamers = load_rotamers()[residue.name]
            at = (position[row, None, k] for k in (0, 1, 4))
            for atom, point in zip(
                rotamers.atoms, place(rotamers, *at, rotamers.chi[:1])[0, 0], strict=True
            ):
                residue.find_atom(atom, "*").pos = gemmi.Position(*point)
    return found


def side_rows(model, volumes):
    """Rows of one model with its maps by name."""
    bare = model.clone()
    bare.remove_ligands_and_waters()
    yield "most frequent", side_row(most_frequent(bare), model)
    yield "no map", side_row(nb.add_side_chains(bare).model, model)
    for name, volume in volumes.items():
        begin = time.process_time()
        found = nb.add_side_chains(bare, volume)
        seconds = time.process_time() - begin
        yield name, side_row(found.model, model) | {"seconds": seconds}
        rebuilt = nb.rebuild_backbone(bare, volume)
        yield f"{name}, rebuilt", side_row(nb.add_side_chains(rebuilt, volume).model, model)


def domain_rows(path, side_chains):
    model = nb.open_model(path)
    seed = int(Path(path).name.encode().hex(), 16) % 2**32
    model.remove_alternative_conformations()
    model.remove_ligands_and_waters()
    maps = {
        d: nb.simulate(model, resolution=d) for d in ((2.0, 3.0, 4.0) if side_chains else (3.0,))
    }
    for noise in (0.0, 0.5, 1.0):
        for case, options in (("", {}), (", map 3 Å", {"volume": maps[3.0]}),
                              (", reversed", {"reverse": True})):  # fmt: skip
            row = backbone_row(model, noise, seed, **options)
            yield {"what": "backbone", "case": f"{noise} Å{case}"} | row
    if side_chains:
        for case, row in side_rows(model, {f"{d:g} Å": m for d, m in maps.items()}):
            yield {"what": "side chains", "case": case} | row


def real_rows(folder, key):
    volume, model = (
        read(folder / "maps" / name)
        for read, name in zip((nb.open_map, nb.open_model), REAL[key], strict=True)
    )
    model.remove_alternative_conformations()
    model.remove_ligands_and_waters()
    for noise in (0.0, 0.5, 1.0):
        for case, given in ((f"{noise} Å", None), (f"{noise} Å, map", volume)):
            row = backbone_row(model, noise, 1, volume=given)
            yield {"what": f"backbone {key}", "case": case} | row
    for case, row in side_rows(model, {"map": volume}):
        yield {"what": f"side chains {key}", "case": case} | row


def summary(rows):
    for what, part in rows.groupby("what", sort=False):
        sums = part.groupby("case", sort=False).sum(numeric_only=True, min_count=1)
        number = part.groupby("case", sort=False).file.nunique()
        table = pd.DataFrame({"files": number, "residues": sums.residues.astype(int)})
        if what.startswith("backbone"):
            for atom, name in zip("NACO", ("N", "CA", "C", "O"), strict=True):
                table[name] = np.sqrt(sums[f"square_{atom}"] / sums.residues)
            table["N, C, O"] = np.sqrt(
                (sums.square_N + sums.square_C + sums.square_O) / (3 * sums.residues)
            )
            table["flips %"] = 100 * sums.flips / sums.residues
            table["outliers %"] = 100 * sums.outliers / sums.angles
            table["true outliers %"] = 100 * sums.true_outliers / sums.true_angles
        else:
            table["chi1 %"] = 100 * sums.chi1 / sums.residues
            table["chi1+2 %"] = 100 * sums.chi12 / sums.two
            table["r.m.s.d."] = np.sqrt(sums.square / sums.atoms)
        table["s / 100 residues"] = 100 * sums.seconds / sums.residues
        print(f"\n{what}\n{table.round(3).to_string()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path, required=True, help="CSV of finished rows")
    parser.add_argument("--backbones", type=int, default=60)
    parser.add_argument("--side-chains", type=int, default=30)
    parser.add_argument("--real", action="store_true")
    arguments = parser.parse_args()
    # Chains that noise tears into single residues are what is measured.
    warnings.simplefilter("ignore", ModelWarning)
    folder = Path(os.environ["CRYONB_DATA"])
    done = set(pd.read_csv(arguments.rows).file) if arguments.rows.exists() else set()
    files = test_domains(folder / "structures")[: arguments.backbones]
    for k, name in enumerate(files + (sorted(REAL) if arguments.real else [])):
        if name in done:
            continue
        rows = (
            real_rows(folder, name) if name in REAL
            else domain_rows(folder / "structures" / name, k < arguments.side_chains)
        )  # fmt: skip
        table = pd.DataFrame(list(rows)).assign(file=name)
        columns = ["file", "what", "case", "residues", "square_N", "square_A", "square_C",
                   "square_O", "flips", "outliers", "angles", "true_outliers", "true_angles",
                   "chi1", "two", "chi12", "square", "atoms", "seconds"]  # fmt: skip
        table.reindex(columns=columns).to_csv(
            arguments.rows, mode="a", header=not arguments.rows.exists(), index=False
        )
    summary(pd.read_csv(arguments.rows))


if __name__ == "__main__":
    main()
