"""A search whose folder is in a bucket. Begin at `ferray.records.bucket.run`."""
