"""The cluster, the worker groups and what runs in them. Begin at `launch`."""
