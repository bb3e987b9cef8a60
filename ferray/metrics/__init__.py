"""Scores of a classifier's predictions, each with a confidence interval; NumPy alone. Begin at `scores.score`."""
