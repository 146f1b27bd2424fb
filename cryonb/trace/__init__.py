"""From densities to models."""
