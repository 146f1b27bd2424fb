"""What a training run is made of, read from a TOML file."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cryonb.errors import CryonbError

__all__ = ["CropRecipe", "NetworkRecipe", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Settings of any training run.

    Attributes
    ----------
    name : str
        Of the weights.
    architecture : str
        "unet", "emap2sec", "haruspex", "backbone", "enhance" or "residue-types".
    data : str
        Folder with `structures/` and `maps/`; "" means the environment variable CRYONB_DATA, and
        for networks "phantoms" that the random compositions are all there is, a fifth of them for
        validation.
    seed : int
        Of everything random.
    exclude : tuple of str
        Structure files that are left out with all their kin.
    held_out : int
        Test domains a SCOPe class; a third as many are for validation.
    """

    name: str = ""
    architecture: str = ""
    data: str = ""
    seed: int = 1
    exclude: tuple[str, ...] = ()
    held_out: int = 15

    @staticmethod
    def given(recipe) -> Recipe:
        """Make a recipe of a TOML file or of a dict of its entries; one that is made is kept."""
        if isinstance(recipe, Recipe):
            return recipe
        return Recipe.of(recipe) if isinstance(recipe, dict) else Recipe.read(recipe)

    @staticmethod
    def read(path) -> Recipe:
        """Read a TOML file as the recipe of its architecture ("unet" where it names none).

        Raises
        ------
        CryonbError
            If the file is missing or no TOML, a key is unknown or a value of the wrong kind.
        """
        path = Path(path)
        try:
            entries = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise CryonbError(f"A recipe (TOML) was expected, but {path} does not exist.") from None
        except tomllib.TOMLDecodeError as error:
            raise CryonbError(f"{path.name} is not valid TOML: {error}.") from None
        return Recipe.of(entries, source=path.name)

    @staticmethod
    def of(entries: dict, *, source: str = "the recipe") -> Recipe:
        """Make the recipe of an architecture from its entries; `source` is named in errors."""
        # It builds on this module.
        from cryonb.train.kinds import KINDS

        architecture = entries.get("architecture", "unet")
        if architecture not in KINDS:
            raise CryonbError(
                f"{source}: an architecture of {', '.join(KINDS)} was expected, but "
                f"{architecture!r} was given."
            )
        kind = KINDS[architecture]
        known = {field.name: field.default for field in fields(kind)}
        strange = sorted(set(entries) - set(known))
        if strange:
            raise CryonbError(
                f"{source} has the unknown keys {', '.join(strange)}; known are {', '.join(known)}."
            )
        settings = {}
        for key, value in entries.items():
            settings[key] = value = tuple(value) if isinstance(value, list) else value
            expected = type(known[key])
            if type(value) is not expected and not (expected is float and type(value) is int):
                raise CryonbError(
                    f"{source}: {key} must be of type {expected.__name__}, but {value!r} was given."
                )
        return kind(**settings)

    def to_toml(self) -> str:
        """Write every setting as TOML."""
        # What JSON writes for text, numbers, flags and lists of them is TOML too.
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.to_dict().items())

    def to_dict(self) -> dict:
        """Give the settings by name."""
        return asdict(self)

    def folder(self, run=None) -> Path:
        """Make the folder of a run, `runs/<name>` by default."""
        run = Path(run) if run is not None else Path("runs") / self.name
        run.mkdir(parents=True, exist_ok=True)
        return run


@dataclass(frozen=True)
class NetworkRecipe(Recipe):
    """Settings of any network that is trained with torch.

    Attributes
    ----------
    steps, warmup, tail : int
        Steps in all, of the warm-up, and of the cosine fall at the end; the rate is constant
        between them, so that a run can be ended early or prolonged.
    rate, decay : float
        Learning rate, and AdamW's weight decay (0: plain Adam).
    average : float
        Decay of the moving average of the weights that is shipped; 0 ships the last ones.
    start : str
        Weights or checkpoint to start from; "" for random ones.
    phantoms : int
        Random compositions of ideal elements among the structures.
    real_maps : tuple of str
        Maps (paths in `maps/INDEX.csv`) to train on.
    workers : int
        Processes that make samples.
    look : int
        Steps between two looks at the validation set.
    stored_rank : int
        Rank by which the file keeps large layers (`cryonb.networks.low_rank`); 0 keeps them whole.
    """

    steps: int = 4000
    warmup: int = 100
    tail: int = 1500
    rate: float = 2e-3
    decay: float = 0.02
    average: float = 0.998
    start: str = ""
    phantoms: int = 0
    real_maps: tuple[str, ...] = ()
    workers: int = 1
    look: int = 250
    stored_rank: int = 0


@dataclass(frozen=True)
class CropRecipe(NetworkRecipe):
    """Settings of networks that learn from crops of maps.

    Attributes
    ----------
    edge, scenes, measured : int
        Edge of a crop, scenes a step, crops a scene.
    finest, coarsest : float
        Between which the resolution of simulated maps is drawn, in Å.
    clean : float
        Share of simulated maps without noise, solvent and mask.
    belts : float
        Share of simulated scenes with a belt of detergent or lipid (`cryonb.train.belts`).
    faded, overstated : float
        Share of simulated scenes with weak side chains, and of maps with nothing but noise at the
        resolution that is told (`cryonb.train.fading`).
    real : float
        Share of scenes that are crops of real maps.
    """

    edge: int = 48
    scenes: int = 4
    measured: int = 3
    finest: float = 1.6
    coarsest: float = 10.5
    clean: float = 0.0
    belts: float = 0.0
    faded: float = 0.0
    overstated: float = 0.0
    real: float = 0.0
