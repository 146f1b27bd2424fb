"""Local resolution: known by construction, and cctbx's values."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cryonb as nb
from cryonb import cli
from cryonb.atoms import Atoms
from cryonb.errors import CryonbError
from cryonb.process.fourier_shells import Shells, transform
from cryonb.process.half_maps import HalfMaps
from cryonb.process.local_resolution import Bands, band_crossings, local_resolution
from cryonb.process.mask import model_mask
from cryonb.simulate.fourier import fourier_map

REFERENCE = Path(__file__).parents[1] / "reference"
sys.path.insert(0, str(REFERENCE))


@pytest.fixture(scope="module")
def copies():
    """Three copies of the phantom with 10, 120 and 300 Å² in one box of noise; each one's d."""
    atoms = Atoms.from_structure(nb.example_model())
    at = atoms.position - atoms.position.mean(axis=0)
    step = np.array([0, 0, np.ptp(at[:, 2]) + 16.0])
    places = [replace(atoms, position=at + k * step) for k in range(3)]
    grid = nb.Grid.around(np.concatenate([p.position for p in places]), 1.25, 10.0)
    maps = [
        fourier_map(part, grid, resolution=2.5, b_add=b, periodic=True)
        for part, b in zip(places, (10.0, 120.0, 300.0), strict=True)
    ]
    total = sum(m.values for m in maps)
    rng = np.random.default_rng(8)
    noise = 0.7 * total.std()
    shells = Shells(grid)
    truth = []
    for part, m in zip(places, maps, strict=True):
        # The FSC within a mask around this copy: its power over that and the noise's.
        mask = model_mask(part, grid, radius=3.0, soft_edge=4.0)
        signal = shells.power(transform(m, mask))
        fsc = signal / (signal + noise**2 * np.square(mask.values, dtype=np.float64).sum())
        below = int(np.argmax(fsc < 0.143))
        truth.append(1 / shells.s[below] if fsc[below] < 0.143 else 2.5)
    halves = [
        nb.DensityMap(total + rng.normal(0, noise, grid.shape), grid, name="copies")
        for _ in range(2)
    ]
    return nb.half_maps(*halves), places, np.array(truth)


def test_each_copy_has_its_own_resolution(copies):
    halves, places, truth = copies
    assert truth[0] < 3 < truth[1] < truth[2] - 0.5
    found = halves.local_resolution()
    medians = [np.median(found.sample(part.position)) for part in places]
    np.testing.assert_allclose(medians, truth, rtol=0.08)
    assert found.grid == halves.mean.grid
    assert found.min >= 2.5 - 1e-4


def test_bands_keep_the_order_and_compress_it(copies):
    halves, places, truth = copies
    found = halves.local_resolution(method="bandpass", finest=2.5)
    medians = np.array([np.median(found.sample(part.position)) for part in places])
    assert (np.diff(medians) > 0).all()
    assert np.ptp(medians) < np.ptp(truth)


def test_the_box_and_its_scale_do_not_matter(copies):
    halves, *_ = copies
    found = halves.local_resolution()
    moved = nb.half_maps(
        *(
            nb.Volume(5 * half.values, nb.Grid(half.shape, half.voxel_size, (9.0, -4.0, 70.0)))
            for half in halves
        )
    ).local_resolution()
    # Where a curve hardly reaches the threshold, rounding decides which crossing is the first.
    assert (np.abs(found.values / moved.values - 1) > 1e-3).mean() < 1e-3


def test_a_finer_threshold_is_never_finer(copies):
    halves, *_ = copies
    low, high = (
        local_resolution(*halves, threshold=t, resolution=3.5).values for t in (0.143, 0.5)
    )
    # Where curves jump, what rings about the jump may differ.
    assert (high >= low - 0.05).mean() > 0.999


@pytest.mark.data
def test_bands_are_those_of_cctbx(data):
    """Values by cctbx_local_resolution.py, beside the table."""
    from half_maps import uneven_halves

    with (REFERENCE / "cctbx_local_resolution.csv").open() as file:
        rows = [[float(x) for x in row] for row in list(csv.reader(file))[1:]]
    at = tuple(np.array(rows)[:, :3].astype(int).T)
    theirs = np.array(rows)[:, 3]
    first, second, voxel = uneven_halves(data)
    grid = nb.Grid(first.shape, voxel)
    halves = nb.Volume(first, grid), nb.Volume(second, grid)
    finest = max(2 * voxel, 0.833 * 2.8)
    bands = Bands(HalfMaps(*halves), finest)
    (d_above, c_above), (d_below, c_below) = band_crossings(bands, finest, 0.143, 2.8)
    # As cctbx interpolates: the nearer correlation counts less.
    gap = c_above - c_below
    share = np.clip((0.143 - c_below) / np.maximum(gap, 1e-10), 0, 1)
    share = np.where(gap <= 1e-10, 0.5, 1 - share)
    smooth = np.exp(-2 * np.pi**2 * 2.8**2 * bands.s**2)
    same = bands.on_map(bands.means(share * d_above + (1 - share) * d_below, smooth))[at]
    assert np.abs(same - theirs).mean() < 0.01
    assert np.abs(same - theirs).max() < 0.06
    # As it is meant, it reads finer by half a shell.
    ours = local_resolution(*halves, method="bandpass", resolution=2.8).values[at]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.94
    assert -0.2 < (ours - theirs).mean() < -0.08


def test_results_show_and_save_themselves(copies, tmp_path, capsys):
    halves, *_ = copies
    found = halves.local_resolution()
    summary = found.summary
    assert summary["finest"] < summary["median"] < summary["coarsest"]
    assert summary["n_voxels"] == found.inside().size > 1000
    assert found.plot()._repr_png_().startswith(b"\x89PNG")
    assert "within the molecule" in found._repr_html_()
    paths = [half.save(tmp_path / f"half{k}.mrc") for k, half in enumerate(halves)]
    out = tmp_path / "out"
    assert cli.main(["local-resolution", *map(str, paths), "--out", str(out)]) == 0
    assert "median" in capsys.readouterr().out
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "half0.mrc", "half0_local_resolution.cxc", "half0_local_resolution.mrc",
        "local_resolution.png",
    ]  # fmt: skip
    read = nb.open_map(out / "half0_local_resolution.mrc")
    np.testing.assert_allclose(read.values, found.values, rtol=1e-3)
    script = (out / "half0_local_resolution.cxc").read_text()
    assert 'open "half0.mrc" id 1' in script
    assert "color sample #1 map #2 palette" in script
    assert cli.main(["local-resolution", str(paths[0]), str(paths[0])]) == 2
    target = tmp_path / "sharp.mrc"
    command = ["sharpen", str(paths[0]), "--b-iso", "60", "--out", str(target)]
    assert cli.main([*command, "--resolution", "4", "--plot", str(tmp_path / "p.png")]) == 0
    assert "B " in capsys.readouterr().out
    assert target.exists()
    assert (tmp_path / "p.png").exists()


def test_bad_requests_are_refused(copies, rng):
    halves, *_ = copies
    with pytest.raises(CryonbError, match="fsc or bandpass"):
        halves.local_resolution(method="guess")
    with pytest.raises(CryonbError, match="positive radius="):
        halves.local_resolution(radius=-2.0)
    noise = [halves.first.replace(rng.normal(size=halves.first.shape)) for _ in range(2)]
    with pytest.raises(CryonbError, match="Half maps that agree"):
        nb.half_maps(*noise).local_resolution()
