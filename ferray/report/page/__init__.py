"""The page of a search, `report.html`: one file that needs neither network nor server. Begin at `write.write_page`."""
