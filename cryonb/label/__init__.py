"""Truth from models: secondary structure of residues, classes of voxels."""
