"""The search: Ray Tune decides, worker groups train, the records remain. Begin at `run`."""
