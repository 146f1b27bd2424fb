"""The rows of bench_map_tools.py: what each tool is compared with, and how."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

# Where half_maps.py lies, which made the half maps of the reference values, too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reference"))


@dataclass
class Asked:
    """What a row may use: the programs, the data, an empty folder."""

    cctbx: str | None
    servalcat: str | None
    data: Path
    folder: Path

    def map(self, path, d):
        import cryonb as nb

        return nb.open_map(self.data / "maps" / path, resolution=d)

    def model(self, path):
        import cryonb as nb

        return nb.open_model(self.data / "maps" / path)

    def halves(self, *, uneven=False):
        """Noisy half maps of 6272, and its model; one side is blurred where `uneven`."""
        from half_maps import half_maps, uneven_halves

        import cryonb as nb

        first, second, voxel, *model = (uneven_halves if uneven else half_maps)(self.data)
        grid = nb.Grid(first.shape, voxel)
        return nb.half_maps(nb.DensityMap(first, grid), nb.DensityMap(second, grid)), *model

    def ask(self, task, d, **files):
        """Let cctbx do a task on maps and model: what it found with its seconds, and its map."""
        if not self.cctbx:
            return {}, None
        from reference_programs import ask_cctbx, write_inputs

        write_inputs(self.folder, **files)
        return ask_cctbx(self.cctbx, task, d, self.folder)


def timed(function) -> tuple[object, dict]:
    begin, used = time.perf_counter(), time.process_time()
    made = function()
    return made, {"wall": time.perf_counter() - begin, "cpu": time.process_time() - used}


def row(program, theirs, ours, agreement):
    return {"program": program, "theirs": theirs, "ours": ours, "agreement": agreement}


def correlated(a, b, where=...):
    import numpy as np

    return float(np.corrcoef(a[where].ravel(), b[where].ravel())[0, 1])


# ---- beside cctbx and servalcat ------------------------------------------------------------------


def sharpen(asked, path, d):
    """B that is taken away, and that before."""
    import shutil

    m = asked.map(path, d)
    made, ours = timed(m.sharpening)
    text = f"B {made.b_sharpen:.0f} of {made.b_before:.0f} Å²"
    shutil.copy(asked.data / "maps" / path, asked.folder / "map.mrc.gz")
    theirs, _ = asked.ask("sharpen", d)
    if theirs:
        text += f"; theirs {theirs['b_sharpen']:.0f} of {theirs['b_before']:.0f}"
    return row("cctbx", theirs, ours, text)


def sharpen_halves(asked):
    """Correlation of the sharpened maps."""
    halves, _ = asked.halves()
    made, ours = timed(lambda: halves.mean.sharpen(half_maps=halves))
    theirs, out = asked.ask("sharpen half_maps=", 2.6, halves=halves)
    return row("cctbx", theirs, ours, _cc(made, out))


def sharpen_model(asked):
    """Correlation of the sharpened maps."""
    from reference_programs import at_the_origin

    m, model = at_the_origin(
        asked.map("6272/6272_zone4A.mrc.gz", 2.6), asked.model("6272/3j9s.pdb")
    )
    made, ours = timed(lambda: m.sharpen(model=model))
    theirs, out = asked.ask("sharpen model=", 2.6, m=m, model=model)
    return row("cctbx", theirs, ours, _cc(made, out))


def _cc(made, out) -> str:
    return "" if out is None else f"CC {correlated(made.values, out):.3f}"


def local_resolution(asked, method):
    """Correlation and median difference in the half of the box that density fills most."""
    import numpy as np

    (halves,) = asked.halves(uneven=True)
    made, ours = timed(lambda: halves.local_resolution(method=method, resolution=2.8))
    theirs, out = asked.ask("local_resolution", 2.8, halves=halves)
    if out is None:
        return row("cctbx", {}, ours, "")
    inside = halves.mean.filter(low=8).values
    inside = inside > np.percentile(inside, 85)
    off = np.median(made.values[inside] - out[inside])
    text = f"CC {correlated(made.values, out, inside):.2f}, median {off:+.2f} Å"
    return row("cctbx", theirs, ours, text)


def find_symmetry(asked, path, d, turned=False):
    """The group with its lowest correlation; cctbx looks along the axes of the box alone."""
    m = asked.map(path, d)
    if turned:
        m = _turned(m)
    m = m.replace(grid=type(m.grid)(m.shape, m.voxel_size))
    found, ours = timed(lambda: m.find_symmetry(progress=False))
    text = f"{found.name}, lowest CC {found.score:.3f}"
    theirs, _ = asked.ask("find_symmetry", d, m=m)
    if theirs:
        text += f"; theirs {theirs['operators']} operations"
    return row("cctbx", theirs, ours, text)


def _turned(m):
    """A map turned at random about the middle of its box."""
    import numpy as np
    from scipy.ndimage import affine_transform
    from scipy.spatial.transform import Rotation

    turn = Rotation.random(rng=np.random.default_rng(8)).as_matrix()
    middle = (np.array(m.shape) - 1) / 2
    values = affine_transform(m.values, turn, middle - turn @ middle, order=1, output=np.float32)
    return m.replace(values)


def box(asked):
    """The size of both boxes, 5 Å around the model."""
    from reference_programs import at_the_origin

    m, model = at_the_origin(
        asked.map("30342/390_emd_30342_A_z4.mrc.gz", 3.9), asked.model("30342/390_7cec_A.cif")
    )
    made, ours = timed(lambda: m.box(around=model, cushion=5.0, fast=False))
    theirs, out = asked.ask("box", 3.9, m=m, model=model)
    text = f"{made.shape}" + ("" if out is None else f"; theirs {out.shape}")
    return row("cctbx", theirs, ours, text)


def mask(asked):
    """Voxels within 3 Å of the model: those in both masks over those in either."""
    from reference_programs import at_the_origin

    from cryonb.process.mask import model_mask

    m, model = at_the_origin(
        asked.map("30342/390_emd_30342_A_z4.mrc.gz", 3.9), asked.model("30342/390_7cec_A.cif")
    )
    made, ours = timed(lambda: model_mask(model, m.grid, radius=3.0, soft_edge=0.0))
    theirs, out = asked.ask("mask", 3.9, m=m, model=model)
    if out is None:
        return row("cctbx", {}, ours, "")
    a, b = made.values > 0.5, out > 0.5
    return row("cctbx", theirs, ours, f"overlap {(a & b).sum() / (a | b).sum():.3f}")


def difference(asked, program):
    """Deleted side chains among the highest 2 n peaks; correlation of the maps near the model."""
    import bench_difference as bench

    case = bench.prepared("6272" if program == "cctbx" else "halves")
    made, ours = timed(lambda: case.map.difference(case.cut, half_maps=case.halves))
    score = bench.found(made, case.parts)
    text = f"{score['found']} of {score['parts']} parts"
    theirs, out = {}, None
    if program == "cctbx":
        from reference_programs import at_the_origin

        m, cut = at_the_origin(case.map, case.cut)
        theirs, out = asked.ask("difference", case.resolution, m=m, model=cut)
        out = None if out is None else m.replace(out)
    elif asked.servalcat:
        out, theirs = bench.ask(asked.servalcat, case, asked.folder)
    if out is not None:
        inside = (made.values != 0) & (out.values != 0)
        text += f"; theirs {bench.found(out, case.parts)['found']}"
        text += f"; CC {correlated(made.values, out.values, inside):.2f}{_imports(theirs)}"
    return row(program, theirs, ours, text)


def local_correlation(asked):
    """Rank correlation of cc by residue with servalcat's local correlation of map and model.

    cryonb has no map of the local correlation; nearest is `cc` of `m.evaluate(model)`, unweighted,
    over the voxels near the residue. servalcat weights by FSC and correlates within 5 voxels.
    """
    import pandas as pd
    import reference_programs as programs
    from half_maps import write_all

    import cryonb as nb
    from cryonb.evaluate.correlation import correlate

    write_all(asked.data, asked.folder)
    halves = nb.half_maps(asked.folder / "half1.mrc", asked.folder / "half2.mrc")
    model = nb.open_model(asked.folder / "model.cif")
    found, ours = timed(lambda: correlate(halves.mean, model, resolution=2.6, overlaps=False))
    if not asked.servalcat:
        return row("servalcat", {}, ours, "")
    theirs = programs.ask_servalcat(
        asked.servalcat,
        ["localcc", "--halfmaps", "half1.mrc", "half2.mrc", "--kernel", "5", "--mask", "mask.mrc",
         "--model", "model.cif", "--resolution", "2.6"],
        asked.folder,
    )  # fmt: skip
    log = next(asked.folder.glob("ccmap*byresidue.log"))
    lines = [line.split() for line in log.read_text().splitlines()]
    lines = [line for line in lines if len(line) == 6 and line[1].isdigit()]
    table = pd.DataFrame(lines, columns=["chain", "number", "residue", "localcc", "half", "full"])
    table = table.astype({"number": int, "localcc": float})
    both = found.residues.merge(table, on=["chain", "number"])
    rank = both[["cc", "localcc"]].corr("spearman").iloc[0, 1]
    text = f"rank correlation {rank:.2f} of {len(both)} residues{_imports(theirs)}"
    return row("servalcat", theirs, ours, text)


def _imports(theirs) -> str:
    return f"; its imports {theirs['imports']:.1f} s CPU" if "imports" in theirs else ""


def add_waters(asked):
    """Recall and precision within 1 Å on the 229 modelled waters of EMD-20026."""
    import bench_waters as bench
    import numpy as np
    from reference_programs import at_the_origin

    m, dry, truth = bench.apoferritin()
    found, ours = timed(lambda: m.add_waters(dry))
    text = bench.said(bench.score(found.table[list("xyz")].to_numpy(float), truth))
    origin = np.array(m.origin)
    theirs, _ = asked.ask("add_waters", 1.75, **dict(zip(("m", "model"), at_the_origin(m, dry),
                                                        strict=True)))  # fmt: skip
    if theirs:
        points = np.array(theirs.pop("sites")).reshape(-1, 3) + origin
        text += f"; theirs {bench.said(bench.score(points, truth))}"
    return row("cctbx", theirs, ours, text)


# ---- by known truth ------------------------------------------------------------------------------


def density_modify(asked):
    """FSC of 0.5 to the truth near the molecule before and after, simulated; more in its bench."""
    import bench_density_modify as bench
    import numpy as np

    import cryonb as nb
    from cryonb.process.fourier_shells import FourierShells, shell_correlation

    model = nb.open_model(asked.data / "structures" / "pool_protein" / "1auq_B.pdb.gz")
    truth, halves, around = bench.simulated(model, 3.0, np.random.default_rng(0))
    made, ours = timed(lambda: halves.density_modify(progress=False))
    before, after = (
        FourierShells(shell_correlation(m, truth, mask=around), "map and model", "fsc").resolution(
            0.5
        )
        for m in (halves.mean, made.map)
    )
    return row("truth", {}, ours, f"{before:.2f} to {after:.2f} Å at FSC 0.5 to the truth")


def combine(asked):
    """Correlation with the truth: the better of two simulated maps, and the composite."""
    import numpy as np

    import cryonb as nb

    model = nb.example_model("phantom")
    atoms = nb.Atoms.from_structure(model)
    grid = nb.Grid.around(atoms.position, 1.2, 10.0)
    truth = nb.fourier_map(model, grid, resolution=4.0)
    place = np.clip((grid.axes()[0] - atoms.lower[0]) / np.ptp(atoms.position[:, 0]), 0, 1)
    rng, maps = np.random.default_rng(0), []
    for share in (place, 1 - place):
        noise = nb.DensityMap(rng.normal(size=grid.shape).astype(np.float32), grid).filter(low=4)
        level = (0.4 + 2.6 * share) * truth.values[truth.values > truth.std].std() / noise.std
        maps.append(nb.DensityMap(truth.values + level * noise.values, grid, resolution=4.0))
    made, ours = timed(lambda: nb.combine(maps, [model, model]))
    inside = truth.values > truth.std
    cc = [correlated(one.values, truth.values, inside) for one in (*maps, made)]
    return row("truth", {}, ours, f"CC to truth {max(cc[:2]):.3f} and {cc[2]:.3f}")


def contour_level(asked):
    """On all maps with a model: medians of σ, of the backbone within, of volume over molecule."""
    import bench_contour

    table, ours = timed(bench_contour.levels)
    middle = table[["sigma", "backbone", "volume"]].median()
    text = (f"{len(table)} maps: {middle['sigma']:.1f} σ, {middle['backbone']:.0%} of the backbone "
            f"within, {middle['volume']:.2f} molecular volumes")  # fmt: skip
    return row("models", {}, ours, text)


def segment(asked):
    """HCN4 in four parts: atoms that lie in the part in which most of their chain does."""
    import numpy as np

    import cryonb as nb

    m = asked.map("0093/MAP_m4A.mrc.gz", 3.4)
    made, ours = timed(lambda: m.segment(count=4))
    atoms = nb.Atoms.from_structure(asked.model("0093/6gyn.pdb"))
    label = np.nan_to_num(made.labels.sample(atoms.position)).astype(int)
    chain = atoms.residues.chain[atoms.residue]
    right = sum(np.bincount(label[(chain == c) & (label > 0)]).max() for c in np.unique(chain))
    return row("chains", {}, ours, f"{len(made)} parts, {right / (label > 0).sum():.1%} of atoms")


def confidence(asked):
    """Simulated noise around a molecule: how many voxels above 0.99 are none of it."""
    import numpy as np

    import cryonb as nb

    model = nb.example_model("phantom")
    grid = nb.Grid.around(nb.Atoms.from_structure(model).position, 1.0, 30.0)
    truth = nb.fourier_map(model, grid, resolution=3.5)
    noise = np.random.default_rng(1).normal(0, 0.1 * truth.max, grid.shape)
    m = nb.DensityMap((truth.values + noise).astype(np.float32), grid)
    made, ours = timed(m.confidence)
    sure, real = made.values > 0.99, truth.values > 0.02 * truth.max
    found = (sure & (truth.values > 0.5 * truth.max)).sum() / (truth.values > 0.5 * truth.max).sum()
    text = f"{(sure & ~real).sum() / sure.sum():.2%} false of {sure.sum()}; {found:.0%} of the top"
    return row("truth", {}, ours, text)


def helix(asked, name):
    """A simulated helix with noise: errors of twist and rise; more in bench_helical."""
    import bench_helical as bench

    m, _, _ = bench.helix(name, noise=1.0)
    found, ours = timed(lambda: m.find_symmetry(progress=False))
    twist, rise = bench.CASES[name][:2]
    text = f"{found.name}; off by {found.twist - twist:+.3f}°, {found.rise - rise:+.4f} Å"
    return row("truth", {}, ours, text)


def prepare(asked):
    """Sharpened, symmetry found, one unit boxed."""
    import cryonb as nb

    m = asked.map("0093/MAP_m4A.mrc.gz", 3.4)
    made, ours = timed(lambda: nb.prepare(m, progress=False))
    return row("", {}, ours, f"{made.symmetry.name}, {made.map.shape} of {m.shape}")


_30342, _6272 = "30342/390_emd_30342_A_z4.mrc.gz", "6272/6272_zone4A.mrc.gz"
_0093, _BETA = "0093/MAP_m4A.mrc.gz", "ngl-betaGal/betaGal.mrc.gz"
#: Tool, map, what makes the row, and its arguments.
CASES = [
    ("sharpen", "6272", sharpen, (_6272, 2.6)),
    ("sharpen", "30342", sharpen, (_30342, 3.9)),
    ("sharpen half_maps=", "6272", sharpen_halves, ()),
    ("sharpen model=", "6272", sharpen_model, ()),
    ("local_resolution fsc", "6272, one side blurred", local_resolution, ("fsc",)),
    ("local_resolution bandpass", "6272, one side blurred", local_resolution, ("bandpass",)),
    ("find_symmetry", "0093", find_symmetry, (_0093, 3.4)),
    ("find_symmetry", "0093 turned", find_symmetry, (_0093, 3.4, True)),
    ("find_symmetry", "betaGal", find_symmetry, (_BETA, 9.0)),
    ("find_symmetry", "betaGal turned", find_symmetry, (_BETA, 9.0, True)),
    ("find_symmetry", "6272", find_symmetry, (_6272, 2.6)),
    ("box", "30342", box, ()),
    ("mask", "30342", mask, ()),
    ("difference", "6272", difference, ("cctbx",)),
    ("difference half_maps=", "6272, simulated", difference, ("servalcat",)),
    ("evaluate (local CC)", "6272", local_correlation, ()),
    ("add_waters", "20026", add_waters, ()),
    ("density_modify", "1auq, simulated", density_modify, ()),
    ("combine", "phantom, simulated", combine, ()),
    ("contour_level", "all with a model", contour_level, ()),
    ("segment", "0093", segment, ()),
    ("confidence", "phantom, simulated", confidence, ()),
    ("find_symmetry of a helix", "actin, simulated", helix, ("actin",)),
    ("find_symmetry of a helix", "amyloid, simulated", helix, ("amyloid",)),
    ("prepare", "0093", prepare, ()),
]
