"""The held-out test split: it is read once, and every reading is on record. Begin at `read_once`."""
