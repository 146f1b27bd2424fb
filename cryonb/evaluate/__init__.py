"""Scores: predictions and models judged against truth and map."""
