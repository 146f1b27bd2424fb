import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import map_coordinates
from scipy.signal import resample as fft_resample

from cryonb.errors import CryonbError, GridError
from cryonb.grid import Grid
from cryonb.process import resample
from cryonb.volume import LabelVolume, ProbabilityVolume, Volume

GRID = Grid((20, 31, 17), (1.06, 0.9, 1.3), (-7.0, 12.5, 100.0))


@pytest.fixture
def noise(rng):
    return Volume(rng.normal(size=GRID.shape), GRID, name="noise", history=("made",))


def gaussians(grid, rng, n=40, sigma=1.6):
    """A sum of Gaussians, evaluated without error on any grid, all well inside a 40 Å box."""
    centres, heights = rng.uniform(10, 30, (n, 3)), rng.uniform(0.5, 2, n)
    factors = [
        np.exp(-((axis[:, None] - centre) ** 2) / (2 * sigma**2))
        for axis, centre in zip(grid.axes(), centres.T, strict=True)
    ]
    return np.einsum("xn,yn,zn,n->zyx", *factors, heights)


def index_of(target, source):
    """Fractional source indices of all target centres: (3, z, y, x)."""
    points = np.stack(np.meshgrid(*target.axes(), indexing="ij"), axis=-1)
    return np.moveaxis(source.to_index(points), -1, 0).transpose(0, 3, 2, 1)


# ---- the interpolant ---------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "order"), [("cubic", 3), ("linear", 1)])
@pytest.mark.parametrize("voxel", [0.8, (0.5, 0.9, 1.0), 2.0])
def test_agrees_with_scipy_at_the_same_points(noise, method, order, voxel):
    out = resample(noise, voxel, method=method, antialias=False)
    index = index_of(out.grid, GRID)
    expected = map_coordinates(noise.values.astype(np.float64), index, order=order, mode="mirror")
    assert out.grid == GRID.with_voxel_size(voxel)
    assert np.abs(out.values - expected).max() < 5e-6


@pytest.mark.parametrize("method", ["cubic", "linear", "fourier"])
def test_goes_through_the_voxel_values(noise, method):
    out = resample(noise, np.array(GRID.voxel_size) / 2, method=method)
    assert np.abs(out.values[::2, ::2, ::2] - noise.values).max() < 5e-6


@pytest.mark.parametrize("method", ["cubic", "linear", "fourier", "nearest"])
@pytest.mark.parametrize("voxel", [0.71, 1.0, 1.6, 3.0])
def test_constant_stays_constant(method, voxel):
    flat = Volume(np.full(GRID.shape, 2.5), GRID)
    assert np.abs(resample(flat, voxel, method=method).values - 2.5).max() < 1e-5


def test_linear_reproduces_a_plane_without_extrapolation():
    x, y, z = GRID.axes()
    plane = 2 * x + 3 * y[:, None] - z[:, None, None] + 1
    out = resample(Volume(plane, GRID), 0.77, method="linear")
    x, y, z = out.grid.axes()
    assert np.abs(out.values - (2 * x + 3 * y[:, None] - z[:, None, None] + 1)).max() < 2e-4


@pytest.mark.parametrize("m", [10, 15, 16, 33, 40])
def test_fourier_is_cropping_or_padding_the_transform(rng, m):
    values = rng.normal(size=(20, 4, 5)).astype(np.float32)
    out = resample(Volume(values, Grid(values.shape)), (1, 1, 20 / m), method="fourier").values
    expected = fft_resample(values.astype(np.float64), m, axis=0)[: len(out)]
    assert np.abs(out - expected).max() < 2e-6


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("voxel", [0.37, 1.0 / 1.06, 1.9])
def test_fourier_is_exact_for_a_periodic_wave_at_any_ratio(n, voxel):
    k = 5
    wave = np.cos(2 * np.pi * k * np.arange(n) / n + 0.4)[:, None, None] * np.ones((1, 3, 3))
    out = resample(Volume(wave, Grid(wave.shape)), (1, 1, voxel), method="fourier")
    expected = np.cos(2 * np.pi * k * voxel * np.arange(out.shape[0]) / n + 0.4)
    assert np.abs(out.values - expected[:, None, None]).max() < 1e-5


# ---- closeness to the truth --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voxel", "method", "limit"),
    [(1.0, "cubic", 6e-3), (1.0, "fourier", 2e-4), (1.0, "linear", 0.1), (1.7, "cubic", 0.02)],
)
def test_close_to_the_map_simulated_on_the_target_grid(voxel, method, limit):
    source = Grid((38, 38, 38), 1.06)
    volume = Volume(gaussians(source, np.random.default_rng(3)), source)
    out = resample(volume, voxel, method=method)
    truth = gaussians(out.grid, np.random.default_rng(3))
    assert np.abs(out.values - truth).max() < limit * truth.max()
    if method == "linear":  # and the limit of the cubic spline does tell them apart
        assert np.abs(out.values - truth).max() > 0.02 * truth.max()


def test_cubic_is_closer_to_the_truth_than_zoom_taken_at_its_word():
    from scipy.ndimage import zoom

    source = Grid((38, 38, 38), 1.06)
    volume = Volume(gaussians(source, np.random.default_rng(3)), source)
    target = Grid((40, 40, 40), 1.0)
    truth = gaussians(target, np.random.default_rng(3))
    # zoom fits the corners, so its spacing is 37 * 1.06 / 39 = 1.0056 Å where 1 Å was meant.
    zoomed = zoom(volume.values, 1.06, order=3)
    assert zoomed.shape == target.shape
    ours = resample(volume, grid=target).values
    inner = (slice(0, 39),) * 3
    assert np.abs(ours - truth)[inner].max() * 5 < np.abs(zoomed - truth)[inner].max()


@pytest.mark.parametrize("method", ["cubic", "fourier"])
def test_fine_noise_does_not_alias(rng, method):
    """White noise keeps the share of its power that the coarser grid can hold: (1/2)³."""
    values = rng.normal(size=(48, 48, 48))
    volume = Volume(values, Grid(values.shape))
    clean = resample(volume, 2.0, method=method).values
    plain = resample(volume, 2.0, method=method, antialias=False).values
    assert 0.8 / 8 < clean.var() < 1.2 / 8
    assert plain.var() > 0.8


def test_wave_beyond_the_coarse_limit_is_removed():
    n = 128
    wave = np.cos(2 * np.pi * 0.45 * np.arange(n))[:, None, None] * np.ones((1, 2, 2))
    volume = Volume(wave, Grid(wave.shape))
    inner = slice(10, -10)
    for method in ("cubic", "fourier"):
        out = resample(volume, (1, 1, 2.2), method=method).values[inner]
        assert np.abs(out).max() < 0.06
    assert np.abs(resample(volume, (1, 1, 2.2), antialias=False).values[inner]).max() > 0.9


@pytest.mark.parametrize("ratio", [1.001, 1.03, 1.31, 2.0, 3.7])
@pytest.mark.parametrize("n", [119, 120])
def test_low_pass_leaves_what_the_coarse_grid_can_hold(n, ratio):
    """Waves of the mirrored axis up to 0.9 of the limit pass whole, those beyond 1.1 not at all."""
    i = np.arange(n)
    for k in (1, 7, int(0.89 * (n - 1) / ratio), int(1.11 * (n - 1) / ratio) + 1):
        if k > n - 1:
            continue
        wave = np.cos(np.pi * k * i / (n - 1))[:, None, None] * np.ones((1, 2, 2))
        volume = Volume(wave, Grid(wave.shape))
        out = resample(volume, (1, 1, ratio)).values
        plain = resample(volume, (1, 1, ratio), antialias=False).values
        held = k * ratio < n - 1
        assert np.abs(out - (plain if held else 0)).max() < 1e-5


# ---- grids -------------------------------------------------------------------------------------


def test_any_target_grid_and_fill_outside(noise):
    target = Grid((30, 9, 40), (0.7, 1.1, 0.8), (-9.0, 13.0, 98.0))
    out = resample(noise, grid=target, antialias=False, fill=-4.0)
    index = index_of(target, GRID)
    inside = ((index >= 0) & (index <= np.reshape(GRID.shape, (3, 1, 1, 1)) - 1)).all(axis=0)
    expected = map_coordinates(noise.values.astype(np.float64), index, order=3, mode="mirror")
    assert 0 < inside.sum() < inside.size
    assert np.abs(out.values - expected)[inside].max() < 5e-6
    assert (out.values[~inside] == -4).all()


def test_target_that_does_not_meet_the_map_is_all_fill(noise):
    out = resample(noise, grid=Grid((4, 4, 4), 1.0, (500, 500, 500)), fill=1.5)
    assert (out.values == 1.5).all()


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    voxel=st.tuples(*[st.floats(0.4, 3)] * 3),
    new=st.tuples(*[st.floats(0.4, 4)] * 3),
    origin=st.tuples(*[st.floats(-200, 200)] * 3),
)
def test_every_box_keeps_origin_spacing_and_range(shape, voxel, new, origin):
    values = np.random.default_rng(5).random(shape)
    volume = Volume(values, Grid(shape, voxel, origin))
    for method in ("cubic", "linear", "fourier", "nearest"):
        out = resample(volume, new, method=method)
        assert out.origin == volume.origin
        assert out.voxel_size == new
        assert (out.grid.upper <= volume.grid.upper + 1e-5).all()
        assert np.isfinite(out.values).all()
        if method in ("linear", "nearest"):
            assert out.min >= volume.min - 1e-6
            assert out.max <= volume.max + 1e-6


@settings(deadline=None, max_examples=25)
@given(
    voxel=st.tuples(*[st.floats(0.5, 2.5)] * 3),
    shift=st.tuples(*[st.floats(-3, 3)] * 3),
    axis=st.integers(0, 2),
)
def test_moving_the_frame_or_flipping_an_axis_changes_nothing(voxel, shift, axis):
    shape = (11, 12, 9)
    values = np.random.default_rng(8).normal(size=shape)
    base = Grid(shape, 1.0)
    target = Grid((7, 6, 8), voxel, (0.3, 0.2, 0.1))
    out = resample(Volume(values, base), grid=target)
    moved = resample(
        Volume(values, Grid(shape, 1.0, shift)),
        grid=Grid(target.shape, voxel, tuple(target.lower + shift)),
    )
    assert np.abs(out.values - moved.values).max() < 2e-4
    # A target that is symmetric in the box, so that flipping maps it onto itself.
    centre = (base.lower + base.upper) / 2
    target = Grid((4, 5, 6), voxel, tuple(centre - np.array((5, 4, 3)) / 2 * voxel))
    out = resample(Volume(values, base), grid=target)
    flipped = resample(Volume(np.flip(values, axis).copy(), base), grid=target)
    assert np.abs(np.flip(out.values, axis) - flipped.values).max() < 1e-4


def test_metadata_identity_and_input(noise):
    before = noise.values.copy()
    out = resample(noise, 1.5)
    assert out.name == "noise"
    assert out.history == ("made", "resampled to 1.5 Å (cubic)")
    assert np.array_equal(noise.values, before)
    same = resample(noise, GRID.voxel_size)
    assert np.array_equal(same.values, before)
    assert same.grid == GRID


# ---- labels and probabilities ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_labels_take_the_nearest_voxel(rng, dtype):
    labels = LabelVolume(rng.integers(0, 5, GRID.shape).astype(dtype), GRID)
    target = Grid((25, 25, 25), 1.0, (-7.4, 12.0, 99.0))
    out = resample(labels, grid=target)
    index = np.rint(index_of(target, GRID)).astype(int)
    fractional = index_of(target, GRID)
    limit = np.reshape(GRID.shape, (3, 1, 1, 1)) - 1
    inside = ((fractional >= 0) & (fractional <= limit)).all(axis=0)
    clipped = np.clip(index, 0, limit)
    assert type(out) is LabelVolume
    assert out.values.dtype == dtype
    assert np.array_equal(out.values[inside], labels.values[tuple(clipped)][inside])
    assert (out.values[~inside] == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_probabilities_stay_probabilities(rng, dtype):
    raw = rng.dirichlet(np.full(5, 0.3), GRID.shape)
    probabilities = ProbabilityVolume(np.moveaxis(raw, -1, 0).astype(dtype), GRID)
    target = Grid((25, 25, 25), 1.0, (-7.4, 12.0, 99.0))
    out = resample(probabilities, grid=target)
    assert type(out) is ProbabilityVolume
    assert out.values.dtype == dtype
    assert out.values.min() >= 0
    assert out.values.max() <= 1
    assert np.allclose(out.values.astype(np.float32).sum(axis=0), 1, atol=5e-3)
    outside = ~((index_of(target, GRID) >= 0).all(axis=0))
    assert (out["background"].values[outside] == 1).all()
    # The same as interpolating each class by itself.
    helix = resample(probabilities["helix"], grid=target, method="linear")
    assert np.abs(out["helix"].values - helix.values).max() < 1e-3
    points = target.to_points(rng.uniform(1, 17, (50, 3)).round())
    read = RegularGridInterpolator(GRID.axes(), raw.T[1])(points)
    index = np.rint(target.to_index(points)).astype(int)
    assert np.allclose(out["helix"].values[tuple(index.T)], read, atol=1e-3)


def test_probabilities_can_take_the_nearest_voxel(rng):
    values = rng.random((5, *GRID.shape)).astype(np.float16)
    out = resample(ProbabilityVolume(values, GRID), np.array(GRID.voxel_size) * 2, method="nearest")
    assert np.array_equal(out.values, values[:, ::2, ::2, ::2])


# ---- refusals ----------------------------------------------------------------------------------


def test_bad_requests_are_refused(noise):
    with pytest.raises(GridError, match="neither was given"):
        resample(noise)
    with pytest.raises(GridError, match="both were given"):
        resample(noise, 1.0, grid=GRID)
    with pytest.raises(CryonbError, match="one of cubic, linear, fourier, nearest"):
        resample(noise, 1.0, method="quintic")
    with pytest.raises(GridError, match="must be positive"):
        resample(noise, -1.0)
    with pytest.raises(GridError, match="larger voxel size"):
        resample(noise, 0.002)
    labels = LabelVolume(np.zeros(GRID.shape, np.uint8), GRID)
    with pytest.raises(CryonbError, match="of a LabelVolume is one of nearest"):
        resample(labels, 1.0, method="cubic")
    probabilities = ProbabilityVolume(np.zeros((5, *GRID.shape), np.float16), GRID)
    with pytest.raises(CryonbError, match="one of linear, nearest"):
        resample(probabilities, 1.0, method="cubic")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_values_that_are_not_finite_are_refused(noise, bad):
    values = noise.values.copy()
    values[3, 4, 5] = bad
    with pytest.raises(CryonbError, match="finite"):
        resample(Volume(values, GRID), 0.8)


def test_peak_memory_is_the_output_and_little_more():
    import tracemalloc

    values = np.zeros((120, 120, 120), dtype=np.float32)
    volume = Volume(values, Grid(values.shape))
    resample(Volume(values[:9, :9, :9], Grid((9, 9, 9))), 0.9)  # imports and caches
    tracemalloc.start()
    out = resample(volume, 0.8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.2 * out.values.nbytes
