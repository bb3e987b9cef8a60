"""Small data sets and small models, as fixtures."""

from fixtures.train import small_rows
from fixtures.trees import expw, make_tree

__all__ = ["expw", "make_tree", "small_rows"]
