"""Ideal models whose truth is known by construction.

α- and 3₁₀-helices, flat β-sheets, polyproline II chains (poly-alanine: N, CA, C, O, CB) and
double helices of B-DNA and A-RNA (all heavy atoms), made by repeating one residue along a screw.
The secondary structure of every residue follows from the hydrogen bonds that the construction
makes, by the rules of DSSP; no coordinate is looked at. Ends of helices and strands that DSSP
leaves out are therefore coil.

Sources
-------
Torsion angles: IUPAC-IUB, Biochemistry 9, 3471 (1970), and for polyproline II Adzhubei &
Sternberg, J. Mol. Biol. 229, 472 (1993); psi of the strands is changed by up to 3° so that a
strand repeats after exactly two residues, which makes a sheet flat. Hydrogen bonds and their
patterns: Kabsch & Sander, Biopolymers 22, 2577 (1983). Double helices: fibre diffraction, see
`cryonb.simulate.fibre`.
"""

from __future__ import annotations

from collections.abc import Sequence

import gemmi
import numpy as np
from scipy.spatial.transform import Rotation

from cryonb.errors import ModelError
from cryonb.simulate.fibre import A_RNA, B_DNA, Fibre
from cryonb.simulate.peptide import alanine_screw
from cryonb.simulate.phantom_structure import CHAIN_NAMES, Phantom, as_phantom, from_chains
from cryonb.volume import CLASSES

__all__ = [
    "alpha_helix",
    "beta_sheet",
    "combine",
    "dna_duplex",
    "example",
    "polyproline",
    "rna_duplex",
    "three_ten_helix",
]

_HELIX, _STRAND, _COIL, _NUCLEOTIDE = (
    CLASSES.index(name) for name in ("helix", "strand", "coil", "nucleotide")
)
_B_ISO = 30.0

_ALANINE = ("N", "CA", "C", "O", "CB")

# phi and psi in degrees; omega is 180.
_ALPHA = (-57.0, -47.0)
_THREE_TEN = (-49.0, -26.0)
_POLYPROLINE = (-75.0, 145.0)
_PARALLEL = (-119.0, 115.5418)  # published psi: 113
_ANTIPARALLEL = (-139.0, 136.3813)  # published psi: 135

# How strands lie beside each other: the distance of their axes (Å), the turn of a strand about
# its own axis (degrees) and, for antiparallel neighbours, how far (Å) the CA of two paired
# residues are off the same height. Turn and offset make N-O 2.90 Å, N-H-O as straight as the
# contacts of O-O (> 3.2 Å) and CB-CB (> 4 Å) allow.
_SPACING = 4.85
_PARALLEL_TURN = 264.9426
_ANTIPARALLEL_TURN = 70.0
_ANTIPARALLEL_OFFSET = -0.462


# ---- protein --------------------------------------------------------------------------------


def alpha_helix(n: int, *, b_iso: float = _B_ISO) -> Phantom:
    """Make a right-handed α-helix of poly-alanine along z.

    Parameters
    ----------
    n : int
        Number of residues, at least 6. All are helix but the first and the last, which no two
        consecutive α-turns hold.
    b_iso : float
        Isotropic displacement of every atom, Å².

    Returns
    -------
    Phantom
        Rise 1.50 Å and 100.4° a residue.

    Raises
    ------
    ModelError
        If the helix is too short to have two α-turns.
    """
    return _helix("α-helix", n, 6, _ALPHA, b_iso)


def three_ten_helix(n: int, *, b_iso: float = _B_ISO) -> Phantom:
    """Make a right-handed 3₁₀-helix of poly-alanine along z, at least 5 residues.

    As `alpha_helix`, with 1.94 Å and 121.2° a residue. Its state is helix too.
    """
    return _helix("3₁₀-helix", n, 5, _THREE_TEN, b_iso)


def polyproline(n: int, *, b_iso: float = _B_ISO) -> Phantom:
    """Make an extended poly-alanine chain in the polyproline II conformation, along z.

    It has no hydrogen bond, hence all its residues are coil; at least 2 residues. Left-handed,
    3.05 Å a residue, three residues a turn.
    """
    _check_count("residues of a polyproline II chain", n, 2)
    unit, twist, rise = alanine_screw(*_POLYPROLINE)
    return _protein(
        f"polyproline II chain of {n} residues",
        [_along_screw(unit, twist, rise, n)],
        [np.full(n, _COIL)],
        b_iso,
    )


def beta_sheet(
    n_strands: int, *, length: int = 7, parallel: bool = False, b_iso: float = _B_ISO
) -> Phantom:
    """Make a flat β-sheet of poly-alanine: strands along z, side by side along x.

    Parameters
    ----------
    n_strands : int
        Number of strands, at least 2; each is a chain of its own.
    length : int
        Residues of each strand, at least 6.
    parallel : bool
        Whether all strands run along +z; otherwise they alternate. Antiparallel strands of an
        even length cannot lie flush, they are out of step by one residue.
    b_iso : float
        Isotropic displacement of every atom, Å².

    Returns
    -------
    Phantom
        The strands' axes are 4.85 Å apart; a residue is strand if it takes part in a bridge.

    Raises
    ------
    ModelError
        If there are too few strands or residues.
    """
    _check_count("strands of a sheet", n_strands, 2)
    _check_count("residues of a strand", length, 6)
    unit, _, rise = alanine_screw(*(_PARALLEL if parallel else _ANTIPARALLEL))
    turn = _PARALLEL_TURN if parallel else _ANTIPARALLEL_TURN
    # Exactly 180°: the torsion angles say so to a hundredth of a thousandth of a degree.
    up = _along_screw(unit @ _about_z(turn).T, 180.0, rise, length)
    # Residue i pairs with residue total - i of an antiparallel neighbour; the two-fold axis
    # between them, along y, sets the parity of the total.
    total = length - 1 if length % 2 else length
    down = up * (-1, 1, -1) + (0.0, 0.0, total * rise + _ANTIPARALLEL_OFFSET)
    strands = [
        (up if parallel or index % 2 == 0 else down) + (index * _SPACING, 0.0, 0.0)
        for index in range(n_strands)
    ]
    # Every residue lies in a narrow or in a wide pair; both make it bridged if it and its partner
    # have neighbours on both sides in their chains. All neighbours of a strand pair alike.
    index = np.arange(length)
    partner = index if parallel else total - index
    inside = (np.minimum(index, partner) >= 1) & (np.maximum(index, partner) <= length - 2)
    states = [np.where(inside, _STRAND, _COIL)] * n_strands
    kind = "parallel" if parallel else "antiparallel"
    return _protein(f"{kind} sheet of {n_strands} × {length} residues", strands, states, b_iso)


def _helix(name: str, n: int, least: int, torsions: tuple[float, float], b_iso: float) -> Phantom:
    _check_count(f"residues of an ideal {name}", n, least)
    unit, twist, rise = alanine_screw(*torsions)
    states = np.full(n, _HELIX)
    # Turns i -> i + k begin at residues 0 ... n - k - 1, and the turns at i - 1 and i together make
    # i ... i + k - 1 a helix: all but the first and the last residue.
    states[[0, -1]] = _COIL
    return _protein(
        f"{name} of {n} residues", [_along_screw(unit, twist, rise, n)], [states], b_iso
    )


# ---- nucleic acid ---------------------------------------------------------------------------


def dna_duplex(sequence: str, *, b_iso: float = _B_ISO) -> Phantom:
    """Make a double helix of B-DNA about z.

    Parameters
    ----------
    sequence : str
        Bases A, C, G, T of the first chain, 5' to 3', at least 2; the second chain is its
        complement, also 5' to 3'.
    b_iso : float
        Isotropic displacement of every atom, Å².

    Returns
    -------
    Phantom
        Rise 3.38 Å and twist 36° a base pair. Both 5' ends are a hydroxyl, without phosphate.

    Raises
    ------
    ModelError
        If the sequence is too short or has another letter.
    """
    return _duplex("B-DNA", B_DNA, sequence, b_iso)


def rna_duplex(sequence: str, *, b_iso: float = _B_ISO) -> Phantom:
    """Make a double helix of A-RNA about z from the bases A, C, G, U of its first chain.

    As `dna_duplex`, with 2.81 Å and 32.7° a base pair.
    """
    return _duplex("A-RNA", A_RNA, sequence, b_iso)


def _duplex(name: str, fibre: Fibre, sequence: str, b_iso: float) -> Phantom:
    sequence = sequence.upper()
    unknown = sorted(set(sequence) - set(fibre.pairs))
    if unknown or len(sequence) < 2:
        found = f"the letter {unknown[0]!r}" if unknown else f"{len(sequence)} letters"
        raise ModelError(
            f"A sequence of at least two of the bases {', '.join(fibre.pairs)} was expected "
            f"for {name}, but {found} was found."
        )
    n = len(sequence)
    chains = []
    complement = "".join(fibre.pairs[base] for base in reversed(sequence))
    # The two-fold axis x takes one chain to the other: residue i faces residue n - 1 - i.
    for letters, steps, flip in (
        (sequence, range(n), (1, 1, 1)),
        (complement, reversed(range(n)), (1, -1, -1)),
    ):
        chain = []
        for place, (base, step) in enumerate(zip(letters, steps, strict=True)):
            names, unit = fibre.nucleotide(base)
            keep = [not (place == 0 and atom in ("P", "OP1", "OP2")) for atom in names]
            # Base pairs follow each other down the axis in the published frame.
            turn = _about_z(-fibre.twist * step)
            position = (unit * flip) @ turn.T - (0.0, 0.0, fibre.rise * step)
            chain.append(
                (
                    fibre.residue_names[base],
                    [atom for atom, kept in zip(names, keep, strict=True) if kept],
                    position[keep],
                )
            )
        chains.append(chain)
    states = np.full(2 * n, _NUCLEOTIDE)
    return from_chains(f"{name} duplex of {n} base pairs", chains, states, b_iso)


# ---- together -------------------------------------------------------------------------------


def combine(phantoms: Sequence[Phantom], *, name: str = "") -> Phantom:
    """Put phantoms into one structure, as they lie; chains are named A, B, C ... anew.

    Parameters
    ----------
    phantoms : sequence of Phantom
        At least one; 62 chains at most.
    name : str
        Of the result; by default the names of its parts.

    Raises
    ------
    ModelError
        If there is no phantom, or if there are more chains than names of one letter.
    """
    chains = [chain for phantom in phantoms for chain in phantom.structure[0]]
    if not 0 < len(chains) <= len(CHAIN_NAMES):
        raise ModelError(
            f"Phantoms with 1 to {len(CHAIN_NAMES)} chains in all were expected, "
            f"but they have {len(chains)}."
        )
    model = gemmi.Model(1)
    for chain, letter in zip(chains, CHAIN_NAMES, strict=False):
        renamed = chain.clone()
        renamed.name = letter
        model.add_chain(renamed)
    name = name or ", ".join(phantom.name for phantom in phantoms)
    return as_phantom(model, np.concatenate([p.states for p in phantoms]), name)


def example() -> Phantom:
    """Make the small model that cryonb's examples use: every class, 41 Å across, 133 residues.

    Two α-helices, a 3₁₀-helix, an antiparallel and a parallel sheet, two polyproline II chains
    and eight base pairs of B-DNA, tilted against the axes and 5.5 Å apart.
    """
    # Part, tilt (rotation vector in degrees), centre (Å): packed by trial, contacts > 5.5 Å.
    layout = (
        (dna_duplex("CGATATCG"), (15, -10, 20), (15.8, 8.8, -0.2)),
        (beta_sheet(4, length=7), (-12, 15, 35), (-6.0, 11.8, -1.4)),
        (beta_sheet(4, length=8, parallel=True), (18, 10, -30), (-7.2, -11.4, -3.3)),
        (alpha_helix(18), (12, 16, 0), (11.0, -9.0, 0.0)),
        (alpha_helix(16), (-18, 8, 0), (20.2, -9.4, -9.5)),
        (three_ten_helix(8), (65, 20, 0), (7.1, -11.9, -18.0)),
        (polyproline(8), (20, -25, 0), (-2.9, 0.6, 2.2)),
        (polyproline(7), (5, 80, 0), (-3.5, 1.1, -17.5)),
    )
    return combine(
        [
            part.moved(rotation=Rotation.from_rotvec(tilt, degrees=True), translation=centre)
            for part, tilt, centre in layout
        ],
        name="cryonb example",
    )


# ---- pieces ---------------------------------------------------------------------------------


def _check_count(what: str, count: int, least: int) -> None:
    if int(count) != count or count < least:
        raise ModelError(f"At least {least} {what} were expected, but {count} was asked for.")


def _about_z(degrees) -> np.ndarray:
    """Turns about z by one angle or several: shape (..., 3, 3)."""
    vectors = np.multiply.outer(degrees, (0.0, 0.0, 1.0))
    return Rotation.from_rotvec(vectors, degrees=True).as_matrix()


def _along_screw(unit: np.ndarray, twist: float, rise: float, n: int) -> np.ndarray:
    """Repeat a residue (k, 3) along the screw about z: shape (n, k, 3)."""
    index = np.arange(n)
    turned = np.einsum("nij,kj->nki", _about_z(twist * index), unit)
    turned[..., 2] += (rise * index)[:, None]
    return turned


def _protein(name: str, strands, states, b_iso: float) -> Phantom:
    chains = [[("ALA", _ALANINE, residue) for residue in strand] for strand in strands]
    return from_chains(name, chains, np.concatenate(states), b_iso)
