"""What a refinement gives: the model, and what became better or worse."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

__all__ = ["Refinement"]

# What may grow without being called worse: correlation, deviations as in good models, clashes.
_CC, _BONDS, _ANGLES, _CLASHES = 0.005, 0.02, 2.0, 0.1


@dataclass(frozen=True, repr=False)
class Refinement:
    """A refined model, and how it came about.

    Attributes
    ----------
    model : gemmi.Structure
        A new structure; the one that was given is unchanged.
    summary : pandas.Series
        * cc_before, cc_after: of the map with the model's map over the voxels near the model, see
          `cryonb.fitting.refine.refine`.
        * shift (Å), bonds (Å), angles, torsions (degrees): r.m.s. differences from the start.
        * bonds_before, bonds_after, angles_before, angles_after: r.m.s. deviations from what the
          restraints aim at.
        * clashes_before, clashes_after: pairs of atoms that overlap
          (`cryonb.fitting.restraints.Restraints.clashes`).
        * b_before, b_after: mean, Å².
        * weight: of the map for positions; free: by how much the negative logarithm of the
          likelihood of what was left out changed while the weight was found; negative is better,
          NaN if the weight was given.
        * n_atoms (refined) and n_iterations.
    history : pandas.DataFrame
        A row an iteration: stage, cc (for positions the mean Fourier shell correlation, for others
        the correlation), restraints (what these and the likeness of neighbours take up, in units
        of the logarithm of a likelihood).
    table : pandas.DataFrame
        A row a refined atom: chain, number, icode, residue, name, b, occupancy, resolution (Å),
        shift (Å).
    trials : pandas.DataFrame
        A row a weight that was tried: see `cryonb.fitting.weight.find_weight`.
    """

    model: object
    summary: pd.Series
    history: pd.DataFrame
    table: pd.DataFrame
    trials: pd.DataFrame

    @property
    def worse(self) -> tuple[str, ...]:
        """What became worse, as a phrase each; empty where nothing did.

        A correlation lower by more than 0.005; bonds or angles farther from their targets than
        before and than 0.02 Å and 2°; a tenth more clashes, and at least two.
        """
        s = self.summary
        found = []
        if s["cc_after"] < s["cc_before"] - _CC:
            found.append(f"CC {s['cc_before']:.3f} to {s['cc_after']:.3f}")
        for name, unit, limit in (("bonds", " Å", _BONDS), ("angles", "°", _ANGLES)):
            before, after = s[f"{name}_before"], s[f"{name}_after"]
            if after > max(limit, 1.01 * before):
                found.append(f"{name} {before:.3f} to {after:.3f}{unit} off their targets")
        more = s["clashes_after"] - s["clashes_before"]
        if more >= max(2, _CLASHES * s["clashes_before"]):
            found.append(f"clashes {s['clashes_before']:.0f} to {s['clashes_after']:.0f}")
        return tuple(found)

    def __repr__(self) -> str:
        s = self.summary
        text = (
            f"<Refinement of {s['n_atoms']:.0f} atoms in {s['n_iterations']:.0f} iterations: CC "
            f"{s['cc_before']:.3f} to {s['cc_after']:.3f}, moved by {s['shift']:.2f} Å r.m.s., "
            f"bonds {s['bonds_after']:.3f} Å and angles {s['angles_after']:.1f}° off their "
            f"targets, clashes {s['clashes_before']:.0f} to {s['clashes_after']:.0f}, "
            f"mean B {s['b_before']:.0f} to {s['b_after']:.0f} Å²"
        )
        return text + (f"; worse: {'; '.join(self.worse)}>" if self.worse else ">")

    def _repr_html_(self) -> str:
        s = self.summary
        rows = [
            ("CC near the model", s["cc_before"], s["cc_after"], "{:.3f}"),
            ("bonds off their targets, Å", s["bonds_before"], s["bonds_after"], "{:.3f}"),
            ("angles off their targets, °", s["angles_before"], s["angles_after"], "{:.2f}"),
            ("clashes", s["clashes_before"], s["clashes_after"], "{:.0f}"),
            ("mean B, Å²", s["b_before"], s["b_after"], "{:.0f}"),
        ]
        table = pd.DataFrame(
            [(form.format(one), form.format(two)) for _, one, two, form in rows],
            index=[row[0] for row in rows], columns=["before", "after"],
        )  # fmt: skip
        text = (
            f"{s['n_atoms']:.0f} atoms moved by {s['shift']:.2f} Å, torsions by "
            f"{s['torsions']:.1f}° (r.m.s.) in {s['n_iterations']:.0f} iterations, weight of the "
            f"map {s['weight']:g}"
        )
        worse = f"<br><b>worse: {'; '.join(self.worse)}</b>" if self.worse else ""
        return f"<div>{table.to_html()}{text}{worse}</div>"
