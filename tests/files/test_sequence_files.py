"""Sequences from FASTA files and models."""

import gemmi
import pytest

import cryonb as nb
from cryonb.errors import CryonbError, ModelError
from cryonb.simulate import phantom


def test_fasta_records_are_chains(tmp_path):
    path = tmp_path / "two.fasta"
    path.write_text(">A one\nMKV\nLL*\n>B\nacdX\n")
    assert nb.open_sequences(path) == ["MKVLL", "ACDX"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("MKV\n", "cannot be read"), (">A\nMK1V\n", "cannot be read"), ("", "cannot be read"),
     (">A\n", "holds none"), (">A\nM-K\n", "other signs")],
)  # fmt: skip
def test_what_is_no_fasta_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.fa"
    path.write_text(text)
    with pytest.raises(CryonbError, match=message):
        nb.open_sequences(path)
    with pytest.raises(CryonbError, match="does not exist"):
        nb.open_sequences(tmp_path / "none.fasta")


def residue(name, atom="CA", element="C"):
    made = gemmi.Residue()
    made.name = name
    one = gemmi.Atom()
    one.name, one.element = atom, gemmi.Element(element)
    made.add_atom(one)
    return made


def test_models_give_what_is_built(tmp_path):
    model = phantom.alpha_helix(9).structure
    assert nb.open_sequences(model) == ["A" * 9]
    path = tmp_path / "helix.cif"
    model.make_mmcif_document().write_file(str(path))
    assert nb.open_sequences(path) == ["A" * 9]
    made = gemmi.Structure()
    made.add_model(gemmi.Model(1))
    chain = gemmi.Chain("B")
    # Calcium is no Cα, a water no residue of a protein, and LRT is in no table.
    for one in (residue("MET"), residue("MSE"), residue("CA", element="Ca"), residue("LRT"),
                residue("HOH", "O", "O")):  # fmt: skip
        chain.add_residue(one)
    made[0].add_chain(chain)
    assert nb.open_sequences(made) == ["MMX"]
    made[0].remove_chain("B")
    with pytest.raises(ModelError, match="no residue has a Cα"):
        nb.open_sequences(made)
