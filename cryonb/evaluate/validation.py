"""Everything that tells how a model fits its map, gathered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.evaluate.correlation import correlate
from cryonb.evaluate.fourier_shell import FourierShells, map_model_fsc
from cryonb.evaluate.qscore import qscore
from cryonb.evaluate.secondary_structure import evaluate_sse
from cryonb.volume import CLASSES, ProbabilityVolume, Volume

__all__ = ["SUMMARY_KEYS", "Validation", "validate"]

#: Keys of `Validation.summary`, in order; further ones may follow.
SUMMARY_KEYS = (
    "cc_mask", "cc_volume", "cc_peaks", "cc_box", "q_mean", "q_expected", "fsc_model_0.5",
    "fsc_model_0.143",
)  # fmt: skip
_FURTHER = ("cc_image", "cc_main_chain", "cc_side_chain", "ccc", "smoc")
#: Keys that follow where a prediction was given.
_OF_PREDICTION = ("q3", "haruspex_precision", "haruspex_recall", "haruspex_f1")
_KEYS = ["chain", "number", "icode", "name"]


@dataclass(frozen=True)
class Validation:
    """A model judged by the map that it was built into.

    Attributes
    ----------
    summary : pandas.Series
        cc_mask, cc_volume, cc_peaks, cc_box, q_mean, q_expected, fsc_model_0.5 and fsc_model_0.143
        (Å, map masked around the model); then cc_image, cc_main_chain, cc_side_chain, ccc and smoc;
        where a local resolution was given, cc_mask_local (`correlate`); where half maps were given,
        fsc_half_0.143 (Å, within the same mask, corrected for it); and, where a prediction was
        given, q3, haruspex_precision, haruspex_recall and haruspex_f1 of it
        (`cryonb.evaluate.secondary_structure.evaluate_sse`).
    residues : pandas.DataFrame
        A row a residue: chain, number, icode, name, kind, n_atoms, b_iso, occupancy, and a column
        a score: cc, cc_main_chain, cc_side_chain, smoc, q, q_backbone, q_sidechain, q_expected.
        Where a local resolution was given also resolution (Å, mean of the residue's atoms). Where a
        prediction was given also modelled and predicted (classes) and confidence (mean probability
        of the predicted class); None and NaN where it says nothing.
    chains : pandas.DataFrame
        A row a chain: chain, n_residues, n_atoms, b_iso, cc, smoc, q, q_expected.
    fsc : FourierShells
        The correlation with the model by resolution.
    settings : dict of str to str
        What the scores depend on: resolution, sigma of the Q-score, radii.
    name : str
        Of the map.
    """

    summary: pd.Series
    residues: pd.DataFrame
    chains: pd.DataFrame
    fsc: FourierShells
    settings: dict[str, str] = field(default_factory=dict)
    name: str = ""

    def worst(self, score: str = "q", *, count: int = 10, window: int = 5) -> pd.DataFrame:
        """Find the stretches that fit worst.

        Parameters
        ----------
        score : str
            A column of `residues`; low is bad.
        count : int
            How many stretches at most.
        window : int
            Residues over which the score is averaged; odd.

        Returns
        -------
        pandas.DataFrame
            A row a stretch, worst first: chain, first, last (residue numbers), length, mean (of its
            windows' scores) and z: how many standard deviations its lowest window lies above the
            mean of all windows, a negative number. Stretches are of polymer residues whose window
            is more than one standard deviation below.

        Raises
        ------
        CryonbError
            If there is no such score, or the window is even or not positive.
        """
        if score not in self.residues or not pd.api.types.is_numeric_dtype(self.residues[score]):
            raise CryonbError(f"A score among the residues' columns was expected, not {score!r}.")
        if window < 1 or window % 2 == 0:
            raise CryonbError(f"A window of an odd number of residues was expected, not {window}.")
        table = self.residues[self.residues["kind"].isin(["protein", "nucleic"])].reset_index()
        part = _stretches(table)
        smooth = (
            table.groupby(part)[score]
            .rolling(window, center=True, min_periods=1)
            .mean()
            .reset_index(level=0, drop=True)
            .reindex(table.index)
        )
        z = (smooth - smooth.mean()) / smooth.std() if smooth.std() > 0 else smooth * 0.0
        low = (z < -1).to_numpy()
        edge = np.ones(len(table), dtype=bool)
        edge[1:] = (low[1:] != low[:-1]) | (part[1:] != part[:-1])
        rows = []
        for _, members in table[low].groupby(np.cumsum(edge)[low]):
            first, last = members.iloc[0], members.iloc[-1]
            rows.append(
                {
                    "chain": first["chain"], "first": first["number"], "last": last["number"],
                    "length": len(members), "mean": smooth[members.index].mean(),
                    "z": z[members.index].min(),
                }
            )  # fmt: skip
        columns = ["chain", "first", "last", "length", "mean", "z"]
        found = pd.DataFrame(rows, columns=columns)
        return found.sort_values("z", kind="stable").head(count).reset_index(drop=True)

    def disagreements(self, confidence: float = 0.8) -> pd.DataFrame:
        """List where the model's secondary structure is not what was predicted for sure.

        Such places are wrong either in the model or in the prediction, and worth a look (Mostosi
        et al. 2020 find errors of deposited models in this way).

        Parameters
        ----------
        confidence : float
            Residues count whose predicted class has at least this mean probability over their
            backbone atoms, 0 to 1.

        Returns
        -------
        pandas.DataFrame
            A row a stretch of neighbouring residues with one predicted class, worst first: chain,
            first, last (residue numbers), length, modelled (the most frequent class), predicted,
            confidence, cc and q (means), weight (sum of the residues' confidences, by which the
            rows are sorted) and reason (a sentence).

        Raises
        ------
        CryonbError
            If no prediction was given, or the confidence is not from 0 to 1.
        """
        if "predicted" not in self.residues:
            raise CryonbError(
                "Disagreements need a prediction, but none was given; use "
                "m.evaluate(model, prediction=m.predict_sse())."
            )
        if not 0 <= confidence <= 1:
            raise CryonbError(f"A confidence from 0 to 1 was expected, not {confidence}.")
        table = self.residues[self.residues["predicted"].notna()].reset_index(drop=True)
        wrong = (table["modelled"] != table["predicted"]) & (table["confidence"] >= confidence)
        edge = np.ones(len(table), dtype=bool)
        called, part = table["predicted"].to_numpy(), _stretches(table)
        edge[1:] = np.diff(wrong) | (called[1:] != called[:-1]) | (part[1:] != part[:-1])
        usual = table[["cc", "q"]].median()
        rows = []
        for _, members in table[wrong].groupby(np.cumsum(edge)[wrong]):
            first, last = members.iloc[0], members.iloc[-1]
            row = {
                "chain": first["chain"], "first": first["number"], "last": last["number"],
                "length": len(members), "modelled": members["modelled"].mode()[0],
                "predicted": first["predicted"], "confidence": members["confidence"].mean(),
                "cc": members["cc"].mean(), "q": members["q"].mean(),
                "weight": members["confidence"].sum(),
            }  # fmt: skip
            rows.append(row | {"reason": _reason(row, usual)})
        columns = [
            "chain", "first", "last", "length", "modelled", "predicted", "confidence", "cc", "q",
            "weight", "reason",
        ]  # fmt: skip
        found = pd.DataFrame(rows, columns=columns)
        return found.sort_values("weight", ascending=False, kind="stable").reset_index(drop=True)

    def __repr__(self) -> str:
        values, of = self.summary, f" of {self.name}" if self.name else ""
        q, expected = values["q_mean"], values["q_expected"]
        predicted = f", Q3 of the prediction {values['q3']:.3f}" if "q3" in values else ""
        return (
            f"<Validation{of}: CC_mask {values['cc_mask']:.3f}, Q {q:.3f} (expected "
            f"{expected:.3f}), FSC = 0.5 at {values['fsc_model_0.5']:.2f} Å, "
            f"{len(self.residues)} residues{predicted}>"
        )

    def _repr_html_(self) -> str:
        import html

        table = self.summary.to_frame("value").map(lambda value: f"{value:.3f}")
        said = "; ".join(f"{key} {value}" for key, value in self.settings.items())
        return f"<div>{table.to_html()}<small>{html.escape(said)}</small></div>"


def _stretches(table: pd.DataFrame) -> np.ndarray:
    """Number the unbroken pieces of chains."""
    broken = np.zeros(len(table), dtype=bool)
    chain, number = table["chain"].to_numpy(), table["number"].to_numpy()
    step = np.diff(number)
    broken[1:] = (chain[1:] != chain[:-1]) | (step > 1) | (step < 0)
    return np.cumsum(broken)


def _reason(row: dict, usual: pd.Series) -> str:
    """Say in a sentence what a model and a prediction have against each other."""
    one = row["first"] == row["last"]
    where = f"{row['chain']} {row['first']}" + ("" if one else f" to {row['last']}")
    says = (
        "nothing is predicted there"
        if row["predicted"] == "background"
        else f"{row['predicted']} is predicted"
    )
    worse = row["cc"] < usual["cc"] and row["q"] < usual["q"]
    better = row["cc"] >= usual["cc"] and row["q"] >= usual["q"]
    fits = "worse than" if worse else "at least as well as" if better else "about as well as"
    return (
        f"{where} {'is' if one else 'are'} modelled as {row['modelled']}, but {says} with a "
        f"probability of {row['confidence']:.2f}; the model fits {fits} elsewhere (CC "
        f"{row['cc']:.2f}, median {usual['cc']:.2f}; Q {row['q']:.2f}, median {usual['q']:.2f})."
    )


def _with_prediction(residues: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Add what was predicted, and how surely, to the residues that a prediction tells of."""
    columns = {"truth": "modelled", "predicted": "predicted"}
    added = judged[_KEYS].assign(
        **{new: judged[old].astype(object) for old, new in columns.items()},
        confidence=judged[list(CLASSES)].max(axis=1),
    )
    return _joined(residues, added)


def _joined(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    """Join tables of residues; those of one number and name are told apart by their order."""
    left, right = (t.assign(turn=t.groupby(_KEYS).cumcount()) for t in (left, right))
    return left.merge(right, how="left", on=[*_KEYS, "turn"]).drop(columns="turn")


def validate(
    volume: Volume, model, *, resolution=None, method: str = "mapq",
    sigma: float = 0.6, radius: float | None = None, mask: Volume | None = None, half_maps=None,
    prediction: ProbabilityVolume | None = None, periodic: bool = True, workers: int | None = None,
    device: str | None = None,
) -> Validation:  # fmt: skip
    """Judge a model by a map: correlations, Q-scores and Fourier shell correlation.

    Parameters
    ----------
    volume : Volume
        The map.
    model : gemmi.Structure or Atoms
        The model, in the map's frame.
    resolution : float, Volume or array_like, optional
        Of the map, in Å; that which a `DensityMap` knows by default. A map of the local resolution,
        or a resolution for each atom, adds cc_mask_local; all other scores are then at the
        resolution that the map knows, or else at the median over the atoms.
    method, sigma, workers
        As for `cryonb.evaluate.qscore.qscore`.
    radius, periodic
        As for `cryonb.evaluate.correlation.correlate`.
    mask
        As for `cryonb.evaluate.fourier_shell.map_model_fsc`.
    half_maps : HalfMaps or pair of Volume, optional
        Halves of the map: adds fsc_half_0.143, and their curves to `.fsc`.
    prediction : ProbabilityVolume, optional
        Classes of secondary structure, as `m.predict_sse()` gives them: adds their scores to the
        summary, and `Validation.disagreements`.
    device : str, optional
        Where torch computes.

    Returns
    -------
    Validation

    Raises
    ------
    CryonbError
        If the resolution is neither given nor known, or the prediction is none.
    GridError
        If the half maps are on another grid.
    MapModelMismatchError
        If map and model do not overlap.
    """
    if not (prediction is None or isinstance(prediction, ProbabilityVolume)):
        raise CryonbError(f"A prediction of classes was expected, but {prediction!r} was given.")
    if resolution is None:
        resolution = getattr(volume, "resolution", None)
    atoms = Atoms.from_structure(model, waters=True, altlocs=True)
    correlation = correlate(
        volume, atoms, resolution=resolution, radius=radius, periodic=periodic, device=device
    )
    local = "cc_mask_local" in correlation.summary
    if local:
        resolution = getattr(volume, "resolution", None) or correlation.summary["resolution"]
    # Q-scores know one location an atom, as MapQ does.
    q = qscore(volume, model, resolution=resolution, method=method, sigma=sigma, workers=workers)
    fsc = map_model_fsc(
        volume, atoms, resolution=resolution, mask=mask, half_maps=half_maps, device=device
    )
    summary = {
        **correlation.summary, **q.summary,
        "fsc_model_0.5": fsc.resolution(0.5), "fsc_model_0.143": fsc.resolution(0.143),
    }  # fmt: skip
    scores = ["kind", "q", "q_backbone", "q_sidechain", "q_expected"]
    residues = _joined(correlation.residues, q.residues[_KEYS + scores])
    keys = (*SUMMARY_KEYS, *_FURTHER, *(("cc_mask_local",) if local else ()))
    if half_maps is not None:
        summary["fsc_half_0.143"] = fsc.resolution(0.143, curve="fsc_corrected")
        keys += ("fsc_half_0.143",)
    if prediction is not None:
        judged = evaluate_sse(prediction, model, density=volume)
        residues = _with_prediction(residues, judged.residues)
        summary |= judged.summary[list(_OF_PREDICTION)]
        keys += _OF_PREDICTION
    order = [*_KEYS, "kind", *(c for c in residues.columns if c not in (*_KEYS, "kind"))]
    chains = correlation.chains.merge(
        q.chains[["chain", "q", "q_expected"]], how="left", on="chain"
    )
    settings = {
        "resolution": f"{correlation.summary['resolution']:g} Å",
        "Q-score": f"σ = {sigma:g} Å, points by the rule of {method}",
        "radius around atoms": f"{correlation.summary['radius']:g} Å",
    }
    return Validation(
        pd.Series({key: summary[key] for key in keys}),
        residues[order], chains, fsc, settings, getattr(volume, "name", ""),
    )  # fmt: skip
