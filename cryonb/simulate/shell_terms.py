"""Terms of the shell decomposition: images of a point at 1 Å, fitted once and kept in a file.

The function

    Ω(r; R, B) = (4πB)^(-1/2) / (r R) [exp(-4π²(r - R)²/B) - exp(-4π²(r + R)²/B)],

a Gaussian smeared over a sphere of radius R, gives each ripple of the image a term (Urzhumtsev and
Lunin 2022, Acta Cryst. A78, 369; Urzhumtsev, Urzhumtseva and Lunin 2022, IUCrJ 9, 728).

The ripples fall with r² while the atoms that send them grow in number with r², so that no radius is
large enough to cut them off at. A second list of a few terms therefore has no ripples: it is the
near part of the image, which has died out at 2 Å. What it lacks is added in Fourier space
(`cryonb.simulate.ripples`), where the transform of a term is sin(2πRs) / (2πRs) exp(-B s²/4).

Both lists are in shells.json, which ``python -m cryonb.simulate.shell_terms`` makes anew.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from cryonb.files.atomic import written_beside

__all__ = [
    "ShellTerms",
    "fit_near_terms",
    "fit_terms",
    "load_near_terms",
    "load_terms",
    "omega",
    "save_terms",
]

_FILE = Path(__file__).with_name("shells.json")
# How steeply the transform of the near part falls from 1 at s = 0 to 0 at the limit. This value
# leaves least beyond 2 Å: parts in 10⁴ of the height of a point's image.
_STEEPNESS = 5.0


@dataclass(frozen=True)
class ShellTerms:
    """An image of a point at a resolution of 1 Å as a sum of terms weight × Ω(r; radius, width).

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

    def transform(self, s):
        """Give the Fourier transform of the sum, of a point at 1 Å: a Tensor as `s`, in 1/Å."""
        import torch

        return sum(
            weight * torch.sinc(2 * radius * s) * torch.exp(-width / 4 * s**2)
            for radius, width, weight in zip(
                *(part.tolist() for part in (self.radius, self.width, self.weight)), strict=True
            )
        )


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


def _near_image(r: np.ndarray) -> np.ndarray:
    """Image of a point at 1 Å whose transform falls smoothly from 1 at s = 0 to 0 at 1.

    Its slope is the exponential of a semicircle, which is nearly as narrow in both spaces as a
    function can be.
    """
    node, weight = np.polynomial.legendre.leggauss(200)
    s = (node + 1) / 2
    fine = np.linspace(0, 1, 20001)
    slope = np.exp(_STEEPNESS * (np.sqrt(1 - (2 * fine - 1) ** 2) - 1))
    fallen = np.concatenate([[0], np.cumsum(slope[1:] + slope[:-1])])
    part = weight / 2 * 4 * np.pi * s**2 * (1 - np.interp(s, fine, fallen / fallen[-1]))
    return np.sinc(2 * r[:, None] * s) @ part


def _fit(image, start, bounds, reach: float) -> ShellTerms:
    """Fit terms to an image by bounded least squares.

    The residual is weighted with 1 + 0.3 r², since ripples fall with r² and their number grows
    with it.
    """
    from scipy.optimize import least_squares

    n = len(start[0])
    r = np.arange(1e-3, reach, 0.02)
    target = image(r)
    height = 4 * np.pi / 3
    scale = (1 + 0.3 * r**2) / height

    def terms_at(r, p):
        return omega(r[:, None], p[:n], p[n : 2 * n], np.exp, np.expm1) @ p[2 * n :]

    found = least_squares(
        lambda p: (terms_at(r, p) - target) * scale, np.concatenate(start),
        bounds=tuple(np.concatenate(bound) for bound in bounds), x_scale="jac", max_nfev=1500,
    )  # fmt: skip
    fine = np.arange(1e-3, reach, 0.005)
    error = np.abs(terms_at(fine, found.x) - image(fine)).max() / height
    radius, width, weight = found.x.reshape(3, n)
    order = np.argsort(radius)
    return ShellTerms(radius[order], width[order], weight[order], reach, float(error))


def fit_terms(reach: float = 12.0) -> ShellTerms:
    """Fit the terms to the image of a point, one for the centre and one for each ripple.

    Parameters
    ----------
    reach : float
        How far, in units of the resolution.
    """
    ripple = np.arange(2, int(2 * reach) + 1)
    # Ripples half a resolution apart with signs in turn.
    radius = np.concatenate([[2e-3, 0.36], ripple / 2 - 0.2 / ripple])
    n = len(radius)
    start = radius, np.full(n, 6.0), np.concatenate([[0.35, 2.7], 4.2 * (-1.0) ** (ripple + 1)])
    # Each term stays at its own ripple.
    low = np.maximum(radius - 0.2, 1e-3), np.full(n, 2.0), np.full(n, -10.0)
    high = radius + 0.2, np.full(n, 9.0), np.full(n, 10.0)
    return _fit(_point_image, start, (low, high), reach)


def fit_near_terms(count: int = 4) -> ShellTerms:
    """Fit a few terms to the near part of a point's image, up to a radius of 4 Å.

    Parameters
    ----------
    count : int
        How many terms.
    """
    radius = np.concatenate([[2e-3], np.arange(1, count) / 2])
    start = radius, np.full(count, 7.0), 0.5 * (-1.0) ** np.arange(count)
    low = np.full(count, 1e-3), np.full(count, 1.0), np.full(count, -10.0)
    high = np.full(count, 3.5), np.full(count, 40.0), np.full(count, 10.0)
    return _fit(_near_image, start, (low, high), 4.0)


def _row(terms: ShellTerms) -> dict:
    columns = {
        key: [round(float(v), 9) for v in getattr(terms, key)]
        for key in ("radius", "width", "weight")
    }
    return {"reach": terms.reach, "error": float(f"{terms.error:.3g}"), **columns}


def save_terms(image: ShellTerms, near: ShellTerms, path=_FILE) -> Path:
    """Write the terms of the image and of its near part as JSON."""
    text = json.dumps(
        {
            "made_by": "python -m cryonb.simulate.shell_terms", "image": _row(image),
            "near": _row(near),
        }
    )  # fmt: skip
    with written_beside(path) as beside:
        beside.write_text(re.sub(r"([\]}]), ", r"\1,\n ", text) + "\n", encoding="utf-8")
    return Path(path)


def _load(key: str) -> ShellTerms:
    table = json.loads(_FILE.read_text(encoding="utf-8"))[key]
    columns = {key: np.array(table[key]) for key in ("radius", "width", "weight")}
    return ShellTerms(**columns, reach=table["reach"], error=table["error"])


@cache
def load_terms() -> ShellTerms:
    """Read the terms of a point's image, which come with the package."""
    return _load("image")


@cache
def load_near_terms() -> ShellTerms:
    """Read the terms of the near part of a point's image, which come with the package."""
    return _load("near")


def main() -> None:
    """Fit the terms and write them into the package."""
    parser = argparse.ArgumentParser(description="Fit the shell terms of a point's image.")
    parser.add_argument("--reach", type=float, default=12.0, help="in units of the resolution")
    parser.add_argument("--out", type=Path, default=_FILE)
    options = parser.parse_args()
    save_terms(fit_terms(options.reach), fit_near_terms(), options.out)


if __name__ == "__main__":
    main()
