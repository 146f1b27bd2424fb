"""ChimeraX scripts: which commands are in them, and that their names can be moved."""

import re
from itertools import combinations

import pytest

from cryonb.errors import CryonbError
from cryonb.files.chimerax import CLASS_COLOURS, write_chimerax_script
from cryonb.volume import CLASSES


def _script(tmp_path, **options):
    maps = options.pop("maps", {"helix": tmp_path / "out" / "a_helix.mrc"})
    path = write_chimerax_script(tmp_path / "out" / "a.cxc", maps, **options)
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
