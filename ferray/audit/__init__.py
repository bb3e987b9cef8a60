"""What may be wrong with a data set, and with a score. Begin at `dataset.check` and `score.audit`."""
