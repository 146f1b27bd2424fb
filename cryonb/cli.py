"""The command `cryonb`: its sub-commands, their arguments and its exit status."""

from __future__ import annotations

import argparse
import sys

from cryonb import commands
from cryonb.errors import CryonbError

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cryonb", description="Interpret cryo-EM maps: predict, evaluate, train, fetch."
    )
    subs = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, action, text):
        sub = subs.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    def with_device(sub):
        sub.add_argument("--device", help="where torch computes: cpu, cuda, mps")

    def with_frame(sub):
        sub.add_argument(
            "--frame", default="auto", choices=["auto", "origin", "nstart", "sum", "none"],
            help="which header fields place the map (default: %(default)s)",
        )  # fmt: skip

    def with_map(sub):
        sub.add_argument("map", metavar="MAP", help="a map: MRC or CCP4, also .gz or .bz2")
        with_frame(sub)

    def with_orders(sub):
        sub.add_argument(
            "--orders", nargs="+", type=int, default=range(2, 15), metavar="N",
            help="orders of symmetry axes that are tried (default: 2 to 14)",
        )  # fmt: skip

    def with_method(sub):
        sub.add_argument("--method", default="unet", help="shipped weights, or a .safetensors file")
        sub.add_argument(
            "--rotations", type=int, default=1, metavar="N",
            help="mean over N rotations of the map, of 24 (default: 1; N times the time)",
        )  # fmt: skip
        with_device(sub)

    sub = command("demo", commands.demo, "predict and judge an embedded example, with pictures")
    sub.add_argument("--example", choices=["phantom", "rhodopsin"])
    sub.add_argument("--out", default="demo-output", help="folder (default: %(default)s)")
    with_device(sub)
    sub = command(
        "predict", commands.predict, "predict secondary structure and nucleotides of a map"
    )
    with_map(sub)
    sub.add_argument("--out", default=".", help="folder for the results (default: this one)")
    sub.add_argument("--stem", help="beginning of the file names (default: the map's name)")
    with_method(sub)
    sub = command("evaluate", commands.evaluate, "predict, and compare with a model")
    with_map(sub)
    sub.add_argument("model", metavar="MODEL", help="a model: PDB or mmCIF, also .gz")
    sub.add_argument("--out", help="folder for tables and pictures")
    with_method(sub)
    sub = command("sharpen", commands.sharpen, "bring out the detail of a map")
    with_map(sub)
    sub.add_argument("--resolution", type=float, help="in Å (default: an estimate)")
    sub.add_argument(
        "--half-maps", nargs=2, metavar="HALF", help="weight by the agreement of half maps"
    )
    sub.add_argument("--model", help="scale by shells to the map of a model")
    sub.add_argument("--b-iso", type=float, help="B to aim at, in Å² (default: found by itself)")
    sub.add_argument("--local", action="store_true", help="also window by window")
    sub.add_argument("--out", help="file to write (default: NAME_sharpened.mrc)")
    sub.add_argument("--plot", help="picture of what decided, as PNG")
    sub = command("enhance", commands.enhance, "predict the density that a model would give")
    with_map(sub)
    sub.add_argument("--resolution", type=float, help="in Å (default: 2.2); finer detail is cut")
    sub.add_argument(
        "--on", choices=["input", "network"], default="input",
        help="on the map's own grid, or the network's voxels of 1 Å (default: %(default)s)",
    )  # fmt: skip
    sub.add_argument("--weights", default="enhance", help="of the network: .safetensors")
    sub.add_argument("--out", help="file to write (default: NAME_enhanced.mrc)")
    with_device(sub)
    sub = command(
        "local-resolution", commands.local_resolution, "map the resolution of two half maps"
    )
    sub.add_argument("half1", metavar="HALF1", help="a half map: MRC or CCP4, also .gz or .bz2")
    sub.add_argument("half2", metavar="HALF2", help="the other half")
    with_frame(sub)
    sub.add_argument("--resolution", type=float, help="in Å (default: where their FSC is 0.143)")
    sub.add_argument("--method", choices=["fsc", "bandpass"], default="fsc")
    sub.add_argument("--out", default=".", help="folder for map, scene and picture")
    sub = command("train", commands.train, "train a network by a recipe, from where it stopped")
    sub.add_argument("recipe", metavar="RECIPE", help="a TOML file, see recipes/")
    sub.add_argument("--data", help="structures/ and maps/ (default: the recipe's, CRYONB_DATA)")
    sub.add_argument("--run", help="folder of the run (default: runs/NAME)")
    sub.add_argument(
        "--finish", action="store_true", help="no step more: write the weights learned so far"
    )
    with_device(sub)
    sub = command(
        "box", commands.box, "cut out the box around the density, a model, a mask or one unit"
    )
    with_map(sub)
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--model", help="cut around this model")
    what.add_argument("--mask", help="multiply by this mask, and cut around it")
    what.add_argument("--unique", action="store_true", help="find symmetry, and cut out one unit")
    sub.add_argument("--cushion", type=float, default=5.0, help="Å on every side")
    sub.add_argument("--resolution", type=float, help="of the map in Å, for --unique")
    sub.add_argument("--out", default="box.mrc", help="file to write (default: %(default)s)")
    sub = command("symmetry", commands.symmetry, "find point group or helix of a map")
    with_map(sub)
    sub.add_argument("--resolution", type=float, help="in Å (default: twice the voxel size)")
    sub.add_argument("--contour", type=float, help="density that counts (default: above the noise)")
    with_orders(sub)
    sub.add_argument(
        "--helical", action=argparse.BooleanOptionalAction, default=None,
        help="look for a helix first (default: where the density runs through the box)",
    )  # fmt: skip
    sub.add_argument("--symmetrize", metavar="OUT", help="write the average over the operations")
    sub = command("prepare", commands.prepare, "sharpen, find symmetry, and box the unique part")
    with_map(sub)
    sub.add_argument("--resolution", type=float, help="in Å (default: an estimate)")
    sub.add_argument("--half-maps", nargs=2, metavar="HALF", help="sharpen by their agreement")
    with_orders(sub)
    sub.add_argument("--out", help="file to write (default: NAME_prepared.mrc)")
    sub = command("build", commands.build, "build a model of the proteins in a map")
    with_map(sub)
    sub.add_argument("--sequence", help="FASTA, a record a chain of one unit (default: unknown)")
    sub.add_argument("--resolution", type=float, help="in Å (default: an estimate)")
    sub.add_argument("--half-maps", nargs=2, metavar="HALF", help="sharpen by their agreement")
    sub.add_argument("--as-is", action="store_true", help="do not sharpen and box the map")
    sub.add_argument("--weights", default="backbone", help="of the network: .safetensors")
    sub.add_argument("--threshold", type=float, default=0.3, help="least score of a Cα atom")
    sub.add_argument(
        "--all-names", action="store_true", help="name what density does not bear out, too"
    )
    sub.add_argument("--no-refine", action="store_true", help="do not refine positions")
    sub.add_argument("--out", default=".", help="folder for model and tables (default: this one)")
    with_device(sub)
    sub = command(
        "difference", commands.difference, "subtract a model or a map, and list the peaks"
    )
    with_map(sub)
    sub.add_argument("other", metavar="OTHER", help="a model, or another map")
    sub.add_argument("--resolution", type=float, required=True, help="of the map in Å")
    sub.add_argument("--half-maps", nargs=2, metavar="HALF", help="for the weights")
    sub.add_argument("--peaks", type=int, default=20, help="how many are listed")
    sub.add_argument("--out", default="difference.mrc", help="file to write (default: %(default)s)")
    sub = command("waters", commands.waters, "add water molecules to a model")
    with_map(sub)
    sub.add_argument("model", metavar="MODEL", help="a model: PDB or mmCIF, also .gz")
    sub.add_argument("--resolution", type=float, required=True, help="of the map in Å")
    sub.add_argument("--threshold", type=float, help="least height in standard deviations")
    sub.add_argument(
        "--false", type=float, default=0.25,
        help="part of the waters that may be noise (default: %(default)s)",
    )  # fmt: skip
    sub.add_argument("--out", default="waters.cif", help="file to write (default: %(default)s)")
    sub = command("combine", commands.combine, "combine focused maps into one")
    sub.add_argument("--map", nargs="+", required=True, help="the maps; the first is the target")
    sub.add_argument("--guide", nargs="+", required=True, help="a model, or a mask, for each map")
    sub.add_argument("--resolution", type=float, required=True, help="of the maps in Å")
    with_frame(sub)
    sub.add_argument("--out", default="combined.mrc", help="file to write (default: %(default)s)")
    weights = subs.add_parser("weights", help="read weights that the original authors trained")
    actions = weights.add_subparsers(required=True, metavar="ACTION")
    text = "read a checkpoint of Haruspex, Emap2sec or Cryo2Struct"
    sub = actions.add_parser("import", help=text, description=text)
    sub.set_defaults(action=commands.import_weights)
    sub.add_argument("architecture", choices=["haruspex", "emap2sec", "cryo2struct"])
    sub.add_argument(
        "checkpoint", nargs="+", metavar="CHECKPOINT",
        help="stem of its files, such as model.ckpt-40000; for Emap2sec two, one a phase; for "
        "Cryo2Struct a .ckpt file",
    )  # fmt: skip
    sub.add_argument("--out", help="file to write (default: NAME-original.safetensors)")
    dataset = subs.add_parser("dataset", help="build and check a data set of labelled maps")
    actions = dataset.add_subparsers(required=True, metavar="ACTION")

    def action(name, does, text):
        sub = actions.add_parser(name, help=text, description=text)
        sub.set_defaults(action=does)
        return sub

    sub = action("find", commands.find_entries, "ask the EMDB for entries, and write their table")
    sub.add_argument("table", metavar="TABLE", help="CSV to write, which build reads")
    sub.add_argument("--finest", type=float, default=1.0, help="Å (default: %(default)s)")
    sub.add_argument("--coarsest", type=float, default=4.0, help="Å (default: %(default)s)")
    sub.add_argument("--query", default="", help="further terms, as the archive's search has them")
    sub.add_argument("--limit", type=int, help="at most so many entries")
    sub = action("build", commands.build_dataset, "build a data set, or what it lacks")
    sub.add_argument(
        "table", metavar="TABLE",
        help="CSV: model and map or resolution, or emdb; also id and contour",
    )  # fmt: skip
    sub.add_argument("folder", metavar="FOLDER", help="where the data set grows")
    sub.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    sub.add_argument("--convention", choices=["corrected", "published"], default="corrected")
    sub.add_argument("--no-grids", action="store_true", help="do not cut boxes")
    sub.add_argument("--no-quality", action="store_true", help="do not judge maps by their models")
    sub = action(
        "validate", commands.validate_dataset, "check every file, label and map of a data set"
    )
    sub.add_argument("folder", metavar="FOLDER")
    sub = action("stats", commands.dataset_statistics, "count what a data set holds")
    sub.add_argument("folder", metavar="FOLDER")
    sub = command("fetch", commands.fetch, "fetch a map and its model from the public archives")
    sub.add_argument("entry", metavar="ENTRY", help="such as EMD-30342")
    sub = command("info", commands.info, "say what a map's header says and what cryonb makes of it")
    with_map(sub)
    return parser


def main(argv=None) -> int:
    """Run the command line; give the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.action(arguments)
    except CryonbError as error:
        print(f"cryonb: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        print(f"cryonb: {interruption or 'interrupted'}", file=sys.stderr)
        return 130
    return 0
