"""Models into maps: rigid placement, and refinement."""
