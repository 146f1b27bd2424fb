"""A notebook in JupyterLab in a browser, once a module."""

from importlib.util import find_spec
from pathlib import Path

import notebook_page as lab
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="session")
def in_a_browser():
    """Skip where there is no browser or nothing to drive it."""
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed (the extra `test`)")
    if lab.chromium() is None:
        pytest.skip("no chromium is installed; CHROMIUM may name one")


@pytest.fixture(scope="module")
def opened(request, in_a_browser, tmp_path_factory):
    """The notebook that the module names as NOTEBOOK, run and drawn."""
    root = tmp_path_factory.mktemp("notebooks")
    scratch = tmp_path_factory.mktemp("lab")
    name = lab.fresh_copy(NOTEBOOKS / request.module.NOTEBOOK, root)
    with lab.jupyter_lab(root, scratch) as address, lab.browser_page() as page:
        page.address, page.name = address, name
        page.open(address, name)
        assert page.run_all() == []
        page.scroll_to_view(-1)
        page.wait_until_drawn()
        yield page
