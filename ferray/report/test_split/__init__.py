"""The test split: read once, every reading on record. Begin at `read_once`."""
