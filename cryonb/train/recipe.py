"""What a training run is made of, read from a TOML file."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cryonb.errors import CryonbError

__all__ = [
    "BackboneRecipe", "CropRecipe", "Emap2secRecipe", "EnhanceRecipe", "HaruspexRecipe",
    "NetworkRecipe", "Recipe", "ResidueTypesRecipe", "UNetRecipe",
]  # fmt: skip


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
        architecture = entries.get("architecture", "unet")
        if architecture not in _KINDS:
            raise CryonbError(
                f"{source}: an architecture of {', '.join(_KINDS)} was expected, but "
                f"{architecture!r} was given."
            )
        kind = _KINDS[architecture]
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


@dataclass(frozen=True)
class UNetRecipe(CropRecipe):
    """Settings for our own network.

    Attributes
    ----------
    widths : tuple of int
        Channels of the U-Net.
    class_weight : tuple of float
        Of background, helix, strand, coil, nucleotide in the cross-entropy.
    dice : float
        Weight of the soft Dice loss.
    core : float
        How much more voxels within 1.2 Å of a backbone atom, where residues are read, weigh in the
        cross-entropy.
    levelled : bool
        Whether maps are given one falloff first (`cryonb.process.level_spectrum`).
    extra : int
        Of the U-Net's residual blocks on the grid of 2 Å, see `cryonb.networks.unet.UNet`.
    calibrate : tuple of str
        Maps (paths in `maps/INDEX.csv`) by which each class is given a temperature at the end
        (`cryonb.train.calibrate`).
    """

    name: str = "unet"
    architecture: str = "unet"
    phantoms: int = 60
    widths: tuple[int, ...] = (32, 64, 128, 192)
    class_weight: tuple[float, ...] = (0.35, 1.0, 1.3, 1.1, 1.0)
    dice: float = 0.5
    core: float = 1.0
    levelled: bool = False
    extra: int = 0
    calibrate: tuple[str, ...] = ()


@dataclass(frozen=True)
class Emap2secRecipe(NetworkRecipe):
    """Settings for Emap2sec; `steps` are those of the first phase.

    Attributes
    ----------
    resolution : float
        Å of the simulated maps; 0 trains on `real_maps` alone.
    dense : bool
        Train the dense form of the first phase.
    normed : bool
        Learn the first phase with batch normalisation, which is folded into its layers at the end.
        The paper has none; without it nothing is learnt for the first hundreds of steps.
    maps, maps_two : int
        Maps for the first phase, and others for the second.
    windows : int
        Windows a class for the first phase (31,951 in the paper), fewer where there are not as
        many. The dense form uses all windows, weighted by class.
    contour : float
        Windows exist where the scaled density, from 0 to 1, is at least this.
    batch : int
        Windows a step (100 in the published program); crops a step for the dense form.
    edge : int
        Edge of the dense form's crops.
    turns : bool
        Turn each window by one of the 24 rotations of a cube. The paper does not.
    l1, l2 : float
        Of the first dense layer (sum of absolute values) and of the last convolution (half the sum
        of squares).
    steps_two : int
        Steps of the second phase.
    l1_two : float
        Of its first layer.
    rank, rank_two : int
        Ranks by which the dense layers of the two phases are stored; 0 stores them whole.
    """

    name: str = "emap2sec"
    architecture: str = "emap2sec"
    warmup: int = 0
    tail: int = 0
    rate: float = 1e-3
    decay: float = 0.0
    average: float = 0.0
    workers: int = 0
    resolution: float = 6.0
    dense: bool = False
    normed: bool = False
    maps: int = 300
    maps_two: int = 32
    windows: int = 31951
    contour: float = 0.1
    batch: int = 100
    edge: int = 64
    turns: bool = False
    l1: float = 0.0
    l2: float = 0.01
    steps_two: int = 20000
    l1_two: float = 0.0
    rank: int = 0
    rank_two: int = 0


@dataclass(frozen=True)
class HaruspexRecipe(CropRecipe):
    """Settings for Haruspex, on maps divided by their `density_scale` (the original: as deposited).

    The edge of a crop is 40 in the paper; a larger one costs less a voxel.

    Attributes
    ----------
    weight : float
        Of all but true negatives (voxels that are or seem to be an element) against true negatives,
        which weigh 1; 16 in the paper and in the program.
    class_weight : tuple of float
        Weights of sheet, helix, nucleotide and unassigned in a plain cross-entropy; the paper's
        loss if there are none. From random weights, a network of width 8 found no sheet with the
        paper's in 750 steps, and some with a plain one in 250.
    epsilon : float
        Adam's; 0.1 in the published program.
    normed : bool
        Learn with batch normalisation, which is folded into the layers at the end. The paper has
        none.
    width : int
        Channels of the first layer, 32 in the paper. A run may `start` from the checkpoint of a
        thinner one, whose channels are then multiplied (see `cryonb.train.widen`).
    """

    name: str = "haruspex"
    architecture: str = "haruspex"
    warmup: int = 0
    decay: float = 0.0
    rate: float = 1e-3
    edge: int = 64
    scenes: int = 2
    measured: int = 2
    coarsest: float = 5.0
    weight: float = 16.0
    class_weight: tuple[float, ...] = ()
    epsilon: float = 1e-8
    normed: bool = False
    width: int = 32


@dataclass(frozen=True)
class BackboneRecipe(CropRecipe):
    """Settings for the network of backbone atoms and residue types, on simulated maps.

    Attributes
    ----------
    widths : tuple of int
        Channels of its U-Net.
    focus : float
        Power of the error by which the loss of a voxel of a heat map is weighted.
    balance : float
        How much more than empty voxels an atom's voxel weighs in the loss of the heat maps.
    residue, secondary : float
        Weights of the cross-entropies of the residue's type and of its secondary structure; the
        loss of the heat maps weighs 1.
    """

    name: str = "backbone"
    architecture: str = "backbone"
    coarsest: float = 5.0
    widths: tuple[int, ...] = (32, 64, 96, 96)
    focus: float = 2.0
    balance: float = 3.0
    residue: float = 0.3
    secondary: float = 0.2


@dataclass(frozen=True)
class EnhanceRecipe(CropRecipe):
    """Settings for the network that enhances maps, on simulated maps.

    Attributes
    ----------
    widths : tuple of int
        Channels of its U-Net.
    sharpest : float
        Å: finer maps are taught the target of this resolution, since humps that are narrower than
        its 0.6 Å are not held by voxels of 1 Å.
    epsilon : float
        Of the structural similarity, in squared density of the target. The paper's 10⁻⁶ teaches
        nothing where the target is empty, which crops with positive values always are not there.
    empty : float
        Share of measurements that are of noise alone, whose target is zero.
    """

    name: str = "enhance"
    architecture: str = "enhance"
    finest: float = 1.8
    coarsest: float = 7.5
    widths: tuple[int, ...] = (32, 64, 48)
    sharpest: float = 2.5
    epsilon: float = 1e-3
    empty: float = 0.06


@dataclass(frozen=True)
class ResidueTypesRecipe(Recipe):
    """Settings for the classifiers of residue types and chain directions, on simulated maps.

    Attributes
    ----------
    maps : int
        Simulated maps of the training and validation parts together.
    shortest, longest : int
        Residues of a structure.
    finest, coarsest : float
        Between which the resolution of the maps is drawn, in Å.
    clean : float
        Share of maps without noise, solvent and mask.
    jitter_backbone, jitter_trace : float
        Errors of the residues' positions in Å, of whole backbones and of Cα traces.
    hidden, epochs, batch : int
        Units of the hidden layer, passes over the rows, rows a step.
    rate, decay : float
        Adam's learning rate, and the L2 penalty of the weights.
    direction : float
        Inverse of the L2 penalty of the logistic regression of directions.
    """

    name: str = "residue_types"
    architecture: str = "residue-types"
    maps: int = 600
    shortest: int = 40
    longest: int = 350
    finest: float = 1.7
    coarsest: float = 4.4
    clean: float = 0.2
    jitter_backbone: float = 0.12
    jitter_trace: float = 0.25
    hidden: int = 128
    epochs: int = 16
    batch: int = 256
    rate: float = 7e-4
    decay: float = 3e-3
    direction: float = 0.01


_KINDS = {"unet": UNetRecipe, "emap2sec": Emap2secRecipe, "haruspex": HaruspexRecipe,
          "backbone": BackboneRecipe, "enhance": EnhanceRecipe,
          "residue-types": ResidueTypesRecipe}  # fmt: skip
