"""Atoms to Volume: density simulated from coordinates."""
