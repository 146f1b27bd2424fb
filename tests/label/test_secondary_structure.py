"""Secondary structure: ideal geometry, bond patterns, odd models, and mkdssp's answers."""

import csv
import time
from itertools import pairwise
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryonb.atoms import Atoms
from cryonb.errors import ModelError
from cryonb.label import dssp as room
from cryonb.label.dssp import dssp_codes, states_of
from cryonb.label.secondary_structure import _backbone, secondary_structure
from cryonb.simulate import phantom
from cryonb.volume import CLASSES

REFERENCE = Path(__file__).parents[1] / "reference" / "dssp_mkdssp4.csv"


def place(a, b, c, length, angle, torsion):
    """The point at `length` from c with an angle at c and a torsion about b-c (degrees)."""
    angle, torsion = np.radians([angle, torsion])
    axis = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, axis)
    normal /= np.linalg.norm(normal)
    local = -np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)
    return c + length * (local[0] * axis + local[1] * np.cross(normal, axis) + local[2] * normal)


def chain(torsions):
    """N, CA, C and O, (4, n, 3), of a chain with these (phi, psi); omega is 180 degrees."""
    points = [np.array([0.0, 0.0, 0.0]), np.array([1.458, 0.0, 0.0]), np.array([2.0, 1.42, 0.0])]
    for (_, psi), (phi, _) in pairwise(torsions):
        points.append(place(*points[-3:], 1.329, 116.6, psi))
        points.append(place(*points[-3:], 1.458, 121.7, 180.0))
        points.append(place(*points[-3:], 1.525, 111.0, phi))
    n, ca, c = np.array(points).reshape(-1, 3, 3).transpose(1, 0, 2)
    o = [
        place(a, b, d, 1.231, 120.5, psi + 180.0)
        for a, b, d, (_, psi) in zip(n, ca, c, torsions, strict=True)
    ]
    return np.array([n, ca, c, np.array(o)])


@pytest.mark.parametrize(
    ("phi", "psi", "expected"),
    [
        (-62.0, -42.0, "-" + "H" * 14 + "-"),
        (-57.0, -70.0, "-" + "I" * 14 + "-"),
        (-57.0, -28.0, "-" + "G" * 14 + "-"),
        (-75.0, 145.0, "-" + "P" * 14 + "-"),
        (-139.0, 135.0, "-" * 16),
    ],
)
def test_ideal_torsions_give_their_code(phi, psi, expected):
    assert "".join(dssp_codes(*chain([(phi, psi)] * 16))) == expected


def test_a_left_handed_mirror_of_polyproline_is_not_polyproline():
    mirrored = chain([(-75.0, 145.0)] * 10) * (1, 1, -1)
    assert "P" not in dssp_codes(*mirrored)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_position_in_space_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    torsions = rng.uniform([-150, -70], [-50, 150], size=(40, 2)).tolist()
    backbone = chain([*torsions, *[(-62.0, -42.0)] * 8])
    turned = Rotation.random(random_state=seed).apply(backbone.reshape(-1, 3))
    turned = turned.reshape(backbone.shape) + rng.uniform(-500, 500, 3)
    assert (dssp_codes(*backbone) == dssp_codes(*turned)).all()


def test_an_alpha_helix_ends_at_a_chain_break_and_needs_amides():
    backbone = chain([(-62.0, -42.0)] * 16)
    broken = np.zeros(16, dtype=bool)
    broken[8] = True
    assert "".join(dssp_codes(*backbone, is_break=broken)) == "-HHHHHH--HHHHHH-"
    assert set(dssp_codes(*backbone, is_proline=np.ones(16, dtype=bool))) <= {"S", "-"}
    # A proline within the helix gives no bond: the turn that it would close is missing.
    proline = np.arange(16) == 8
    assert "".join(dssp_codes(*backbone, is_proline=proline)) == "-HHHHHHHHHHHHHH-"


def test_breaks_are_found_by_distance_and_by_name():
    n, _, c, _ = chain([(-62.0, -42.0)] * 6)
    n, c = n.copy(), c.copy()
    n[3:] += 2.0
    c[3:] += 2.0
    assert room.chain_breaks(n, c).tolist() == [True, False, False, True, False, False]
    names = np.array(list("AABBBB"))
    assert room.chain_breaks(n, c, names).tolist() == [True, False, True, True, False, False]


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("length", [7, 8, 11])
def test_sheets_of_known_pairing(parallel, length):
    sheet = phantom.beta_sheet(3, length=length, parallel=parallel)
    result = secondary_structure(sheet.structure)
    assert result.state.tolist() == sheet.states.tolist()
    assert "E" in result.dssp
    assert "H" not in result.dssp


def test_two_residues_that_pair_alone_are_a_bridge():
    sheet = phantom.beta_sheet(2, length=7)
    atoms = Atoms.from_structure(sheet.structure)
    backbone, complete = _backbone(atoms)
    assert complete.all()
    keep = np.r_[2:5, 9:12]  # three residues of each strand: one pair has neighbours all round
    codes = dssp_codes(*backbone[:, keep])
    assert "".join(codes) == "-B--B-"


# ---- patterns of bonds, without geometry -------------------------------------------------------


def bridges_by_definition(bonds, stretch):
    """Kabsch and Sander's definitions of bridges, word for word."""
    count = len(stretch)
    found = {}
    for i in range(1, count - 1):
        for j in range(i + 3, count - 1):
            if stretch[i - 1] != stretch[i + 1] or stretch[j - 1] != stretch[j + 1]:
                continue

            # A bond is written (donor of N-H, acceptor at C=O).
            if {(j, i - 1), (i + 1, j)} <= bonds or {(i, j - 1), (j + 1, i)} <= bonds:
                found[i, j] = True
            elif {(i, j), (j, i)} <= bonds or {(j + 1, i - 1), (i + 1, j - 1)} <= bonds:
                found[i, j] = False
    return found


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(6, 14), st.floats(0.05, 0.6))
def test_bridges_are_those_of_the_definition(seed, count, density):
    rng = np.random.default_rng(seed)
    donor, acceptor = np.nonzero(rng.random((count, count)) < density)
    keep = (donor != acceptor) & (donor - acceptor != 1)
    donor, acceptor = donor[keep], acceptor[keep]
    stretch = np.cumsum(rng.random(count) < 0.15)
    expected = bridges_by_definition(
        set(zip(donor.tolist(), acceptor.tolist(), strict=True)), stretch
    )
    if not len(donor):
        assert not expected
        return
    i, j, parallel = room._bridges(donor, acceptor, stretch)
    assert dict(zip(zip(i.tolist(), j.tolist(), strict=True), parallel, strict=True)) == expected


def antiparallel_bonds(pairs):
    """Bonds both ways between these residues: each makes an antiparallel bridge."""
    return np.array([(i, j) for i, j in pairs] + [(j, i) for i, j in pairs]).T


def strand_codes(pairs, stretch):
    codes = np.full(len(stretch), "-", dtype="U1")
    room._assign_strands(codes, *room._ladders(*antiparallel_bonds(pairs), stretch))
    return "".join(codes)


def test_a_ladder_runs_on_across_a_bulge():
    whole = np.zeros(40, dtype=int)
    assert strand_codes([(5, 30)], whole) == "-" * 5 + "B" + "-" * 24 + "B" + "-" * 9
    # One residue more on one side, up to four on the other, are a bulge.
    codes = strand_codes([(5, 30), (7, 25)], whole)
    assert codes == "-" * 5 + "EEE" + "-" * 17 + "E" * 6 + "-" * 9
    # One further on the long side is none.
    codes = strand_codes([(5, 30), (7, 24)], whole)
    assert (codes[5:8], codes[24], codes[30]) == ("B-B", "B", "B")
    # Two more on both sides are none.
    codes = strand_codes([(5, 30), (8, 27)], whole)
    assert (codes[5:9], codes[27:31]) == ("B--B", "B--B")
    # The first side may be the long one.
    assert strand_codes([(5, 30), (10, 28)], whole)[5:11] == "EEEEEE"
    assert strand_codes([(5, 30), (11, 28)], whole)[5:12] == "B-----B"
    # Nor is a bulge across a break of the chain.
    broken = (np.arange(40) >= 7).astype(int)
    broken[6] = 0
    broken = np.where(np.arange(40) >= 28, broken + 1, broken)
    codes = strand_codes([(5, 30), (9, 25)], broken)
    assert "E" not in codes


def test_helices_by_priority():
    def codes(start="-" * 12, **begins):
        out = np.array(list(start))
        turn = {size: np.zeros(12, dtype=bool) for size in (3, 4, 5)}
        for name, rows in begins.items():
            turn[int(name[1])][rows] = True
        room._assign_helices(out, turn)
        return "".join(out)

    assert codes(n4=[2, 3]) == "---HHHH-----"
    assert codes(n4=[2]) == "-" * 12
    assert codes("---EEE------", n4=[2, 3]) == "---HHHH-----"
    assert codes(n3=[2, 3]) == "---GGG------"
    assert codes("-----E------", n3=[2, 3]) == "-----E------"
    assert codes(n3=[5, 6], n4=[2, 3]) == "---HHHH-----"
    assert codes(n4=[2, 3], n5=[3, 4]) == "---HIIIII---"
    assert codes(n3=[2, 3], n5=[3, 4]) == "---GGG------"


def test_a_donor_keeps_its_two_best_bonds():
    # Residue 1 has its hydrogen at the origin, 1 Å above N. Three carbonyls point at it.
    far = np.arange(12.0)[:, None] * (0, 500.0, 0) + (500.0, 0, 0)
    n, c, o = far + (0, 0, 1.0), far + (0, 0, 3.0), far + (0, 0, 4.2)
    ca = np.zeros((12, 3))
    n[1], c[0], o[0] = (0, 0, -1.0), (0, 0, -2.3), (0, 0, -3.5)
    for row, (distance, tilt) in {5: (2.2, -0.7), 7: (1.9, 0.0), 9: (2.0, 0.7)}.items():
        direction = np.array([np.sin(tilt), 0, np.cos(tilt)])
        o[row], c[row] = distance * direction, (distance + 1.2) * direction
    donor, acceptor = room._hydrogen_bonds(n, ca, c, o, np.zeros(12), np.zeros(12, dtype=bool))
    assert sorted(acceptor[donor == 1]) == [7, 9]
    # Without the best, the third one is a bond.
    o[7], c[7] = far[7], far[7] + 1.0
    donor, acceptor = room._hydrogen_bonds(n, ca, c, o, np.zeros(12), np.zeros(12, dtype=bool))
    assert sorted(acceptor[donor == 1]) == [5, 9]


# ---- models --------------------------------------------------------------------------------------


def test_phantoms_of_every_kind_have_their_states():
    parts = [
        phantom.alpha_helix(14),
        phantom.three_ten_helix(10),
        phantom.polyproline(9),
        phantom.beta_sheet(4),
        phantom.dna_duplex("ACGTTGCA"),
        phantom.rna_duplex("GGCUAC"),
    ]
    for part in parts:
        assert secondary_structure(part.structure).state.tolist() == part.states.tolist(), part.name


def test_tables():
    result = secondary_structure(phantom.alpha_helix(12).structure)
    frame = result.to_frame()
    assert list(frame.columns) == ["chain", "number", "icode", "name", "dssp", "state"]
    assert "".join(frame["dssp"]) == "-HHHHHHHHHH-"
    assert frame["state"].tolist() == ["coil"] + ["helix"] * 10 + ["coil"]
    runs = result.segments()
    assert runs["state"].tolist() == ["coil", "helix", "coil"]
    assert runs["length"].tolist() == [1, 10, 1]
    assert runs[["first", "last"]].to_numpy().tolist() == [[1, 1], [2, 11], [12, 12]]
    assert runs["start"].tolist() == [0, 1, 11]
    assert result.counts["helix"] == 10


def edited(edit, n=14):
    structure = phantom.alpha_helix(n).structure.clone()
    edit(structure[0][0])
    return structure


def test_segments_end_at_a_break_of_the_chain():
    def cut(chain):
        for _ in range(2):
            del chain[10]

    runs = secondary_structure(edited(cut, 22)).segments()
    helices = runs[runs["state"] == "helix"]
    assert helices[["first", "last"]].to_numpy().tolist() == [[2, 9], [14, 21]]


def test_modified_residues_insertion_codes_and_numbers_do_not_matter():
    def edit(chain):
        for residue in list(chain)[5:7]:
            residue.name, residue.het_flag = "MSE", "H"
        chain[6].seqid = gemmi.SeqId(6, "A")
        for number, residue in enumerate(list(chain)[7:], start=100):
            residue.seqid = gemmi.SeqId(number, " ")

    result = secondary_structure(edited(edit))
    assert "".join(result.dssp) == "-HHHHHHHHHHHH-"
    assert result.residues.icode[6] == "A"


def test_alternative_locations_follow_the_occupancy():
    def split(occupancies):
        def edit(chain):
            for residue in chain:
                others = [atom.clone() for atom in residue]
                for atom in residue:
                    atom.altloc, atom.occ = "A", occupancies[0]
                for other in others:
                    other.altloc, other.occ = "B", occupancies[1]
                    other.pos = gemmi.Position(other.pos.x, other.pos.y, 3 * other.pos.z)
                    residue.add_atom(other)

        return edit

    assert secondary_structure(edited(split((0.6, 0.4)))).counts["helix"] == 12
    assert secondary_structure(edited(split((0.4, 0.6)))).counts["helix"] == 0


def test_a_residue_without_its_oxygen_is_coil_and_not_assigned():
    def edit(chain):
        chain[6].remove_atom("O", "\0", gemmi.Element("O"))

    result = secondary_structure(edited(edit))
    assert result.dssp[6] == ""
    assert result.state[6] == CLASSES.index("coil")
    assert result.state[2] == CLASSES.index("helix")
    # The chain is broken there: no helix spans the gap.
    assert "".join(result.dssp[:6]) == "-HHHH-"


def test_ligands_and_waters_are_background():
    def edit(chain):
        for name, number in (("HOH", 301), ("SO4", 302)):
            residue = gemmi.Residue()
            residue.name, residue.seqid, residue.het_flag = name, gemmi.SeqId(number, " "), "H"
            atom = gemmi.Atom()
            atom.name, atom.element = "O", gemmi.Element("O")
            residue.add_atom(atom)
            chain.add_residue(residue)

    atoms = Atoms.from_structure(edited(edit), waters=True)
    result = secondary_structure(atoms)
    assert result.state[-2:].tolist() == [0, 0]
    assert result.dssp[-2:].tolist() == ["", ""]
    assert "background" not in set(result.segments()["state"])


def test_a_model_of_ca_atoms_is_refused():
    structure = phantom.alpha_helix(12).structure.clone()
    for residue in structure[0][0]:
        for index in reversed(range(len(residue))):
            if residue[index].name != "CA":
                del residue[index]
    with pytest.raises(ModelError, match=r"needs the full backbone .* only 0 of 12 amino acids"):
        secondary_structure(structure)


def test_nucleic_acid_alone_needs_no_protein_backbone():
    result = secondary_structure(phantom.dna_duplex("ACGT").structure)
    assert result.counts["nucleotide"] == 8
    assert set(result.dssp) == {""}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6])
def test_short_chains(count):
    codes = dssp_codes(*chain([(-62.0, -42.0)] * max(count, 1))[:, :count])
    assert codes.shape == (count,)
    assert ("H" in codes) == (count >= 6)


def test_bad_coordinates_are_named():
    backbone = chain([(-62.0, -42.0)] * 8)
    with pytest.raises(ModelError, match="shapes are"):
        dssp_codes(*backbone[:3], backbone[3, :-1])
    with pytest.raises(ModelError, match="One value for each of 8 residues"):
        dssp_codes(*backbone, is_proline=np.zeros(3, dtype=bool))
    backbone[1, 2, 0] = np.nan
    with pytest.raises(ModelError, match="Finite backbone coordinates"):
        dssp_codes(*backbone)


def test_input_stays_as_it_was():
    backbone = chain([(-62.0, -42.0)] * 12)
    backbone.flags.writeable = False
    assert "H" in dssp_codes(*backbone)


def test_many_residues_take_seconds_not_minutes():
    unit = chain([(-62.0, -42.0)] * 20)
    corner = np.stack(np.meshgrid(*[np.arange(9) * 40.0] * 3), axis=-1).reshape(-1, 1, 3)
    backbone = (unit[:, None] + corner[None]).reshape(4, -1, 3)
    assert backbone.shape[1] == 14580
    started = time.perf_counter()
    codes = dssp_codes(*backbone)
    assert time.perf_counter() - started < 10
    assert (codes == "H").sum() == 729 * 18


# ---- mkdssp --------------------------------------------------------------------------------------


def reference_rows():
    with REFERENCE.open() as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def test_codes_equal_those_of_mkdssp(data):
    rows = reference_rows()
    files = dict.fromkeys(row["file"] for row in rows)
    assert len(files) >= 40
    same = total = same_state = 0
    for file in files:
        result = secondary_structure(gemmi.read_structure(str(data / "structures" / file)))
        for row in rows:
            if row["file"] != file:
                continue
            ours = result.dssp[(result.residues.chain == row["chain"]) & (result.dssp != "")]
            theirs = np.array(list(row["codes"]))
            assert len(ours) == len(theirs), row["file"]
            same += int((ours == theirs).sum())
            same_state += int((states_of(ours) == states_of(theirs)).sum())
            total += len(ours)
    assert total > 7000
    assert same_state / total >= 0.9999
    assert same / total >= 0.9999
