"""Photographs to stores of faces. Begin at `store` for what a store is, at `prepare` for how one is made."""
