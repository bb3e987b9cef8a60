"""Which point comes next and which trial stops. Begin at `decisions`."""
