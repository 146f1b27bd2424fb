"""Neural networks, one file an architecture, and their weights."""
