"""Scenes for other programs: which commands are in them, and that their names can be moved."""

import json
import re
import zipfile
from itertools import combinations

import pytest

from cryonb.errors import CryonbError
from cryonb.files.scene import CLASS_COLOURS, SceneFiles
from cryonb.volume import CLASSES


def _script(tmp_path, **options):
    maps = options.pop("maps", {"helix": tmp_path / "out" / "a_helix.mrc"})
    path = SceneFiles(maps, **options).write_chimerax(tmp_path / "out" / "a.cxc")
    return path.read_text(encoding="utf-8").splitlines()


def test_every_class_is_opened_and_coloured_by_relative_name(tmp_path):
    maps = {name: tmp_path / "out" / f"a_{name}.mrc" for name in CLASSES[1:]}
    lines = _script(tmp_path, maps=maps, levels={"helix": 0.4})
    for number, name in enumerate(CLASSES[1:], start=2):
        assert f'open "a_{name}.mrc" id {number} name {name}' in lines
        level = 0.4 if name == "helix" else 0.5
        assert (
            f"volume #{number} style surface step 1 level {level} color {CLASS_COLOURS[name]}"
            in lines
        )
    assert str(tmp_path) not in "\n".join(lines)


def test_model_and_density(tmp_path):
    lines = _script(
        tmp_path, model=tmp_path / "model.cif", density=tmp_path / "m.mrc", density_level=0.25
    )
    assert 'open "../model.cif" id 3 name model' in lines
    assert 'open "../m.mrc" id 1 name density' in lines
    assert "volume #1 level 0.25" in lines
    assert "cartoon #3" in lines


def test_numbers_are_opened_before_they_are_used(tmp_path):
    opened = set()
    for line in _script(tmp_path, model="m.pdb", density="d.mrc"):
        if found := re.match(r"open .* id (\d+)", line):
            opened.add(found[1])
        elif not line.startswith("# "):
            assert set(re.findall(r"#(\d)\b", line)) <= opened


def test_pymol_reads_each_map_before_it_draws_it(tmp_path):
    maps = {name: tmp_path / f"a_{name}.mrc" for name in ("helix", "coil")}
    scene = SceneFiles(maps, density=tmp_path / "d.mrc", model=tmp_path / "m.cif", levels=0.3)
    lines = scene.write_pymol(tmp_path / "out" / "a.pml").read_text().splitlines()
    assert 'load "../a_helix.mrc", helix_map' in lines
    surface = lines.index("isosurface helix, helix_map, 0.3")
    assert lines.index('load "../a_helix.mrc", helix_map') < surface
    assert lines.index("color 0xD55E00, helix") > surface
    # Probabilities are taken as they are, a density without a level in sigma.
    normal = [line for line in lines if "normalize" in line or line.startswith("load")]
    assert normal[1:4] == ["set normalize_ccp4_maps, 1", 'load "../d.mrc", density_map',
                           "set normalize_ccp4_maps, 0"]  # fmt: skip


def test_molviewspec_is_what_its_own_package_reads(tmp_path):
    nodes = pytest.importorskip("molviewspec.nodes", reason="molviewspec is not installed")
    files = {}
    for folder, name in (("", "helix.mrc"), ("x", "helix.mrc"), ("", "m.cif")):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(folder + name)
        files[folder + name] = path
    scene = SceneFiles(
        {"helix": files["helix.mrc"], "strand": files["xhelix.mrc"]}, model=files["m.cif"],
        density=files["helix.mrc"], levels={"strand": 0.25},
    )  # fmt: skip
    with zipfile.ZipFile(scene.write_molviewspec(tmp_path / "a.mvsx")) as archive:
        text = archive.read("index.mvsj").decode()
        assert archive.read("helix_2.mrc") == b"xhelix.mrc"
        assert sorted(archive.namelist()) == ["helix.mrc", "helix_2.mrc", "index.mvsj", "m.cif"]
    state = nodes.State.model_validate_json(text)
    again = json.loads(state.model_dump_json(exclude_none=True))
    assert again["root"] == json.loads(text)["root"]
    kinds = [child.children[0].children[0].kind for child in state.root.children]
    assert kinds == ["volume", "volume", "volume", "structure"]
    with pytest.raises(CryonbError, match="not compressed"):
        SceneFiles({"helix": "a.mrc.gz"}).write_molviewspec(tmp_path / "b.mvsx")
    assert not (tmp_path / "b.mvsx").exists()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"maps": {}}, "At least one map"),
        ({"colours": {"helix": "red; exit"}}, "colour"),
        ({"levels": float("nan")}, "finite level"),
        ({"maps": {"helix": 'a";exit.mrc'}}, "file name"),
        ({"maps": {"a b": "a.mrc"}}, "name of letters"),
    ],
)
def test_bad_input(tmp_path, options, found):
    with pytest.raises(CryonbError, match=found):
        _script(tmp_path, **options)


def test_colours_differ_for_readers_without_red_or_green():
    def rgb(name):
        return [int(CLASS_COLOURS[name][k : k + 2], 16) for k in (1, 3, 5)]

    assert set(CLASS_COLOURS) == set(CLASSES)
    for one, other in combinations(CLASSES[1:], 2):
        # Blue is seen by protanopes and deuteranopes alike; red and green merge to their mean.
        a, b = rgb(one), rgb(other)
        merged = abs((a[0] + a[1]) - (b[0] + b[1])) / 2
        assert max(merged, abs(a[2] - b[2])) > 25
