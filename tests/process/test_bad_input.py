"""Whatever a map tool is given that it cannot use: one sentence that says so, and nothing else."""

import gemmi
import numpy as np
import pandas as pd
import pytest

import cryonb as nb
from cryonb.cli import main
from cryonb.errors import CryonbError, CryonbWarning
from cryonb.files.model import write_model
from cryonb.process.blur import blurred
from cryonb.process.difference import difference
from cryonb.process.operators import Symmetry
from cryonb.process.point_groups import group_rotations

# mrcfile says so when such a map is written, which is done on purpose here.
pytestmark = pytest.mark.filterwarnings("ignore:Data array contains NaN")

D = 3.2


class Given:
    """A map `m`, half maps `h`, a model `x` and a mask `k`, all of one molecule."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.x = nb.example_model("phantom")
        grid = nb.Grid.around(nb.Atoms.from_structure(self.x).position, 1.6, 8.0)
        clean = nb.fourier_map(self.x, grid, resolution=D)
        noise = rng.normal(0, 0.3 * clean.std, (2, *grid.shape)).astype(np.float32)
        self.h = [nb.DensityMap(clean.values + part, grid, resolution=D) for part in noise]
        self.m = self.h[0].replace(clean.values + noise.mean(axis=0))
        self.k = self.m.replace((clean.values > 0.3 * clean.max).astype(np.float32))
        self.c2 = Symmetry(
            "C2", group_rotations("C2"), (grid.lower + grid.upper) / 2, 1.0, pd.DataFrame()
        )

    def but(self, **other):
        made = object.__new__(Given)
        made.__dict__.update(self.__dict__, **other)
        return made


def with_nan(m):
    values = m.values.copy()
    values[tuple(n // 2 for n in m.shape)] = np.nan
    return m.replace(values)


def flat(m):
    return m.replace(np.full(m.shape, 0.1, dtype=np.float32))


def cut(m):
    values = m.values[1:-1]
    return m.replace(values, nb.Grid(values.shape, m.voxel_size, m.origin))


def away(model):
    made = model.clone()
    made[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(), gemmi.Vec3(900, 900, 900)))
    return made


def no_atoms(_):
    made = gemmi.Structure()
    made.add_model(gemmi.Model(1))
    return made


#: What is wrong, by the name of what it is done to.
WRONG = {
    "m": {"flat map": flat, "nan in map": with_nan},
    "h": {
        "flat half": lambda h: [h[0], flat(h[1])],
        "nan in half": lambda h: [with_nan(h[0]), h[1]],
        "halves on two grids": lambda h: [h[0], cut(h[1])],
        "halves on another grid": lambda h: [cut(h[0]), cut(h[1])],
    },
    "x": {"model outside": away, "model without atoms": no_atoms},
    "k": {"flat mask": lambda k: k.replace(k.values * 0), "nan in mask": with_nan},
}

#: What each tool is given, and the tool.
TOOLS = {
    "sharpen": ("m", lambda g: g.m.sharpen()),
    "sharpen b_iso=": ("m", lambda g: g.m.sharpen(b_iso=50)),
    "sharpen half_maps=": ("mh", lambda g: g.m.sharpen(half_maps=g.h)),
    "sharpen model=": ("mx", lambda g: g.m.sharpen(model=g.x)),
    "sharpen local=": ("m", lambda g: g.m.sharpen(b_iso=50, local=True)),
    "half_maps": ("h", lambda g: nb.half_maps(*g.h)),
    "with_half_maps": ("h", lambda g: g.m.with_half_maps(*g.h)),
    "local_resolution": ("h", lambda g: nb.half_maps(*g.h).local_resolution()),
    "density_modify": ("mh", lambda g: g.m.density_modify(g.h, cycles=1, progress=False)),
    "find_symmetry": ("m", lambda g: g.m.find_symmetry(progress=False)),
    "find_symmetry helical=": ("m", lambda g: g.m.find_symmetry(progress=False, helical=True)),
    "symmetrize": ("m", lambda g: g.m.symmetrize(g.c2)),
    "box": ("m", lambda g: g.m.box()),
    "box model": ("mx", lambda g: g.m.box(around=g.x)),
    "box mask": ("mk", lambda g: g.m.box(around=g.k)),
    "box unit": ("m", lambda g: g.m.box(around=g.c2)),
    "combine": ("mx", lambda g: nb.combine([g.m, g.h[0]], [g.x, g.x])),
    "combine others": ("mx", lambda g: nb.combine([g.h[0], g.m], [g.x, g.x])),
    "combine masks": ("mk", lambda g: nb.combine([g.m, g.h[0]], [g.k, g.k])),
    "difference": ("mx", lambda g: g.m.difference(g.x)),
    "difference half_maps=": ("mxh", lambda g: g.m.difference(g.x, half_maps=g.h)),
    "difference of maps": ("m", lambda g: g.m.difference(g.h[0])),
    "difference from maps": ("m", lambda g: g.h[0].difference(g.m)),
    "difference of models": ("x", lambda g: difference(g.x, Given().x, resolution=D)),
    "add_waters": ("mx", lambda g: g.m.add_waters(g.x)),
    "add_waters half_maps=": ("mxh", lambda g: g.m.add_waters(g.x, half_maps=g.h)),
    "mask model=": ("mx", lambda g: g.m.mask(model=g.x)),
    "mask contour=": ("m", lambda g: g.m.mask(contour=1.0)),
    "contour_level": ("m", lambda g: g.m.contour_level()),
    "contour_level model=": ("mx", lambda g: g.m.contour_level(model=g.x)),
    "segment": ("m", lambda g: g.m.segment()),
    "segment contour=": ("m", lambda g: g.m.segment(contour=0.05)),
    "filter": ("m", lambda g: g.m.filter(low=6)),
    "confidence": ("m", lambda g: g.m.confidence()),
    "normalize": ("m", lambda g: g.m.normalize()),
    "resample": ("m", lambda g: g.m.resample(2.0)),
    "crop model=": ("x", lambda g: g.m.crop(model=g.x)),
    "blurred": ("m", lambda g: blurred(g.m, D, 6.0)),
    "prepare": ("m", lambda g: nb.prepare(g.m, progress=False)),
    "prepare half_maps": ("mh", lambda g: nb.prepare(g.m, g.h, progress=False)),
}
#: What is right after all: what is linear gives the constant back, a mass is one wherever the model
#: stands, and two half maps alone need no other grid.
FINE = {
    ("symmetrize", "flat map"), ("filter", "flat map"), ("resample", "flat map"),
    ("blurred", "flat map"), ("mask model=", "flat map"),
    ("contour_level model=", "model outside"), ("half_maps", "halves on another grid"),
    ("local_resolution", "halves on another grid"),
}  # fmt: skip
CASES = [
    (tool, wrong, key, spoil)
    for tool, (uses, _) in TOOLS.items()
    for key in uses
    for wrong, spoil in WRONG[key].items()
]


@pytest.fixture(scope="module")
def given():
    return Given()


def one_sentence(text):
    """Whether a message is one line that ends as a sentence does, without a class of Python."""
    return "\n" not in text and text[0].isupper() and "Error" not in text and text[-1] == "."


@pytest.mark.parametrize(
    ("tool", "wrong", "key", "spoil"), CASES, ids=[f"{case[0]}: {case[1]}" for case in CASES]
)
def test_a_tool_says_what_is_wrong(given, tool, wrong, key, spoil):
    bad = given.but(**{key: spoil(getattr(given, key))})
    if (tool, wrong) in FINE:
        TOOLS[tool][1](bad)
        return
    with pytest.raises(CryonbError) as caught:
        TOOLS[tool][1](bad)
    assert one_sentence(str(caught.value)), caught.value


@pytest.fixture(scope="module")
def folder(given, tmp_path_factory):
    """Files of all that is right, and of all that is wrong."""
    folder = tmp_path_factory.mktemp("input")
    maps = {
        "map": given.m, "half1": given.h[0], "half2": given.h[1], "mask": given.k,
        "flat": flat(given.m), "nan": with_nan(given.m), "cut": cut(given.h[1]),
        "zero": given.k.replace(given.k.values * 0),
    }  # fmt: skip
    for name, m in maps.items():
        m.save(folder / f"{name}.mrc")
    for name, model in {"model": given.x, "away": away(given.x)}.items():
        write_model(model, folder / f"{name}.cif")
    (folder / "empty.cif").write_text("data_empty\n_cell.length_a 10\n")
    return folder


#: Words of commands; OUT is what must not be written. A NaN in a file is no error: see below.
COMMANDS = [
    *(f"sharpen flat.mrc {more} --out OUT"
      for more in ("", "--b-iso 50", "--half-maps half1.mrc half2.mrc")),
    *(f"sharpen map.mrc --resolution 3.2 {more} --out OUT"
      for more in ("--half-maps half1.mrc cut.mrc", "--half-maps half1.mrc flat.mrc",
                   "--model away.cif", "--model empty.cif")),
    *(f"local-resolution half1.mrc {bad}.mrc --out OUT" for bad in ("flat", "cut", "half1")),
    *(f"box {words} --out OUT"
      for words in ("flat.mrc", "map.mrc --model away.cif", "map.mrc --model empty.cif",
                    "map.mrc --mask zero.mrc", "flat.mrc --model model.cif", "flat.mrc --unique")),
    "symmetry flat.mrc --symmetrize OUT",
    *(f"prepare {words} --out OUT"
      for words in ("flat.mrc", "map.mrc --half-maps half1.mrc cut.mrc")),
    *(f"difference {words} --resolution 3.2 --out OUT"
      for words in ("flat.mrc model.cif", "map.mrc flat.mrc", "map.mrc away.cif",
                    "map.mrc empty.cif", "map.mrc model.cif --half-maps half1.mrc cut.mrc")),
    *(f"waters {words} --resolution 3.2 --out OUT"
      for words in ("flat.mrc model.cif", "map.mrc away.cif", "map.mrc empty.cif")),
    *(f"combine --map map.mrc {words} --resolution 3.2 --out OUT"
      for words in ("flat.mrc --guide model.cif model.cif", "half1.mrc --guide away.cif away.cif",
                    "half1.mrc --guide model.cif empty.cif",
                    "half1.mrc --guide mask.mrc zero.mrc")),
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_says_what_is_wrong(folder, tmp_path, capsys, words):
    out = tmp_path / "out.mrc"
    words = [
        str(out) if w == "OUT" else str(folder / w) if w.endswith((".mrc", ".cif")) else w
        for w in words.split()
    ]
    assert main(words) == 2
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("cryonb")]
    assert len(lines) == 1, said
    # Neither the result nor a part of it.
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_nan_in_a_file_is_read_as_zero_with_a_warning(folder, tmp_path):
    words = ["box", str(folder / "nan.mrc"), "--model", str(folder / "model.cif")]
    with pytest.warns(CryonbWarning, match="1 of .* values of nan.mrc are not finite"):
        assert main([*words, "--out", str(tmp_path / "box.mrc")]) == 0
    assert np.isfinite(nb.open_map(tmp_path / "box.mrc").values).all()
