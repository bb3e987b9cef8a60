"""What a search came to, as values and sentences; no pictures and no HTML. Begin at `read.read_results`."""
