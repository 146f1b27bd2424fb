"""Double helices as fibre diffraction gives them: cylindrical coordinates of one nucleotide.

Published tables, in their own frame: the helix axis is z, the two-fold axis between the chains
is x, and the chain whose coordinates are given runs down z from 5' to 3'. B-DNA: Arnott & Hukins,
Biochem. Biophys. Res. Commun. 47, 1504 (1972). A-RNA: Arnott, Hukins & Dover, ibid. 48, 1392
(1972). Bonds to the neighbours come out right only if every number of a table is, which the
tests check.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["A_RNA", "B_DNA", "Fibre"]


@dataclass(frozen=True, eq=False)
class Fibre:
    """The repeating unit of a double helix.

    Attributes
    ----------
    twist, rise : float
        From one base pair to the next, in degrees and Å.
    backbone : str
        Lines of atom name, radius (Å), angle (degrees), height (Å): phosphate and sugar. The O3'
        is that of the residue before, to which the phosphate is bonded.
    bases : dict of str
        The same of each base, by its letter.
    pairs, residue_names : dict of str
        The complement of each base, and the name that a structure file gives its nucleotide.
    """

    twist: float
    rise: float
    backbone: str
    bases: dict[str, str]
    pairs: dict[str, str]
    residue_names: dict[str, str]

    def nucleotide(self, base: str) -> tuple[list[str], np.ndarray]:
        """Names and positions (k, 3) in Å of the heavy atoms of the nucleotide at height 0."""
        lines = (self.backbone.strip() + self.bases[base].rstrip()).splitlines()
        rows = [line.split() for line in lines]
        names = [row[0] for row in rows]
        radius, angle, height = np.array([row[1:] for row in rows], dtype=np.float64).T
        previous = names.index("O3'")
        angle[previous] -= self.twist
        height[previous] -= self.rise
        angle = np.radians(angle)
        return names, np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


B_DNA = Fibre(
    twist=36.0,
    rise=3.38,
    backbone="""
P    8.91  95.2  2.08
OP1 10.20  91.1  1.86
OP2  8.82 103.3  1.29
O5'  7.73  88.0  1.83
C5'  7.70  79.8  2.77
C4'  7.59  69.9  2.04
O4'  6.22  66.0  1.83
C3'  8.20  69.9  0.64
O3'  8.75  97.4  3.63
C2'  7.04  73.2 -0.24
C1'  5.86  67.4  0.47
""",
    bases={
        "A": """
N9 4.63  76.6 0.42
C8 4.84  93.0 0.50
N7 3.95 105.4 0.43
C5 2.74  94.0 0.28
C6 1.41 107.2 0.15
N6 1.83 154.0 0.14
N1 0.86  40.1 0.03
C2 2.17  30.6 0.04
N3 3.24  47.0 0.16
C4 3.33  70.5 0.28
""",
        "C": """
N1 4.63  76.6 0.42
C2 3.40  67.4 0.27
O2 3.69  47.9 0.18
N3 2.31  83.9 0.22
C4 2.94 110.0 0.32
N4 2.76 136.6 0.27
C5 4.35 107.0 0.47
C6 4.99  92.2 0.52
""",
        "G": """
N9 4.63  76.6  0.42
C8 4.82  93.2  0.50
N7 3.92 105.7  0.42
C5 2.70  94.0  0.28
C6 1.39 109.3  0.15
O6 1.71 154.6  0.13
N1 0.92  37.9  0.03
C2 2.28  28.7  0.03
N2 3.01   4.2 -0.10
N3 3.29  46.7  0.16
C4 3.33  70.3  0.28
""",
        "T": """
N1 4.63  76.6 0.42
C2 3.42  67.3 0.27
O2 3.64  47.8 0.18
N3 2.36  85.2 0.23
C4 2.98 111.9 0.32
O4 2.82 136.3 0.27
C5 4.38 106.9 0.47
C7 5.40 119.8 0.58
C6 5.01  92.3 0.52
""",
    },
    pairs={"A": "T", "C": "G", "G": "C", "T": "A"},
    residue_names={"A": "DA", "C": "DC", "G": "DG", "T": "DT"},
)

A_RNA = Fibre(
    twist=32.7,
    rise=2.81,
    backbone="""
P    8.71 70.5 -3.75
OP1  9.59 71.2 -4.94
OP2  7.50 76.6 -3.80
O5'  8.49 60.1 -3.48
C5'  9.75 55.8 -3.35
C4'  9.68 46.9 -3.10
O4'  9.15 45.3 -1.77
C3'  8.86 41.4 -4.02
O3'  9.54 72.8 -2.44
C2'  8.82 33.2 -3.17
O2' 10.15 30.2 -3.14
C1'  8.55 36.9 -1.77
""",
    bases={
        "A": """
N9 7.12 37.2 -1.39
C8 6.39 47.0 -1.33
N7 5.15 46.2 -0.95
C5 5.14 30.9 -0.75
C6 4.39 17.4 -0.34
N6 3.08 15.6 -0.05
N1 5.28  5.5 -0.24
C2 6.54  8.7 -0.54
N3 7.15 18.0 -0.93
C4 6.44 27.6 -1.01
""",
        "C": """
N1 7.12 37.2 -1.39
C2 6.61 26.8 -1.04
O2 7.51 19.9 -1.06
N3 5.32 24.4 -0.68
C4 4.50 36.8 -0.67
N4 3.23 36.1 -0.31
C5 5.26 50.6 -1.03
C6 6.53 47.6 -1.38
""",
        "G": """
N9 7.12 37.2 -1.39
C8 6.36 47.0 -1.32
N7 5.11 46.0 -0.94
C5 5.13 30.5 -0.74
C6 4.34 17.1 -0.33
O6 3.16 13.9 -0.04
N1 5.35  5.5 -0.26
C2 6.67  8.5 -0.55
N2 7.58  0.7 -0.42
N3 7.20 18.0 -0.94
C4 6.44 27.5 -1.01
""",
        "U": """
N1 7.12 37.2 -1.39
C2 6.63 26.9 -1.04
O2 7.46 19.6 -1.04
N3 5.31 25.2 -0.69
C4 4.42 37.8 -0.66
O4 3.24 37.1 -0.32
C5 5.28 50.8 -1.04
C6 6.54 47.7 -1.38
""",
    },
    pairs={"A": "U", "C": "G", "G": "C", "U": "A"},
    residue_names={"A": "A", "C": "C", "G": "G", "U": "U"},
)
