"""What a training run is made of, read from a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cryonb.errors import CryonbError

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    Attributes
    ----------
    name : str
        Of the weights.
    data : str
        Folder with `structures/` and `maps/`; "" means the environment variable CRYONB_DATA.
    seed : int
        Of everything random.
    widths : tuple of int
        Channels of the U-Net.
    edge, scenes, measured : int
        Edge of a crop, scenes a step, crops a scene.
    steps, warmup, tail : int
        Steps in all, of the warm-up, and of the cosine fall at the end; the rate is constant
        between them, so that a run can be ended early or prolonged.
    rate, decay : float
        AdamW's learning rate and weight decay.
    average : float
        Decay of the moving average of the weights that is shipped.
    class_weight : tuple of float
        Of background, helix, strand, coil, nucleotide in the cross-entropy.
    dice : float
        Weight of the soft Dice loss.
    real : float
        Share of scenes that are crops of real maps.
    real_maps : tuple of str
        Maps (paths in `maps/INDEX.csv`) to train on.
    start : str
        Weights or checkpoint to start from; "" for random ones.
    exclude : tuple of str
        Structure files that are left out with all their kin.
    held_out : int
        Test domains a SCOPe class; a third as many are for validation.
    phantoms : int
        Random compositions of ideal elements among the structures.
    workers : int
        Processes that make samples.
    """

    name: str = "unet"
    data: str = ""
    seed: int = 1
    widths: tuple[int, ...] = (32, 64, 128, 192)
    edge: int = 48
    scenes: int = 4
    measured: int = 3
    steps: int = 4000
    warmup: int = 100
    tail: int = 1500
    rate: float = 2e-3
    decay: float = 0.02
    average: float = 0.998
    class_weight: tuple[float, ...] = (0.35, 1.0, 1.3, 1.1, 1.0)
    dice: float = 0.5
    real: float = 0.0
    real_maps: tuple[str, ...] = ()
    start: str = ""
    exclude: tuple[str, ...] = ()
    held_out: int = 15
    phantoms: int = 60
    workers: int = 1

    @classmethod
    def read(cls, path) -> Recipe:
        """Read a TOML file; an unknown key or a wrong kind of value is refused."""
        path = Path(path)
        try:
            entries = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise CryonbError(f"A recipe (TOML) was expected, but {path} does not exist.") from None
        except tomllib.TOMLDecodeError as error:
            raise CryonbError(f"{path.name} is not valid TOML: {error}.") from None
        known = {field.name: field.default for field in fields(cls)}
        strange = sorted(set(entries) - set(known))
        if strange:
            raise CryonbError(
                f"{path.name} has the unknown keys {', '.join(strange)}; "
                f"known are {', '.join(known)}."
            )
        for key, value in entries.items():
            if isinstance(value, list):
                entries[key] = value = tuple(value)
            expected = type(known[key])
            if not isinstance(value, expected) and not (expected is float and type(value) is int):
                raise CryonbError(
                    f"{path.name}: {key} must be of type {expected.__name__}, "
                    f"but {value!r} was given."
                )
        return cls(**entries)

    def to_dict(self) -> dict:
        """Give the settings by name."""
        return asdict(self)
