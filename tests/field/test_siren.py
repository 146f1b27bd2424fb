"""Sine networks on a map: their derivatives, their fit, their blending, their files."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryonb.density_map import DensityMap
from cryonb.errors import CryonbError, MapFormatError
from cryonb.field import field
from cryonb.field.siren import fit_siren, load_siren
from cryonb.field.siren_network import forward, initial_weights
from cryonb.field.siren_regions import Regions, region_starts
from cryonb.field.siren_training import FitOptions, fit_group
from cryonb.grid import Grid
from cryonb.volume import Volume

SMALL = {"features": 24, "hidden_layers": 1, "rate": 2e-3, "progress": False, "device": "cpu"}
GRID = Grid((11, 12, 14), (0.9, 1.0, 1.2), (5.0, -3.0, 2.0))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def smooth():
    z, y, x = np.meshgrid(*GRID.axes()[::-1], indexing="ij")
    r2 = (x - 11) ** 2 + (y - 2) ** 2 + (z - 8) ** 2
    return Volume(3 * np.exp(-r2 / 18) + 0.4 * np.cos(0.5 * x) - 0.5, GRID, name="smooth")


@pytest.fixture(scope="module")
def fitted(smooth):
    """Eight regions."""
    return fit_siren(smooth, edge=8, overlap=2, epochs=60, **SMALL)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(2, 600), edge=st.integers(8, 64), overlap=st.integers(1, 4))
def test_regions_cover_an_axis_and_overlap(n, edge, overlap):
    starts, size = region_starts(n, edge=edge, overlap=overlap)
    assert size == min(n, edge)
    assert starts[0] == 0
    assert starts[-1] + size == n
    if len(starts) > 1:
        assert (np.diff(starts) <= size - overlap).all()
        assert (np.diff(starts) > 0).all()


def test_regions_are_those_of_the_paper():
    # Equation 3 by hand: n = 220: vr = 64, nr = ceil(156 / 60) + 1 = 4, s = 52.
    assert region_starts(220) == ((0, 52, 104, 156), 64)
    # n = 100: nr = ceil(36 / 60) + 1 = 2, s = 36.
    assert region_starts(100) == ((0, 36), 64)
    # n = 129: nr = ceil(65 / 60) + 1 = 3, s = 32.5.
    assert region_starts(129) == ((0, 32, 65), 64)
    assert region_starts(50) == ((0,), 50)
    assert region_starts(64) == ((0,), 64)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(3, 300), edge=st.integers(6, 64), seed=st.integers(0, 99))
def test_ramps_are_a_partition_of_one(n, edge, seed):
    regions = Regions(Grid((n, 3, 3)), edge, 2)
    index = np.random.default_rng(seed).uniform(0, n - 1, 50)
    weights, slopes = regions.ramps(index, 0)
    assert weights.min() >= -1e-12
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    np.testing.assert_allclose(slopes.sum(axis=0), 0, atol=1e-12)
    starts, size = region_starts(n, edge=edge, overlap=2)
    for k, start in enumerate(starts):
        outside = (index < start) | (index > start + size - 1)
        assert (weights[k, outside] <= 1e-12).all()
    step = 1e-6
    numeric = (regions.ramps(index + step, 0)[0] - regions.ramps(index - step, 0)[0]) / (2 * step)
    smooth = np.abs(numeric - slopes) < 1e-6
    assert smooth.mean() > 0.9  # all but at the ends of ramps


def test_the_network_has_the_papers_size():
    weights = initial_weights(2, np.random.default_rng(0))
    assert sum(tensor[0].numel() for tensor in weights.values()) == 264_449
    assert weights["weight0"].abs().max() <= 1 / 3
    assert 0.9 < weights["weight2"].abs().max() / (np.sqrt(6 / 256) / 30) <= 1
    assert not torch.equal(weights["weight2"][0], weights["weight2"][1])
    alone = initial_weights(1, np.random.default_rng(0))
    assert torch.equal(alone["weight2"][0], weights["weight2"][0])


def test_derivatives_are_those_of_automatic_differentiation():
    weights = initial_weights(3, np.random.default_rng(1), features=16, hidden_layers=2)
    weights = {name: tensor.double() for name, tensor in weights.items()}
    points = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    value, gradient, hessian = forward(weights, points, derivatives=2)
    for k in range(3):
        one = {name: tensor[k, None] for name, tensor in weights.items()}
        for n in range(5):

            def network(point, one=one):
                return forward(one, point[None])[0][0, 0]

            torch.testing.assert_close(value[k, n], network(points[n]))
            torch.testing.assert_close(
                gradient[k, n], torch.autograd.functional.jacobian(network, points[n])
            )
            torch.testing.assert_close(
                hessian[k, n], torch.autograd.functional.hessian(network, points[n])
            )


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(5)
    coordinates = rng.uniform(-1, 1, (300, 3)).astype(np.float32)
    targets = np.stack(
        [
            np.sin(3 * coordinates[:, 0]),
            coordinates[:, 1] * coordinates[:, 2],
            0 * coordinates[:, 0],
        ]
    ).astype(np.float32)
    weights = initial_weights(3, np.random.default_rng(6), features=16, hidden_layers=1)
    return weights, targets, coordinates


def test_the_steps_are_those_of_torchs_adam(task):
    weights, targets, coordinates = task
    options = FitOptions(rate=1e-3, epochs=12, keep="last", small=0, chunk=70)
    found, losses, epochs = fit_group(weights, targets, coordinates, options)
    assert epochs.tolist() == [12, 12, 12]
    for k in range(3):
        own = {name: t[k, None].clone().requires_grad_() for name, t in weights.items()}
        adam = torch.optim.Adam(own.values(), lr=1e-3)
        least = np.inf
        for _ in range(12):
            adam.zero_grad()
            (value,) = forward(own, torch.from_numpy(coordinates))
            loss = (value[0] - torch.from_numpy(targets[k])).square().mean()
            loss.backward()
            least = min(least, loss.item())
            adam.step()
        assert losses[k] == pytest.approx(least, rel=1e-4)
        for name, tensor in own.items():
            torch.testing.assert_close(found[name][k], tensor[0].detach(), rtol=0, atol=2e-5)


def test_regions_fitted_together_are_as_alone(task):
    weights, targets, coordinates = task
    options = FitOptions(rate=1e-3, epochs=15)
    together, losses, _ = fit_group(weights, targets, coordinates, options)
    for k in range(3):
        own = {name: tensor[k, None] for name, tensor in weights.items()}
        alone, loss, _ = fit_group(own, targets[k, None], coordinates, options)
        assert loss[0] == pytest.approx(losses[k], rel=1e-3)
        torch.testing.assert_close(alone["weight1"][0], together["weight1"][k], rtol=0, atol=1e-4)


def test_a_region_stops_at_its_natural_fit_point(task):
    weights, targets, coordinates = task
    options = FitOptions(rate=2e-3, epochs=600, small=2e-4, fair=2e-2, patience=5)
    _, losses, epochs = fit_group(weights, targets, coordinates, options)
    assert len(set(epochs.tolist())) > 1  # one by one
    assert (epochs < 600).all()
    assert (losses < 2e-2).all()


def test_the_best_state_is_the_one_of_the_least_loss(task):
    weights, targets, coordinates = task
    # So fast a rate that the loss goes up and down.
    options = FitOptions(rate=3e-2, epochs=40, small=0)
    best, losses, _ = fit_group(weights, targets, coordinates, options)
    (value,) = forward(best, torch.from_numpy(coordinates))
    again = (value - torch.from_numpy(targets)).square().mean(dim=1)
    np.testing.assert_allclose(again.numpy(), losses, rtol=1e-3)
    last, same, _ = fit_group(
        weights, targets, coordinates, FitOptions(rate=3e-2, epochs=40, small=0, keep="last")
    )
    np.testing.assert_array_equal(same, losses)
    (value,) = forward(last, torch.from_numpy(coordinates))
    worse = (value - torch.from_numpy(targets)).square().mean(dim=1).numpy()
    assert (worse > losses * 1.01).any()


def test_the_field_has_the_error_that_the_fit_reports(smooth):
    made = fit_siren(smooth, epochs=150, **SMALL)
    assert len(made.regions) == 1
    half = (smooth.max - smooth.min) / 2
    index = np.indices(GRID.shape).reshape(3, -1).T
    error = made.value(GRID.to_points(index)) - smooth.values.ravel()
    assert np.sqrt(np.mean(error**2)) == pytest.approx(np.sqrt(made.losses[0]) * half, rel=1e-2)
    assert np.sqrt(np.mean(error**2)) < 0.15 * smooth.std
    np.testing.assert_allclose(
        made.on_grid(GRID), made.value(GRID.to_points(index)).reshape(GRID.shape), atol=1e-5
    )


def test_derivatives_are_by_angstrom_also_where_regions_overlap(fitted, rng):
    assert len(fitted.regions) == 8
    points = rng.uniform(GRID.lower + 0.1, GRID.upper - 0.1, (400, 3))
    _, gradient, hessian = fitted.evaluate(points, derivatives=2)
    assert np.isfinite(hessian).all()
    step = 2e-3
    checked = np.ones(len(points), dtype=bool)
    numeric = np.empty((400, 3))
    second = np.empty((400, 3, 3))
    for a in range(3):
        shift = step * np.eye(3)[a]
        up, down = fitted.evaluate(points + shift), fitted.evaluate(points - shift)
        numeric[:, a] = (up[0].astype(float) - down[0]) / (2 * step)
        second[:, a] = (up[1].astype(float) - down[1]) / (2 * step)
        # A ramp begins or ends between the two: there the slope has a step.
        for sign in (1, -1):
            here, there = (
                [fitted.regions.ramps(GRID.to_index(p)[:, k], k)[1] for k in range(3)]
                for p in (points, points + sign * shift)
            )
            for one, two in zip(here, there, strict=True):
                checked &= (one == two).all(axis=0)
    assert checked.sum() > 350
    np.testing.assert_allclose(gradient[checked], numeric[checked], atol=5e-3)
    np.testing.assert_allclose(hessian[checked], second[checked], rtol=2e-3, atol=2e-2)
    overlapping = [fitted.regions.ramps(GRID.to_index(points)[:, k], k)[0] for k in range(3)]
    shared = np.sum([(w > 0).sum(axis=0) > 1 for w in overlapping], axis=0)
    assert {0, 1, 2, 3} <= set(shared[checked].tolist())


def test_the_field_is_continuous_across_regions(fitted):
    # Along a line through all overlaps, steps are as small as the slope says.
    line = np.linspace(GRID.lower, GRID.upper, 4000)
    value, gradient = fitted.evaluate(line)
    longest = np.linalg.norm(np.diff(line, axis=0), axis=1).max()
    assert np.abs(np.diff(value)).max() < 1.5 * longest * np.linalg.norm(gradient, axis=1).max()


def test_the_published_way(smooth):
    options = {"edge": 8, "overlap": 2, "epochs": 30}
    made = fit_siren(smooth, published=True, **options, **SMALL)
    # The regions' own values at a point where all three axes overlap: each counts by the mean of
    # its three ramps, normalised.
    index = np.array([[5.3, 5.1, 6.4]])
    ramps = [made.regions.ramps(index[:, k], k)[0][:, 0] for k in range(3)]
    weights = np.array([np.mean([ramps[a][k] for a, k in enumerate(n)])
                        for n in made.regions.numbers])  # fmt: skip
    assert sum((r > 0).sum() > 1 for r in ramps) == 3
    own = np.array([made._network(k, index, 0)[0][0] for k in range(len(made.regions))])
    expected = (weights * own).sum() / weights.sum()
    assert made.value(GRID.to_points(index))[0] == pytest.approx(expected, rel=1e-4)
    # Negative densities are gone: targets begin at zero.
    assert made._scale.low == 0.0
    # Inside one region the published gradient is along the network's coordinates.
    inner = GRID.to_points(np.array([[1.0, 1.5, 2.0]]))
    corrected = fit_siren(Volume(np.maximum(smooth.values, 0), GRID), **options, **SMALL)
    corrected._weights = made._weights
    np.testing.assert_allclose(
        corrected.gradient(inner), made.gradient(inner) * made.regions.scale, rtol=1e-4
    )


def test_saved_and_loaded_it_is_the_same(fitted, tmp_path, rng):
    again = load_siren(fitted.save(tmp_path / "field.safetensors"), device="cpu")
    points = rng.uniform(GRID.lower - 1, GRID.upper + 1, (300, 3))
    for one, two in zip(
        fitted.evaluate(points, derivatives=2), again.evaluate(points, derivatives=2), strict=True
    ):
        # The weights are equal to the bit; a matrix product may round by where they lie.
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5 * np.nanmax(np.abs(one)))
    for name, tensor in fitted._weights.items():
        assert torch.equal(tensor, again._weights[name])
    assert again.grid == fitted.grid
    assert again.statistics == fitted.statistics
    np.testing.assert_array_equal(again.losses, fitted.losses)
    np.testing.assert_array_equal(again.epochs, fitted.epochs)


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "text.safetensors"
    text.write_text("no tensors here")
    with pytest.raises(MapFormatError, match="no safetensors file"):
        load_siren(text)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(MapFormatError, match="format is None"):
        load_siren(tmp_path / "other.safetensors")


class Stop(KeyboardInterrupt):
    """As when a user interrupts the kernel."""


def test_an_interrupted_fit_goes_on(task, tmp_path):
    weights, targets, coordinates = task
    options = FitOptions(rate=1e-3, epochs=20)
    whole, losses, _ = fit_group(weights, targets, coordinates, options)
    file = tmp_path / "state.safetensors"
    seen = []

    def report(done, loss):
        seen.append(done)
        if len(seen) == 7:
            raise Stop

    with pytest.raises(Stop):
        fit_group(weights, targets, coordinates, options, checkpoint=file, report=report)
    seen.clear()
    # Other first weights: what counts is the state in the file.
    other = initial_weights(3, np.random.default_rng(99), features=16, hidden_layers=1)
    again, same, epochs = fit_group(
        other, targets, coordinates, options, checkpoint=file, report=lambda *a: seen.append(a)
    )
    assert len(seen) == 13
    np.testing.assert_array_equal(same, losses)
    assert epochs.tolist() == [20, 20, 20]
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name])
    # A higher limit goes on from there.
    _, _, more = fit_group(
        other, targets, coordinates, FitOptions(rate=1e-3, epochs=25), checkpoint=file
    )
    assert more.tolist() == [25, 25, 25]
    with pytest.raises(CryonbError, match="another map or with other options"):
        fit_group(other, targets + 1, coordinates, options, checkpoint=file)


def test_a_fit_in_a_folder_is_not_done_twice(smooth, tmp_path):
    options = {"edge": 8, "overlap": 2, "epochs": 4, "together": 3, "checkpoint": tmp_path / "fit"}
    first = fit_siren(smooth, **options, **SMALL)
    assert len(list((tmp_path / "fit").iterdir())) == 3
    second = fit_siren(smooth, rng=np.random.default_rng(8), **options, **SMALL)
    for name, tensor in first._weights.items():
        assert torch.equal(tensor, second._weights[name])


def test_groups_may_run_elsewhere(smooth):
    options = {"edge": 8, "overlap": 2, "epochs": 4}
    one = fit_siren(smooth, together=8, **options, **SMALL)
    small = {**SMALL, "device": ["cpu", "cpu"]}
    two = fit_siren(smooth, together=3, **options, **small)
    with ThreadPoolExecutor(2) as executor:
        three = fit_siren(smooth, together=4, executor=executor, **options, **SMALL)
    for other in (two, three):
        for name, tensor in one._weights.items():
            torch.testing.assert_close(tensor, other._weights[name], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_groups_may_run_on_a_cluster(smooth, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"edge": 8, "overlap": 2, "epochs": 4, "together": 3}
    alone = fit_siren(smooth, **options, **SMALL)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=tmp_path
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = fit_siren(smooth, executor=client, **options, **SMALL)
    np.testing.assert_array_equal(there.epochs, alone.epochs)
    for name, tensor in alone._weights.items():
        torch.testing.assert_close(there._weights[name], tensor, rtol=0, atol=1e-4)


def test_smaller_steps_learn_too(task):
    weights, targets, coordinates = task
    options = FitOptions(rate=1e-3, epochs=30, batch=60, small=0)
    _, losses, _ = fit_group(weights, targets, coordinates, options, seed=1)
    _, whole, _ = fit_group(
        weights, targets, coordinates, FitOptions(rate=1e-3, epochs=30, small=0)
    )
    assert losses.mean() < whole.mean()  # five steps an epoch against one


def test_a_map_hands_over_its_siren_field(smooth):
    made = DensityMap.from_volume(smooth).field(method="siren", epochs=2, **SMALL)
    assert made.epochs.tolist() == [2]
    assert "1 networks" in repr(made)
    assert np.isnan(made.value(GRID.upper[None] + 1))[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 3}, "Options of rate, small"),
        ({"edge": 4, "overlap": 4}, "longer than the overlap"),
    ],
)
def test_bad_options_of_a_fit_get_a_sentence(smooth, options, message):
    with pytest.raises(CryonbError, match=message):
        field(smooth, method="siren", progress=False, **options)


def test_a_flat_map_cannot_be_fitted():
    with pytest.raises(CryonbError, match="map with contrast"):
        fit_siren(Volume(np.ones((5, 5, 5)), Grid((5, 5, 5))), progress=False)
