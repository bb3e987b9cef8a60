"""The small parts of `train_fixtures`, as fixtures."""

from train_fixtures import one_thread, small_rows, store, weights

__all__ = ["one_thread", "small_rows", "store", "weights"]
