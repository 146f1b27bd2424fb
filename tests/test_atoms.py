"""Atoms: which of a model's atoms are kept, and what their columns hold."""

import gemmi
import numpy as np
import pytest

from cryonb.atoms import (
    KIND_LIGAND,
    KIND_NUCLEIC,
    KIND_PROTEIN,
    KIND_WATER,
    ROLES,
    Atoms,
)
from cryonb.errors import ModelError, ModelWarning
from cryonb.simulate import phantom

BACKBONE = (("N", "N"), ("CA", "C"), ("C", "C"), ("O", "O"))


def line(name, element, residue="ALA", chain="A", number=1, **options):
    """One ATOM line of a PDB file."""
    position = options.get("position", (float(number), 2.0, 3.0))
    record = options.get("record", "ATOM")
    shown = name if len(name) == 4 or len(element) == 2 else f" {name}"
    return (
        f"{record:<6}{options.get('serial', 1):5d} {shown:<4}{options.get('altloc', ' ')}"
        f"{residue:>3} {chain}{number:4d}{options.get('icode', ' ')}   "
        f"{position[0]:8.3f}{position[1]:8.3f}{position[2]:8.3f}"
        f"{options.get('occupancy', 1.0):6.2f}{options.get('b', 20.0):6.2f}"
        f"          {element:>2}"
    )


def residue(name="ALA", number=1, atoms=BACKBONE, **options):
    return [line(atom, element, name, number=number, **options) for atom, element in atoms]


def structure(*lines):
    return gemmi.read_pdb_string("\n".join((*lines, "END", "")))


def test_columns():
    model = structure(
        line("N", "N", position=(1.5, -2.25, 3.125), occupancy=0.5, b=33.5),
        line("CA", "C", chain="B", number=-7, residue="GLY"),
    )
    atoms = Atoms.from_structure(model)
    assert len(atoms) == 2
    np.testing.assert_allclose(atoms.position[0], (1.5, -2.25, 3.125))
    assert atoms.position.dtype == np.float64
    assert atoms.element.tolist() == [7, 6]
    assert (atoms.occupancy[0], atoms.b_iso[0]) == (0.5, 33.5)
    assert atoms.name.tolist() == ["N", "CA"]
    assert [ROLES[role] for role in atoms.role] == ["N", "CA"]
    assert atoms.residue.tolist() == [0, 1]
    assert atoms.residues.chain.tolist() == ["A", "B"]
    assert atoms.residues.number.tolist() == [1, -7]
    assert atoms.residues.name.tolist() == ["ALA", "GLY"]
    np.testing.assert_allclose(atoms.lower, atoms.position.min(axis=0))
    np.testing.assert_allclose(atoms.upper, atoms.position.max(axis=0))


def test_highest_occupancy_of_a_residue_is_kept_whole():
    model = structure(
        line("N", "N"),
        line("CA", "C", altloc="A", occupancy=0.4, position=(1, 0, 0)),
        line("CA", "C", altloc="B", occupancy=0.6, position=(2, 0, 0)),
        # Alone, CB of A would win; the residue's sum decides, so that no chimera arises.
        line("CB", "C", altloc="A", occupancy=0.55, position=(3, 0, 0)),
        line("CB", "C", altloc="B", occupancy=0.45, position=(4, 0, 0)),
        *residue(number=2),
    )
    atoms = Atoms.from_structure(model)
    first = atoms.select(atoms.residue == 0)
    assert first.name.tolist() == ["N", "CA", "CB"]
    assert first.position[1:, 0].tolist() == [2, 4]


def test_all_alternative_locations_on_request():
    model = structure(
        line("N", "N", position=(0, 0, 0)),
        line("CA", "C", altloc="A", occupancy=0.4, position=(1, 0, 0)),
        line("CA", "C", altloc="B", occupancy=0.6, position=(2, 0, 0)),
    )
    atoms = Atoms.from_structure(model, altlocs=True)
    assert atoms.position[:, 0].tolist() == [0, 1, 2]
    assert atoms.occupancy == pytest.approx([1.0, 0.4, 0.6])
    assert atoms.residue.tolist() == [0, 0, 0]


def test_equal_occupancies_keep_the_first_and_residues_choose_alone():
    lines = [
        line("CA", "C", number=n, altloc=label, occupancy=occupancy, position=(x, 0, 0))
        for n, label, occupancy, x in (
            (1, "A", 0.5, 1),
            (1, "B", 0.5, 2),
            (2, "A", 0.3, 3),
            (2, "B", 0.7, 4),
        )
    ]
    atoms = Atoms.from_structure(structure(*lines))
    assert atoms.position[:, 0].tolist() == [1, 4]


def test_two_kinds_of_residue_at_one_place():
    # Microheterogeneity: both residues stay, each with its own best location.
    model = structure(
        line("CA", "C", "SER", altloc="A", occupancy=0.6),
        line("CA", "C", "THR", altloc="B", occupancy=0.4),
    )
    assert Atoms.from_structure(model).residues.name.tolist() == ["SER", "THR"]


def test_insertion_codes_make_residues():
    model = structure(*residue(number=52), *residue(number=52, icode="A"), *residue(number=53))
    residues = Atoms.from_structure(model).residues
    assert residues.number.tolist() == [52, 52, 53]
    assert residues.icode.tolist() == ["", "A", ""]


def test_first_of_several_models_with_a_warning():
    lines = []
    for number, x in ((1, 5.0), (2, 9.0)):
        lines += [f"MODEL     {number:4d}", line("CA", "C", position=(x, 0, 0)), "ENDMDL"]
    with pytest.warns(ModelWarning, match="2 models; the first"):
        atoms = Atoms.from_structure(structure(*lines))
    assert atoms.position[:, 0].tolist() == [5.0]


@pytest.fixture
def mixed():
    return structure(
        *residue(),
        line("H", "H"),
        line("D", "D"),
        *residue("HOH", 2, (("O", "O"), ("H1", "H")), record="HETATM"),
        *residue("ATP", 3, (("PG", "P"), ("O1G", "O")), record="HETATM"),
        *residue("ZN", 4, (("ZN", "ZN"),), record="HETATM"),
    )


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 7),
        ({"hydrogens": True}, 9),
        ({"waters": True}, 8),
        ({"hydrogens": True, "waters": True}, 11),
        ({"ligands": False}, 4),
    ],
)
def test_hydrogens_waters_and_ligands(mixed, options, count):
    atoms = Atoms.from_structure(mixed, **options)
    kinds = dict(zip(atoms.residues.name.tolist(), atoms.residues.kind.tolist(), strict=True))
    assert len(atoms) == count
    assert len(atoms.residues) == len(np.unique(atoms.residue))
    assert kinds["ALA"] == KIND_PROTEIN
    assert kinds.get("HOH", KIND_WATER) == KIND_WATER
    assert kinds.get("ZN", KIND_LIGAND) == KIND_LIGAND


def test_deuterium_counts_as_hydrogen(mixed):
    atoms = Atoms.from_structure(mixed, hydrogens=True)
    assert atoms.element[atoms.name == "D"].tolist() == [1]


def test_selenomethionine_is_protein_and_keeps_its_backbone():
    model = structure(*residue("MSE", atoms=(*BACKBONE, ("SE", "SE")), record="HETATM"))
    atoms = Atoms.from_structure(model, ligands=False)
    assert atoms.residues.kind.tolist() == [KIND_PROTEIN]
    assert atoms.backbone.tolist() == [True] * 4 + [False]
    assert atoms.element[-1] == 34


def test_unknown_residues_are_told_by_their_atoms():
    sugar = (("P", "P"), ("C1'", "C"), ("C3'", "C"), ("C4'", "C"))
    model = structure(
        *residue("9ZQ", 1, record="HETATM"),
        *residue("9ZR", 2, sugar, record="HETATM"),
        *residue("9ZS", 3, (("C1", "C"),), record="HETATM"),
    )
    kinds = Atoms.from_structure(model).residues.kind.tolist()
    assert kinds == [KIND_PROTEIN, KIND_NUCLEIC, KIND_LIGAND]


@pytest.mark.parametrize("prime", ["'", "*"])
def test_nucleotide_roles(prime):
    names = [f"O5{prime}", f"C5{prime}", f"C4{prime}", f"C3{prime}", f"O3{prime}"]
    atoms = [("P", "P"), *((name, name[0]) for name in names), ("N1", "N")]
    columns = Atoms.from_structure(structure(*residue("DA", atoms=atoms)))
    assert columns.residues.kind.tolist() == [KIND_NUCLEIC]
    assert [ROLES[r] for r in columns.role] == ["P", "O5'", "C5'", "C4'", "C3'", "O3'", ""]


def test_a_calcium_ion_is_no_alpha_carbon():
    model = structure(line("CA", "CA", "CA", record="HETATM"), *residue(number=2))
    atoms = Atoms.from_structure(model)
    assert atoms.element[0] == 20
    assert atoms.role[0] == 0


def test_alpha_carbons_alone():
    lines = [line("CA", "C", number=n) for n in (1, 2, 3)]
    atoms = Atoms.from_structure(structure(*lines))
    assert (atoms.role == ROLES.index("CA")).all()
    assert (atoms.kind == KIND_PROTEIN).all()


def test_select_and_move(mixed):
    atoms = Atoms.from_structure(mixed)
    some = atoms.select(atoms.backbone)
    assert len(some) == 4
    assert len(some.residues) == len(atoms.residues)
    moved = atoms.moved_to(atoms.position + 1)
    np.testing.assert_allclose(moved.position - atoms.position, 1)
    with pytest.raises(ModelError, match="were expected"):
        atoms.moved_to(np.zeros((2, 3)))


def test_atoms_are_handed_back_and_the_structure_is_not_changed(mixed):
    before = mixed.make_pdb_string()
    atoms = Atoms.from_structure(mixed)
    assert Atoms.from_structure(atoms) is atoms
    assert mixed.make_pdb_string() == before


def test_nothing_left():
    water = structure(*residue("HOH", atoms=(("O", "O"),), record="HETATM"))
    with pytest.raises(ModelError, match="none is left"):
        Atoms.from_structure(water)
    with pytest.raises(ModelError, match="no model"):
        Atoms.from_structure(gemmi.Structure())


def test_agrees_with_a_walk_through_gemmi(data):
    from cryonb.files.model import read_model

    model = read_model(data / "maps" / "30342" / "390_7cec_A.cif")
    walked = [
        (chain.name, part.seqid.num, part.name, atom.name, *atom.pos.tolist())
        for chain in model[0]
        for part in chain
        for atom in part
        if not atom.is_hydrogen() and not part.is_water() and atom.altloc in ("\0", "A")
    ]
    atoms = Atoms.from_structure(model)
    of = atoms.residues
    ours = [
        (of.chain[r], of.number[r], of.name[r], name, *place)
        for r, name, place in zip(atoms.residue, atoms.name, atoms.position.tolist(), strict=True)
    ]
    assert ours == walked


def test_anisotropic_displacements_are_read_when_asked_for():
    structure = phantom.alpha_helix(6).structure
    first = structure[0][0][0][0]
    first.aniso = gemmi.SMat33f(0.1, 0.2, 0.3, 0.01, 0.02, 0.03)
    assert Atoms.from_structure(structure).aniso is None
    atoms = Atoms.from_structure(structure, anisotropic=True)
    assert atoms.aniso[0] == pytest.approx([0.1, 0.2, 0.3, 0.01, 0.02, 0.03])
    assert not atoms.aniso[1:].any()
    assert len(atoms.select(slice(0, 3)).aniso) == 3


def test_charges_are_those_of_the_file():
    structure = phantom.alpha_helix(6).structure
    structure[0][0][1]["CA"][0].charge = -2
    atoms = Atoms.from_structure(structure)
    assert atoms.charge[(atoms.residue == 1) & (atoms.name == "CA")] == [-2]
    assert atoms.select(atoms.residue == 1).charge.sum() == atoms.charge.sum() == -2
