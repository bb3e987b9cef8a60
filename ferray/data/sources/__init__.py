"""One module a data set: where its files are and how its labels read. What all of them hand over is in `rows`."""
