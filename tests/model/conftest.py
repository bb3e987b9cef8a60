"""The small parts of `fixtures.train`, as fixtures."""

from fixtures.train import small_rows, store, weights

__all__ = ["small_rows", "store", "weights"]
