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
    print(f"use it with: cryonb predict MAP --method {target}")


def _fetch(arguments) -> None:
    from cryonb.files.archive import fetch_entry

    entry = fetch_entry(arguments.entry)
    print(f"{entry.emdb_id}  {entry.title}")
    print(f"resolution  {entry.resolution} Å, contour level {entry.contour}")
    print(f"map    {entry.map_path}")
    print(f"model  {entry.model_path or 'none is fitted to this map'}")


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

    def with_map(sub):
        sub.add_argument("map", metavar="MAP", help="a map: MRC or CCP4, also .gz or .bz2")
        sub.add_argument(
            "--frame", default="auto", choices=["auto", "origin", "nstart", "sum", "none"],
            help="which header fields place the map (default: %(default)s)",
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
    sub = command("train", _train, "train a network by a recipe, from where it stopped")
    sub.add_argument("recipe", metavar="RECIPE", help="a TOML file, see recipes/")
    sub.add_argument("--run", help="folder of the run (default: runs/NAME)")
    with_device(sub)
    weights = commands.add_parser("weights", help="read weights that the original authors trained")
    actions = weights.add_subparsers(required=True, metavar="ACTION")
    text = "read a TensorFlow checkpoint of Haruspex or Emap2sec"
    sub = actions.add_parser("import", help=text, description=text)
    sub.set_defaults(action=_import_weights)
    sub.add_argument("architecture", choices=["haruspex", "emap2sec"])
    sub.add_argument(
        "checkpoint", nargs="+", metavar="CHECKPOINT",
        help="stem of its files, such as model.ckpt-40000; for Emap2sec two, one a phase",
    )  # fmt: skip
    sub.add_argument("--out", help="file to write (default: NAME-original.safetensors)")
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
