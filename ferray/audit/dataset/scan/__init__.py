"""A data set is read once, whatever its form on disk. Begin at `read`."""
