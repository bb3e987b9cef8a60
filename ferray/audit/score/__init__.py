"""Somebody's score, recomputed and examined. Begin at `audit`."""
