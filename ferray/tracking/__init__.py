"""Mirrors of a search elsewhere, made of its records; nothing of a search is lost if one is."""
