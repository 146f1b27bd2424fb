"""Shell terms against the closed form of a point's image; the file and its builder."""

import numpy as np
import pytest
import torch

from cryonb.simulate import shell_terms
from cryonb.simulate.shell_terms import fit_near_terms, fit_terms, load_near_terms, load_terms


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


def test_the_packaged_near_terms_end_with_the_limit_and_with_two_angstroms():
    terms = load_near_terms()
    s = torch.linspace(0, 3, 301, dtype=torch.float64)
    transform = terms.transform(s).numpy()
    assert np.abs(transform[s >= 1]).max() < 1e-3
    assert (np.diff(transform[s <= 1]) < 1e-3).all()
    # The sum in real space, from its transform: ∫ 4π s² N(s) sin(2πrs) / (2πrs) ds
    fine = np.linspace(0, 6, 6001)
    r = np.array([0.3, 0.8, 1.5, 2.2, 3.0])
    part = 4 * np.pi * fine**2 * terms.transform(torch.tensor(fine)).numpy()
    expected = np.trapezoid(part * np.sinc(2 * r[:, None] * fine), fine, axis=1)
    k = 4 * np.pi**2 / terms.width
    omega = (
        np.exp(-k * (r[:, None] - terms.radius) ** 2)
        - np.exp(-k * (r[:, None] + terms.radius) ** 2)
    ) / (np.sqrt(4 * np.pi * terms.width) * r[:, None] * terms.radius)
    np.testing.assert_allclose(omega @ terms.weight, expected, atol=1e-6)
    assert np.abs(expected[r > 2]).max() < 2e-4 * 4 * np.pi / 3


def test_the_builder_finds_the_packaged_near_terms():
    made, packaged = fit_near_terms(), load_near_terms()
    assert made.error == pytest.approx(packaged.error, rel=0.1)
    assert made.error < 5e-5
    r = np.linspace(0.01, 4, 100)[:, None]
    one, two = (
        shell_terms.omega(r, part.radius, part.width, np.exp, np.expm1) @ part.weight
        for part in (made, packaged)
    )
    np.testing.assert_allclose(one, two, atol=1e-4)


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
    assert len(load_near_terms.__wrapped__().radius) == 4
