"""Ask cctbx for the correlations of maps with models: the reference of tests/evaluate.

    pip install cctbx-base==2025.11 mrcfile gemmi        # in an environment of its own
    CRYONB_DATA=<folder of maps> python tests/reference/cctbx_correlation.py

writes cctbx_correlation.csv (a row a map; columns *_direct from exact structure factors, the others
from cctbx's default, a fast transform that is right to about 1 %) and cctbx_residues.csv beside
this file. Maps and models are first put into one frame: axes x, y, z, origin 0, cell the whole
box, no hydrogens.
"""

import csv
import gzip
import os
import tempfile
from pathlib import Path

# isort: off
# cctbx crashes unless its data manager is imported first of all.
from iotbx.data_manager import DataManager
from iotbx.map_model_manager import map_model_manager
import gemmi
import mmtbx.maps.correlation
import mrcfile
import numpy as np
from cctbx import maptbx, miller
from mmtbx.maps import map_model_cc
# isort: on

CASES = (
    ("30342", "30342/390_emd_30342_A_z4.mrc.gz", "30342/390_7cec_A.cif", 3.9),
    ("6272", "6272/6272_zone4A.mrc.gz", "6272/3j9s.pdb", 2.6),
    ("20026", "20026/emd20026_prot.mrc.gz", "20026/3ajo_fitted_refined.pdb", 1.75),
    ("5185", "5185/3j06_box.ccp4.gz", "5185/3j06_box_model.pdb", 3.3),
    ("5137", "5137/3los_A_box.ccp4.gz", "5137/3los_A_box_model.pdb", 4.3),
    ("4118", "4118/5ly6_box.ccp4.gz", "4118/5ly6_box_model.pdb", 4.5),
    ("5925", "5925/5925_from_situs.mrc.gz", "5925/5925_native.pdb", 3.64),
    ("20353", "20353/EMD-20353_6PJ6_hairpin3_2606.mrc.gz", "20353/6PJ6_hairpin3_2606.pdb", 2.2),
    ("6374", "6374/6374.mrc.gz", "6374/3jb0-D.pdb", 2.9),
    (
        "5778",
        "5778-snippet/emringer_test_map.ccp4.gz",
        "5778-snippet/emringer_test_model.pdb",
        3.28,
    ),
)
# Those whose residues are written, too.
RESIDUES = ("30342", "5185", "5925", "20353", "5778")
SCORES = ("cc_mask", "cc_volume", "cc_peaks", "cc_box", "cc_image")


def one_frame(map_path, model_path, folder):
    packed = folder / "in.mrc"
    packed.write_bytes(gzip.decompress(Path(map_path).read_bytes()))
    with mrcfile.open(packed, permissive=True) as file:
        header, values = file.header, np.asarray(file.data, np.float32)
        order = [int(header[key]) for key in ("maps", "mapr", "mapc")]
        values = values.transpose([order.index(k) for k in (3, 2, 1)])
        cell = np.array([float(header.cella[k]) for k in "xyz"])
        voxel = cell / [int(header[key]) for key in ("mx", "my", "mz")]
        start = np.zeros(3)
        for axis, key in zip(order, ("nzstart", "nystart", "nxstart"), strict=True):
            start[axis - 1] = int(header[key])
        origin = np.array([float(header.origin[k]) for k in "xyz"])
    shift = origin if origin.any() else start * voxel
    with mrcfile.new(folder / "map.mrc", overwrite=True) as file:
        file.set_data(np.ascontiguousarray(values))
        file.voxel_size = tuple(voxel)
        file.header.ispg = 1
    structure = gemmi.read_structure(str(model_path))
    structure.remove_hydrogens()
    structure.setup_entities()
    structure.cell = gemmi.UnitCell(*(voxel * values.shape[::-1]), 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    structure.ncs.clear()
    for site in structure[0].all():
        site.atom.pos = gemmi.Position(*(np.array(site.atom.pos.tolist()) - shift))
    structure.make_mmcif_document().write_file(str(folder / "model.cif"))
    return folder / "map.mrc", folder / "model.cif"


def answers(map_path, model_path, resolution):
    manager = DataManager()
    both = map_model_manager(
        map_manager=manager.get_real_map(str(map_path)),
        model=manager.get_model(str(model_path)),
        ignore_symmetry_conflicts=True,
    )
    hierarchy, symmetry = both.model().get_hierarchy(), both.crystal_symmetry()
    parameters = map_model_cc.master_params().extract().map_model_cc
    parameters.resolution = resolution
    parameters.scattering_table = "electron"
    parameters.compute.cc_image = True
    task = map_model_cc.map_model_cc(
        map_data=both.map_data(), pdb_hierarchy=hierarchy, crystal_symmetry=symmetry,
        params=parameters,
    )  # fmt: skip
    task.run()
    found = task.get_results()
    row = {key: getattr(task.five_cc.result, key) for key in SCORES}
    for key in ("cc_main_chain", "cc_side_chain"):
        row[key] = getattr(getattr(found, key), "cc", float("nan"))
    row |= {"radius": found.atom_radius, "n_mask": task.five_cc.n_nodes_inside}
    atoms = hierarchy.extract_xray_structure(crystal_symmetry=symmetry)
    atoms.scattering_type_registry(table="electron")
    values = both.map_data()
    exact = miller.fft_map(
        crystal_gridding=maptbx.crystal_gridding(
            unit_cell=atoms.unit_cell(), space_group_info=atoms.space_group_info(),
            pre_determined_n_real=values.accessor().all(),
        ),
        fourier_coefficients=atoms.structure_factors(d_min=resolution, algorithm="direct").f_calc(),
    ).real_map_unpadded()  # fmt: skip
    direct = mmtbx.maps.correlation.five_cc(
        values, atoms, resolution, map_calc=exact, compute_cc_box=True, compute_cc_image=True
    ).result
    row |= {f"{key}_direct": getattr(direct, key) for key in SCORES}
    return row, found.cc_per_residue


def main():
    data = Path(os.environ["CRYONB_DATA"]) / "maps"
    here = Path(__file__).parent
    rows, residues = [], []
    for name, map_name, model_name, resolution in CASES:
        with tempfile.TemporaryDirectory() as folder:
            files = one_frame(data / map_name, data / model_name, Path(folder))
            row, found = answers(*files, resolution)
        texts = {key: f"{value:.6g}" for key, value in row.items()}
        rows.append({"entry": name, "map": map_name, "model": model_name, "d": resolution} | texts)
        if name in RESIDUES:
            residues += [
                {
                    "entry": name, "chain": r.chain_id,
                    "residue": r.resseq.strip() + r.icode.strip(),
                    "name": r.resname.strip(), "cc": f"{r.cc:.4f}",
                }
                for r in found
            ]  # fmt: skip
    for name, table in (("cctbx_correlation.csv", rows), ("cctbx_residues.csv", residues)):
        with (here / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, table[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
