"""The small parts of `fixtures.train`, as fixtures."""

from fixtures.train import one_thread, small_rows, store, weights

__all__ = ["one_thread", "small_rows", "store", "weights"]
