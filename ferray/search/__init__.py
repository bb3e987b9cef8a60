"""The search: Ray Tune decides, worker groups train, the records remain. Begin at `run`.

`ferray.search` is a function, which runs a search as the command does.
"""
