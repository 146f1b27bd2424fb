"""The first notebook that people open, as Binder opens it."""

import pytest

NOTEBOOK = "00_quickstart.ipynb"
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize("number", [0, 1])
def test_each_view_is_drawn_in_its_middle(opened, number):
    opened.scroll_to_view(number)
    opened.wait_until_drawn()
    drawn = opened.pixels().min(axis=-1) < 200
    assert drawn.mean() > 0.05
    height, width = drawn.shape
    middle = drawn[height // 4 : -height // 4, width // 4 : -width // 4]
    # A view that was made out of sight once drew into a corner.
    assert middle.sum() > 0.6 * drawn.sum()


def test_the_map_is_contoured_in_both_units(opened):
    opened.scroll_to_view(0)
    opened.wait_until_drawn()
    before = opened.parameter("density", "isolevel")
    opened.press("level", "ArrowRight", 10)
    opened.raw.wait_for_timeout(1500)
    after = opened.parameter("density", "isolevel")
    assert after > before
    shown = opened.cell.locator(".widget-text", has_text="absolute").locator("input").first
    assert float(shown.input_value()) == pytest.approx(after, rel=1e-3)


def test_nothing_left_this_machine_and_nothing_failed(opened):
    assert opened.outside == []
    assert opened.complaints() == []
