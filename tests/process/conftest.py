"""Fixtures of the tests of processing."""

import gemmi
import pytest


@pytest.fixture(scope="session")
def alpha_carbons():
    """A function that makes a structure of lone Cα atoms at the given points."""

    def make(points):
        made = gemmi.Structure()
        model, chain = gemmi.Model(1), gemmi.Chain("A")
        for number, point in enumerate(points, start=1):
            residue = gemmi.Residue()
            residue.name, residue.seqid = "ALA", gemmi.SeqId(number, " ")
            atom = gemmi.Atom()
            atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(*point)
            residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
        made.add_model(model)
        return made

    return make
