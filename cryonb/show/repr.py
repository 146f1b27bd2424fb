"""What a notebook shows of a map: geometry, statistics and three small slices."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from matplotlib.colors import to_rgb

from cryonb.files.scene import CLASS_COLOURS
from cryonb.volume import ProbabilityVolume, Volume

__all__ = ["html_of"]


def _thumbnail(picture: np.ndarray) -> str:
    """Show an array of (rows, columns, RGB) from 0 to 1, its first row at the bottom."""
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, np.clip(picture, 0, 1), format="png", origin="lower")
    code = base64.b64encode(stream.getvalue()).decode()
    return f'<img style="height:110px;margin-right:4px" src="data:image/png;base64,{code}">'


def _thumbnails(volume: Volume) -> str:
    """Three slices through the middle: density dark on white, or classes in their colours."""
    classes = isinstance(volume, ProbabilityVolume)
    step = max(max(volume.shape) // 128, 1)
    low, high = volume.mean, min(volume.mean + 6 * volume.std, volume.max)
    shown = []
    for axis, n in enumerate(volume.shape):
        cut = np.take(volume.values, n // 2, axis=axis + classes)[..., ::step, ::step]
        cut = cut.astype(np.float32)
        if classes:
            colours = [
                CLASS_COLOURS[name] if k else "#FFFFFF" for k, name in enumerate(volume.classes)
            ]
            shown.append(np.einsum("cij,cr->ijr", cut, [to_rgb(colour) for colour in colours]))
        else:
            grey = 1 - np.clip((cut - low) / max(high - low, 1e-9), 0, 1)
            shown.append(np.repeat(grey[..., None], 3, axis=-1))
    return "".join(map(_thumbnail, shown))


def html_of(volume: Volume, facts: dict[str, str] | None = None) -> str:
    """Describe a volume as HTML.

    Parameters
    ----------
    volume : Volume or ProbabilityVolume
        What to describe.
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
    if isinstance(volume, ProbabilityVolume):
        counts = volume.labels().counts()
        shares = {name: count / volume.grid.n_voxels for name, count in counts.items()}
        rows["classes"] = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    else:
        rows["mean ± σ"] = f"{volume.mean:.4g} ± {volume.std:.4g}"
        rows["range"] = f"{volume.min:.4g} to {volume.max:.4g}"
    rows |= facts or {}
    if volume.history:
        rows["history"] = "; ".join(volume.history)
    table = "".join(
        f"<tr><th style='text-align:left'>{html.escape(key)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for key, value in rows.items()
    )
    title = html.escape(type(volume).__name__ + (f" {volume.name}" if volume.name else ""))
    return f"<div><b>{title}</b><div>{_thumbnails(volume)}</div><table>{table}</table></div>"
