"""Windows: what is not changed adds up again; sums over shells are those of a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cryonb as nb
from cryonb.process.windows import Windows


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_windows_add_up_to_the_map(seed):
    rng = np.random.default_rng(seed)
    grid = nb.Grid(rng.integers(9, 30, 3), rng.uniform(0.8, 1.5, 3))
    values = rng.normal(size=grid.shape).astype(np.float32)
    windows = Windows(grid, rng.uniform(6, 20))
    again = windows.assemble((index, terms) for index, (terms,) in windows.transforms(values))
    np.testing.assert_allclose(again, values, atol=1e-5)


def test_shells_of_windows(rng):
    grid = nb.Grid((20, 22, 24), 1.3)
    a, b = rng.normal(size=(2, *grid.shape)).astype(np.float32)
    windows = Windows(grid, 12.0)
    _, (p, q) = next(windows.transforms(a, b))
    found = windows.shell_sums(p, q)
    one = 5
    product = (p[one] * q[one].conj()).real.ravel() * windows.shells.weight
    for shell in range(1, windows.shells.n):
        expected = product[windows.shells.which == shell].sum()
        assert found[one, shell - 1] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_factors_are_interpolated_in_frequency():
    windows = Windows(nb.Grid((24, 24, 24), 1.0), 16.0)
    s = windows.shells.s
    made = windows.on_terms(np.stack([3.0 * s, 1.0 - s]))
    z, y, x = windows.size
    axes = np.fft.fftfreq(z), np.fft.fftfreq(y), np.fft.rfftfreq(x)
    at = np.sqrt(sum(part**2 for part in np.meshgrid(*axes, indexing="ij")))
    inner = (at >= s[0]) & (at <= s[-1])
    np.testing.assert_allclose(made[0][inner], 3 * at[inner], atol=1e-5)
    np.testing.assert_allclose(made[1][inner], 1 - at[inner], atol=1e-5)
