"""What comes of a search: finals, winner, tables, model. Begin at `finals`."""
