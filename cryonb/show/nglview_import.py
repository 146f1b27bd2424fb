"""nglview, imported so that its part in Python and its part in JupyterLab agree."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

from cryonb.errors import CryonbError

__all__ = ["import_nglview"]


def _frontend_version() -> str | None:
    """Version of nglview's part in JupyterLab, if it lies where this Python looks."""
    from jupyter_core.paths import jupyter_path

    for folder in jupyter_path("labextensions"):
        about = Path(folder) / "nglview-js-widgets" / "package.json"
        if about.is_file():
            return json.loads(about.read_text())["version"]
    return None


def import_nglview():
    """Import nglview so that its part in Python announces the version of its part in JupyterLab.

    nglview 4.0.1 announces 4.0 and brings 3.1.5, and JupyterLab then shows an error in its place
    (nglview issue 1172).

    Raises
    ------
    CryonbError
        If nglview is not installed, or was imported before with versions that disagree.
    """
    try:
        version = _frontend_version()
        if "nglview" not in sys.modules and version:
            stub = types.ModuleType("nglview._frontend")
            stub.__frontend_version__ = version
            sys.modules["nglview._frontend"] = stub
        import nglview
    except ImportError as error:
        raise CryonbError(
            f"The viewer needs nglview ({error}); install it by: pip install 'cryonb[notebook]'."
        ) from None
    announced = nglview.widget.__frontend_version__
    if version and announced != version:
        raise CryonbError(
            f"nglview was imported before cryonb's viewer and announces version {announced}, but "
            f"JupyterLab has {version} of it, and would show nothing; restart the kernel and open "
            "the view first, or pip install 'nglview==4.0'."
        )
    return nglview
