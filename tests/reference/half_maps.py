"""Two half maps for tests: a real map with independent noise in each, the same every time."""

import gzip
import tempfile
from pathlib import Path

import gemmi
import mrcfile
import numpy as np


def _read(data):
    """Give the map (z, y, x), its voxel size and its origin (x, y, z)."""
    path = Path(data) / "maps" / "6272" / "6272_zone4A.mrc.gz"
    with tempfile.NamedTemporaryFile(suffix=".mrc") as file:
        file.write(gzip.decompress(path.read_bytes()))
        file.flush()
        with mrcfile.open(file.name) as opened:
            origin = np.array([float(opened.header.origin[k]) for k in "xyz"])
            return np.asarray(opened.data, np.float32), float(opened.voxel_size.x), origin


def half_maps(data):
    """Give two halves (z, y, x), the voxel size, and the model with the map's origin at zero."""
    values, voxel, origin = _read(data)
    folder = Path(data) / "maps" / "6272"
    rng = np.random.default_rng(7)
    noise = values.std() * 1.2
    halves = [(values + rng.normal(0, noise, values.shape)).astype(np.float32) for _ in range(2)]
    structure = gemmi.read_structure(str(folder / "3j9s.pdb"))
    structure.remove_hydrogens()
    structure.setup_entities()
    structure.cell = gemmi.UnitCell(*(voxel * np.array(values.shape[::-1])), 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    for site in structure[0].all():
        site.atom.pos = gemmi.Position(*(np.array(site.atom.pos.tolist()) - origin))
    return halves[0], halves[1], voxel, structure


def soft_mask(shape, voxel, structure):
    """1 up to 3 Å from an atom, falling in a straight line to 0 at 8 Å: float32 (z, y, x)."""
    from scipy.spatial import cKDTree

    position = np.array([site.atom.pos.tolist() for site in structure[0].all()])
    points = np.indices(shape).reshape(3, -1).T[:, ::-1] * voxel
    distance, _ = cKDTree(position).query(points, distance_upper_bound=8.0)
    weights = np.clip((8.0 - np.minimum(distance, 8.0)) / 5.0, 0, 1)
    return weights.reshape(shape).astype(np.float32)


def write_all(data, folder):
    """Write half1.mrc, half2.mrc, full.mrc, mask.mrc and model.cif into a folder."""
    first, second, voxel, structure = half_maps(data)
    maps = {
        "half1": first, "half2": second, "full": (first + second) / 2,
        "mask": soft_mask(first.shape, voxel, structure),
    }  # fmt: skip
    for name, values in maps.items():
        with mrcfile.new(str(Path(folder) / f"{name}.mrc"), overwrite=True) as file:
            file.set_data(values)
            file.voxel_size = voxel
            file.header.ispg = 1
    structure.make_mmcif_document().write_file(str(Path(folder) / "model.cif"))


def uneven_halves(data):
    """Give two halves (z, y, x) that are blurred by 200 Å² where x is high, and the voxel size."""
    values, voxel, _ = _read(data)
    axes = np.meshgrid(*(np.fft.fftfreq(n, voxel) for n in values.shape), indexing="ij")
    s2 = sum(axis**2 for axis in axes)
    blurred = np.fft.ifftn(np.fft.fftn(values) * np.exp(-200 * s2 / 4)).real
    n = values.shape[2]
    share = 1 / (1 + np.exp((np.arange(n) - n / 2) / 3))
    truth = values * share + blurred * (1 - share)
    rng = np.random.default_rng(11)
    noise = 0.6 * values.std()
    halves = [(truth + rng.normal(0, noise, values.shape)).astype(np.float32) for _ in range(2)]
    return halves[0], halves[1], voxel
