"""What each sub-command of `cryonb` does with its arguments; `cryonb.cli` reads them."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from cryonb.errors import CryonbError
from cryonb.files.atomic import written_beside

__all__ = [
    "box", "build", "build_dataset", "combine", "dataset_statistics", "demo", "difference",
    "enhance", "evaluate", "fetch", "find_entries", "import_weights", "info", "local_resolution",
    "predict", "prepare", "sharpen", "symmetry", "train", "validate_dataset", "waters",
]  # fmt: skip


def _say_summary(evaluation) -> None:
    for key, value in evaluation.summary.items():
        print(f"{key:24s}{value:8.0f}" if key == "n_residues" else f"{key:24s}{value:8.3f}")


def _save_picture(figure, path: Path) -> None:
    with written_beside(path) as beside:
        figure.savefig(beside, dpi=110, format="png")
    print(f"wrote {path}")


def demo(arguments) -> None:
    """Predict and judge an embedded example; write tables, maps and pictures."""
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


def predict(arguments) -> None:
    """Predict the secondary structure of a map; write its classes."""
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame)
    sse = m.predict_sse(
        method=arguments.method, rotations=arguments.rotations, device=arguments.device
    )
    for path in sse.save(arguments.out, stem=arguments.stem):
        print(f"wrote {path}")


def evaluate(arguments) -> None:
    """Predict, and print how that agrees with a model."""
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame)
    model = nb.open_model(arguments.model)
    sse = m.predict_sse(
        method=arguments.method, rotations=arguments.rotations, device=arguments.device
    )
    evaluation = sse.evaluate(model)
    _say_summary(evaluation)
    if arguments.out:
        out = evaluation.save(arguments.out)
        _save_picture(sse.plot(), out / "slices.png")
        _save_picture(evaluation.plot(), out / "residues.png")


def train(arguments) -> None:
    """Train a network by a recipe."""
    from cryonb.train.recipe import Recipe

    recipe = Recipe.read(arguments.recipe)
    if arguments.data:
        recipe = replace(recipe, data=arguments.data)
    if recipe.architecture == "residue-types":
        from cryonb.trace.residue_training import train_residue_types

        if arguments.finish:
            raise CryonbError("--finish is for networks; classifiers of residues have no steps.")
        weights = train_residue_types(recipe, arguments.run)
    else:
        from cryonb.train.loop import train_network

        weights = train_network(
            recipe, arguments.run, finish=arguments.finish, device=arguments.device
        )
    print(f"wrote {weights}")


def import_weights(arguments) -> None:
    """Read weights that the original authors trained; write them in our format."""
    from cryonb.networks.published import import_weights

    target = Path(arguments.out or f"{arguments.architecture}-original.safetensors")
    print(f"wrote {import_weights(arguments.architecture, arguments.checkpoint, target)}")
    if arguments.architecture != "cryo2struct":
        print(f"use it with: cryonb predict MAP --method {target}")


def fetch(arguments) -> None:
    """Fetch an entry of the archives; say what and where it is."""
    from cryonb.files.archive import fetch_entry

    entry = fetch_entry(arguments.entry)
    print(f"{entry.emdb_id}  {entry.title}")
    print(f"resolution  {entry.resolution} Å, contour level {entry.contour}")
    print(f"map    {entry.map_path}")
    print(f"model  {entry.model_path or 'none is fitted to this map'}")


def find_entries(arguments) -> None:
    """Write a table of the EMDB's entries within limits of resolution, for a data set."""
    import cryonb as nb

    found = nb.find_entries(
        finest=arguments.finest,
        coarsest=arguments.coarsest,
        query=arguments.query,
        limit=arguments.limit,
    )
    with written_beside(Path(arguments.table)) as beside:
        found.to_csv(beside, index=False)
    print(f"{len(found)} entries with a model")
    print(f"wrote {arguments.table}")


def build_dataset(arguments) -> None:
    """Build what a data set lacks; name the entries that failed."""
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


def validate_dataset(arguments) -> None:
    """Check a data set; that an entry is not sound is an error."""
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


def dataset_statistics(arguments) -> None:
    """Print what a data set holds."""
    from cryonb.dataset.check import dataset_statistics

    for table in dataset_statistics(arguments.folder).values():
        print(table.round(3).to_string(), end="\n\n")


def info(arguments) -> None:
    """Print what a map's header says and what cryonb makes of it."""
    import cryonb as nb
    from cryonb.files.mrc import map_header

    header = map_header(arguments.map)
    print(f"mode {header.mode}, axes {header.axes}, space group {header.space_group}")
    print(f"NSTART {header.nstart}, ORIGIN {header.origin} Å, cell angles {header.angles}°")
    m = nb.open_map(arguments.map, frame=arguments.frame)
    print(repr(m))
    print(f"box    {m.grid.describe_box()}")
    print(f"values {m.min:.4g} to {m.max:.4g}, mean {m.mean:.4g}, sigma {m.std:.4g}")


def box(arguments) -> None:
    """Write the box around the density, a model, a mask or one unit."""
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


def difference(arguments) -> None:
    """Write a map less a model or another map; print the peaks."""
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame, resolution=arguments.resolution)
    other = _map_or_model(arguments.other, arguments.frame)
    halves = arguments.half_maps and [
        nb.open_map(path, frame=arguments.frame) for path in arguments.half_maps
    ]
    found = m.difference(other, half_maps=halves)
    print(f"wrote {found.save(arguments.out)}")
    print(found.peaks(count=arguments.peaks).round(2).to_string(index=False))


def waters(arguments) -> None:
    """Write a model with the water molecules that a map shows."""
    import cryonb as nb
    from cryonb.files.model import write_model

    m = nb.open_map(arguments.map, frame=arguments.frame, resolution=arguments.resolution)
    found = m.add_waters(
        nb.open_model(arguments.model), threshold=arguments.threshold, false=arguments.false
    )
    print(f"{len(found)} waters at {found.threshold:.1f} standard deviations or more")
    print(f"wrote {write_model(found.model, arguments.out)}")


def combine(arguments) -> None:
    """Write the one map that focused maps make."""
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


def sharpen(arguments) -> None:
    """Write a sharpened map, and a picture of what decided."""
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


def enhance(arguments) -> None:
    """Write the density that a model would give, as predicted from a map."""
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame, resolution=arguments.resolution)
    made = m.enhance(on=arguments.on, weights=arguments.weights, device=arguments.device)
    print("enhanced density is a prediction: judge and refine models by the map itself")
    out = Path(arguments.out or f"{m.name or 'map'}_enhanced.mrc")
    print(f"wrote {made.save(out)}")


def symmetry(arguments) -> None:
    """Print the point group or the helix of a map; write the average over its operations."""
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame, resolution=arguments.resolution)
    options = {"contour": arguments.contour, "orders": arguments.orders}
    found = m.find_symmetry(helical=arguments.helical, **options)
    if len(found) == 1:
        print("symmetry C1: none found")
    else:
        x, y, z = found.centre
        print(f"symmetry {found.name} about ({x:.1f}, {y:.1f}, {z:.1f}) Å")
        print(f"lowest correlation over its operations {found.score:.3f}")
        print(found.axes.round(3).to_string(index=False))
    if arguments.symmetrize:
        print(f"wrote {m.symmetrize(found).save(arguments.symmetrize)}")


def prepare(arguments) -> None:
    """Write a map that is sharpened and boxed to its unique part."""
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame)
    halves = arguments.half_maps and nb.half_maps(*arguments.half_maps, frame=arguments.frame)
    found = nb.prepare(m, halves, resolution=arguments.resolution, orders=arguments.orders)
    print(found)
    out = Path(arguments.out or f"{m.name or 'map'}_prepared.mrc")
    print(f"wrote {found.map.save(out)}")


def build(arguments) -> None:
    """Write a model that was built into a map, and what each step did."""
    import cryonb as nb

    m = nb.open_map(arguments.map, frame=arguments.frame, resolution=arguments.resolution)
    halves = arguments.half_maps and nb.half_maps(*arguments.half_maps, frame=arguments.frame)
    found = nb.map_to_model(
        m,
        arguments.sequence and Path(arguments.sequence),
        half_maps=halves,
        prepared=not arguments.as_is,
        weights=arguments.weights,
        threshold=arguments.threshold,
        sure=not arguments.all_names,
        refine=not arguments.no_refine,
        device=arguments.device,
    )
    print(found)
    for path in found.save(arguments.out):
        print(f"wrote {path}")


def local_resolution(arguments) -> None:
    """Write the local resolution of two half maps, with a scene and a picture."""
    import cryonb as nb

    halves = nb.half_maps(arguments.half1, arguments.half2, frame=arguments.frame)
    options = {"method": arguments.method, "resolution": arguments.resolution}
    found = halves.local_resolution(**options)
    for key, value in found.summary.items():
        print(f"{key:16s}{value:8.0f}" if key == "n_voxels" else f"{key:16s}{value:8.2f} Å")
    for path in found.save(arguments.out):
        print(f"wrote {path}")
    _save_picture(found.plot(), Path(arguments.out) / "local_resolution.png")
