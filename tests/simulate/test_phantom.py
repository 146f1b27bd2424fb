import shutil
import subprocess
from itertools import pairwise

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryonb.atoms import KIND_NUCLEIC, KIND_PROTEIN, Atoms
from cryonb.errors import ModelError
from cryonb.simulate import phantom
from cryonb.simulate.fibre import A_RNA, B_DNA
from cryonb.volume import CLASSES

# What mkdssp 4.2.2 answers (`mkdssp --output-format dssp model.pdb out.dssp`, model.pdb written by
# `as_pdb` below), residue by residue; "-" stands for its blank.
MKDSSP = {
    ("alpha_helix", 6): "-HHHH-",
    ("alpha_helix", 12): "-HHHHHHHHHH-",
    ("three_ten_helix", 5): "-GGG-",
    ("three_ten_helix", 8): "-GGGGGG-",
    ("polyproline", 8): "-PPPPPP-",
    ("antiparallel", 2, 6): "--EEE---EEE-",
    ("antiparallel", 3, 7): "-EEEEE--EEEEE--EEEEE-",
    ("antiparallel", 4, 8): "--EEEEE---EEEEE---EEEEE---EEEEE-",
    ("antiparallel", 5, 9): "-EEEEEEE--EEEEEEE--EEEEEEE--EEEEEEE--EEEEEEE-",
    ("parallel", 2, 6): "-EEEE--EEEE-",
    ("parallel", 3, 7): "-EEEEE--EEEEE--EEEEE-",
    ("parallel", 4, 8): "-EEEEEE--EEEEEE--EEEEEE--EEEEEE-",
}
THREE_STATES = dict.fromkeys("HGI", "helix") | dict.fromkeys("EB", "strand")

# Covalent bonds within a nucleotide, and the base's atom on C1'.
BACKBONE_BONDS = [
    *("P-OP1", "P-OP2", "P-O5'", "O5'-C5'", "C5'-C4'", "C4'-O4'", "C4'-C3'", "C3'-O3'"),
    *("C3'-C2'", "C2'-C1'", "C1'-O4'"),
]
BASE_BONDS = {
    "A": "C1'-N9 N9-C8 C8-N7 N7-C5 C5-C6 C6-N6 C6-N1 N1-C2 C2-N3 N3-C4 C4-C5 C4-N9",
    "G": "C1'-N9 N9-C8 C8-N7 N7-C5 C5-C6 C6-O6 C6-N1 N1-C2 C2-N2 C2-N3 N3-C4 C4-C5 C4-N9",
    "C": "C1'-N1 N1-C2 C2-O2 C2-N3 N3-C4 C4-N4 C4-C5 C5-C6 C6-N1",
    "T": "C1'-N1 N1-C2 C2-O2 C2-N3 N3-C4 C4-O4 C4-C5 C5-C7 C5-C6 C6-N1",
    "U": "C1'-N1 N1-C2 C2-O2 C2-N3 N3-C4 C4-O4 C4-C5 C5-C6 C6-N1",
}
# Hydrogen bonds of Watson and Crick: atoms of the first base and of the second.
PAIR_BONDS = {
    "AT": (("N6", "O4"), ("N1", "N3")),
    "AU": (("N6", "O4"), ("N1", "N3")),
    "GC": (("O6", "N4"), ("N1", "N3"), ("N2", "O2")),
}
# Sign of (a - c) · (b - c) × (d - c) for the centre c. L-alanine is S at CA; the signs of the
# nucleotide are those of all 166, 294 and 116 nucleotides of the crystal structures 4yb0, 1kx5
# and 5lyu.
HAND = {
    "CA": (("N", "C", "CB"), 1),
    "C1'": (("O4'", "base", "C2'"), -1),
    "C2'": (("O2'", "C3'", "C1'"), 1),
    "C3'": (("O3'", "C4'", "C2'"), 1),
    "C4'": (("O4'", "C3'", "C5'"), -1),
    "P": (("OP1", "OP2", "O5'"), -1),
}

PROTEINS = {
    "alpha": lambda: phantom.alpha_helix(14),
    "three_ten": lambda: phantom.three_ten_helix(12),
    "polyproline": lambda: phantom.polyproline(10),
    "antiparallel": lambda: phantom.beta_sheet(4, length=7),
    "antiparallel, even": lambda: phantom.beta_sheet(3, length=8),
    "parallel": lambda: phantom.beta_sheet(4, length=7, parallel=True),
}
DUPLEXES = {
    "B-DNA": (phantom.dna_duplex, "ACGTTGCATC", B_DNA),
    "A-RNA": (phantom.rna_duplex, "ACGUUGCAUC", A_RNA),
}


def build(kind, *numbers):
    if kind in ("parallel", "antiparallel"):
        strands, length = numbers
        return phantom.beta_sheet(strands, length=length, parallel=kind == "parallel")
    return getattr(phantom, kind)(*numbers)


def chains_of(made):
    """Positions by atom name of every residue, chain by chain."""
    return [
        [{atom.name: np.array(atom.pos.tolist()) for atom in residue} for residue in chain]
        for chain in made.structure[0]
    ]


def distance(a, b):
    return np.linalg.norm(a - b)


def angle(a, b, c):
    u, v = a - b, c - b
    return np.degrees(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))


def torsion(a, b, c, d):
    first, axis, last = b - a, c - b, d - c
    normal, other = np.cross(first, axis), np.cross(axis, last)
    return np.degrees(np.arctan2(np.linalg.norm(axis) * (first @ other), normal @ other))


def hand(residue, centre):
    names, _ = HAND[centre]
    first = "N9" if "N9" in residue else "N1"
    a, b, d = (residue[first if name == "base" else name] - residue[centre] for name in names)
    return np.sign(a @ np.cross(b, d))


def screw(before, after):
    """Twist (degrees about z, -180 to 180) and rise (along z) from one atom to the next."""
    azimuth = np.degrees(np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0]))
    return (azimuth + 180) % 360 - 180, after[2] - before[2]


def on_axis(positions, twist, rise):
    """Shift positions (n, 3) that follow a screw along z so that z is its axis."""
    # The axis is where turning a step about it takes every position to the next.
    turn = Rotation.from_rotvec((0, 0, twist), degrees=True).as_matrix()
    step = (positions[1:] - positions[:-1] @ turn.T).mean(axis=0) - (0, 0, rise)
    centre = np.linalg.solve((np.eye(3) - turn)[:2, :2], step[:2])
    return positions - (*centre, 0)


def fitted_screw(positions):
    """Signed twist (degrees) and rise (Å) of points that follow a screw: by superposition."""
    before, after = positions[:-1], positions[1:]
    turn, _ = Rotation.align_vectors(after - after.mean(axis=0), before - before.mean(axis=0))
    vector = turn.as_rotvec(degrees=True)
    twist = np.linalg.norm(vector)
    rise = (after.mean(axis=0) - before.mean(axis=0)) @ vector / twist
    return (twist, rise) if rise > 0 else (-twist, -rise)


def as_pdb(structure):
    copy = structure.clone()
    copy.name = "XXXX"
    options = gemmi.PdbWriteOptions(minimal=True)
    # mkdssp wants a HEADER record.
    head = "HEADER    PROTEIN                                 01-JAN-26   1XXX\n"
    return head + copy.make_pdb_string(options)


# ---- secondary structure ----------------------------------------------------------------------


@pytest.mark.parametrize("case", MKDSSP, ids=str)
def test_states_are_those_of_mkdssp(case):
    found = [THREE_STATES.get(letter, "coil") for letter in MKDSSP[case]]
    assert build(*case).classes.tolist() == found


@pytest.mark.parametrize("case", [*MKDSSP, ("example",)], ids=str)
def test_mkdssp_still_says_so(case, tmp_path):
    program = shutil.which("mkdssp")
    if program is None:
        pytest.skip("mkdssp (Debian package dssp) is not installed")
    made = build(*case)
    model, out = tmp_path / "model.pdb", tmp_path / "out.dssp"
    model.write_text(as_pdb(made.structure))
    subprocess.run(
        [program, "--output-format", "dssp", str(model), str(out)], check=True, capture_output=True
    )
    letters = {}
    lines = out.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("  #  RESIDUE"))
    for line in lines[start + 1 :]:
        if line[13] != "!":
            letters[line[11], int(line[5:10])] = line[16].replace(" ", "-")
    residues = Atoms.from_structure(made.structure).residues
    protein = residues.kind == KIND_PROTEIN
    keys = zip(residues.chain[protein], residues.number[protein], strict=True)
    answer = [letters[chain, int(number)] for chain, number in keys]
    if case in MKDSSP:
        assert "".join(answer) == MKDSSP[case]
    states = [THREE_STATES.get(letter, "coil") for letter in answer]
    assert states == made.classes[protein].tolist()


# ---- protein geometry ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROTEINS)
def test_peptide_geometry(kind):
    made = PROTEINS[kind]()
    lengths = {"N-CA": 1.458, "CA-C": 1.525, "C-O": 1.231, "CA-CB": 1.521}
    angles = {"N-CA-C": 109.471, "CA-C-O": 120.8, "N-CA-CB": 110.4, "C-CA-CB": 110.5}
    for chain in chains_of(made):
        for residue in chain:
            assert set(residue) == {"N", "CA", "C", "O", "CB"}
            for bond, expected in lengths.items():
                a, b = (residue[name] for name in bond.split("-"))
                assert distance(a, b) == pytest.approx(expected, abs=1e-6)
            for corner, expected in angles.items():
                assert angle(*(residue[n] for n in corner.split("-"))) == pytest.approx(
                    expected, abs=1e-3
                )
        for one, two in pairwise(chain):
            # Strands repeat after exactly two residues, which costs 1e-5 Å at the links.
            assert distance(one["C"], two["N"]) == pytest.approx(1.329, abs=1e-4)
            assert angle(one["CA"], one["C"], two["N"]) == pytest.approx(116.2, abs=0.01)
            assert angle(one["O"], one["C"], two["N"]) == pytest.approx(123.0, abs=0.01)
            assert angle(one["C"], two["N"], two["CA"]) == pytest.approx(121.7, abs=0.01)


@pytest.mark.parametrize("kind", PROTEINS)
def test_amino_acids_are_left_handed(kind):
    for chain in chains_of(PROTEINS[kind]()):
        assert all(hand(residue, "CA") == HAND["CA"][1] for residue in chain)


@pytest.mark.parametrize(
    ("kind", "phi", "psi"),
    [
        ("alpha", -57, -47),
        ("three_ten", -49, -26),
        ("polyproline", -75, 145),
        ("antiparallel", -139, 136.38),
        ("parallel", -119, 115.54),
    ],
)
def test_torsion_angles(kind, phi, psi):
    for chain in chains_of(PROTEINS[kind]()):
        for one, two in pairwise(chain):
            found_psi = torsion(one["N"], one["CA"], one["C"], two["N"])
            found_phi = torsion(one["C"], two["N"], two["CA"], two["C"])
            omega = torsion(one["CA"], one["C"], two["N"], two["CA"])
            assert (found_phi, found_psi) == pytest.approx((phi, psi), abs=0.02)
            assert abs(omega) == pytest.approx(180, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "twist", "rise", "tolerance"),
    [
        # Published: 100° and 1.50 Å (α), 120° and 2.0 Å (3₁₀), -120° and 3.1 Å (PPII).
        ("alpha", 100, 1.50, (0.5, 0.01)),
        ("three_ten", 120, 2.0, (1.5, 0.06)),
        ("polyproline", -120, 3.1, (1.5, 0.06)),
    ],
)
def test_helices_turn_the_right_way(kind, twist, rise, tolerance):
    (chain,) = chains_of(PROTEINS[kind]())
    found = fitted_screw(np.array([residue["CA"] for residue in chain]))
    assert found[0] == pytest.approx(twist, abs=tolerance[0])
    assert found[1] == pytest.approx(rise, abs=tolerance[1])


@pytest.mark.parametrize(("kind", "reach"), [("alpha", 4), ("three_ten", 3)])
def test_helices_are_held_by_their_hydrogen_bonds(kind, reach):
    (chain,) = chains_of(PROTEINS[kind]())
    bonds = [distance(chain[i]["O"], chain[i + reach]["N"]) for i in range(len(chain) - reach)]
    assert np.ptp(bonds) < 1e-6
    assert 2.7 < bonds[0] < 3.1


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("length", [7, 8])
def test_strands_are_held_by_their_hydrogen_bonds(parallel, length):
    sheet = chains_of(phantom.beta_sheet(4, length=length, parallel=parallel))
    for one, two in pairwise(sheet):
        n, o = (np.array([[r[name] for r in strand] for strand in (one, two)]) for name in "NO")
        near = [np.linalg.norm(n[i][:, None] - o[1 - i][None], axis=-1) for i in (0, 1)]
        bonds = np.concatenate([d[d < 3.5] for d in near])
        # Antiparallel neighbours have three or four narrow pairs, of two bonds each.
        assert len(bonds) in ({length - 1} if parallel else {6, 8})
        assert bonds == pytest.approx(2.90, abs=0.005)


@pytest.mark.parametrize("parallel", [True, False])
def test_strands_lie_side_by_side_and_run_as_they_should(parallel):
    ca = [
        np.array([residue["CA"] for residue in strand])
        for strand in chains_of(phantom.beta_sheet(4, length=8, parallel=parallel))
    ]
    # Over a whole number of two-residue repeats the axis passes through the mean.
    centres = np.array([strand.mean(axis=0) for strand in ca])
    assert np.diff(centres[:, 0]) == pytest.approx(4.85, abs=1e-6)
    assert np.ptp(centres[:, 1]) < 1e-6
    directions = [np.sign((strand[-1] - strand[0])[2]) for strand in ca]
    assert directions == ([1, 1, 1, 1] if parallel else [1, -1, 1, -1])
    rises = [np.abs(np.diff(strand[:, 2])).mean() for strand in ca]
    assert np.allclose(rises, 3.26 if parallel else 3.45, atol=0.01)


@settings(deadline=None, max_examples=25)
@given(
    strands=st.integers(2, 6),
    length=st.integers(6, 14),
    parallel=st.booleans(),
)
def test_no_sheet_has_a_clash(strands, length, parallel):
    made = phantom.beta_sheet(strands, length=length, parallel=parallel)
    atoms = Atoms.from_structure(made.structure)
    assert len(atoms) == 5 * strands * length
    contacts = unbonded_contacts(atoms)
    polar = np.isin(atoms.element, (7, 8))
    kinds = polar[contacts[:, 0]].astype(int) + polar[contacts[:, 1]]
    lengths = np.linalg.norm(
        atoms.position[contacts[:, 0]] - atoms.position[contacts[:, 1]], axis=1
    )
    # Polar pairs may bond; a methyl or a carbon keeps its distance.
    assert lengths[kinds == 2].min() > 2.85
    assert lengths[kinds == 1].min() > 3.1
    assert lengths[kinds == 0].min() > 3.7


def unbonded_contacts(atoms, reach=5.0):
    """Pairs of atoms of different chains nearer than `reach`: shape (n, 2)."""
    pairs = cKDTree(atoms.position).query_pairs(reach, output_type="ndarray")
    chain = atoms.residues.chain[atoms.residue]
    return pairs[chain[pairs[:, 0]] != chain[pairs[:, 1]]]


# ---- nucleic acid geometry ----------------------------------------------------------------------


@pytest.fixture(params=DUPLEXES)
def duplex(request):
    make, sequence, fibre = DUPLEXES[request.param]
    return make(sequence), sequence, fibre


def letters_of(chain):
    return [residue.name.removeprefix("D") for residue in chain]


def expected_bonds(chain_index, letters, ribose):
    bonds = set()
    for number, letter in enumerate(letters):
        inside = BACKBONE_BONDS + BASE_BONDS[letter].split() + (["C2'-O2'"] if ribose else [])
        for bond in inside:
            a, b = bond.split("-")
            if number == 0 and {a, b} & {"P", "OP1", "OP2"}:
                continue
            bonds.add(frozenset({(chain_index, number, a), (chain_index, number, b)}))
        if number:
            bonds.add(frozenset({(chain_index, number - 1, "O3'"), (chain_index, number, "P")}))
    return bonds


def test_atoms_closer_than_a_bond_are_exactly_the_bonded_ones(duplex):
    made, _, fibre = duplex
    chains = list(made.structure[0])
    labels = [
        (c, number, atom.name)
        for c, chain in enumerate(chains)
        for number, residue in enumerate(chain)
        for atom in residue
    ]
    atoms = Atoms.from_structure(made.structure)
    pairs = cKDTree(atoms.position).query_pairs(1.9, output_type="ndarray")
    found = {frozenset({labels[i], labels[j]}) for i, j in pairs}
    expected = set().union(
        *(expected_bonds(c, letters_of(chain), fibre is A_RNA) for c, chain in enumerate(chains))
    )
    assert found == expected
    lengths = np.linalg.norm(atoms.position[pairs[:, 0]] - atoms.position[pairs[:, 1]], axis=1)
    # C=O of a base is the shortest, P-O the longest.
    assert lengths.min() > 1.21
    assert lengths.max() < 1.62


def test_backbone_lengths_and_angles_of_the_linkage(duplex):
    made, _, _ = duplex
    for chain in chains_of(made):
        for one, two in pairwise(chain):
            assert distance(one["O3'"], two["P"]) == pytest.approx(1.60, abs=0.02)
            assert distance(two["P"], two["O5'"]) == pytest.approx(1.60, abs=0.02)
            assert distance(two["P"], two["OP1"]) == pytest.approx(1.48, abs=0.02)
            assert distance(two["P"], two["OP2"]) == pytest.approx(1.48, abs=0.02)
            assert angle(one["C3'"], one["O3'"], two["P"]) == pytest.approx(119.5, abs=3)
            assert angle(one["O3'"], two["P"], two["O5'"]) == pytest.approx(102.5, abs=3)
            assert angle(two["P"], two["O5'"], two["C5'"]) == pytest.approx(119.5, abs=3)


def test_no_two_nucleotides_clash(duplex):
    made, _, _ = duplex
    atoms = Atoms.from_structure(made.structure)
    pairs = cKDTree(atoms.position).query_pairs(3.2, output_type="ndarray")
    step = np.abs(atoms.residue[pairs[:, 0]] - atoms.residue[pairs[:, 1]])
    lengths = np.linalg.norm(atoms.position[pairs[:, 0]] - atoms.position[pairs[:, 1]], axis=1)
    polar = np.isin(atoms.element[pairs], (7, 8)).all(axis=1)
    # Neighbours in a chain are bonded; other close pairs are hydrogen bonds.
    assert polar[step > 1].all()
    assert lengths[step > 1].min() > 2.65


def test_sugars_and_phosphates_have_the_natural_hand(duplex):
    made, _, _ = duplex
    seen = set()
    for chain in chains_of(made):
        for residue in chain:
            for centre in ("P", "C1'", "C2'", "C3'", "C4'"):
                names, expected = HAND[centre]
                if all(name in residue or name == "base" for name in (centre, *names)):
                    assert hand(residue, centre) == expected
                    seen.add(centre)
    assert {"P", "C1'", "C3'", "C4'"} <= seen


@pytest.mark.parametrize(
    ("kind", "pucker", "phosphates"),
    [("B-DNA", (120, 165), (6.3, 7.1)), ("A-RNA", (75, 90), (5.5, 6.1))],
)
def test_sugar_pucker_and_phosphate_distance(kind, pucker, phosphates):
    # delta tells C2'-endo (B) from C3'-endo (A); so does the distance of phosphates in a chain.
    make, sequence, _ = DUPLEXES[kind]
    for chain in chains_of(make(sequence)):
        for residue in chain:
            delta = torsion(*(residue[name] for name in ("C5'", "C4'", "C3'", "O3'")))
            assert pucker[0] < delta < pucker[1]
        p = np.array([residue["P"] for residue in chain[1:]])
        along = np.linalg.norm(np.diff(p, axis=0), axis=1)
        assert np.ptp(along) < 1e-6
        assert phosphates[0] < along[0] < phosphates[1]


def test_duplexes_are_right_handed_screws(duplex):
    made, _, fibre = duplex
    for chain in chains_of(made):
        for name in ("C1'", "C4'", "O3'"):
            twist, rise = fitted_screw(np.array([residue[name] for residue in chain]))
            assert twist == pytest.approx(fibre.twist, abs=1e-4)
            assert rise == pytest.approx(fibre.rise, abs=1e-5)


@pytest.mark.parametrize(("kind", "radius"), [("B-DNA", 8.91), ("A-RNA", 8.71)])
def test_both_chains_wind_about_one_axis(kind, radius):
    make, sequence, fibre = DUPLEXES[kind]
    one, two = (
        on_axis(np.array([residue["P"] for residue in chain[1:]]), fibre.twist * sign, rise)
        for chain, sign, rise in zip(
            chains_of(make(sequence)), (-1, 1), (-fibre.rise, fibre.rise), strict=True
        )
    )
    for phosphates in (one, two):
        assert np.hypot(phosphates[:, 0], phosphates[:, 1]) == pytest.approx(radius, abs=1e-4)
    assert np.sign(one[-1, 2] - one[0, 2]) == -np.sign(two[-1, 2] - two[0, 2])


def test_bases_pair_as_watson_and_crick_say(duplex):
    made, sequence, fibre = duplex
    first, second = made.structure[0]
    assert letters_of(first) == list(sequence)
    assert letters_of(second) == [fibre.pairs[base] for base in reversed(sequence)]
    one, two = chains_of(made)
    for letters, a, b in zip(
        zip(letters_of(first), reversed(letters_of(second)), strict=True),
        one,
        reversed(two),
        strict=True,
    ):
        assert distance(a["C1'"], b["C1'"]) == pytest.approx(10.86, abs=0.01)
        if "".join(letters) not in PAIR_BONDS:
            letters, a, b = letters[::-1], b, a
        for left, right in PAIR_BONDS["".join(letters)]:
            assert 2.65 < distance(a[left], b[right]) < 3.1


def test_bases_are_flat_and_stack_at_the_rise(duplex):
    made, _, fibre = duplex
    for chain in chains_of(made):
        normals = []
        for residue in chain:
            ring = np.array(
                [at for name, at in residue.items() if "'" not in name and "P" not in name]
            )
            centred = ring - ring.mean(axis=0)
            _, _, axes = np.linalg.svd(centred)
            assert np.abs(centred @ axes[2]).max() < 0.06
            normals.append(axes[2] * np.sign(axes[2, 2]))
        # A-RNA's base pairs are inclined to the axis, those of B-DNA nearly level.
        tilt = np.degrees(np.arccos(np.array(normals)[:, 2]))
        assert (tilt < 7).all() if fibre is B_DNA else ((tilt > 13) & (tilt < 21)).all()


@pytest.mark.data
@pytest.mark.parametrize("entry", ["4yb0", "1kx5", "5lyu"])
def test_real_nucleotides_have_the_same_hand(data, entry):
    path = data / "structures" / "pool_nucleic" / f"{entry}.pdb.gz"
    structure = gemmi.read_structure(str(path))
    found = {}
    for chain in structure[0]:
        for residue in chain:
            atoms = {a.name.replace("*", "'"): np.array(a.pos.tolist()) for a in residue}
            for centre, (names, expected) in HAND.items():
                needed = {centre, *names} - {"base"}
                if centre != "CA" and needed <= set(atoms) and {"N1", "N9"} & set(atoms):
                    found.setdefault(centre, []).append(hand(atoms, centre) == expected)
    assert {"P", "C1'", "C3'", "C4'"} <= set(found)
    assert all(np.mean(same) == 1 for same in found.values())


# ---- the object ------------------------------------------------------------


def test_states_follow_the_residues_of_the_structure():
    made = phantom.combine(
        [phantom.alpha_helix(9).moved(translation=(30, 0, 0)), phantom.dna_duplex("ACG")]
    )
    residues = Atoms.from_structure(made.structure).residues
    assert len(made.states) == len(residues) == 15
    nucleic = made.states == CLASSES.index("nucleotide")
    assert (nucleic == (residues.kind == KIND_NUCLEIC)).all()
    assert residues.chain.tolist() == ["A"] * 9 + ["B"] * 3 + ["C"] * 3
    assert not made.states.flags.writeable


def test_structure_survives_a_file(tmp_path):
    made = phantom.example()
    path = tmp_path / "example.cif"
    made.structure.make_mmcif_document().write_file(str(path))
    again = Atoms.from_structure(gemmi.read_structure(str(path)))
    atoms = Atoms.from_structure(made.structure)
    assert again.name.tolist() == atoms.name.tolist()
    assert again.residues.kind.tolist() == atoms.residues.kind.tolist()
    # A file holds five decimals at most.
    assert np.abs(again.position - atoms.position).max() < 1e-3


def test_atoms_have_what_a_simulation_needs():
    atoms = Atoms.from_structure(phantom.dna_duplex("AC", b_iso=45).structure)
    assert (atoms.b_iso == 45).all()
    assert (atoms.occupancy == 1).all()
    symbol = {6: "C", 7: "N", 8: "O", 15: "P"}
    assert [symbol[z] for z in atoms.element] == [name[0] for name in atoms.name]


def test_moving_gives_a_new_phantom_and_keeps_the_old():
    made = phantom.alpha_helix(8)
    before = Atoms.from_structure(made.structure).position
    assert before.mean(axis=0) == pytest.approx(0, abs=1e-9)
    rotation = Rotation.from_rotvec((20, -50, 70), degrees=True)
    moved = made.moved(rotation=rotation, translation=(1, 2, 3))
    after = Atoms.from_structure(moved.structure).position
    assert after == pytest.approx(rotation.apply(before) + (1, 2, 3), abs=1e-9)
    assert (Atoms.from_structure(made.structure).position == before).all()
    assert moved.states is made.states


def test_example_shows_every_class_without_contact_between_its_parts():
    made = phantom.example()
    counts = dict(zip(*np.unique(made.classes, return_counts=True), strict=True))
    assert counts == {"coil": 37, "helix": 36, "nucleotide": 16, "strand": 44}
    atoms = Atoms.from_structure(made.structure)
    assert (atoms.upper - atoms.lower).max() < 45
    # Chains of the duplex and of each sheet touch; parts do not.
    part = np.array([0] * 2 + [1] * 4 + [2] * 4 + [3, 4, 5, 6, 7])
    names = np.unique(atoms.residues.chain)
    of_atom = part[np.searchsorted(names, atoms.residues.chain[atoms.residue])]
    pairs = cKDTree(atoms.position).query_pairs(5.4, output_type="ndarray")
    assert (of_atom[pairs[:, 0]] == of_atom[pairs[:, 1]]).all()


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: phantom.alpha_helix(5), "At least 6 .* but 5"),
        (lambda: phantom.alpha_helix(7.5), "but 7.5"),
        (lambda: phantom.three_ten_helix(4), "At least 5 .* but 4"),
        (lambda: phantom.polyproline(1), "At least 2 .* but 1"),
        (lambda: phantom.beta_sheet(1), "strands of a sheet .* but 1"),
        (lambda: phantom.beta_sheet(3, length=5), "residues of a strand .* but 5"),
        (lambda: phantom.dna_duplex("ACGU"), "A, C, G, T .* the letter 'U'"),
        (lambda: phantom.rna_duplex("ACGT"), "A, C, G, U .* the letter 'T'"),
        (lambda: phantom.dna_duplex("A"), "1 letters"),
        (lambda: phantom.combine([]), "but they have 0"),
        (lambda: phantom.combine([phantom.beta_sheet(40)] * 2), "but they have 80"),
        (lambda: phantom.alpha_helix(6).moved(translation=(1, 2)), "three finite numbers"),
        (lambda: phantom.alpha_helix(6).moved(translation=(1, 2, np.nan)), "three finite numbers"),
    ],
)
def test_bad_input_gets_one_clear_sentence(make, found):
    with pytest.raises(ModelError, match=found):
        make()


def test_lower_case_sequences_are_read():
    assert letters_of(phantom.rna_duplex("acgu").structure[0]["A"]) == list("ACGU")
