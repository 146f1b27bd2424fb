"""Side chains on a backbone: the rotamers that the density says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cryonb.atoms import Atoms
from cryonb.errors import ModelError
from cryonb.trace.density import relative_density
from cryonb.trace.known import CHI_GROUPS, slot_positions
from cryonb.trace.peptides import load_table
from cryonb.trace.rotamers import load_rotamers, place
from cryonb.volume import Volume

__all__ = ["SideChains", "add_side_chains"]

#: Å within which an atom of another residue is too near, unless both are N or O; then the second.
_NEAR, _NEAR_POLAR = 3.2, 2.6
#: What an overlap of 1 Å costs, in units of the logarithm of a probability.
_CLASH = 6.0
_KEPT = ("N", "CA", "C", "O", "CB", "OXT")
# Neighbours of an atom that are looked at, and passes over all residues.
_NEIGHBOURS, _PASSES = 8, 3
# Turns of each χ that are tried after the rotamer is chosen, degrees; what their square costs.
_TRIES, _SPREAD = np.radians([-20.0, -10.0, -5.0, 0.0, 5.0, 10.0, 20.0]), np.radians(12.0)


@dataclass(frozen=True, repr=False)
class SideChains:
    """Side chains that were added to a model.

    Attributes
    ----------
    model : gemmi.Structure
        The model with its side chains.
    table : pandas.DataFrame
        A row a residue that got one: chain, number, icode, name, rotamer (place in the library),
        probability (of the rotamer among those of its type, by their scores), density (mean at the
        atoms beyond Cβ; 0 is the mean of the map, 1 that at the Cα atoms), clash (summed squares
        of overlaps with other residues, Å²), chi1 to chi4 in degrees.
    """

    model: object
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"<SideChains: {len(self)}, mean density {self.table.density.mean():.2f}>"

    def _repr_html_(self) -> str:
        return self.table.round(2).to_html(index=False)


def add_side_chains(
    model, volume: Volume | None = None, *, density_weight: float = 25.0, refine: bool = True
) -> SideChains:  # fmt: skip
    """Give each amino acid of a model the side chain that fits a map best.

    Parameters
    ----------
    model : gemmi.Structure
        With N, CA and C; it is not changed. Its own side chains are replaced.
    volume : Volume, optional
        The map. Without one, the most frequent rotamers that do not clash are taken.
    density_weight : float
        Weight of the density of a rotamer beside the logarithm of its frequency: of the mean at
        its atoms, 1 being that at the Cα atoms, times the square root of their number.
    refine : bool
        Whether χ angles are turned by up to 40° from the rotamer's to fit better.

    Returns
    -------
    SideChains

    Raises
    ------
    ModelError
        If no residue with a side chain has N, CA and C.
    CryonbError
        If the model does not lie in the map's density.

    Notes
    -----
    A rotamer's score is its density, the logarithm of its frequency, and a cost of overlaps with
    atoms of other residues: backbones and what is no amino acid first, then the side chains that
    have been chosen for the others, in three passes. Residues whose names are not among the twenty
    amino acids stay as they are. Side chains have B and occupancy of their Cα atom.
    """
    atoms = Atoms.from_structure(model)
    name, position = slot_positions(atoms)
    library = load_rotamers()
    whole = np.isfinite(position[:, :3]).all(axis=(1, 2))
    typed = np.isin(name, [*library, "ALA"])
    if not (whole & typed).any():
        raise ModelError(
            "Amino acids with N, CA and C were expected, but the model has none (of "
            f"{len(name)} residues) that could have a side chain; rebuild the backbone first."
        )
    lacking = whole & typed & ~np.isfinite(position[:, 4]).all(axis=1)
    position[lacking, 4] = load_table().beta_carbon(*(position[lacking, k] for k in range(3)))
    search = _Search(atoms, name, position, whole & np.isin(name, list(library)))
    if volume is not None:
        search.read(relative_density(volume, position[whole & typed, 1]), density_weight)
    search.choose()
    if refine and volume is not None:
        search.refine()
    return SideChains(_with_side_chains(model, atoms, search, lacking), search.table(atoms))


class _Search:
    """Rotamers of all residues, type by type, and those that are chosen."""

    def __init__(self, atoms: Atoms, name, position, wanted):
        self.name, self.position = name, position.copy()
        self.position[wanted, 5:] = np.nan
        self.rows = {kind: np.flatnonzero(wanted & (name == kind)) for kind in CHI_GROUPS}
        self.rows = {kind: rows for kind, rows in self.rows.items() if len(rows)}
        self.library = load_rotamers()
        self.density, self.weight = None, 0.0
        self.chosen = np.full(len(name), -1)
        self.probability = np.full(len(name), np.nan)
        self.chi = np.full((len(name), 4), np.nan)
        # What does not move: backbones, Cβ, and all that no side chain is chosen for.
        beyond = wanted[atoms.residue] & (atoms.role == 0) & (atoms.name != "CB")
        fixed = np.flatnonzero(~beyond & ~((atoms.name == "CB") & wanted[atoms.residue]))
        rows = np.flatnonzero(wanted)
        self.fixed = _Atoms(
            np.concatenate([atoms.position[fixed], position[rows, 4]]),
            np.concatenate([atoms.residue[fixed], rows]),
            np.concatenate([np.isin(atoms.element[fixed], (7, 8)), np.zeros(len(rows), bool)]),
        )
        self.places = {
            kind: self._placed(kind, rows, self.library[kind].chi)
            for kind, rows in self.rows.items()
        }

    def _placed(self, kind, rows, chi):
        return place(self.library[kind], *(self.position[rows, k] for k in (0, 1, 4)), chi)

    def read(self, density, weight: float) -> None:
        self.density, self.weight = density, weight

    def _fit(self, places) -> np.ndarray:
        """Score rotamers (m, k, atoms, 3) by density: (m, k)."""
        if self.density is None:
            return np.zeros(places.shape[:2])
        count = places.shape[2]
        return self.weight * np.sqrt(count) * self.density(places).mean(axis=-1)

    def _overlap(self, kind, rows, places, others) -> np.ndarray:
        """Sum squared overlaps of rotamers with atoms of other residues: (m, k)."""
        # Proline's ring is bound to the backbone, and its Cδ near the residue before.
        if kind == "PRO" or not len(others):
            return np.zeros(places.shape[:2])
        polar = np.array([atom[0] in "NO" for atom in self.library[kind].atoms])
        shape = places.shape[:3]
        residue = np.broadcast_to(rows[:, None, None], shape).ravel()
        return others.overlap(
            places.reshape(-1, 3), residue, np.broadcast_to(polar, shape).ravel()
        ).reshape(shape).sum(axis=-1)  # fmt: skip

    def choose(self) -> None:
        """Choose by density, frequency and backbones; then with the neighbours' side chains."""
        alone = {}
        for kind, rows in self.rows.items():
            places = self.places[kind]
            prior = np.log(np.maximum(self.library[kind].frequency, 1e-4))
            backbone = self._overlap(kind, rows, places, self.fixed)
            alone[kind] = self._fit(places) + prior - _CLASH * backbone
            self._take(kind, rows, alone[kind], slice(None))
        for step in range(2 * _PASSES):
            others = self._side_atoms()
            for kind, rows in self.rows.items():
                # Every other residue, so that two neighbours do not evade each other in step.
                turn = np.flatnonzero(rows % 2 == step % 2)
                overlap = self._overlap(kind, rows[turn], self.places[kind][turn], others)
                self._take(kind, rows, alone[kind][turn] - _CLASH * overlap, turn)

    def _take(self, kind, rows, score, turn) -> None:
        here, best = rows[turn], score.argmax(axis=1)
        index = np.arange(len(here))
        shifted = np.exp(score - score.max(axis=1, keepdims=True))
        self.chosen[here] = best
        self.probability[here] = 1 / shifted.sum(axis=1)
        self.position[here, 5 : 5 + self.places[kind].shape[2]] = (
            self.places[kind][turn][index, best]
        )  # fmt: skip
        chi = self.library[kind].chi[best]
        self.chi[here, : chi.shape[1]] = chi

    def _side_atoms(self) -> _Atoms:
        rows, slot = np.nonzero(np.isfinite(self.position[:, 5:, 0]) & (self.chosen >= 0)[:, None])
        polar = np.zeros(len(rows), dtype=bool)
        for kind in self.rows:
            of = np.array([atom[0] in "NO" for atom in self.library[kind].atoms])
            part = self.name[rows] == kind
            polar[part] = of[slot[part]]
        return _Atoms(self.position[rows, 5 + slot], rows, polar)

    def refine(self, rounds: int = 2) -> None:
        """Turn each χ a little where the density rises, without new overlaps."""
        for _ in range(rounds):
            for kind, rows in self.rows.items():
                if kind == "PRO":
                    continue
                for k in range(len(CHI_GROUPS[kind])):
                    self._turn(kind, rows, k, self._side_atoms())

    def _turn(self, kind, rows, k: int, others) -> None:
        count = len(CHI_GROUPS[kind])
        chi = np.repeat(self.chi[rows, None, :count], len(_TRIES), axis=1)
        chi[:, :, k] += _TRIES
        start = self.library[kind].chi[self.chosen[rows], k][:, None]
        away = (chi[:, :, k] - start + np.pi) % (2 * np.pi) - np.pi
        places = self._placed(kind, rows, chi)
        score = self._fit(places) - (away / _SPREAD) ** 2 / 2
        for atoms in (self.fixed, others):
            score -= _CLASH * self._overlap(kind, rows, places, atoms)
        index, best = np.arange(len(rows)), score.argmax(axis=1)
        self.chi[rows, k] = chi[index, best, k]
        self.position[rows, 5 : 5 + places.shape[2]] = places[index, best]

    def table(self, atoms: Atoms) -> pd.DataFrame:
        """Tell what was chosen, a row a residue."""
        rows = np.flatnonzero(self.chosen >= 0)
        residues, others = atoms.residues, self._side_atoms()
        density, clash = np.full(len(self.name), np.nan), np.zeros(len(self.name))
        for kind, part in self.rows.items():
            places = self.position[part, None, 5 : 5 + self.places[kind].shape[2]]
            if self.density is not None:
                density[part] = self.density(places).mean(axis=(1, 2))
            for near in (self.fixed, others):
                clash[part] += self._overlap(kind, part, places, near)[:, 0]
        chi = np.degrees((self.chi + np.pi) % (2 * np.pi) - np.pi)
        return pd.DataFrame(
            {"chain": residues.chain[rows], "number": residues.number[rows],
             "icode": residues.icode[rows], "name": self.name[rows], "rotamer": self.chosen[rows],
             "probability": self.probability[rows], "density": density[rows],
             "clash": clash[rows], **{f"chi{k + 1}": chi[rows, k] for k in range(4)}}
        )  # fmt: skip


class _Atoms:
    """Atoms that others should keep away from."""

    def __init__(self, position, residue, polar):
        self.residue, self.polar = np.append(residue, -1), np.append(polar, False)
        self.tree = cKDTree(position) if len(position) else None

    def __len__(self) -> int:
        return len(self.residue) - 1

    def overlap(self, points, residue, polar) -> np.ndarray:
        """Sum squared overlaps of each point with the atoms of other residues, Å²."""
        apart, which = self.tree.query(points, k=_NEIGHBOURS, distance_upper_bound=_NEAR)
        limit = np.where(polar[:, None] & self.polar[which], _NEAR_POLAR, _NEAR)
        # Where there is no neighbour the distance is infinite.
        deep = np.where(self.residue[which] != residue[:, None], limit - apart, 0.0)
        return (np.maximum(deep, 0.0) ** 2).sum(axis=1)


def _with_side_chains(model, atoms: Atoms, search: _Search, lacking):
    """Copy the model with its new side chains."""
    import gemmi

    structure = model.clone()
    while len(structure) > 1:
        del structure[-1]
    residues = atoms.residues
    keys = zip(
        residues.chain.tolist(), residues.number.tolist(), residues.icode.tolist(),
        residues.name.tolist(), strict=True,
    )  # fmt: skip
    index = {key: row for row, key in enumerate(keys)}
    for chain in structure[0]:
        for residue in chain:
            row = index.get(
                (chain.name, residue.seqid.num, residue.seqid.icode.strip(), residue.name), -1
            )
            if row < 0 or not (search.chosen[row] >= 0 or lacking[row]):
                continue
            alpha = residue.find_atom("CA", "*")
            b_iso, occupancy = alpha.b_iso, alpha.occ
            new = [("CB", search.position[row, 4])] if lacking[row] else []
            if search.chosen[row] >= 0:
                for k in reversed(range(len(residue))):
                    if residue[k].name not in _KEPT:
                        del residue[k]
                names = search.library[residue.name].atoms
                new += zip(names, search.position[row, 5:], strict=False)
            for name, position in new:
                atom = gemmi.Atom()
                atom.name, atom.element = name, gemmi.Element(name[0])
                atom.pos = gemmi.Position(*position.tolist())
                atom.b_iso, atom.occ = b_iso, occupancy
                residue.add_atom(atom)
    return structure
