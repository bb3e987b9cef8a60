"""Reasons to distrust a reported score: `claims` has the checks of a number, `tables` those of a prediction table."""
