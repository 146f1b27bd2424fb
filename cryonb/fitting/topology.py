"""What is bonded in a model: by name in amino acids and nucleotides, elsewhere by distance."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.sparse import coo_array
from scipy.spatial import cKDTree

from cryonb.atoms import KIND_NUCLEIC, KIND_PROTEIN, Atoms

__all__ = ["bonded_pairs", "joined", "named_bonds", "type_names", "within_three_bonds"]

# Atoms are bonded when no farther apart than the sum of their covalent radii and this, in Å.
_SLACK = 0.3
# Residues are linked up to this distance (Å), and atoms of one are bonded whatever theirs.
_LONGEST = 3.0

# Bonds by atom name; those with "=" do not turn, and what is bonded to their ends lies in a plane.
_PEPTIDE = "N-CA CA-C C=O C=OXT CA-CB"
_SIDE_CHAINS = {
    "ALA": "", "GLY": "", "ARG": "CB-CG CG-CD CD-NE NE=CZ CZ=NH1 CZ=NH2",
    "ASN": "CB-CG CG=OD1 CG=ND2", "ASP": "CB-CG CG=OD1 CG=OD2", "CYS": "CB-SG",
    "GLN": "CB-CG CG-CD CD=OE1 CD=NE2", "GLU": "CB-CG CG-CD CD=OE1 CD=OE2",
    "HIS": "CB-CG CG=ND1 CG=CD2 ND1=CE1 CD2=NE2 CE1=NE2", "ILE": "CB-CG1 CB-CG2 CG1-CD1",
    "LEU": "CB-CG CG-CD1 CG-CD2", "LYS": "CB-CG CG-CD CD-CE CE-NZ", "MET": "CB-CG CG-SD SD-CE",
    "MSE": "CB-CG CG-SE SE-CE", "PHE": "CB-CG CG=CD1 CG=CD2 CD1=CE1 CD2=CE2 CE1=CZ CE2=CZ",
    "PRO": "CB-CG CG-CD CD-N", "SER": "CB-OG", "THR": "CB-OG1 CB-CG2",
    "TRP": "CB-CG CG=CD1 CG=CD2 CD1=NE1 NE1=CE2 CE2=CD2 CD2=CE3 CE3=CZ3 CZ3=CH2 CH2=CZ2 CZ2=CE2",
    "TYR": "CB-CG CG=CD1 CG=CD2 CD1=CE1 CD2=CE2 CE1=CZ CE2=CZ CZ-OH", "VAL": "CB-CG1 CB-CG2",
}  # fmt: skip
_SUGAR = (
    "P-OP1 P-OP2 P-OP3 P-O5' O5'-C5' C5'-C4' C4'-O4' C4'-C3' C3'-O3' C3'-C2' C2'-O2' C2'-C1' "
    "C1'-O4' "
)
_PURINE = "C1'-N9 N9=C8 C8=N7 N7=C5 C5=C6 C6=N1 N1=C2 C2=N3 N3=C4 C4=C5 C4=N9 "
_PYRIMIDINE = "C1'-N1 N1=C2 C2=N3 N3=C4 C4=C5 C5=C6 C6=N1 C2=O2 "
_BASES = {
    "A": _PURINE + "C6=N6", "G": _PURINE + "C6=O6 C2=N2", "C": _PYRIMIDINE + "C4=N4",
    "U": _PYRIMIDINE + "C4=O4", "DT": _PYRIMIDINE + "C4=O4 C5-C7",
}  # fmt: skip
_BASES |= {f"D{name}": _BASES[name] for name in "AGC"}
_BONDS = {name: f"{_PEPTIDE} {bonds}" for name, bonds in _SIDE_CHAINS.items()}
_BONDS |= {name: _SUGAR + bonds for name, bonds in _BASES.items()}
#: From one residue to the next.
_LINKS = (("C", "N", True), ("O3'", "P", False))
#: Amino acids that branch at CB.
_BRANCHED = ("ILE", "THR", "VAL")
#: Names in old files.
_OLD = {"O1P": "OP1", "O2P": "OP2", "O3P": "OP3", "C5M": "C7"}


@cache
def _covalent_radii() -> np.ndarray:
    import gemmi

    return np.array([gemmi.Element(number).covalent_r for number in range(119)])


def type_names(atoms: Atoms) -> np.ndarray:
    """Name atoms so that equal names have equal bonds and angles: "LEU CG", "peptide N", "rna P".

    Backbone atoms of amino acids (N, CA, C, O, CB) count as one, apart from glycine and proline;
    CA and CB also apart from alanine and from what branches at CB (isoleucine, threonine, valine),
    as Engh & Huber 1991 (Acta Cryst. A47, 392) divide them. Those of sugars and phosphates count
    as one, RNA and DNA apart.

    Parameters
    ----------
    atoms : Atoms
        The model.

    Returns
    -------
    ndarray of str, shape (n,)
    """
    name, residue = _current_names(atoms), atoms.residues.name[atoms.residue].astype(str)
    alpha = np.isin(name, ("CA", "CB"))
    peptide = (atoms.kind == KIND_PROTEIN) & ~np.isin(residue, ("GLY", "PRO"))
    peptide &= alpha | np.isin(name, ("N", "C", "O", "OXT"))
    peptide &= ~(alpha & (residue == "ALA"))
    sugar = np.char.endswith(name, "'") | np.isin(name, ("P", "OP1", "OP2", "OP3"))
    sugar &= atoms.kind == KIND_NUCLEIC
    group = np.where(peptide, "peptide", residue)
    group = np.where(peptide & alpha & np.isin(residue, _BRANCHED), "branched", group)
    group = np.where(sugar, np.where(np.char.startswith(residue, "D"), "dna", "rna"), group)
    return np.char.add(np.char.add(group, " "), name)


def _current_names(atoms: Atoms) -> np.ndarray:
    """Names of the atoms, those of old files as they are now."""
    return np.array([_OLD.get(text, text.replace("*", "'")) for text in atoms.name.tolist()])


def named_bonds(atoms: Atoms, altloc=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the bonds of amino acids and nucleotides by name, however the atoms lie.

    Parameters
    ----------
    atoms : Atoms
        The model.
    altloc : ndarray of int, shape (n,), optional
        Labels of alternative locations, 0 for none; atoms of two labels are not bonded.

    Returns
    -------
    pairs : ndarray of int, shape (m, 2)
        Each ascending. Residues that follow one another in a chain are linked where that is no
        longer than 3 Å.
    stiff : ndarray of bool, shape (m,)
        Which do not turn.
    known : ndarray of bool, shape (n,)
        Which atoms are of such a residue, and named in it.
    """
    name = _current_names(atoms)
    residue_name = atoms.residues.name[atoms.residue]
    known = np.zeros(len(atoms), dtype=bool)
    found, n_residues = [], len(atoms.residues)

    def meet(ones, twos, stiff, step=0):
        """Join atoms of equal residues, or of residues with the next; alternatives with all."""
        order = np.argsort(atoms.residue[twos], kind="stable")
        twos = twos[order]
        count = np.bincount(atoms.residue[twos], minlength=n_residues + 1)
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        wanted = atoms.residue[ones] + step
        each = count[wanted]
        rows = np.repeat(np.arange(len(ones)), each)
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        pairs = np.column_stack([ones[rows], twos[first[wanted][rows] + within]])
        found.append((pairs, np.full(len(pairs), stiff)))

    for residue, bonds in _BONDS.items():
        of = np.flatnonzero(residue_name == residue)
        if not len(of):
            continue
        for bond in bonds.split():
            one, two = bond.replace("=", "-").split("-")
            known[of] |= (name[of] == one) | (name[of] == two)
            meet(of[name[of] == one], of[name[of] == two], "=" in bond)
    for one, two, stiff in _LINKS:
        meet(np.flatnonzero(known & (name == one)), np.flatnonzero(known & (name == two)), stiff, 1)
        pairs, kind = found.pop()
        chain, number = (getattr(atoms.residues, key)[atoms.residue] for key in ("chain", "number"))
        apart = np.linalg.norm(np.diff(atoms.position[pairs], axis=1)[:, 0], axis=1)
        kept = (apart <= _LONGEST) & (chain[pairs[:, 0]] == chain[pairs[:, 1]])
        kept &= np.abs(number[pairs[:, 0]] - number[pairs[:, 1]]) <= 1
        found.append((pairs[kept], kind[kept]))
    pairs = np.sort(np.concatenate([part for part, _ in found]), axis=1).astype(np.int64)
    stiff = np.concatenate([part for _, part in found])
    if altloc is not None:
        one, two = altloc[pairs].T
        kept = (one == two) | (one == 0) | (two == 0)
        pairs, stiff = pairs[kept], stiff[kept]
    return pairs, stiff, known


def bonded_pairs(position, element, altloc=None, *, named=None) -> np.ndarray:
    """Find bonds: no farther apart than the sum of the covalent radii and 0.3 Å.

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        (x, y, z) in Å.
    element : ndarray of int, shape (n,)
        Atomic numbers.
    altloc : ndarray of int, shape (n,), optional
        Labels of alternative locations, 0 for none; atoms of two labels are not bonded.
    named : tuple, optional
        What `named_bonds` gives: then two atoms whose bonds are known by name have these, however
        far apart they are, and no others but between two S.

    Returns
    -------
    ndarray of int, shape (m, 2)
        Ascending.
    """
    element = np.asarray(element, dtype=int)
    radius = _covalent_radii()[element]
    pairs = cKDTree(position).query_pairs(2 * radius.max() + _SLACK, output_type="ndarray")
    pairs = np.sort(pairs, axis=1)
    one, two = pairs.T
    apart = np.linalg.norm(position[one] - position[two], axis=1)
    near = apart <= radius[one] + radius[two] + _SLACK
    if altloc is not None:
        near &= (altloc[one] == altloc[two]) | (altloc[one] == 0) | (altloc[two] == 0)
    if named is not None:
        near &= ~named[2][pairs].all(axis=1) | (element[pairs] == 16).all(axis=1)
    pairs = pairs[near]
    if named is not None:
        pairs = np.unique(np.concatenate([pairs, named[0]]), axis=0)
    return pairs[np.lexsort(pairs.T[::-1])]


def joined(left: np.ndarray, right: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row of left, row of right) in which left's last atom is right's first one."""
    order = np.argsort(right[:, 0], kind="stable")
    count = np.bincount(right[:, 0], minlength=n)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    each = count[left[:, -1]]
    rows = np.repeat(np.arange(len(left)), each)
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    return rows, order[first[left[:, -1]][rows] + within]


def within_three_bonds(bonds: np.ndarray, n: int) -> np.ndarray:
    """Pairs of atoms up to three bonds apart, both ways round, each as first · n + second."""
    step = coo_array((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n, n)).tocsr()
    step = step + step.T + coo_array((np.ones(n), (np.arange(n), np.arange(n))), shape=(n, n))
    one, two = (step @ step @ step).nonzero()
    return np.sort(one * np.int64(n) + two)
