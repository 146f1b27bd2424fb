"""Figures of what density modification gained."""

from __future__ import annotations

from cryonb.process.density_modify import DensityModification
from cryonb.show.plot import Picture

__all__ = ["ShownDensityModification", "plot_density_modification"]


class ShownDensityModification(DensityModification):
    """A density modification that draws itself."""

    def plot(self) -> Picture:
        """Draw the estimated correlation with the truth before and after: a matplotlib figure."""
        return plot_density_modification(self)

    def _repr_html_(self) -> str:
        return (
            f"<div><b>Density modified</b>: estimated FSC to the truth 0.5 at "
            f"{self.resolution_before:.2f} Å before and {self.resolution_after:.2f} Å after, "
            f"{int(self.curve['modified'].sum())} of {len(self.curve)} shells modified<br>"
            f"{self.map._repr_html_()}</div>"
        )


def plot_density_modification(made: DensityModification) -> Picture:
    """Draw what was gained.

    Parameters
    ----------
    made : DensityModification
        Its curve is drawn: the FSC of the half maps, and the estimated correlation with the truth
        before and after; shells that were modified are shaded.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    picture = Picture(6, 4)
    axes = picture.subplots()
    curve = made.curve
    axes.plot(curve["s"], curve["fsc"], ":", color="0.5", label="half maps, before")
    axes.plot(curve["s"], curve["fsc_before"], color="#0072b2",
              label=f"to the truth, before: {made.resolution_before:.2f} Å")  # fmt: skip
    axes.plot(curve["s"], curve["fsc_after"], color="#d55e00",
              label=f"to the truth, after: {made.resolution_after:.2f} Å")  # fmt: skip
    axes.fill_between(curve["s"], 0, 1, where=curve["modified"], color="0.95", step="mid")
    axes.axhline(0.5, color="0.7", linewidth=0.8)
    axes.set(xlabel="1/d (1/Å)", ylabel="estimated correlation", ylim=(-0.05, 1.02))
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return picture
