"""Small trunks for the tests of exports."""

from fixtures.train import small_rows

__all__ = ["small_rows"]
