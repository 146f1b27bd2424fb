"""A search over all rotations keeps its memory."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

CODE = """
import resource
import cryonb as nb
m, model = nb.example("rhodopsin"), nb.example_model("rhodopsin")
nb.fit(model, m, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts as Linux does, in kB")
def test_a_search_everywhere_stays_below_one_gigabyte():
    # Small results between large temporary ones once kept 5.7 GB from being used again.
    if find_spec("nglview") is None:
        pytest.skip("the model of rhodopsin comes with nglview")
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.0
