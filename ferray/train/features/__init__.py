"""What a frozen trunk makes of each picture, computed once and shared. Begin at `view`."""
