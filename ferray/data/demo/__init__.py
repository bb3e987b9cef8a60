"""Demo faces, drawn by code. Begin at `photographs`."""
