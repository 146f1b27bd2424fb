"""Training: recipes, splits, samples, the loop."""
