"""The recipes of each architecture."""

from __future__ import annotations

from dataclasses import dataclass

from cryonb.train.recipe import CropRecipe, NetworkRecipe, Recipe

__all__ = [
    "KINDS", "BackboneRecipe", "Emap2secRecipe", "EnhanceRecipe", "HaruspexRecipe",
    "ResidueTypesRecipe", "UNetRecipe",
]  # fmt: skip


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


#: Recipes by architecture.
KINDS = {"unet": UNetRecipe, "emap2sec": Emap2secRecipe, "haruspex": HaruspexRecipe,
          "backbone": BackboneRecipe, "enhance": EnhanceRecipe,
          "residue-types": ResidueTypesRecipe}  # fmt: skip
