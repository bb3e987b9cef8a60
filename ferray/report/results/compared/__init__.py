"""Several searches side by side, or one before and after it grew, as values. Begin at `comparison.compare_searches`."""
