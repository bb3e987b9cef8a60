"""A search while it runs: one value says how far it is, from the driver's memory or from its folder."""
