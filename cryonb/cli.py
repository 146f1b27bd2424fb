"""The command `cryonb`."""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside

__all__ = ["main"]


def _say_summary(evaluation) -> None:
    for key, value in evaluation.summary.items():
        print(f"{key:24s}{value:8.0f}" if key == "n_residues" else f"{key:24s}{value:8.3f}")


def _save_picture(figure, path: Path) -> None:
    with written_beside(path) as beside:
        figure.savefig(beside, dpi=110, format="png")
    print(f"wrote {path}")


def _demo(arguments) -> None:
    import cryonb as nb

    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    # Rhodopsin comes with nglview, a part of the notebook extra; phantoms are always there.
    name = arguments.example or ("rhodopsin" if find_spec("nglview") else "phantom")
    m, model = nb.example(name), nb.example_model(name)
    print(f"{m} simulated at {m.resolution:g} Å")
    begin = time.perf_counter()
    sse = m.predict_sse(device=arguments.device)
    print(f"predicted in {time.perf_counter() - begin:.1f} s")
    evaluation = sse.evaluate(model)
    _say_summary(evaluation)
    evaluation.save(out)
    _save_picture(sse.plot(), out / "slices.png")
    _save_picture(evaluation.plot(), out / "residues.png")
    for path in sse.save(out):
        print(f"wrote {path}")


def _predict(arguments) -> None:
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame)
    sse = m.predict_sse(method=arguments.method, device=arguments.device)
    for path in sse.save(arguments.out, stem=arguments.stem):
        print(f"wrote {path}")


def _evaluate(arguments) -> None:
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame)
    model = nb.open_model(arguments.model)
    sse = m.predict_sse(method=arguments.method, device=arguments.device)
    evaluation = sse.evaluate(model)
    _say_summary(evaluation)
    if arguments.out:
        out = evaluation.save(arguments.out)
        _save_picture(sse.plot(), out / "slices.png")
        _save_picture(evaluation.plot(), out / "residues.png")


def _train(arguments) -> None:
    from cryonb.train.loop import train_network

    weights = train_network(arguments.recipe, arguments.run, device=arguments.device)
    print(f"wrote {weights}")


def _import_weights(arguments) -> None:
    from cryonb.networks.published import import_weights

    target = Path(arguments.out or f"{arguments.architecture}-original.safetensors")
    print(f"wrote {import_weights(arguments.architecture, arguments.checkpoint, target)}")
    if arguments.architecture != "cryo2struct":
        print(f"use it with: cryonb predict MAP --method {target}")


def _fetch(arguments) -> None:
    from cryonb.files.archive import fetch_entry

    entry = fetch_entry(arguments.entry)
    print(f"{entry.emdb_id}  {entry.title}")
    print(f"resolution  {entry.resolution} Å, contour level {entry.contour}")
    print(f"map    {entry.map_path}")
    print(f"model  {entry.model_path or 'none is fitted to this map'}")


def _build_dataset(arguments) -> None:
    import pandas as pd

    import cryonb as nb

    table = nb.build_dataset(
        pd.read_csv(arguments.table, dtype={"id": str, "emdb": str}),
        arguments.folder,
        workers=arguments.workers,
        convention=arguments.convention,
        grids=not arguments.no_grids,
        quality=not arguments.no_quality,
    )
    failed = table[table["error"] != ""]
    for row in failed.itertuples():
        print(f"{row.id}: {row.error}", file=sys.stderr)
    print(f"{len(table) - len(failed)} entries, {len(failed)} failed")
    print(f"wrote {Path(arguments.folder) / 'manifest.csv'}")


def _validate_dataset(arguments) -> None:
    import cryonb as nb

    table = nb.validate_dataset(arguments.folder)
    print(table.drop(columns="problems").round(3).to_string(index=False))
    wrong = table[~table["ok"].astype(bool)]
    if len(wrong):
        first = wrong.iloc[0]
        raise CryonbError(
            f"{len(wrong)} of {len(table)} entries are not sound; {first['id']}: "
            f"{first['problems']}"
        )
    print(f"all {len(table)} entries are sound")


def _dataset_statistics(arguments) -> None:
    from cryonb.dataset.check import dataset_statistics

    for table in dataset_statistics(arguments.folder).values():
        print(table.round(3).to_string(), end="\n\n")


def _info(arguments) -> None:
    import cryonb as nb
    from cryonb.files.mrc import map_header

    header = map_header(arguments.map)
    print(f"mode {header.mode}, axes {header.axes}, space group {header.space_group}")
    print(f"NSTART {header.nstart}, ORIGIN {header.origin} Å, cell angles {header.angles}°")
    m = nb.open_map(arguments.map, frame=arguments.frame)
    print(repr(m))
    print(f"box    {m.grid.describe_box()}")
    print(f"values {m.min:.4g} to {m.max:.4g}, mean {m.mean:.4g}, sigma {m.std:.4g}")


def _box(arguments) -> None:
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame)
    around = "density"
    if arguments.model:
        around = nb.open_model(arguments.model)
    elif arguments.mask:
        around = nb.open_map(arguments.mask, frame=arguments.frame)
    elif arguments.unique:
        around = m.find_symmetry(resolution=arguments.resolution)
        print(f"symmetry {around.name}")
    box = m.box(around=around, cushion=arguments.cushion)
    print(f"{box}\nwrote {box.save(arguments.out)}")


def _difference(arguments) -> None:
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame, resolution=arguments.resolution)
    other = _map_or_model(arguments.other, arguments.frame)
    halves = arguments.half_maps and [
        nb.open_map(path, frame=arguments.frame) for path in arguments.half_maps
    ]
    found = m.difference(other, half_maps=halves)
    print(f"wrote {found.save(arguments.out)}")
    print(found.peaks(count=arguments.peaks).round(2).to_string(index=False))


def _waters(arguments) -> None:
    import cryonb as nb
    from cryonb.files.model import write_model

    m = nb.open_map(arguments.map, frame=arguments.frame, resolution=arguments.resolution)
    found = m.add_waters(
        nb.open_model(arguments.model), threshold=arguments.threshold, false=arguments.false
    )
    print(f"{len(found)} waters at {found.threshold:.1f} standard deviations or more")
    print(f"wrote {write_model(found.model, arguments.out)}")


def _combine(arguments) -> None:
    import cryonb as nb

    maps = [
        nb.open_map(path, frame=arguments.frame, resolution=arguments.resolution)
        for path in arguments.map
    ]
    guides = [_map_or_model(path, arguments.frame) for path in arguments.guide]
    print(f"wrote {nb.combine(maps, guides).save(arguments.out)}")


def _map_or_model(path: str, frame: str):
    """Open a file by its suffix: a model if it is that of one, else a map."""
    import cryonb as nb

    endings = (".pdb", ".ent", ".cif", ".mmcif")
    if path.lower().removesuffix(".gz").endswith(endings):
        return nb.open_model(path)
    return nb.open_map(path, frame=frame)


def _sharpen(arguments) -> None:
    import cryonb as nb

    options = {"resolution": arguments.resolution, "local": arguments.local}
    if arguments.b_iso is not None:
        options["b_iso"] = arguments.b_iso
    if arguments.model:
        options["model"] = nb.open_model(arguments.model)
    if arguments.half_maps:
        options["half_maps"] = nb.half_maps(*arguments.half_maps, frame=arguments.frame)
    m = nb.open_map(arguments.map, frame=arguments.frame)
    made = m.sharpening(**options)
    print(made)
    out = Path(arguments.out or f"{m.name or 'map'}_sharpened.mrc")
    print(f"wrote {made.map.save(out)}")
    if arguments.plot:
        _save_picture(made.plot(), Path(arguments.plot))


def _symmetry(arguments) -> None:
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame, resolution=arguments.resolution)
    found = m.find_symmetry(contour=arguments.contour, orders=arguments.orders)
    if len(found) == 1:
        print("symmetry C1: none found")
    else:
        x, y, z = found.centre
        print(f"symmetry {found.name} about ({x:.1f}, {y:.1f}, {z:.1f}) Å")
        print(f"lowest correlation over its operations {found.score:.3f}")
        print(found.axes.round(3).to_string(index=False))
    if arguments.symmetrize:
        print(f"wrote {m.symmetrize(found).save(arguments.symmetrize)}")


def _prepare(arguments) -> None:
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame)
    halves = arguments.half_maps and nb.half_maps(*arguments.half_maps, frame=arguments.frame)
    found = nb.prepare(m, halves, resolution=arguments.resolution, orders=arguments.orders)
    print(found)
    out = Path(arguments.out or f"{m.name or 'map'}_prepared.mrc")
    print(f"wrote {found.map.save(out)}")


def _local_resolution(arguments) -> None:
    import cryonb as nb

    halves = nb.half_maps(arguments.half1, arguments.half2, frame=arguments.frame)
    options = {"method": arguments.method, "resolution": arguments.resolution}
    found = halves.local_resolution(**options)
    for key, value in found.summary.items():
        print(f"{key:16s}{value:8.0f}" if key == "n_voxels" else f"{key:16s}{value:8.2f} Å")
    for path in found.save(arguments.out):
        print(f"wrote {path}")
    _save_picture(found.plot(), Path(arguments.out) / "local_resolution.png")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cryonb", description="Interpret cryo-EM maps: predict, evaluate, train, fetch."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, action, text):
        sub = commands.add_parser(name, help=text, description=text)
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
        with_device(sub)

    sub = command("demo", _demo, "predict and judge an embedded example, with pictures")
    sub.add_argument("--example", choices=["phantom", "rhodopsin"])
    sub.add_argument("--out", default="demo-output", help="folder (default: %(default)s)")
    with_device(sub)
    sub = command("predict", _predict, "predict secondary structure and nucleotides of a map")
    with_map(sub)
    sub.add_argument("--out", default=".", help="folder for the results (default: this one)")
    sub.add_argument("--stem", help="beginning of the file names (default: the map's name)")
    with_method(sub)
    sub = command("evaluate", _evaluate, "predict, and compare with a model")
    with_map(sub)
    sub.add_argument("model", metavar="MODEL", help="a model: PDB or mmCIF, also .gz")
    sub.add_argument("--out", help="folder for tables and pictures")
    with_method(sub)
    sub = command("sharpen", _sharpen, "bring out the detail of a map")
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
    sub = command("local-resolution", _local_resolution, "map the resolution of two half maps")
    sub.add_argument("half1", metavar="HALF1", help="a half map: MRC or CCP4, also .gz or .bz2")
    sub.add_argument("half2", metavar="HALF2", help="the other half")
    with_frame(sub)
    sub.add_argument("--resolution", type=float, help="in Å (default: where their FSC is 0.143)")
    sub.add_argument("--method", choices=["fsc", "bandpass"], default="fsc")
    sub.add_argument("--out", default=".", help="folder for map, scene and picture")
    sub = command("train", _train, "train a network by a recipe, from where it stopped")
    sub.add_argument("recipe", metavar="RECIPE", help="a TOML file, see recipes/")
    sub.add_argument("--run", help="folder of the run (default: runs/NAME)")
    with_device(sub)
    sub = command("box", _box, "cut out the box around the density, a model, a mask or one unit")
    with_map(sub)
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--model", help="cut around this model")
    what.add_argument("--mask", help="multiply by this mask, and cut around it")
    what.add_argument("--unique", action="store_true", help="find symmetry, and cut out one unit")
    sub.add_argument("--cushion", type=float, default=5.0, help="Å on every side")
    sub.add_argument("--resolution", type=float, help="of the map in Å, for --unique")
    sub.add_argument("--out", default="box.mrc", help="file to write (default: %(default)s)")
    sub = command("symmetry", _symmetry, "find the point group of a map, about any axes")
    with_map(sub)
    sub.add_argument("--resolution", type=float, help="in Å (default: twice the voxel size)")
    sub.add_argument("--contour", type=float, help="density that counts (default: above the noise)")
    with_orders(sub)
    sub.add_argument("--symmetrize", metavar="OUT", help="write the average over the operations")
    sub = command("prepare", _prepare, "sharpen, find symmetry, and box the unique part")
    with_map(sub)
    sub.add_argument("--resolution", type=float, help="in Å (default: an estimate)")
    sub.add_argument("--half-maps", nargs=2, metavar="HALF", help="sharpen by their agreement")
    with_orders(sub)
    sub.add_argument("--out", help="file to write (default: NAME_prepared.mrc)")
    sub = command("difference", _difference, "subtract a model or a map, and list the peaks")
    with_map(sub)
    sub.add_argument("other", metavar="OTHER", help="a model, or another map")
    sub.add_argument("--resolution", type=float, required=True, help="of the map in Å")
    sub.add_argument("--half-maps", nargs=2, metavar="HALF", help="for the weights")
    sub.add_argument("--peaks", type=int, default=20, help="how many are listed")
    sub.add_argument("--out", default="difference.mrc", help="file to write (default: %(default)s)")
    sub = command("waters", _waters, "add water molecules to a model")
    with_map(sub)
    sub.add_argument("model", metavar="MODEL", help="a model: PDB or mmCIF, also .gz")
    sub.add_argument("--resolution", type=float, required=True, help="of the map in Å")
    sub.add_argument("--threshold", type=float, help="least height in standard deviations")
    sub.add_argument(
        "--false", type=float, default=0.25,
        help="part of the waters that may be noise (default: %(default)s)",
    )  # fmt: skip
    sub.add_argument("--out", default="waters.cif", help="file to write (default: %(default)s)")
    sub = command("combine", _combine, "combine focused maps into one")
    sub.add_argument("--map", nargs="+", required=True, help="the maps; the first is the target")
    sub.add_argument("--guide", nargs="+", required=True, help="a model, or a mask, for each map")
    sub.add_argument("--resolution", type=float, required=True, help="of the maps in Å")
    with_frame(sub)
    sub.add_argument("--out", default="combined.mrc", help="file to write (default: %(default)s)")
    weights = commands.add_parser("weights", help="read weights that the original authors trained")
    actions = weights.add_subparsers(required=True, metavar="ACTION")
    text = "read a checkpoint of Haruspex, Emap2sec or Cryo2Struct"
    sub = actions.add_parser("import", help=text, description=text)
    sub.set_defaults(action=_import_weights)
    sub.add_argument("architecture", choices=["haruspex", "emap2sec", "cryo2struct"])
    sub.add_argument(
        "checkpoint", nargs="+", metavar="CHECKPOINT",
        help="stem of its files, such as model.ckpt-40000; for Emap2sec two, one a phase; for "
        "Cryo2Struct a .ckpt file",
    )  # fmt: skip
    sub.add_argument("--out", help="file to write (default: NAME-original.safetensors)")
    dataset = commands.add_parser("dataset", help="build and check a data set of labelled maps")
    actions = dataset.add_subparsers(required=True, metavar="ACTION")

    def action(name, does, text):
        sub = actions.add_parser(name, help=text, description=text)
        sub.set_defaults(action=does)
        return sub

    sub = action("build", _build_dataset, "build a data set, or what it lacks")
    sub.add_argument(
        "table", metavar="TABLE",
        help="CSV: model and map or resolution, or emdb; also id and contour",
    )  # fmt: skip
    sub.add_argument("folder", metavar="FOLDER", help="where the data set grows")
    sub.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    sub.add_argument("--convention", choices=["corrected", "published"], default="corrected")
    sub.add_argument("--no-grids", action="store_true", help="do not cut boxes")
    sub.add_argument("--no-quality", action="store_true", help="do not judge maps by their models")
    sub = action("validate", _validate_dataset, "check every file, label and map of a data set")
    sub.add_argument("folder", metavar="FOLDER")
    sub = action("stats", _dataset_statistics, "count what a data set holds")
    sub.add_argument("folder", metavar="FOLDER")
    sub = command("fetch", _fetch, "fetch a map and its model from the public archives")
    sub.add_argument("entry", metavar="ENTRY", help="such as EMD-30342")
    sub = command("info", _info, "say what a map's header says and what cryonb makes of it")
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
