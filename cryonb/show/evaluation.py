"""A judged prediction that draws itself."""

from __future__ import annotations

import base64

import pandas as pd

from cryonb.errors import CryonbError
from cryonb.evaluate.calibration import calibration_error
from cryonb.evaluate.secondary_structure import Evaluation
from cryonb.show.plot import plot_calibration, plot_fractions, plot_residues
from cryonb.volume import CLASSES

__all__ = ["DrawnEvaluation"]

_KINDS = ("residues", "fractions", "calibration")


class DrawnEvaluation(Evaluation):
    """An `Evaluation` with pictures."""

    def plot(self, kind: str = "residues"):
        """Draw the evaluation: a matplotlib figure.

        Parameters
        ----------
        kind : {"residues", "fractions", "calibration"}
            Truth over prediction along the chains; the share of each class in both; how often the
            prediction is right against how sure it is.

        Raises
        ------
        CryonbError
            If there is no such kind.
        """
        if kind == "residues":
            return plot_residues(self.residues)
        if kind == "fractions":
            columns = {"truth": "truth", "prediction": "predicted"}
            return plot_fractions(
                {text: self.residues[column].value_counts() for text, column in columns.items()},
                "residues",
            )
        if kind == "calibration":
            return plot_calibration(self.calibration())
        raise CryonbError(f"A kind of {', '.join(_KINDS)} was expected, but {kind!r} was given.")

    def confusion(self) -> pd.DataFrame:
        """Count residues by truth (rows) and prediction (columns), classes in their usual order."""
        table = pd.crosstab(self.residues["truth"], self.residues["predicted"])
        rows = [name for name in CLASSES if name in table.index]
        return table.loc[rows].reindex(columns=[n for n in CLASSES if n in table], fill_value=0)

    def _repr_html_(self) -> str:
        scores = self.summary
        error = calibration_error(self.calibration())
        head = (
            f"<b>Secondary structure of {scores['n_residues']:.0f} residues</b>: Q3 "
            f"{scores['q3']:.3f}, precision {scores['haruspex_precision']:.3f} and recall "
            f"{scores['haruspex_recall']:.3f} by Haruspex's rule, calibration error {error:.3f}"
        )
        by_class = pd.DataFrame(
            {
                "F1, residues": {n: scores[f"f1_{n}"] for n in CLASSES[1:]},
                "F1, voxels": {n: scores[f"voxel_f1_{n}"] for n in CLASSES[1:]},
            }
        ).dropna(how="all")
        counts = self.confusion()
        counts.columns.name = "truth ↓ prediction →"
        counts.index.name = None
        strip = base64.b64encode(self.plot()._repr_png_()).decode()
        return (
            f"<div>{head}<div style='display:flex;gap:2em'>{by_class.round(3).to_html()}"
            f"{counts.to_html()}</div><img style='width:100%;max-width:1080px' "
            f"src='data:image/png;base64,{strip}'></div>"
        )
