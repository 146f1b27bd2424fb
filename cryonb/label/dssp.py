"""The method of Kabsch and Sander on plain coordinates: secondary structure from hydrogen bonds.

The definitions are those of Kabsch and Sander, Biopolymers 22, 2577 (1983), as the program DSSP 4
applies them: π-helices win over α-helices, and polyproline II stretches are named. Nothing here
needs a model or a file.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from cryonb.errors import ModelError
from cryonb.volume import CLASSES

__all__ = ["chain_breaks", "dssp_codes", "states_of", "torsions"]

_HELIX, _STRAND, _COIL = (CLASSES.index(name) for name in ("helix", "strand", "coil"))
_STATE_OF_CODE = {"H": _HELIX, "G": _HELIX, "I": _HELIX, "E": _STRAND, "B": _STRAND}

_LONGEST_PEPTIDE_BOND = 2.5  # Å; a longer C-N distance is a break of the chain
_LARGEST_CA_DISTANCE = 9.0  # Å; residues further apart are not tried for a hydrogen bond
_LARGEST_NO_DISTANCE = 7.0  # Å
_COUPLING = 0.42 * 0.20 * 332.0  # kcal/mol Å: the partial charges of C=O and N-H
_BOND_ENERGY = -0.5  # kcal/mol; a hydrogen bond lies below
_LOWEST_ENERGY = -9.9
_SHORTEST_DISTANCE = 0.5  # Å; closer atoms overlap and get the lowest energy
_BEND = 70.0  # degrees
_PPII_PHI, _PPII_PSI, _PPII_SPREAD, _PPII_LENGTH = -75.0, 145.0, 29.0, 3


def states_of(codes) -> np.ndarray:
    """Reduce one-letter codes to indices into `CLASSES` (helix, strand, coil): uint8."""
    codes = np.asarray(codes, dtype="U1")
    state = np.full(codes.shape, _COIL, dtype=np.uint8)
    for code, value in _STATE_OF_CODE.items():
        state[codes == code] = value
    return state


def chain_breaks(n, c, chain=None) -> np.ndarray:
    """Tell which residues are not bound to the residue before them.

    Parameters
    ----------
    n, c : array_like, shape (m, 3)
        N and C positions in Å, in the order of the chain.
    chain : array_like of str, shape (m,), optional
        Chain names; another name is a break.

    Returns
    -------
    ndarray of bool, shape (m,)
        True for the first residue, and where the C-N distance exceeds 2.5 Å.
    """
    n, c = np.asarray(n, dtype=np.float64), np.asarray(c, dtype=np.float64)
    broken = np.ones(len(n), dtype=bool)
    broken[1:] = _length(n[1:] - c[:-1]) > _LONGEST_PEPTIDE_BOND
    if chain is not None:
        chain = np.asarray(chain)
        broken[1:] |= chain[1:] != chain[:-1]
    return broken


def dssp_codes(n, ca, c, o, *, is_break=None, is_proline=None) -> np.ndarray:
    """Assign secondary structure to residues with a full backbone.

    Parameters
    ----------
    n, ca, c, o : array_like, shape (m, 3)
        Positions of the backbone atoms in Å, chains one after the other.
    is_break : array_like of bool, shape (m,), optional
        Whether a residue is not bound to the one before it (default: `chain_breaks`).
    is_proline : array_like of bool, shape (m,), optional
        Whether a residue has no amide hydrogen (default: none).

    Returns
    -------
    ndarray of str, shape (m,)
        H, G, I, E, B, T, S, P or "-".

    Raises
    ------
    ModelError
        If the arrays do not have the same number of residues, or a coordinate is not finite.
    """
    n, ca, c, o = (np.asarray(a, dtype=np.float64) for a in (n, ca, c, o))
    if not (n.shape == ca.shape == c.shape == o.shape and n.ndim == 2 and n.shape[1] == 3):
        raise ModelError(
            "Four arrays of shape (residues, 3) were expected for N, CA, C and O, but their "
            f"shapes are {n.shape}, {ca.shape}, {c.shape} and {o.shape}."
        )
    if not all(np.isfinite(a).all() for a in (n, ca, c, o)):
        raise ModelError(
            "Finite backbone coordinates were expected, but some are not; "
            "leave out residues without N, CA, C and O."
        )
    count = len(n)
    is_break = chain_breaks(n, c) if is_break is None else np.asarray(is_break, dtype=bool)
    no_amide = np.zeros(count, bool) if is_proline is None else np.asarray(is_proline, dtype=bool)
    if is_break.shape != (count,) or no_amide.shape != (count,):
        raise ModelError(
            f"One value for each of {count} residues was expected in is_break and is_proline, but "
            f"their shapes are {is_break.shape} and {no_amide.shape}."
        )
    codes = np.full(count, "-", dtype="U1")
    if count < 3:
        return codes
    # Residues i and j > i are on one unbroken stretch where the number of the stretch is equal.
    stretch = np.cumsum(is_break | (np.arange(count) == 0))
    donor, acceptor = _hydrogen_bonds(n, ca, c, o, stretch, no_amide)
    _assign_strands(codes, *_ladders(donor, acceptor, stretch))
    turn = {size: _turns(donor, acceptor, stretch, size) for size in (3, 4, 5)}
    _assign_helices(codes, turn)
    _assign_turns_and_bends(codes, turn, ca, stretch)
    _assign_polyproline(codes, n, ca, c, stretch)
    return codes


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("...k,...k->...", vectors, vectors))


def _hydrogen_bonds(n, ca, c, o, stretch, no_amide) -> tuple[np.ndarray, np.ndarray]:
    """Find donors (N-H) and acceptors (C=O): each donor's two best bonds below -0.5 kcal/mol."""
    # The amide hydrogen lies 1 Å from N, opposite to the carbonyl of the residue before. The first
    # residue of a stretch has no such carbonyl and gives no bond.
    carbonyl = c - o
    hydrogen = n.copy()
    hydrogen[1:] += carbonyl[:-1] / np.maximum(_length(carbonyl[:-1]), 1e-9)[:, None]
    has_amide = ~no_amide
    has_amide[0] = False
    has_amide[1:] &= stretch[1:] == stretch[:-1]

    pairs = cKDTree(ca).query_pairs(_LARGEST_CA_DISTANCE, output_type="ndarray")
    low, high = pairs.T
    apart = high - low > 1  # N-H and C=O of one peptide bond do not bind each other
    donor, acceptor = np.r_[low, high[apart]], np.r_[high, low[apart]]
    keep = has_amide[donor]
    donor, acceptor = donor[keep], acceptor[keep]

    # Beyond 7 Å between N and O, two dipoles of 1 Å and 1.2 Å cannot reach the energy of a bond.
    near = _length(n[donor] - o[acceptor]) < _LARGEST_NO_DISTANCE
    donor, acceptor = donor[near], acceptor[near]
    ends = np.stack([hydrogen[donor], n[donor]])[:, None] - np.stack([o[acceptor], c[acceptor]])
    distance = _length(ends)  # H-O, H-C; N-O, N-C
    inverse = 1.0 / np.maximum(distance, _SHORTEST_DISTANCE)
    energy = _COUPLING * (inverse[0, 1] + inverse[1, 0] - inverse[0, 0] - inverse[1, 1])
    energy[(distance < _SHORTEST_DISTANCE).any(axis=(0, 1))] = _LOWEST_ENERGY
    energy = np.maximum(np.round(energy, 3), _LOWEST_ENERGY)  # DSSP rounds, so ties can occur

    bound = energy < _BOND_ENERGY
    donor, acceptor, energy = donor[bound], acceptor[bound], energy[bound]
    order = np.lexsort((acceptor, energy, donor))
    donor, acceptor = donor[order], acceptor[order]
    third = np.zeros(len(donor), dtype=bool)
    third[2:] = donor[2:] == donor[:-2]
    return donor[~third], acceptor[~third]


def _turns(donor, acceptor, stretch, size: int) -> np.ndarray:
    """Which residues i begin a turn: a bond from N-H of i + size to C=O of i."""
    begins = np.zeros(len(stretch), dtype=bool)
    begins[acceptor[donor - acceptor == size]] = True
    begins[-size:] = False
    begins[:-size] &= stretch[:-size] == stretch[size:]
    return begins


# ---- strands -----------------------------------------------------------------------------------


def _bridges(donor, acceptor, stretch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find bridges between residues i < j: arrays i, j and whether they are parallel."""
    count = len(stretch)
    keys = np.sort(donor * count + acceptor)

    def bonded(d, a):
        inside = (d >= 0) & (d < count) & (a >= 0) & (a < count)
        key = np.where(inside, d * count + a, -1)
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        return keys[place] == key

    # Each pattern is a bond with a partner bond, and names the two residues of the bridge.
    patterns = (
        (bonded(acceptor, donor - 2), donor - 1, acceptor, True),
        (bonded(acceptor + 2, donor - 2), donor - 1, acceptor + 1, False),
        (bonded(acceptor, donor), donor, acceptor, False),
    )
    found: list[np.ndarray] = []
    for hit, one, other, parallel in patterns:
        i, j = np.minimum(one, other)[hit], np.maximum(one, other)[hit]
        found.append(np.stack([i, j, np.full(len(i), not parallel)]))
    i, j, antiparallel = np.concatenate(found, axis=1)
    # Both neighbours of both residues must be bound to them, and the residues be 3 apart.
    inner = (i >= 1) & (j < count - 1) & (j - i >= 3)
    i, j, antiparallel = i[inner], j[inner], antiparallel[inner]
    whole = (stretch[i - 1] == stretch[i + 1]) & (stretch[j - 1] == stretch[j + 1])
    i, j, antiparallel = i[whole], j[whole], antiparallel[whole]
    # A pair that is both counts as parallel.
    order = np.lexsort((antiparallel, j, i))
    i, j, antiparallel = i[order], j[order], antiparallel[order]
    first = np.ones(len(i), dtype=bool)
    first[1:] = (np.diff(i) != 0) | (np.diff(j) != 0)
    return i[first], j[first], antiparallel[first] == 0


def _ladders(donor, acceptor, stretch) -> tuple[np.ndarray, np.ndarray]:
    """Join bridges to ladders, across bulges.

    Returns
    -------
    ranges : ndarray of int, shape (ladder, 2, 2)
        First and last residue of both sides.
    single : ndarray of bool, shape (ladder,)
        Whether the ladder is one isolated bridge.
    """
    if not len(donor):
        return np.zeros((0, 2, 2), dtype=np.int64), np.zeros(0, dtype=bool)
    i, j, parallel = _bridges(donor, acceptor, stretch)
    # Successive bridges of a ladder lie on a diagonal of the (i, j) plane.
    diagonal = np.where(parallel, j - i, j + i)
    order = np.lexsort((i, diagonal, parallel))
    i, j, parallel, diagonal = i[order], j[order], parallel[order], diagonal[order]
    new = np.ones(len(i), dtype=bool)
    new[1:] = (np.diff(i) != 1) | (np.diff(diagonal) != 0) | (parallel[1:] != parallel[:-1])
    start = np.flatnonzero(new)
    stop = np.r_[start[1:], len(i)][: len(start)] - 1
    low_j, high_j = np.minimum(j[start], j[stop]), np.maximum(j[start], j[stop])
    order = np.lexsort((low_j, i[start]))
    ladders = np.stack([i[start], i[stop], low_j, high_j, parallel[start], start == stop], axis=1)
    merged = _merge_bulges(ladders[order].tolist(), stretch.tolist())
    table = np.array(merged, dtype=np.int64).reshape(-1, 6)
    return table[:, :4].reshape(-1, 2, 2), table[:, 5].astype(bool)


def _merge_bulges(ladders: list[list[int]], stretch: list[int]) -> list[list[int]]:
    """Merge ladders across bulges: at most one extra residue on one side and four on the other.

    `ladders` are rows (first i, last i, first j, last j, parallel, single), sorted by first i.
    """
    merged = []
    gone = [False] * len(ladders)
    for index, ladder in enumerate(ladders):
        if gone[index]:
            continue
        first_i, last_i, first_j, last_j, parallel, single = ladder
        for other in range(index + 1, len(ladders)):
            if gone[other]:
                continue
            first_k, last_k, first_l, last_l, other_parallel, _ = ladders[other]
            gap_i = first_k - last_i
            if gap_i >= 6:
                break  # sorted: all further ladders begin later still
            gap_j = first_l - last_j if parallel else first_j - last_l
            if (
                parallel != other_parallel
                or gap_i <= 0
                or gap_j < 0
                or not (gap_j < 3 or (gap_j < 6 and gap_i < 3))
                or stretch[first_i] != stretch[last_k]
                or stretch[min(first_j, first_l)] != stretch[max(last_j, last_l)]
            ):
                continue
            last_i = last_k
            first_j, last_j = (first_j, last_l) if parallel else (first_l, last_j)
            single = False
            gone[other] = True
        merged.append([first_i, last_i, first_j, last_j, parallel, single])
    return merged


def _assign_strands(codes, ranges, single) -> None:
    """Write E for the residues of ladders and B for those of isolated bridges."""
    for isolated, code in ((True, "B"), (False, "E")):
        sides = ranges[single == isolated].reshape(-1, 2)
        edge = np.bincount(sides[:, 0], minlength=len(codes) + 1)
        edge -= np.bincount(sides[:, 1] + 1, minlength=len(codes) + 1)
        codes[np.cumsum(edge)[:-1] > 0] = code


# ---- helices, turns, bends, polyproline --------------------------------------------------------


def _spread(begins: np.ndarray, offsets) -> np.ndarray:
    """Mark the residues at these offsets after each residue that begins something."""
    out = np.zeros(len(begins), dtype=bool)
    for offset in offsets:
        if offset < len(begins):
            out[offset:] |= begins[: len(begins) - offset]
    return out


def _assign_helices(codes, turn) -> None:
    """Write H, G and I where two successive turns of one size begin.

    α-helices win over strands; 3₁₀-helices take only free residues; π-helices free or α ones.
    """
    for size, code, allowed in ((4, "H", None), (3, "G", "-"), (5, "I", "-H")):
        begins = np.zeros(len(codes), dtype=bool)
        begins[1:] = turn[size][1:] & turn[size][:-1]
        if allowed is not None:
            taken = ~np.isin(codes, list(allowed))
            for offset in range(min(size, len(codes))):
                begins[: len(codes) - offset] &= ~taken[offset:]
        codes[_spread(begins, range(size))] = code


def _assign_turns_and_bends(codes, turn, ca, stretch) -> None:
    """Write T inside turns and S where the chain bends by more than 70 degrees."""
    bend = np.zeros(len(codes), dtype=bool)
    if len(codes) > 4:
        before, after = ca[2:-2] - ca[:-4], ca[4:] - ca[2:-2]
        norm = np.maximum(_length(before) * _length(after), 1e-9)
        cosine = np.einsum("ij,ij->i", before, after) / norm
        bend[2:-2] = (cosine < np.cos(np.radians(_BEND))) & (stretch[:-4] == stretch[4:])
    inside = np.zeros(len(codes), dtype=bool)
    for size, begins in turn.items():
        inside |= _spread(begins, range(1, size))
    free = codes == "-"
    codes[free & inside] = "T"
    codes[free & ~inside & bend] = "S"


def _assign_polyproline(codes, n, ca, c, stretch) -> None:
    """Write P on free residues of stretches of three with φ, ψ near -75°, 145°."""
    phi, psi = torsions(n, ca, c, stretch[1:] == stretch[:-1])
    # The first residue and the last have no φ or no ψ, so they are never near.
    near = (np.abs(phi - _PPII_PHI) <= _PPII_SPREAD) & (np.abs(psi - _PPII_PSI) <= _PPII_SPREAD)
    begins = np.zeros(len(codes), dtype=bool)
    begins[: -(_PPII_LENGTH - 1)] = near[:-2] & near[1:-1] & near[2:]
    codes[_spread(begins, range(_PPII_LENGTH)) & (codes == "-")] = "P"


def torsions(n, ca, c, bound) -> tuple[np.ndarray, np.ndarray]:
    """Compute the backbone torsion angles φ and ψ.

    Parameters
    ----------
    n, ca, c : ndarray, shape (m, 3)
        Backbone atoms in Å, in the order of the chain.
    bound : ndarray of bool, shape (m - 1,)
        Whether a residue is bound to the next.

    Returns
    -------
    phi, psi : ndarray, shape (m,)
        Degrees from -180 to 180; NaN where the neighbour lacks.
    """
    phi, psi = np.full(len(n), np.nan), np.full(len(n), np.nan)
    phi[1:][bound] = _dihedral(c[:-1], n[1:], ca[1:], c[1:])[bound]
    psi[:-1][bound] = _dihedral(n[:-1], ca[:-1], c[:-1], n[1:])[bound]
    return phi, psi


def _dihedral(a, b, c, d) -> np.ndarray:
    """Dihedral angles of four points each, in degrees from -180 to 180."""
    axis = c - b
    axis = axis / np.maximum(_length(axis), 1e-9)[:, None]
    first, second = np.cross(axis, a - b), np.cross(axis, d - c)
    sine = np.einsum("ij,ij->i", np.cross(first, second), axis)
    return np.degrees(np.arctan2(sine, np.einsum("ij,ij->i", first, second)))
