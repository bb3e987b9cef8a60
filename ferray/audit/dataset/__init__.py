"""Is a data set fit to be scored on? Begin at `check`."""
