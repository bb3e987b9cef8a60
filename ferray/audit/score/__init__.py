"""The audit of a reported score: it is recomputed and examined. Begin at `audit.audit`."""
