"""Models into maps: rigid placement."""
