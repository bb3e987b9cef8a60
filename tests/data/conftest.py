"""The small data sets of `fixtures.trees`, as fixtures."""

from fixtures.trees import expw, make_tree

__all__ = ["expw", "make_tree"]
