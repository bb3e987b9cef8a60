"""Why a score may not be what it seems: doubts about claims in `claims`, about tables of answers in `tables`."""
