"""The small parts of `fixtures.train`, as fixtures."""

from fixtures.train import small_rows

__all__ = ["small_rows"]
