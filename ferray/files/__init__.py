"""Files: atomic writes, checksums, locks and leases; journals; input that anybody may have written."""
