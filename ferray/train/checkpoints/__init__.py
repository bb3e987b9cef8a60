"""Checkpoints of a training run, and the model that is exported from it. Begin at `checkpoint`."""
