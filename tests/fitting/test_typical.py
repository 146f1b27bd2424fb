"""Typical geometry: as others have measured it, and what models aim at because of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.atoms import Atoms
from cryonb.fitting.connections import Connections
from cryonb.fitting.internal import distance, volume
from cryonb.fitting.restraints import Restraints
from cryonb.fitting.topology import _BASES, _SIDE_CHAINS, named_bonds, type_names
from cryonb.fitting.typical import aims, load_typical, make_typical
from cryonb.simulate import phantom

# Means of the conformation-dependent library (Berkholz et al. 2009, Structure 17, 1316; structures
# of 1 Å or better) as cctbx 2025.11 has them:
#   from mmtbx.conformation_dependent_library.cdl_database import cdl_database
#   for key, of in cdl_database.items():
#       print(key, [row for row in of.values() if row[0] == "I"][0][2::2])
# of residues that are not before proline; degrees, then Å.
COLUMNS = [
    "C-N-CA", "N-CA-CB", "N-CA-C", "CB-CA-C", "CA-C-O", "CA-C-N", "O-C-N",
    "C-N", "N-CA", "CA-CB", "CA-C", "C-O",
]  # fmt: skip
LIBRARY = {
    ("GLY", "GLY"): [121.41, -1, 113.18, -1, 120.57, 116.69, 122.7, 1.3305, 1.4492, -1, 1.5143,
                     1.2347],
    ("peptide", "branched"): [121.97, 111.23, 109.34, 111.29, 120.78, 116.6, 122.57, 1.3319, 1.459,
                              1.5401, 1.523, 1.2362],
    ("peptide", "peptide"): [121.54, 110.49, 110.8, 110.42, 120.51, 116.84, 122.59, 1.3324, 1.4574,
                             1.5302, 1.5232, 1.2353],
    ("PRO", "PRO"): [119.84, 103.25, 112.47, 111.56, 120.6, 116.7, 122.64, 1.3339, 1.4687, 1.5332,
                     1.5195, 1.2351],
}  # fmt: skip
# Engh & Huber 1991, Acta Cryst. A47, 392, tables 2 and 3; sugars, phosphates and bases: Gelbin et
# al. 1996, J. Am. Chem. Soc. 118, 519 and Clowney et al. 1996, J. Am. Chem. Soc. 118, 509.
PUBLISHED = {
    ("ALA CA", "ALA CB"): 1.521, ("CYS SG", "CYS SG"): 2.030, ("MET SD", "MET CE"): 1.791,
    ("ARG CZ", "ARG NH1"): 1.326, ("ASP CG", "ASP OD1"): 1.249, ("PHE CG", "PHE CD1"): 1.384,
    ("TRP CD2", "TRP CE2"): 1.409, ("LYS CE", "LYS NZ"): 1.489,
    ("dna P", "dna O5'"): 1.593, ("dna P", "dna OP1"): 1.485, ("rna P", "rna O3'"): 1.607,
    ("A C6", "A N6"): 1.335, ("DT C5", "DT C7"): 1.496,
    ("peptide CA", "peptide CB", "LEU CG"): 116.3, ("ASP OD1", "ASP CG", "ASP OD2"): 122.9,
    ("dna OP1", "dna P", "dna OP2"): 119.6, ("rna O3'", "rna P", "rna O5'"): 104.0,
    ("dna P", "dna O5'", "dna C5'"): 120.9,
}  # fmt: skip


def of_kind(*names):
    """Mean and spread of one kind."""
    table = load_typical()
    row = np.flatnonzero(table.kind == "|".join(names))
    assert len(row) == 1, names
    return table.mean[row[0]], table.spread[row[0]]


def length(one, two):
    return of_kind(*sorted((one, two)))[0]


def angle(one, middle, two):
    """The angle in degrees that three distances make."""
    a, b, (c, _) = length(one, middle), length(middle, two), of_kind(middle, *sorted((one, two)))
    return np.degrees(np.arccos((a**2 + b**2 - c**2) / (2 * a * b)))


@pytest.mark.parametrize("groups", list(LIBRARY))
def test_backbones_are_those_of_the_conformation_dependent_library(groups):
    main, alpha = groups
    group = {"N": main, "C": main, "O": main, "CA": alpha, "CB": alpha}
    for column, expected in zip(COLUMNS, LIBRARY[groups], strict=True):
        if expected < 0:
            continue
        names = [f"{group[name]} {name}" for name in column.split("-")]
        # The residue that a peptide bond leads to, or comes from, may be any.
        if column in ("C-N-CA", "C-N"):
            names[0] = "peptide C"
        elif column in ("CA-C-N", "O-C-N"):
            names[-1] = "peptide N"
        found = (length if len(names) == 2 else angle)(*names)
        # CB-CA-C of what branches at CB is 109.1° with Engh & Huber, whom most structures follow.
        assert found == pytest.approx(expected, abs=0.009 if len(names) == 2 else 1.5), column


@pytest.mark.parametrize("names", list(PUBLISHED))
def test_side_chains_and_nucleotides_are_as_published(names):
    found = (length if len(names) == 2 else angle)(*names)
    assert found == pytest.approx(PUBLISHED[names], abs=0.01 if len(names) == 2 else 1.2)


@pytest.mark.parametrize("residue", sorted(_SIDE_CHAINS) + sorted(_BASES))
def test_the_table_knows_the_bonds_of_each_side_chain_and_base(residue):
    kinds = set(load_typical().kind)
    first = "C1'" if residue in _BASES else "CB"
    bonds = (_SIDE_CHAINS | _BASES)[residue].replace("=", "-").split()
    pairs = [bond.split("-") for bond in bonds]
    own = [names for names in pairs if first not in names and not any("'" in n for n in names)]
    own = [names for names in own if "P" not in names]
    assert own or residue in ("ALA", "CYS", "GLY", "SER", "THR", "VAL")
    for names in own:
        assert "|".join(sorted(f"{residue} {name}" for name in names)) in kinds, names


def parts_of(atoms):
    return Connections.of(atoms.position, atoms.element, named=named_bonds(atoms))


@pytest.fixture(scope="module")
def helix():
    return Atoms.from_structure(phantom.alpha_helix(30).structure)


def test_a_sound_model_keeps_its_own_and_one_bad_bond_is_mended(helix):
    springs = Restraints.of_atoms(helix)
    assert springs.strain(helix.position) == pytest.approx((0, 0), abs=1e-6)
    # One O is 0.2 Å too far from its C.
    o = np.flatnonzero(helix.name == "O")[10]
    c = np.flatnonzero(helix.name == "C")[10]
    position = helix.position.copy()
    bond = position[o] - position[c]
    position[o] += 0.2 * bond / np.linalg.norm(bond)
    found = Restraints.of_atoms(helix.moved_to(position))
    row = (found.bonds == np.sort([c, o])).all(axis=1)
    assert found.length[row] == pytest.approx(1.232, abs=0.005)
    np.testing.assert_allclose(found.length[~row], springs.length[~row], atol=1e-6)


def test_a_bad_model_aims_at_the_table(helix, rng):
    rough = helix.moved_to(helix.position + rng.normal(0, 0.17, helix.position.shape))
    found, good = Restraints.of_atoms(rough), Restraints.of_atoms(helix)
    assert np.abs(found.length - good.length).max() < 0.03
    # Of good models, the angle at Cα differs by 2.7°.
    assert np.abs(found.span - good.span).mean() < 0.04
    assert (np.sign(found.volume) == np.sign(good.volume))[np.abs(good.volume) > 1].all()


def test_the_other_hand_is_kept(helix):
    mirrored = helix.moved_to(helix.position * [1, 1, -1])
    good, found = Restraints.of_atoms(helix), Restraints.of_atoms(mirrored)
    np.testing.assert_allclose(found.volume, -good.volume, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(5)))
def test_kinds_do_not_depend_on_the_order_of_atoms(order):
    """The volume of a group changes its sign with the order; what it aims at does, too."""
    helix = Atoms.from_structure(phantom.alpha_helix(6).structure)
    order = np.concatenate([residue * 5 + np.array(order) for residue in range(6)])
    position = helix.position.copy()
    centre = helix.name == "CA"
    # So flat at Cα that only the table knows the hand.
    n, c, cb = (position[helix.name == name] for name in ("N", "C", "CB"))
    position[centre] = (n + c + cb) / 3
    shuffled = helix.select(order).moved_to(position[order])
    parts = parts_of(shuffled)
    wanted = aims(shuffled.position, parts, type_names(shuffled))[2]
    truth = volume(helix.position[order], parts.groups)
    chiral = np.abs(truth) > 1
    assert chiral.sum() == 6
    assert (np.sign(wanted) == np.sign(truth))[chiral].all()


def test_what_the_table_does_not_know_keeps_its_own(helix, rng):
    position = rng.normal(0, 1, (3, 3)) + np.arange(3)[:, None] * 1.4
    parts = Connections.of(position, np.full(3, 6))
    length, span, _ = aims(position, parts, np.array(["LIG C1", "LIG C2", "LIG C3"]))
    np.testing.assert_array_equal(length, distance(position, parts.bonds))
    np.testing.assert_array_equal(span, distance(position, parts.ends))


def test_a_table_is_the_median_of_what_was_seen(rng):
    """Of helices that differ by noise, a table has their geometry and the spread of the noise."""
    import gemmi

    good = phantom.alpha_helix(25).structure
    models = []
    for _ in range(20):
        flat = gemmi.FlatStructure(good)
        flat.pos[:] = np.array(flat.pos) + rng.normal(0, 0.02, (len(flat.pos), 3))
        flat.b_iso[:] = 20
        models.append(flat.generate_structure())
    table = make_typical(models)
    atoms = Atoms.from_structure(good)
    apart = distance(atoms.position, parts_of(atoms).bonds).round(4)
    row = np.flatnonzero(table.kind == "peptide C|peptide N")
    if not len(row):
        row = np.flatnonzero(np.char.count(table.kind, "|") == 1)[:1]
    assert table.count[row[0]] >= 20
    assert np.abs(apart - table.mean[row[0]]).min() < 0.004
    # The difference of two atoms along their bond.
    assert table.spread[row[0]] == pytest.approx(0.02 * np.sqrt(2), rel=0.15)
