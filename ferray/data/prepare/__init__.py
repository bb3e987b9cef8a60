"""From photographs to a store. Begin at `run`."""
