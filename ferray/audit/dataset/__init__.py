"""Can scores on a data set be trusted? Begin at `check`."""
