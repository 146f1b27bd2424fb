"""Terms of the shell decomposition: the image of a point at 1 Å, fitted once and kept in a file.

The function

    Ω(r; R, B) = (4πB)^(-1/2) / (r R) [exp(-4π²(r - R)²/B) - exp(-4π²(r + R)²/B)],

a Gaussian smeared over a sphere of radius R, gives each ripple of the image a term (Urzhumtsev and
Lunin 2022, Acta Cryst. A78, 369; Urzhumtsev, Urzhumtseva and Lunin 2022, IUCrJ 9, 728).

The list is in shells.json, which ``python -m cryonb.simulate.shell_terms`` makes anew.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from cryonb.files.atomic import written_beside

__all__ = ["ShellTerms", "fit_terms", "load_terms", "omega", "save_terms"]

_FILE = Path(__file__).with_name("shells.json")


@dataclass(frozen=True)
class ShellTerms:
    """The image of a point at a resolution of 1 Å as a sum of terms weight × Ω(r; radius, width).

    Attributes
    ----------
    radius, width, weight : ndarray of float64, shape (term,)
        Å, Å² and a number.
    reach : float
        Å up to which the terms were fitted.
    error : float
        Largest error up to there, in parts of the image's height.
    """

    radius: np.ndarray
    width: np.ndarray
    weight: np.ndarray
    reach: float
    error: float


def omega(r, radius, width, exp, expm1):
    """Ω for r and R above zero; the difference of exponentials written so that none is lost."""
    k = 4 * np.pi**2 / width
    return (
        -exp(-k * (r - radius) ** 2)
        * expm1(-4 * k * r * radius)
        / ((4 * np.pi * width) ** 0.5 * r * radius)
    )


def _point_image(r: np.ndarray) -> np.ndarray:
    """Image of a point at 1 Å: transform of the unit ball, 4π (sin u - u cos u) / u³, u = 2πr."""
    u = 2 * np.pi * np.maximum(r, 1e-3)
    return 4 * np.pi * (np.sin(u) - u * np.cos(u)) / u**3


def fit_terms(reach: float = 12.0) -> ShellTerms:
    """Fit the terms to the image of a point, one for the centre and one for each ripple.

    Parameters
    ----------
    reach : float
        How far, in units of the resolution.

    Notes
    -----
    Bounded least squares from ripples half a resolution apart with alternating signs; the residual
    is weighted with 1 + 0.3 r², since the ripples fall with r² and their number grows with it.
    """
    from scipy.optimize import least_squares

    r = np.arange(1e-3, reach, 0.02)
    target = _point_image(r)
    ripple = np.arange(2, int(2 * reach) + 1)
    radius = np.concatenate([[2e-3, 0.36], ripple / 2 - 0.2 / ripple])
    n = len(radius)
    width = np.full(n, 6.0)
    weight = np.concatenate([[0.35, 2.7], 4.2 * (-1.0) ** (ripple + 1)])
    scale = (1 + 0.3 * r**2) / (4 * np.pi / 3)

    def residual(p):
        return (
            omega(r[:, None], p[:n], p[n : 2 * n], np.exp, np.expm1) @ p[2 * n :] - target
        ) * scale

    # Each term stays at its own ripple.
    low = np.concatenate([np.maximum(radius - 0.2, 1e-3), np.full(n, 2.0), np.full(n, -10.0)])
    high = np.concatenate([radius + 0.2, np.full(n, 9.0), np.full(n, 10.0)])
    start = np.concatenate([radius, width, weight])
    found = least_squares(residual, start, bounds=(low, high), x_scale="jac", max_nfev=1500)
    fine = np.arange(1e-3, reach, 0.005)
    radius, width, weight = found.x.reshape(3, n)
    error = omega(fine[:, None], radius, width, np.exp, np.expm1) @ weight - _point_image(fine)
    order = np.argsort(radius)
    return ShellTerms(
        radius[order], width[order], weight[order], reach,
        float(np.abs(error).max() / (4 * np.pi / 3)),
    )  # fmt: skip


def save_terms(terms: ShellTerms, path=_FILE) -> Path:
    """Write terms as JSON."""
    text = json.dumps(
        {
            "made_by": "python -m cryonb.simulate.shell_terms", "reach": terms.reach,
            "error": float(f"{terms.error:.3g}"),
            **{
                key: [round(float(v), 9) for v in getattr(terms, key)]
                for key in ("radius", "width", "weight")
            },
        }
    )  # fmt: skip
    with written_beside(path) as beside:
        beside.write_text(text.replace("], ", "],\n ") + "\n", encoding="utf-8")
    return Path(path)


@cache
def load_terms() -> ShellTerms:
    """Read the terms that come with the package."""
    table = json.loads(_FILE.read_text(encoding="utf-8"))
    columns = {key: np.array(table[key]) for key in ("radius", "width", "weight")}
    return ShellTerms(**columns, reach=table["reach"], error=table["error"])


def main() -> None:
    """Fit the terms and write them into the package."""
    parser = argparse.ArgumentParser(description="Fit the shell terms of a point's image.")
    parser.add_argument("--reach", type=float, default=12.0, help="in units of the resolution")
    parser.add_argument("--out", type=Path, default=_FILE)
    options = parser.parse_args()
    save_terms(fit_terms(options.reach), options.out)


if __name__ == "__main__":
    main()
