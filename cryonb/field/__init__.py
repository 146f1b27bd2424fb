"""From a volume to a continuous function: value, gradient and curvature at any point."""

from cryonb.field.choose import field
from cryonb.field.protocol import Field
from cryonb.field.spline import SplineField

__all__ = ["Field", "SplineField", "field"]
