"""Every control of the viewers, as a person would use it."""

import numpy as np
import pytest

NOTEBOOK = "05_viewer.ipynb"
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def changed(page, act, *, settle=900):
    """Mean change of the pixels of the view by an action."""
    before = page.pixels()
    act()
    page.raw.wait_for_timeout(settle)
    after = page.pixels()
    # Layout may take a pixel more or less.
    y, x = np.minimum(before.shape, after.shape)[:2]
    return np.abs(after[:y, :x] - before[:y, :x]).mean()


def test_it_is_drawn_and_stays_on_this_machine(opened):
    drawn = opened.pixels()
    assert (drawn.min(axis=-1) < 200).mean() > 0.05
    assert opened.outside == []
    assert opened.complaints() == []


def test_the_level_moves_and_little_is_sent(opened):
    before, level = opened.received, opened.parameter("density", "isolevel")
    moved = changed(opened, lambda: opened.press("level", "ArrowRight", 20))
    opened.raw.wait_for_function("() => true")
    assert opened.parameter("density", "isolevel") > level
    assert moved > 0.05
    assert opened.received - before < 20 * 200_000


def test_classes_can_be_hidden_and_their_threshold_moved(opened):
    assert opened.is_visible("helix")
    assert not opened.is_visible("coil")
    box = opened.cell.get_by_role("checkbox", name="helix")
    assert changed(opened, box.uncheck) > 0.05
    assert not opened.is_visible("helix")
    box.check()
    opened.press("probability", "ArrowRight", 3)
    opened.raw.wait_for_timeout(800)
    assert opened.parameter("helix", "isolevel") == pytest.approx(0.65)


def test_the_model_is_coloured_by_what_is_asked(opened):
    for box in ("helix", "strand", "nucleotide", "density"):
        opened.cell.get_by_role("checkbox", name=box, exact=True).uncheck()
    choice = opened.cell.locator(".widget-dropdown", has_text="model").locator("select").last
    for name in ("truth", "agreement", "confidence", "chainid", "prediction"):
        assert changed(opened, lambda name=name: choice.select_option(name)) > 0.02, name
        assert opened.parameter("model", "colorScheme") == name
    for box in ("helix", "strand", "density"):
        opened.cell.get_by_role("checkbox", name=box, exact=True).check()


def test_the_camera_flies_to_a_residue_and_to_the_worst(opened):
    strip = opened.cell.locator("img.widget-image").last
    before = strip.get_attribute("src")
    assert changed(opened, lambda: opened.press("residue", "ArrowRight", 4), settle=2000) > 0.5
    assert strip.get_attribute("src") != before
    assert opened.marked() > 0
    before = strip.get_attribute("src")
    worst = opened.cell.locator(".widget-dropdown", has_text="worst").locator("select").last
    assert changed(opened, lambda: worst.select_option(index=1), settle=2000) > 0.5
    assert strip.get_attribute("src") != before


def test_mesh_and_opacity(opened):
    opened.cell.get_by_role("checkbox", name="mesh").check()
    opened.press("opacity", "ArrowRight", 4)
    opened.raw.wait_for_timeout(1000)
    assert opened.parameter("density", "contour") is True
    assert opened.parameter("density", "opacity") == pytest.approx(0.4)


def test_what_was_shown_is_there_after_a_reload(opened):
    opened.raw.evaluate(
        "async () => { await window.jupyterapp.commands.execute('docmanager:save'); }"
    )
    opened.open(opened.address, opened.name)
    opened.scroll_to_view(-1)
    opened.wait_until_drawn()
    assert opened.parameter("model", "colorScheme") == "prediction"
    assert opened.parameter("helix", "isolevel") == pytest.approx(0.65)
    assert opened.is_visible("helix")
    assert not opened.is_visible("coil")
    assert (opened.pixels().min(axis=-1) < 200).mean() > 0.02
