"""Checkpoints of a training run, and the model that leaves it. Begin at `checkpoint`."""
