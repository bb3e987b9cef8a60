"""Scores of tables of answers, with intervals; NumPy alone. Begin at `scores.score`."""
