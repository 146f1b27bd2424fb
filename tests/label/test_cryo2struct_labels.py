"""Labels of Cryo2StructData against plain loops over the atoms."""

import math

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.atoms import AMINO_ACIDS, Atoms
from cryonb.errors import CryonbError, MapModelMismatchError, ModelError
from cryonb.grid import Grid
from cryonb.label.cryo2struct import LABELS, alpha_carbons, cryo2struct_labels
from cryonb.label.secondary_structure import secondary_structure
from cryonb.simulate import phantom


def model(extra=()):
    made = phantom.combine(
        [phantom.alpha_helix(12), phantom.beta_sheet(2, length=6).moved(translation=(9, 1, 0))]
    )
    structure = made.structure
    residues = [residue for chain in structure[0] for residue in chain]
    names = ["MSE", "UNK", *AMINO_ACIDS]
    for k, residue in enumerate(residues):
        residue.name = names[k % len(names)]
        for atom in residue:
            atom.occ = 0.5 + 0.5 * (k % 2)
    for name, residue_name, position in extra:
        chain = gemmi.Chain("Z")
        residue = gemmi.Residue()
        residue.name, residue.seqid, residue.het_flag = residue_name, gemmi.SeqId("1"), "H"
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos = name, gemmi.Element("Ca"), gemmi.Position(*position)
        residue.add_atom(atom)
        chain.add_residue(residue)
        structure[0].add_chain(chain)
    return structure


def rows_of(structure):
    """Atoms in the order of the file, with their residue's state: coil 1, helix 2, strand 3."""
    atoms = Atoms.from_structure(structure)
    states = dict(
        zip(
            zip(atoms.residues.chain, atoms.residues.number, strict=True),
            secondary_structure(atoms).state,
            strict=True,
        )
    )
    code = {3: 1, 1: 2, 2: 3}  # cryonb.volume.CLASSES -> the data set's
    for chain in structure[0]:
        for residue in chain:
            for atom in residue:
                yield atom, residue.name, code.get(states[chain.name, residue.seqid.num], 0)


def put(values, index, code):
    try:
        values[index] = code
    except IndexError:
        return


def loop_published(rows, grid):
    found = {name: np.zeros(grid.shape, dtype=np.uint8) for name in LABELS}
    for wanted in (1, 2, 3):
        for atom, name, state in rows:
            index = tuple(
                math.ceil(math.floor(x - o) / v)
                for x, o, v in zip(atom.pos.tolist(), grid.origin, grid.voxel_size, strict=True)
            )[::-1]
            if atom.name == "CA" and state == wanted:
                put(found["sec_struc"], index, state)
            if wanted > 1:
                continue
            if atom.name in ("CA", "N", "C"):
                put(found["atom"], index, ("CA", "N", "C").index(atom.name) + 1)
            if atom.name == "CA":
                put(found["atom_ca"], index, 1)
                put(
                    found["amino"],
                    index,
                    AMINO_ACIDS.index(name) + 1 if name in AMINO_ACIDS else 0,
                )
    return found


def loop_corrected(rows, grid):
    found = {name: np.zeros(grid.shape, dtype=np.uint8) for name in LABELS}
    best = {"atom": {}, "atom_ca": {}}
    for place, (atom, name, state) in enumerate(rows):
        if atom.name not in ("CA", "N", "C") or name in ("CA", "LIG"):
            continue
        fraction = [
            (x - o) / v
            for x, o, v in zip(atom.pos.tolist(), grid.origin, grid.voxel_size, strict=True)
        ][::-1]
        index = tuple(math.floor(f + 0.5) for f in fraction)
        if any(i < 0 or i >= n for i, n in zip(index, grid.shape, strict=True)):
            continue
        away = math.dist(atom.pos.tolist(), grid.to_points(index).tolist())
        rank = (atom.occ, atom.name == "CA", -away, -place)
        for key in ("atom", "atom_ca"):
            if key == "atom_ca" and atom.name != "CA":
                continue
            if index in best[key] and best[key][index] > rank:
                continue
            best[key][index] = rank
            if key == "atom":
                found["atom"][index] = ("CA", "N", "C").index(atom.name) + 1
            else:
                name = {"MSE": "MET"}.get(name, name)
                found["atom_ca"][index] = 1
                found["amino"][index] = AMINO_ACIDS.index(name) + 1 if name in AMINO_ACIDS else 0
                found["sec_struc"][index] = state
    return found


WITH_LIGANDS = model([("CA", "CA", (4.0, 1.0, 3.0)), ("C", "LIG", (6.0, 2.0, 3.0))])
ROWS = list(rows_of(WITH_LIGANDS))


@settings(deadline=None, max_examples=25)
@given(
    shift=st.tuples(*[st.floats(-12, 6)] * 3),
    voxel=st.sampled_from([1.0, 1.0, 2.5, 4.0]),
    convention=st.sampled_from(["published", "corrected"]),
)
def test_labels_are_those_of_a_plain_loop(shift, voxel, convention):
    atoms = Atoms.from_structure(WITH_LIGANDS)
    # Wherever the box lies, part of the model may be outside, on both sides.
    shape = tuple(int(n) for n in np.ceil(np.ptp(atoms.position, axis=0)[::-1] / voxel) + 2)
    grid = Grid(shape, voxel, tuple(atoms.lower + shift))
    loop = loop_published if convention == "published" else loop_corrected
    expected = loop(ROWS, grid)
    if not expected["atom"].any():
        return
    found = cryo2struct_labels(WITH_LIGANDS, grid, convention=convention)
    for name, values in expected.items():
        assert np.array_equal(found[name].values, values), name
        assert found[name].classes == LABELS[name]


def test_a_negative_index_wraps_in_the_published_convention_only():
    structure = model()
    atoms = Atoms.from_structure(structure)
    # The last voxels along x are empty, but for what comes in from below zero.
    shape = tuple(int(n) for n in np.ceil(np.ptp(atoms.position, axis=0)[::-1]) + 20)
    grid = Grid(shape, 1.0, tuple(atoms.lower + (4.0, 0.0, 0.0)))
    half = shape[2] - 10
    assert (
        cryo2struct_labels(structure, grid, convention="published")["atom"]
        .values[:, :, half:]
        .any()
    )
    assert not cryo2struct_labels(structure, grid)["atom"].values[:, :, half:].any()


def test_unknown_residues_erase_and_calcium_counts_as_published():
    structure = model()
    first = Atoms.from_structure(structure).position
    grid = Grid.around(first, margin=3.0)
    ca = alpha_carbons(structure)[5]
    with_ion = model([("CA", "CA", tuple(ca))])
    z, y, x = np.floor(ca - grid.origin).astype(int)[::-1]
    before = cryo2struct_labels(structure, grid, convention="published")["amino"].values
    after = cryo2struct_labels(with_ion, grid, convention="published")["amino"].values
    assert before[z, y, x] > 0
    assert after[z, y, x] == 0
    assert len(alpha_carbons(with_ion)) == len(alpha_carbons(structure))
    assert len(alpha_carbons(with_ion, convention="published")) == len(alpha_carbons(structure)) + 1


def test_every_model_of_a_file_is_labelled_as_published():
    structure = model()
    second = structure[0].clone()
    second.num = 2
    for chain in second:
        for residue in chain:
            for atom in residue:
                atom.pos = gemmi.Position(*(np.array(atom.pos.tolist()) + (0, 0, 30)))
    structure.add_model(second)
    assert len(alpha_carbons(structure, convention="published")) == 48
    with pytest.warns(UserWarning, match="2 models"):
        assert len(alpha_carbons(structure)) == 24


def test_corrected_labels_bring_alpha_carbons_back_to_half_a_voxel():
    structure = model()
    ca = alpha_carbons(structure)
    grid = Grid.around(ca, margin=4.0)
    labels = cryo2struct_labels(structure, grid)
    points = grid.to_points(np.argwhere(labels["atom_ca"].values))
    away = np.abs(points[:, None] - ca).max(axis=-1).min(axis=1)
    assert len(points) == len(ca)
    assert away.max() <= 0.5 + 1e-9


def test_bad_input_gets_one_sentence():
    structure = model()
    grid = Grid((5, 5, 5), 1.0, (500.0, 0.0, 0.0))
    with pytest.raises(MapModelMismatchError, match="do not overlap"):
        cryo2struct_labels(structure, grid)
    with pytest.raises(CryonbError, match="corrected or published"):
        cryo2struct_labels(structure, grid, convention="floor")
    with pytest.raises(ModelError, match="Cα"):
        cryo2struct_labels(phantom.dna_duplex("ACGT").structure, grid)
