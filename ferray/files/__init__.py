"""Files that are whole or not there: storage, journals of lines with checksums, input that may be hostile."""
