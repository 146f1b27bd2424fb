"""What a notebook shows of a map: geometry, statistics and three small slices."""

from __future__ import annotations

import base64
import html
import io

import numpy as np

from cryonb.volume import ProbabilityVolume, Volume

__all__ = ["html_of"]


def _thumbnail(values: np.ndarray, low: float, high: float) -> str:
    from matplotlib import colormaps
    from matplotlib.image import imsave

    step = max(max(values.shape) // 128, 1)
    scaled = (values[::-step, ::step].astype(np.float32) - low) / max(high - low, 1e-9)
    stream = io.BytesIO()
    imsave(stream, colormaps["gray"](np.clip(scaled, 0, 1)), format="png")
    code = base64.b64encode(stream.getvalue()).decode()
    return f'<img style="height:110px;margin-right:4px" src="data:image/png;base64,{code}">'


def html_of(volume: Volume, facts: dict[str, str] | None = None) -> str:
    """Describe a volume as HTML.

    Parameters
    ----------
    volume : Volume or ProbabilityVolume
        What to describe; of probabilities, the slices show 1 - P(background).
    facts : dict of str to str, optional
        Further lines of the table.
    """
    z, y, x = volume.shape
    rows = {
        "voxels (z, y, x)": f"{z} × {y} × {x}",
        "voxel size (x, y, z)": " × ".join(f"{v:.4g}" for v in volume.voxel_size) + " Å",
        "box (x, y, z)": volume.grid.describe_box(),
        "memory": f"{volume.values.nbytes / 2**20:.1f} MB",
    }
    values = volume.values
    if isinstance(volume, ProbabilityVolume):
        counts = volume.labels().counts()
        shares = {name: count / volume.grid.n_voxels for name, count in counts.items()}
        rows["classes"] = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        values, low, high = 1 - values[0], 0.0, 1.0
    else:
        rows["mean ± σ"] = f"{volume.mean:.4g} ± {volume.std:.4g}"
        rows["range"] = f"{volume.min:.4g} to {volume.max:.4g}"
        low, high = volume.min, max(volume.mean + 6 * volume.std, volume.min + 1e-9)
    rows |= facts or {}
    if volume.history:
        rows["history"] = "; ".join(volume.history)
    table = "".join(
        f"<tr><th style='text-align:left'>{html.escape(key)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for key, value in rows.items()
    )
    images = "".join(
        _thumbnail(np.take(values, n // 2, axis=axis), low, high)
        for axis, n in enumerate(volume.shape)
    )
    title = html.escape(type(volume).__name__ + (f" {volume.name}" if volume.name else ""))
    return f"<div><b>{title}</b><div>{images}</div><table>{table}</table></div>"
