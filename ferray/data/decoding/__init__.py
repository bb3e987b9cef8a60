"""From the bytes of a picture file to pixels, or to a reason why not. Begin at `client`."""
