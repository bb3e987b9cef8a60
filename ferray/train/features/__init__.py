"""The frozen layers' output for each picture, computed once and shared by all runs of a node. Begin at `view`."""
