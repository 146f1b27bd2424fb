"""Shell terms against the closed form of a point's image; the file and its builder."""

import numpy as np
import pytest

from cryonb.simulate import shell_terms
from cryonb.simulate.shell_terms import fit_terms, load_terms


def test_the_packaged_terms_are_the_image_of_a_point():
    terms = load_terms()
    r = np.linspace(0.01, terms.reach, 5000)
    u = 2 * np.pi * r
    image = 4 * np.pi * (np.sin(u) - u * np.cos(u)) / u**3
    k = 4 * np.pi**2 / terms.width
    omega = (
        np.exp(-k * (r[:, None] - terms.radius) ** 2)
        - np.exp(-k * (r[:, None] + terms.radius) ** 2)
    ) / (np.sqrt(4 * np.pi * terms.width) * r[:, None] * terms.radius)
    error = np.abs(omega @ terms.weight - image).max() / (4 * np.pi / 3)
    assert error < 5e-6
    assert terms.error == pytest.approx(error, rel=0.5)


@pytest.fixture(scope="module")
def few():
    return fit_terms(reach=2.0)


def test_the_builder_finds_such_terms(few):
    assert few.error < 1e-4
    # One term for the centre and one for each ripple, half a resolution apart, signs in turn.
    assert np.diff(few.radius)[1:] == pytest.approx(0.5, abs=0.06)
    assert (np.sign(few.weight[2:]) == (-1.0) ** np.arange(1, len(few.weight) - 1)).all()


def test_the_builder_writes_what_the_reader_reads(few, tmp_path, monkeypatch):
    monkeypatch.setattr(shell_terms, "fit_terms", lambda reach: few)
    monkeypatch.setattr(
        "sys.argv", ["shell_terms", "--reach", "2", "--out", str(tmp_path / "t.json")]
    )
    shell_terms.main()
    monkeypatch.setattr(shell_terms, "_FILE", tmp_path / "t.json")
    read = load_terms.__wrapped__()
    assert read.reach == 2
    for key in ("radius", "width", "weight"):
        np.testing.assert_allclose(getattr(read, key), getattr(few, key), atol=1e-8)
