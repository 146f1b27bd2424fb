"""The backbone of a protein from its Cα atoms."""

from __future__ import annotations

import warnings

import numpy as np

from cryonb.atoms import KIND_PROTEIN, Atoms
from cryonb.errors import ModelError, ModelWarning
from cryonb.trace.density import relative_density
from cryonb.trace.frames import dihedral, frames, unit
from cryonb.trace.peptides import CIS_BELOW, TURNS, load_table, residue_classes
from cryonb.volume import Volume

__all__ = ["rebuild_backbone"]

#: Least and most Å between the Cα atoms of bound residues, and most where a number is left out.
_SHORTEST, _LONGEST, _LONGEST_JUMP = 1.0, 5.5, 4.2
#: Least and most Å between the Cα atoms of residues i and i + 2.
_NEXT_BUT_ONE = (4.7, 7.4)
# Weights of what neighbouring planes make together: φ and ψ; N-Cα-C, whose mean and spread follow.
_RAMACHANDRAN, _ANGLE = 1.0, (np.radians(111.0), np.radians(5.0))
# How far word of a plane is passed along the chain, in residues.
_SWEEPS = 15
# Residues whose pairs of turns are worked on at a time.
_PIECE = 128
_ELEMENTS = {"N": "N", "CA": "C", "C": "C", "O": "O", "CB": "C"}


def rebuild_backbone(
    model, volume: Volume | None = None, *, regularize: bool = True, density_weight: float = 32.0
):  # fmt: skip
    """Build N, C, O and Cβ around the Cα atoms of a model.

    Parameters
    ----------
    model : gemmi.Structure
        Of its amino acids the Cα atoms are read, whatever else they have; it is not changed.
    volume : Volume, optional
        A map that helps to choose how each peptide is turned, by its density at C, O and N.
    regularize : bool
        Whether Cα atoms whose distances no chain can have (3.8 Å to the next residue, 2.9 Å at a
        cis peptide, 4.7 to 7.4 Å to the next but one) are moved, as little as it takes. Those of a
        refined model stay where they are to some hundredths of an Å.
    density_weight : float
        Weight of the mean density at C, O and N, in units of that at the Cα atoms, beside the
        logarithm of a probability.

    Returns
    -------
    gemmi.Structure
        Chains, residues, their names and numbers as given, each residue with N, CA, C, O, and CB
        unless it is GLY, with the Cα atom's B and occupancy. Residues that are not amino acids, or
        have no Cα, are left out.

    Raises
    ------
    ModelError
        If there are no three consecutive amino acids with Cα.
    CryonbError
        If the volume does not hold the model.

    Warns
    -----
    ModelWarning
        If a stretch has one or two residues, which leave their peptides' turns open: these keep
        Cα alone.

    Notes
    -----
    A chain goes on from one residue to the next where their Cα atoms are 1 to 5.5 Å apart, or
    less than 4.2 Å where a number is left out between them. Each peptide is a plane between two Cα
    atoms; `cryonb.trace.peptides` tells how probable each of 36 turns is, and the most probable
    turns of a chain together are found by passing messages between neighbours, whose turns make the
    angle N-Cα-C and φ, ψ. Bonds and angles within the planes are the mean ones. At an end, two Cα
    atoms are added that go on as the chain does, and taken away afterwards.
    """
    atoms = Atoms.from_structure(model, ligands=False)
    rows = np.flatnonzero((atoms.name == "CA") & (atoms.kind == KIND_PROTEIN))
    stretches = _stretches(atoms, rows)
    short = sum(len(part) for part in stretches if len(part) < 3)
    long = [part for part in stretches if len(part) >= 3]
    if not long:
        raise ModelError(
            "Three or more consecutive amino acids with Cα atoms were expected, but the model has "
            f"no such stretch among {len(rows)} Cα atoms; check chain names and residue numbers."
        )
    if short:
        warnings.warn(
            f"{short} residues in stretches of one or two keep Cα alone: their peptides' turns "
            "are open.", ModelWarning, stacklevel=2,
        )  # fmt: skip
    score = None
    if volume is not None:
        read = relative_density(volume, atoms.position[rows])

        def score(positions):
            return density_weight * read(positions).mean(axis=-1)

    built = np.full((len(atoms), 5, 3), np.nan)
    built[rows, 1] = atoms.position[rows]
    for part in long:
        names = atoms.residues.name[atoms.residue[part]]
        built[part] = _rebuild(atoms.position[part], names, regularize, score)
    return _structure(model, atoms, rows, built)


def _stretches(atoms: Atoms, rows) -> list[np.ndarray]:
    """Divide Cα atoms where a chain is broken."""
    if not len(rows):
        return []
    residue = atoms.residue[rows]
    table = atoms.residues
    apart = np.linalg.norm(np.diff(atoms.position[rows], axis=0), axis=1)
    step = np.diff(table.number[residue])
    # With insertion codes, numbers may stay the same.
    longest = np.where((step == 0) | (step == 1), _LONGEST, _LONGEST_JUMP)
    bound = (table.chain[residue][1:] == table.chain[residue][:-1]) & (apart > _SHORTEST)
    bound &= apart < longest
    return np.split(rows, np.flatnonzero(~bound) + 1)


def _is_cis(ca, name) -> np.ndarray:
    """Tell which peptides are cis, by the distance and by how exact the distances seem."""
    apart = np.linalg.norm(np.diff(ca, axis=0), axis=1)
    trans, cis = load_table().apart[0], load_table().apart[1]
    spread = max(1.48 * float(np.median(np.abs(apart - trans))), 0.05)
    # One in twenty before proline, one in two thousand elsewhere.
    prior = np.where(name[1:] == "PRO", np.log(0.05 / 0.95), np.log(0.0005))
    gain = ((apart - trans) ** 2 - (apart - cis) ** 2) / (2 * spread**2)
    return (gain + prior > 0) & (apart < CIS_BELOW)


def _regular(ca, cis, rounds: int = 60) -> np.ndarray:
    """Move Cα atoms until consecutive ones are as far apart as peptides make them."""
    goal = load_table().apart[cis.astype(int)]
    # Real peptides differ by this much.
    slack = 0.08
    for _ in range(rounds):
        move, count = np.zeros_like(ca), np.full((len(ca), 1), 1e-9)
        for reach, least, most in (
            (1, goal - slack, goal + slack), (2, _NEXT_BUT_ONE[0], _NEXT_BUT_ONE[1])
        ):  # fmt: skip
            line = ca[reach:] - ca[:-reach]
            length = np.linalg.norm(line, axis=1)
            change = np.clip(length, least, most) - length
            half = 0.5 * change[:, None] * unit(line)
            active = (change != 0)[:, None]
            move[reach:] += half
            move[:-reach] -= half
            count[reach:] += active
            count[:-reach] += active
        if np.abs(move).max() < 1e-3:
            break
        ca = ca + move / np.maximum(count, 1)
    return ca


def _extended(ca) -> np.ndarray:
    """Add two Cα atoms at either end that go on as the chain does there."""
    for _ in range(2):
        ends = []
        for end in (ca[:4], ca[::-1][:4]):
            # A trans peptide on, with the angle and the torsion of the last atoms.
            a, b, c = end[:3]
            angle = np.clip(np.arccos(np.clip(unit(a - b) @ unit(c - b), -1, 1)), 1.5, 2.4)
            # Three atoms have no torsion angle; that of a helix is the most common.
            torsion = dihedral(*end) if len(end) == 4 else np.radians(50.0)
            axis = frames(c, b, a)
            turned = np.sin(angle) * np.array([np.cos(torsion), np.sin(torsion)])
            ends.append(a + 3.8 * np.append(-np.cos(angle), turned) @ axis)
        ca = np.concatenate([ends[0][None], ca, ends[1][None]])
    return ca


def _rebuild(ca, name, regularize: bool, score) -> np.ndarray:
    """Build N, CA, C, O, CB of one stretch: (n, 5, 3)."""
    table = load_table()
    cis = _is_cis(ca, name)
    if regularize:
        ca = _regular(ca, cis)
    longer = _extended(ca)
    cis = np.concatenate([[False], cis, [False]])
    quads = longer[np.arange(len(cis))[:, None] + np.arange(4)]
    axis = frames(quads[:, 0], quads[:, 1], quads[:, 2])
    middle = (quads[:, 1] + quads[:, 2]) / 2
    plane = table.plane[cis.astype(int)]

    def place(turn):
        """C, O, N of each peptide at turns (m, k): (m, k, 3 atoms, 3)."""
        across = (
            np.cos(turn)[..., None] * axis[:, None, 1]
            + np.sin(turn)[..., None] * (axis[:, None, 2])
        )
        local = plane[:, None, :, 0, None] * axis[:, None, None, 0]
        return middle[:, None, None] + local + plane[:, None, :, 1, None] * across[:, :, None]

    turns = np.broadcast_to(np.arange(TURNS) * 2 * np.pi / TURNS, (len(cis), TURNS))
    choices = place(turns)
    alone = table.log_turns(quads, cis)
    if score is not None:
        # The first and the last peptide belong to the map by one end only.
        alone = alone + score(choices)
    belief = _beliefs(alone, _pairs(ca, name, choices))
    c, o, n = np.moveaxis(place(_peaks(belief)[:, None])[:, 0], 1, 0)
    n, c, o = n[:-1], c[1:], o[1:]
    return np.stack([n, ca, c, o, table.beta_carbon(n, ca, c)], axis=1)


def _pairs(ca, name, choices) -> np.ndarray:
    """Score each pair of turns before and after each residue: (n, 36, 36)."""
    table = load_table()
    kind = residue_classes(name, np.append(name[1:] == "PRO", False))
    maps = table.ramachandran.astype(np.float64)
    found = np.empty((len(ca), TURNS, TURNS))
    for first in range(0, len(ca), _PIECE):
        rows = slice(first, min(first + _PIECE, len(ca)))
        here = ca[rows, None]
        before, after = choices[rows], choices[first + 1 : first + 1 + len(here)]
        to_n, to_c = before[:, :, 2] - here, after[:, :, 0] - here
        one, two = unit(to_n), unit(to_c)
        cosine = np.einsum("mai,mbi->mab", one, two)
        angle = np.arccos(np.clip(cosine, -1, 1))
        # φ is the turn about N-Cα from the C before to the C after; ψ that about Cα-C from N to N.
        phi = _torsions(before[:, :, 0] - before[:, :, 2], one, to_c)
        psi = _torsions(after[:, :, 2] - after[:, :, 0], two, to_n).swapaxes(1, 2)
        bins = [np.round(v / (2 * np.pi) * 36).astype(int) % 36 for v in (phi, psi)]
        found[rows] = _RAMACHANDRAN * maps[(kind[rows, None, None], *bins)]
        found[rows] -= ((angle - _ANGLE[0]) / _ANGLE[1]) ** 2 / 2
    return found


def _torsions(outer, axis, others) -> np.ndarray:
    """Torsion angles about bonds Cα → x: from the atom beyond x to each atom at Cα.

    `outer` (m, a, 3) goes from x to the atom beyond, `axis` (m, a, 3) is the unit vector from Cα to
    x, `others` (m, b, 3) go from Cα to the fourth atom. The result is (m, a, b).
    """
    normal = np.cross(axis, outer)
    flat = np.cross(normal, axis)
    # Looking along the bond, seen from either end the sense of a torsion is the same.
    return np.arctan2(
        -np.einsum("mai,mbi->mab", normal, others), np.einsum("mai,mbi->mab", flat, others)
    )


def _beliefs(alone, pairs) -> np.ndarray:
    """Give the best score of a whole chain for each turn of each peptide: max-product messages."""
    forward, back = np.zeros_like(alone), np.zeros_like(alone)
    for _ in range(min(_SWEEPS, len(pairs))):
        ahead = ((alone + forward)[:-1, :, None] + pairs).max(axis=1)
        behind = ((alone + back)[1:, None, :] + pairs).max(axis=2)
        forward[1:] = ahead - ahead.max(axis=1, keepdims=True)
        back[:-1] = behind - behind.max(axis=1, keepdims=True)
    return alone + forward + back


def _peaks(belief) -> np.ndarray:
    """Turn of the highest belief in radians, between the turns by a parabola."""
    best = belief.argmax(axis=1)
    rows = np.arange(len(belief))
    left, top, right = (belief[rows, (best + k) % TURNS] for k in (-1, 0, 1))
    bend = left - 2 * top + right
    shift = np.where(bend < -1e-9, 0.5 * (left - right) / np.minimum(bend, -1e-9), 0.0)
    return (best + np.clip(shift, -0.5, 0.5)) * 2 * np.pi / TURNS


def _structure(model, atoms: Atoms, rows, built):
    """Make the new structure, in the order of the old one."""
    import gemmi

    structure = gemmi.Structure()
    structure.name, structure.cell = model.name, model.cell
    structure.spacegroup_hm = model.spacegroup_hm
    new = gemmi.Model(1)
    table = atoms.residues
    chain = None
    for row in rows.tolist():
        k = atoms.residue[row]
        if chain is None or chain.name != table.chain[k]:
            chain = new.add_chain(gemmi.Chain(str(table.chain[k])))
        residue = gemmi.Residue()
        residue.name = str(table.name[k])
        residue.seqid = gemmi.SeqId(int(table.number[k]), str(table.icode[k]) or " ")
        residue.entity_type = gemmi.EntityType.Polymer
        names = ("N", "CA", "C", "O", "CB")[: 4 if residue.name == "GLY" else 5]
        for name, position in zip(names, built[row], strict=False):
            if not np.isfinite(position).all():
                continue
            atom = gemmi.Atom()
            atom.name, atom.element = name, gemmi.Element(_ELEMENTS[name])
            atom.pos = gemmi.Position(*position.tolist())
            atom.b_iso, atom.occ = float(atoms.b_iso[row]), float(atoms.occupancy[row])
            residue.add_atom(atom)
        chain.add_residue(residue)
    structure.add_model(new)
    structure.setup_entities()
    return structure
