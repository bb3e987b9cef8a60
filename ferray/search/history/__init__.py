"""What a search has on record, and how it goes on or grows. Begin at `resume`."""
