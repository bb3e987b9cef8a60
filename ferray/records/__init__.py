"""The folder `runs/NAME`: what is true of a search. Begin at `run`."""
