"""From a volume to a volume: one file a verb."""

from cryonb.process.crop import crop, pad
from cryonb.process.mask import contour_mask, mask, model_mask
from cryonb.process.normalize import normalize
from cryonb.process.resample import resample

__all__ = ["contour_mask", "crop", "mask", "model_mask", "normalize", "pad", "resample"]
