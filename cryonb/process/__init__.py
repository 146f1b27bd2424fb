"""From a volume to a volume: one file a verb."""

from cryonb.process.normalize import normalize
from cryonb.process.resample import resample

__all__ = ["normalize", "resample"]
