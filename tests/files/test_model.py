"""Models: formats, compression, what is kept, and what is refused."""

import gzip

import gemmi
import numpy as np
import pytest

from cryonb.atoms import Atoms
from cryonb.errors import ModelError, ModelWarning
from cryonb.files.model import read_model, write_model

PDB = """\
ATOM      1  N   ALA A  52      11.104   6.134  -6.504  0.40 10.00           N
ATOM      2  CA AALA A  52      11.639   6.071  -5.147  0.60 11.00           C
ATOM      3  CA BALA A  52      12.639   6.071  -5.147  0.40 11.00           C
ATOM      4  H   ALA A  52      10.000   6.000  -5.000  1.00 12.00           H
ATOM      5  CA  GLY A  52A     14.000   7.000  -4.000  1.00 13.00           C
HETATM    6 SE   MSE A  53      15.000   8.000  -3.000  1.00 14.00          SE
HETATM    7 ZN    ZN A 101      16.000   9.000  -2.000  1.00 15.00          ZN
HETATM    8  O   HOH A 201      17.000  10.000  -1.000  1.00 16.00           O
END
"""


@pytest.fixture
def structure():
    return gemmi.read_pdb_string(PDB)


def _sites(structure):
    return [
        (chain.name, str(part.seqid), part.name, atom.name, atom.altloc, *atom.pos.tolist())
        for chain in structure[0]
        for part in chain
        for atom in part
    ]


@pytest.mark.parametrize("suffix", [".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".cif.gz"])
def test_write_and_read_again(tmp_path, structure, suffix):
    before = structure.make_pdb_string()
    path = write_model(structure, tmp_path / f"a{suffix}")
    again = read_model(path)
    assert _sites(again) == _sites(structure)
    assert structure.make_pdb_string() == before
    assert list(tmp_path.iterdir()) == [path]
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == suffix.endswith(".gz")


@pytest.mark.parametrize("name", ["a.cif", "a.txt", "a", "a.pdb"])
@pytest.mark.parametrize("packed", [False, True])
def test_format_is_told_from_the_content(tmp_path, structure, name, packed):
    text = {"a.pdb": structure.make_mmcif_document().as_string()}.get(name, PDB).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if packed else text)
    assert len(_sites(read_model(path))) == 8


def test_everything_in_the_file_is_there_and_atoms_choose(tmp_path):
    path = tmp_path / "a.pdb"
    path.write_text(PDB)
    atoms = Atoms.from_structure(read_model(path))
    assert atoms.name.tolist() == ["N", "CA", "CA", "SE", "ZN"]
    np.testing.assert_allclose(atoms.position[1, 0], 11.639)
    assert atoms.residues.icode.tolist() == ["", "A", "", ""]


def test_several_models(tmp_path):
    body = PDB.removesuffix("END\n")
    path = tmp_path / "a.pdb"
    path.write_text(f"MODEL        1\n{body}ENDMDL\nMODEL        2\n{body}ENDMDL\nEND\n")
    structure = read_model(path)
    assert len(structure) == 2
    with pytest.warns(ModelWarning, match="2 models"):
        assert len(Atoms.from_structure(structure)) == 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"hello world\n",
        b"END\n",
        b"REMARK nothing here\nEND\n",
        b"data_x\n",
        b"data_x\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n1\n",
        b"\x00\x01\x02" * 1000,
        PDB[:120].replace("11.104", "eleven").encode(),
        gzip.compress(PDB.encode())[:60],
        gzip.compress(b""),
    ],
)
@pytest.mark.parametrize("name", ["a.pdb", "a.cif", "a.cif.gz"])
def test_broken_or_empty_files_give_one_clear_error(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"An atomic model \(PDB or mmCIF\) was expected in a\."):
        read_model(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "nowhere.pdb")


def test_other_suffixes_are_refused(tmp_path, structure):
    with pytest.raises(ModelError, match=r"\.pdb, \.ent, \.cif"):
        write_model(structure, tmp_path / "a.mrc")
    assert not list(tmp_path.iterdir())


def test_long_chain_names_do_not_fit_into_pdb(tmp_path, structure):
    structure[0][0].name = "heavy"
    with pytest.raises(ModelError, match=r"'heavy'; write it as \.cif"):
        write_model(structure, tmp_path / "a.pdb")
    assert _sites(read_model(write_model(structure, tmp_path / "a.cif")))[0][0] == "heavy"


@pytest.mark.data
def test_every_model_of_the_maps_can_be_read(data):
    paths = sorted(path for path in (data / "maps").rglob("*") if path.suffix in (".pdb", ".cif"))
    assert len(paths) >= 20
    for path in paths:
        assert len(Atoms.from_structure(read_model(path))) > 100, path
