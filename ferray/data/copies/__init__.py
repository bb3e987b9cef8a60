"""Copies among pictures. Begin at `find`."""
