"""Ask TEMPy for SMOC: the reference of tests/evaluate.

    pip install BioTEMPy==2.1.2 voxcov                    # in an environment of its own
    CRYONB_DATA=<folder of maps> python tests/reference/tempy_smoc.py

writes tempy_smoc.csv beside this file. What is compared with the map is the map itself, moved on
by two voxels along x, so that the way in which a model map is made plays no part. TEMPy's counter
of voxels (voxcov 0.2.8) takes the origin for the corner of the first voxel, not for its centre, so
the atoms are moved by half a voxel to meet it.
"""

import csv
import gzip
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import gemmi
import numpy as np
from TEMPy.maps.map_parser import MapParser
from TEMPy.protein.scoring_functions import FastSMOC

data = Path(os.environ["CRYONB_DATA"]) / "maps" / "5925"
with tempfile.NamedTemporaryFile(suffix=".mrc") as file:
    file.write(gzip.decompress((data / "5925_from_situs.mrc.gz").read_bytes()))
    file.flush()
    density = MapParser.readMRC(file.name)
other = density.copy()
other.fullMap = np.roll(density.fullMap, 2, axis=2)
# Its own reader stops with gemmi of today; all that the score reads of a model is this.
half = [step / 2 for step in density.apix]
chain = gemmi.read_structure(str(data / "5925_native.pdb"))[0][0]
atoms = [
    SimpleNamespace(
        chain="A",
        res_no=residue.seqid.num,
        x=atom.pos.x + half[0],
        y=atom.pos.y + half[1],
        z=atom.pos.z + half[2],
    )
    for residue in chain
    for atom in residue
    if not atom.is_hydrogen()
]
model = SimpleNamespace(atomList=atoms)
scores = FastSMOC(model, density, 3.64, sim_map=other).score_chain_contig("A", 11)
with (Path(__file__).parent / "tempy_smoc.csv").open("w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["residue", "smoc"])
    writer.writerows((number, f"{score:.6f}") for number, score in scores.items())
