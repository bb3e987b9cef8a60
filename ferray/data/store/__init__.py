"""What a store is on disk, and how it is opened and written. Begin at `reader`."""
