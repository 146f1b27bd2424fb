"""Sequences of protein chains, from FASTA files and from models."""

from __future__ import annotations

from pathlib import Path

from cryonb.errors import CryonbError, ModelError

__all__ = ["read_sequences"]

_FASTA = (".fasta", ".fa", ".faa", ".seq", ".pir")


def read_sequences(source) -> list[str]:
    """Read the sequences of protein chains.

    Parameters
    ----------
    source : path or gemmi.Structure
        A FASTA or PIR file, whose records are chains; or a model or its file (PDB, mmCIF), of whose
        first model the amino acids that have a Cα count.

    Returns
    -------
    list of str
        One-letter codes, a string a chain; a homomer has the same one several times. Modified
        residues have the letter of their parent, X what is unknown.

    Raises
    ------
    CryonbError
        If a file holds no sequence, or a sequence with other signs than letters.
    ModelError
        If a model has no protein chain, or its file cannot be read.
    """
    import gemmi

    if not isinstance(source, gemmi.Structure):
        path = Path(source)
        if path.suffix.lower() in _FASTA:
            return _from_fasta(path)
        from cryonb.files.model import read_model

        source = read_model(path)
    found = []
    for chain in source[0] if len(source) else ():
        letters = [
            _letter(residue.name)
            for residue in chain
            if residue.find_atom("CA", "*", gemmi.Element("C"))
        ]
        if letters:
            found.append("".join(letters))
    if not found:
        raise ModelError("A model with protein chains was expected, but no residue has a Cα atom.")
    return found


def _letter(name: str) -> str:
    import gemmi

    about = gemmi.find_tabulated_residue(name)
    letter = about.one_letter_code.upper() if about.is_amino_acid() else ""
    return letter if letter.isalpha() else "X"


def _from_fasta(path: Path) -> list[str]:
    import gemmi

    if not path.is_file():
        raise CryonbError(f"A file of sequences was expected, but {path} does not exist.")
    try:
        records = gemmi.read_pir_or_fasta(path.read_text(encoding="utf-8", errors="replace"))
    except (RuntimeError, ValueError) as error:
        raise CryonbError(
            f"Sequences in FASTA were expected in {path.name}, but it cannot be read ({error}); "
            "each begins with a line of > and a name, followed by letters."
        ) from None
    found = [record.seq.upper().rstrip("*") for record in records]
    found = [text for text in found if text]
    if not found or not all(text.isalpha() for text in found):
        raise CryonbError(
            f"Sequences of letters in FASTA were expected in {path.name}, but it holds "
            f"{'other signs' if found else 'none'}; each begins with a line of > and a name."
        )
    return found
