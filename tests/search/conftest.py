"""The small parts of `train_fixtures`, as fixtures."""

from train_fixtures import one_thread, small_rows

__all__ = ["one_thread", "small_rows"]
