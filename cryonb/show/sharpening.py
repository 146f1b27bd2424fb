"""Figures of what decided how much a map was sharpened."""

from __future__ import annotations

from cryonb.process.sharpen import Sharpening
from cryonb.show.plot import Picture

__all__ = ["ShownSharpening", "plot_sharpening"]


class ShownSharpening(Sharpening):
    """A sharpening that draws itself."""

    def plot(self) -> Picture:
        """Draw the score of each B, or the factor of each shell: a matplotlib figure."""
        return plot_sharpening(self)

    def _repr_html_(self) -> str:
        where = ", then by windows" if self.local else ""
        return (
            f"<div><b>Sharpened by {self.method}{where}</b>: B from {self.b_before:.0f} to "
            f"{self.b_iso:.0f} Å² at {self.resolution:.2f} Å<br>{self.map._repr_html_()}</div>"
        )


def plot_sharpening(made: Sharpening) -> Picture:
    """Draw what decided.

    Parameters
    ----------
    made : Sharpening
        By surface: the score and its two parts against B; otherwise the factor of the amplitudes
        against resolution, with the correlation where there is one.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    picture = Picture(6, 4)
    axes = picture.subplots()
    curve = made.curve
    if made.method == "surface":
        axes.plot(curve["b_iso"], curve["score"], "o-", color="black", label="score", markersize=3)
        axes.plot(curve["b_iso"], curve["surface"], "--", color="#0072b2", label="surface / volume")
        axes.axvline(made.b_iso, color="#d55e00", label=f"chosen: {made.b_iso:.0f} Å²")
        axes.axvline(made.b_before, color="0.6", linestyle=":", label="before")
        axes.set(xlabel="B of the amplitudes (Å²)", ylabel="adjusted surface area")
    else:
        axes.semilogy(curve["s"], curve["factor"].where(curve["factor"] > 0), color="black",
                      label="factor")  # fmt: skip
        axes.set(xlabel="1/d (1/Å)", ylabel="factor of the amplitudes")
        axes.axvline(1 / made.resolution, color="#d55e00", label=f"{made.resolution:.2f} Å")
        if "fsc" in curve:
            beside = axes.twinx()
            beside.plot(curve["s"], curve["fsc"], "--", color="#0072b2", label="FSC")
            beside.set(ylabel="FSC (dashed)", ylim=(-0.05, 1.02))
    axes.legend(frameon=False, fontsize=8)
    axes.spines["top"].set_visible(False)
    return picture
