"""The choice among continuous maps, by name."""

from __future__ import annotations

from cryonb.errors import CryonbError
from cryonb.field.protocol import Field
from cryonb.volume import Volume

__all__ = ["METHODS", "field"]

#: What `field` knows.
METHODS = ("cubic", "quintic", "gaussians", "siren")


def field(volume: Volume, *, method: str = "cubic", **options) -> Field:
    """Make a continuous, differentiable function of a map.

    Parameters
    ----------
    volume : Volume
        A density; it is not changed.
    method : str
        "cubic" (default) or "quintic": the B-spline through all voxels, ready at once;
        "gaussians": non-negative Gaussians and a spline through what they leave, fitted in
        seconds; "siren": networks with sine layers, fitted for minutes to hours.
    **options
        Of `cryonb.field.gaussians.fit_gaussians` or `cryonb.field.siren.fit_siren`; the splines
        have none.

    Returns
    -------
    Field
        With `value(points)`, `gradient(points)` and `hessian(points)`.

    Raises
    ------
    CryonbError
        If the method is unknown, or the volume is none that can be fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from cryonb.grid import Grid
    >>> ramp = Volume(np.ones((8, 8, 1)) * np.arange(8.0), Grid((8, 8, 8), 1.5))
    >>> field(ramp).value([[4.5, 1.0, 2.0]]).round(3)
    array([3.], dtype=float32)
    """
    if method in ("cubic", "quintic"):
        from cryonb.field.spline import SplineField

        if options:
            raise CryonbError(
                f"A spline takes no options, but {', '.join(sorted(options))} was given; they may "
                'belong to method="gaussians" or "siren".'
            )
        return SplineField(volume, degree=3 if method == "cubic" else 5)
    if method == "gaussians":
        from cryonb.field.gaussians import fit_gaussians

        return fit_gaussians(volume, **options)
    if method == "siren":
        from cryonb.field.siren import fit_siren

        return fit_siren(volume, **options)
    raise CryonbError(
        f"A method of {', '.join(METHODS)} was expected for a continuous map, but {method!r} was "
        "asked."
    )
