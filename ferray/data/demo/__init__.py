"""Demo faces, drawn by code. Begin at `photographs`."""

SIZE_PX = 64
"""Side of the store's pictures; here, where a plan can read it without the libraries that draw."""
