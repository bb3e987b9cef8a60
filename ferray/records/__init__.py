"""All that is on record of a search: trials, points, tables, and the folder that holds them. Begin at `run`."""
