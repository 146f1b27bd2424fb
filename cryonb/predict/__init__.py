"""Networks applied to maps: cut into tiles, run, stitched."""
