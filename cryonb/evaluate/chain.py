"""A traced model, judged by the true one: which residues it finds, in what order, as what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cryonb.atoms import KIND_PROTEIN, Atoms
from cryonb.errors import CryonbError, ModelError
from cryonb.evaluate.graph import match_points
from cryonb.files.tables import write_tables

__all__ = ["SUMMARY_KEYS", "ChainComparison", "compare_chains", "superposed_tm", "tm_scale"]

#: Keys of `ChainComparison.summary`, in order; `ChainComparison.chains` has the first ten as well.
SUMMARY_KEYS = (
    "n_truth", "n_matched", "matched", "rmsd", "identity", "forward", "reverse", "unordered",
    "tm_frame", "tm", "n_found", "n_far", "found_matched",
)  # fmt: skip
#: Columns of `ChainComparison.table`.
_TABLE = (
    "part", "found", "n_truth", "n_matched", "matched", "rmsd", "identity", "coverage", "tm_frame",
    "tm",
)  # fmt: skip
#: Chains are copies if they share this part of the shorter one's numbers, and of these this part
#: has one name.
_SHARED, _SAME = 0.5, 0.9
#: Steps of one superposition's refinement, and least residues that one begins with.
_STEPS, _LEAST = 20, 4


@dataclass(frozen=True, repr=False)
class ChainComparison:
    """A model judged by the true one.

    Attributes
    ----------
    summary : pandas.Series
        Scores of the whole, see `compare_chains`.
    chains : pandas.DataFrame
        A row a chain of the truth: chain, found (the chain that covers most of it, "" for none),
        n_found_chains (how many do), coverage (percentage of its residues that are paired with that
        one), then the scores.
    proteins : pandas.DataFrame
        A row a protein of the truth, whose copies are chains: protein (their names), n_chains, then
        the scores; coverage and TM-scores are means over the chains, all else is of their residues
        together.
    residues : pandas.DataFrame
        A row a residue of the truth: chain, number, icode, name, then of the residue that it is
        paired with found_chain, found_number, found_name, distance (Å) and order ("forward",
        "reverse", "unordered"); "" or NaN for none.
    """

    summary: pd.Series
    chains: pd.DataFrame
    residues: pd.DataFrame
    proteins: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """What people report: a row a chain, then a row a protein with copies, then the whole."""
        rows = [self.chains.rename(columns={"chain": "part"})]
        several = self.proteins[self.proteins.n_chains > 1]
        if len(several):
            rows.append(several.rename(columns={"protein": "part"}))
        if len(self.chains) > 1:
            share = self.chains.coverage @ self.chains.n_truth / self.chains.n_truth.sum()
            rows.append(pd.DataFrame([self.summary.to_dict() | {"part": "all", "coverage": share}]))
        table = pd.concat(rows, ignore_index=True)[list(_TABLE)]
        return table.fillna({"found": ""}).astype({"n_truth": int, "n_matched": int})

    def save(self, folder) -> Path:
        """Write summary, chains, proteins and residues as CSV into a folder; give the folder."""
        return write_tables(
            folder, summary=self.summary, chains=self.chains, proteins=self.proteins,
            residues=self.residues,
        )  # fmt: skip

    def __repr__(self) -> str:
        s = self.summary
        return (
            f"<ChainComparison: {s.n_matched:.0f} of {s.n_truth:.0f} residues matched "
            f"({s.matched:.1f} %), r.m.s.d. {s.rmsd:.2f} Å, identity {s.identity:.1f} %>\n"
            + self.table.round(2).to_string(index=False)
        )

    def _repr_html_(self) -> str:
        return self.table.round(2).to_html(index=False)


def compare_chains(
    found, truth, *, radius: float = 3.0, matching: str = "published"
) -> ChainComparison:
    """Compare a model with the true one in the same frame, by their Cα atoms.

    Parameters
    ----------
    found, truth : gemmi.Structure or Atoms
        The models; neither is moved.
    radius : float
        Å within which two Cα atoms may be paired.
    matching : {"published", "greedy", "optimal"}
        How residues are paired, one with one. "published": as `phenix.chain_comparison` (the code
        in cctbx): residues of `found` in the order of the file each take the
        nearest Cα of `truth`; if it is taken, the second nearest; if that is, or the distance is
        more than `radius`, they have none. "greedy" and "optimal" do not depend on the order of
        the file: see `cryonb.evaluate.graph.match_points`.

    Returns
    -------
    ChainComparison
        `summary` has the keys `SUMMARY_KEYS`; what begins with n, and forward, reverse and
        unordered, are counts:

        * n_truth, n_matched, matched: residues of the truth, those that are paired, and the
          percentage ("matching %" of publications, "% found").
        * rmsd: of the pairs, in Å, without superposition.
        * identity: percentage of the pairs whose residue names agree ("sequence match").
        * forward, reverse, unordered: pairs whose neighbour in `found` is paired with the
          neighbour in `truth` on the same side, or on the other; the rest. As in cctbx,
          neighbours are by the order of the file, over ends of chains and gaps as well, and the
          first pair of a stretch after another one does not count as part of it.
        * tm_frame: TM-score of the models as they lie: the sum over pairs of
          1 / (1 + (distance / d0)²), over n_truth. Residues beyond `radius` count as none, so it
          is at most the TM-score without that limit. d0 is `tm_scale` of each chain's length in
          the rows, of the total in the summary.
        * tm: the same pairs after the superposition that gives most, which a correct trace in
          another place would not lose by; see `superposed_tm`. The pairs stay those of this
          frame.
        * n_found, n_far, found_matched: residues of `found`, those without a pair, percentage of
          those with one.

        A score is NaN where there is nothing to count.

    `chains`, `proteins` and `table` have rows of these.

    Notes
    -----
    By default the program compares with the unique chains of the truth as well, and reports
    whichever percentage is higher; that needs parts of Phenix that are not public and is not done
    here, nor are its crystal symmetry and groups of residues. Without these, counts, r.m.s.d. and
    percentages are those of cctbx 2025.11. It leaves out hetero atoms, so modified residues such
    as MSE; here they count. What options publications used is not known.

    References
    ----------
    Terwilliger et al., Nature Methods 15, 905 (2018). Zhang & Skolnick, Proteins 57, 702 (2004).
    """
    if matching not in ("published", "greedy", "optimal"):
        raise CryonbError(
            f"A matching of published, greedy or optimal was expected, but {matching!r} was asked."
        )
    ours, own = _carbons(found, "found")
    theirs, true = _carbons(truth, "truth")
    if matching == "published":
        partner = _published_pairs(ours, theirs, radius)
    else:
        target = match_points(theirs, ours, radius=radius, method=matching)[0]
        partner = np.full(len(ours), -1, dtype=np.int64)
        partner[target[target >= 0]] = np.flatnonzero(target >= 0)
    order = _orders(partner)
    taken = np.full(len(theirs), -1, dtype=np.int64)
    taken[partner[partner >= 0]] = np.flatnonzero(partner >= 0)
    paired = taken >= 0
    residues = true.assign(found_chain="", found_number=np.nan, found_name="")
    for key in ("chain", "number", "name"):
        residues.loc[paired, f"found_{key}"] = own[key].to_numpy()[taken[paired]]
    apart = np.full(len(theirs), np.nan)
    apart[paired] = np.linalg.norm(theirs[paired] - ours[taken[paired]], axis=1)
    residues["distance"] = apart
    residues["order"] = np.where(paired, order[taken], "")
    rows = []
    for name, group in residues.groupby("chain", sort=False):
        covering = group.found_chain[group.found_chain != ""].value_counts()
        row = {
            "chain": name,
            "found": covering.index[0] if len(covering) else "",
            "n_found_chains": len(covering),
            "coverage": 100.0 * (covering.iloc[0] if len(covering) else 0) / len(group),
        }
        rows.append(row | _scores(group, ours, theirs, taken))
    chains = pd.DataFrame(rows)
    summary = _scores(residues, ours, theirs, taken)
    summary |= {
        "n_found": len(ours),
        "n_far": len(ours) - int(paired.sum()),
        "found_matched": 100.0 * paired.sum() / len(ours),
    }
    return ChainComparison(
        pd.Series({key: summary[key] for key in SUMMARY_KEYS}, dtype=float),
        chains,
        residues,
        _proteins(chains, residues, ours, theirs, taken),
    )


def tm_scale(length: int) -> float:
    """Distance d0 of the TM-score for a chain of some length, in Å; at least 0.5."""
    return float(max(1.24 * np.cbrt(length - 15.0) - 1.8, 0.5))


def superposed_tm(moving, fixed, *, length: int | None = None) -> float:
    """TM-score of paired points under the superposition that was found to give most.

    Superpositions begin with stretches of all pairs, of a half, a quarter and so on down to four,
    and go on with the pairs that came close, as Zhang and Skolnick do; like theirs the search is a
    heuristic, so the value may lie a little below the true maximum, never above.

    Parameters
    ----------
    moving, fixed : array-like, shape (n, 3)
        In Å, pairs in the order of the chain.
    length : int, optional
        Residues that the score is divided by, and that set d0; n by default.

    Returns
    -------
    float
        NaN without pairs.

    References
    ----------
    Zhang & Skolnick, Proteins 57, 702 (2004).
    """
    moving, fixed = np.asarray(moving, dtype=np.float64), np.asarray(fixed, dtype=np.float64)
    n = len(moving)
    length = n if length is None else length
    if not n:
        return np.nan
    scale = tm_scale(length)
    near = np.clip(scale, 4.5, 8.0)
    best = 0.0
    size = n
    while True:
        starts = np.unique(np.append(np.arange(0, n - size + 1, max(size // 2, 1)), n - size))
        for start in starts:
            chosen = np.arange(start, start + size)
            for _ in range(_STEPS):
                apart = _superposed_distance(moving, fixed, chosen)
                best = max(best, float((1 / (1 + (apart / scale) ** 2)).sum()) / length)
                # Wide enough that three pairs at least hold the next superposition.
                limit = max(near, np.partition(apart, min(2, n - 1))[min(2, n - 1)])
                closer = np.flatnonzero(apart <= limit)
                if np.array_equal(closer, chosen):
                    break
                chosen = closer
        if size <= _LEAST:
            return best
        size = max(size // 2, _LEAST)


def _superposed_distance(moving, fixed, chosen) -> np.ndarray:
    """Distances of all pairs after superposing those chosen (Kabsch)."""
    from scipy.spatial.transform import Rotation

    middle, other = moving[chosen].mean(axis=0), fixed[chosen].mean(axis=0)
    covariance = (moving[chosen] - middle).T @ (fixed[chosen] - other)
    left, _, right = np.linalg.svd(covariance)
    sign = np.sign(np.linalg.det(left) * np.linalg.det(right))
    turn = Rotation.from_matrix((left @ np.diag([1.0, 1.0, sign]) @ right).T)
    return np.linalg.norm(turn.apply(moving - middle) - (fixed - other), axis=1)


def _carbons(model, role):
    """Positions and a table of the Cα atoms of a model, in its own order."""
    atoms = Atoms.from_structure(model)
    atoms = atoms.select((atoms.name == "CA") & (atoms.kind == KIND_PROTEIN))
    if not len(atoms):
        raise ModelError(f"Protein residues with a CA atom were expected, but {role} has none.")
    of = atoms.residues
    columns = {key: getattr(of, key)[atoms.residue] for key in ("chain", "number", "icode", "name")}
    return atoms.position, pd.DataFrame(columns)


def _published_pairs(points, targets, radius) -> np.ndarray:
    """Each point's target in turn: the nearest, or the second nearest if that is taken."""
    near = min(2, len(targets))
    distance, nearest = cKDTree(targets).query(points, k=np.arange(1, near + 1))
    free = np.ones(len(targets), dtype=bool)
    found = np.full(len(points), -1, dtype=np.int64)
    for row in range(len(points)):
        for apart, target in zip(distance[row], nearest[row], strict=True):
            if free[target]:
                if apart <= radius:
                    found[row] = target
                    free[target] = False
                break
    return found


def _orders(partner) -> np.ndarray:
    """Whether each point continues a stretch forward or in reverse, or is unordered."""
    rows = np.flatnonzero(partner >= 0)
    order = np.full(len(partner), "unordered", dtype="U9")
    step_row, step = np.diff(rows), np.diff(partner[rows])
    names = {1: "forward", -1: "reverse"}
    links = [names.get(s, "") if r == 1 else "" for r, s in zip(step_row, step, strict=True)]
    within = False
    for k, row in enumerate(rows):
        # A stretch begins with the link to the next one, and goes on with that to the last.
        link = links[k - 1] if within else (links[k] if k < len(links) else "")
        within = bool(link)
        if link:
            order[row] = link
    return order


def _proteins(chains, residues, ours, theirs, taken) -> pd.DataFrame:
    """Rows of proteins: chains whose residues have the same names at the same numbers."""
    names = {
        chain: group.drop_duplicates(["number", "icode"]).set_index(["number", "icode"]).name
        for chain, group in residues.groupby("chain", sort=False)
    }
    proteins: list[list[str]] = []
    for chain, own in names.items():
        for copies in proteins:
            other = names[copies[0]]
            common = own.index.intersection(other.index)
            if len(common) >= _SHARED * min(len(own), len(other)) and (
                (own[common] == other[common]).mean() >= _SAME
            ):
                copies.append(chain)
                break
        else:
            proteins.append([chain])
    rows = []
    for copies in proteins:
        each = chains[chains.chain.isin(copies)]
        row = {"protein": ", ".join(copies), "n_chains": len(copies)}
        row |= _scores(residues[residues.chain.isin(copies)], ours, theirs, taken, superposed=False)
        rows.append(row | each[["coverage", "tm_frame", "tm"]].mean().to_dict())
    return pd.DataFrame(rows)


def _scores(table, ours, theirs, taken, *, superposed: bool = True) -> dict:
    """Scores of some residues of the truth."""
    rows = table.index.to_numpy()
    n, distance = len(rows), table.distance.to_numpy()
    rows, distance = rows[taken[rows] >= 0], distance[taken[rows] >= 0]
    pairs = table.loc[rows]
    m = len(rows)
    order = pairs.order.value_counts()
    tm = np.nan
    if superposed:
        tm = superposed_tm(ours[taken[rows]], theirs[rows], length=n) if m else 0.0
    return {
        "n_truth": n,
        "n_matched": m,
        "matched": 100.0 * m / n,
        "rmsd": float(np.sqrt(np.mean(distance**2))) if m else np.nan,
        "identity": 100.0 * float((pairs.name == pairs.found_name).mean()) if m else np.nan,
        "forward": int(order.get("forward", 0)),
        "reverse": int(order.get("reverse", 0)),
        "unordered": int(order.get("unordered", 0)),
        "tm_frame": float((1 / (1 + (distance / tm_scale(n)) ** 2)).sum()) / n,
        "tm": tm,
    }
