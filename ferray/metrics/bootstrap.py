"""Intervals from drawing whole groups of faces again and again: faces of one photograph, or copies of it, err together.

Every score of `ferray.report` is a function of totals over faces (hits of a class, faces of a class, a sum of losses),
so one function draws the totals and each module makes its scores of them. Begin at `draw_totals`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

COVERAGE = 0.95
"""Of the intervals."""

RESAMPLES = 2000
"""Draws, unless told otherwise."""

_CELLS_AT_ONCE = 2**22
"""Numbers held at once, 32 MiB."""


def sum_by_group(values: NDArray[Any], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Totals of each group, by ascending group id.

    Args:
        values: Shape (faces, columns).
        groups: Ids, shape (faces,).

    Returns:
        Shape (groups, columns).
    """
    ids, places = np.unique(groups, return_inverse=True)
    columns = [np.bincount(places, weights=column, minlength=len(ids)) for column in values.T]
    return np.stack(columns, axis=1)


def draw_totals(by_group: NDArray[Any], *, seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Totals over as many groups as there are, drawn with replacement, many times.

    Equal groups are drawn together, as one category of a multinomial: the same law, and mostly few categories.

    Args:
        by_group: Each group's own totals, shape (groups, columns).
        seed: Of the draws.
        resamples: Number of draws.

    Returns:
        Shape (resamples, columns).

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; whole groups as in the cluster
        bootstrap of Davison and Hinkley, "Bootstrap Methods and Their Application", 1997, section 3.8.
    """
    num_groups = len(by_group)
    kinds, times = np.unique(by_group, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // max(kinds.shape))
    parts = []
    for begin in range(0, resamples, at_once):
        size = min(at_once, resamples - begin)
        draws = generator.multinomial(num_groups, times / num_groups, size=size)
        parts.append(draws.astype(np.float64) @ kinds.astype(np.float64))
    return np.concatenate(parts)


def percentiles(drawn: NDArray[np.float64]) -> list[Interval | None]:
    """The percentile interval of each column.

    Args:
        drawn: Shape (resamples, columns); NaN where a draw has no value, such as the recall of a class without faces.

    Returns:
        One a column; None where no draw has a value.
    """
    edge = (1 - COVERAGE) / 2
    result: list[Interval | None] = []
    for column in drawn.T:
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, [edge, 1 - edge]) if len(known) else (np.nan, np.nan)
        result.append((float(low), float(high)) if len(known) else None)
    return result
