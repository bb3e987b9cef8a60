"""Confidence intervals: the cluster bootstrap of whole photographs, normal intervals, and Wilson's for a share.

Faces of one photograph, and copies of it, are often misclassified together. A bootstrap that draws single faces gives
intervals that are too narrow, so whole groups of faces are drawn.

Every score is a function of totals over faces: correct predictions of a class, faces of a class, a sum of losses. So
one function draws the totals, and each module computes its scores from them. Begin at `draw_totals`.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Lower and upper bound."""

COVERAGE = 0.95
"""Probability that an interval holds the true value."""

_MAX_CELLS = 2**22
"""Numbers held in memory at a time, 32 MiB."""


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How often a bootstrap draws, and from which seed."""

    resamples: int = 2000
    """Number of draws."""
    seed: int = 0
    """Seed of the random generator."""


BOOTSTRAP = Bootstrap()
"""The bootstrap of every recorded score."""


def sum_by_group(values: NDArray[Any], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Totals of each group, by ascending group id.

    Args:
        values: Shape (faces, columns).
        groups: Group ids, shape (faces,).

    Returns:
        Shape (groups, columns).
    """
    ids, places = np.unique(groups, return_inverse=True)
    columns = [np.bincount(places, weights=column, minlength=len(ids)) for column in values.T]
    return np.stack(columns, axis=1)


def draw_totals(by_group: NDArray[Any], bootstrap: Bootstrap = BOOTSTRAP) -> NDArray[np.float64]:
    """Draw as many groups as there are, with replacement, and add up their totals; repeat that many times.

    Groups with equal totals are drawn as one category of a multinomial distribution. The draws have the same
    distribution, and there are mostly few categories.

    Args:
        by_group: Totals of each group, shape (groups, columns).
        bootstrap: Number of draws and seed.

    Returns:
        Shape (resamples, columns).

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; whole groups as in the cluster
        bootstrap of Davison and Hinkley, "Bootstrap Methods and Their Application", 1997, section 3.8.
    """
    kinds, times = np.unique(by_group, axis=0, return_counts=True)
    return draw_kinds(kinds.astype(np.float64), times, bootstrap)


def draw_kinds(kinds: Any, times: NDArray[np.int64], bootstrap: Bootstrap = BOOTSTRAP) -> NDArray[np.float64]:
    """As `draw_totals`, from the kinds of groups and how often each occurs.

    Args:
        kinds: Totals of the groups of each kind, shape (kinds, columns); may be one of scipy's sparse arrays.
        times: Number of groups of each kind, shape (kinds,).
        bootstrap: Number of draws and seed.

    Returns:
        Shape (resamples, columns).
    """
    num_groups = int(times.sum())
    generator = np.random.default_rng(bootstrap.seed)
    max_draws = max(1, _MAX_CELLS // max(kinds.shape))
    parts = []
    for begin in range(0, bootstrap.resamples, max_draws):
        size = min(max_draws, bootstrap.resamples - begin)
        draws = generator.multinomial(num_groups, times / num_groups, size=size)
        parts.append(draws.astype(np.float64) @ kinds)
    return np.concatenate(parts)


def percentiles(drawn: NDArray[np.float64]) -> list[Interval | None]:
    """The percentile interval of each column.

    Args:
        drawn: Shape (resamples, columns); NaN where a draw has no value, such as the recall of a class without faces.

    Returns:
        One interval per column; None where no draw has a value.
    """
    edge = (1 - COVERAGE) / 2
    result: list[Interval | None] = []
    for column in drawn.T:
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, [edge, 1 - edge]) if len(known) else (np.nan, np.nan)
        result.append((float(low), float(high)) if len(known) else None)
    return result


def normal_interval(value: float, standard_error: float, *, num_comparisons: int = 1) -> Interval:
    """The interval of a value with a normal error.

    Args:
        value: The estimate.
        standard_error: Its standard error.
        num_comparisons: How many intervals together are to have the coverage, by Bonferroni's correction.
    """
    reach = _normal_quantile(num_comparisons) * standard_error
    return value - reach, value + reach


def student_interval(values: Sequence[float]) -> Interval:
    """The interval of the mean of a few values with normal errors of unknown size.

    Args:
        values: Two or more.

    Source: Student, "The Probable Error of a Mean", 1908.
    """
    from scipy.stats import t

    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    reach = float(t.ppf(1 - (1 - COVERAGE) / 2, df=len(values) - 1)) * error
    return mean - reach, mean + reach


def unpaired_difference(one: float, interval_one: Interval, other: float, interval_other: Interval) -> Interval:
    """The interval of `one - other` from the intervals of both, as if their errors had nothing in common.

    Errors of two models on the same pictures have much in common; their difference then varies less than this. Each
    interval counts by its reach to the side that matters, since it may end at the largest or smallest value there is.

    Source: Newcombe, "Interval Estimation for the Difference Between Independent Proportions", 1998, method 10.
    """
    (low_one, high_one), (low_other, high_other) = interval_one, interval_other
    difference = one - other
    low = difference - math.hypot(one - low_one, high_other - other)
    return low, difference + math.hypot(high_one - one, other - low_other)


def wilson_interval(share: float, n: int) -> Interval:
    """The interval of a share among n independent faces.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    z2 = _normal_quantile() ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def certain_interval(share: float, counts: Sequence[int], weights: Sequence[float] = (1.0,)) -> Interval:
    """The interval of a weighted mean of shares that are all 1, or all 0: each draw of a bootstrap has the same value.

    Args:
        share: 0 or 1.
        counts: Independent groups that each share was counted among.
        weights: Of the shares; together at most 1.

    Returns:
        From the mean to one side, by Wilson's intervals of the shares.

    Source: Zou and Donner, "Construction of Confidence Limits About Effect Measures", 2008, for a sum of estimates.
    """
    reach = math.hypot(
        *(weight * wilson_interval(0.0, count)[1] for weight, count in zip(weights, counts, strict=True))
    )
    total = math.fsum(weights)
    return (total - reach, total) if share else (0.0, reach)


def _normal_quantile(num_comparisons: int = 1) -> float:
    """How many standard errors an interval reaches to each side; 1.96 for one comparison."""
    return NormalDist().inv_cdf(1 - (1 - COVERAGE) / 2 / num_comparisons)


def range_text(interval: Interval, digits: int = 4, *, sign: str = "") -> str:
    """An interval in text: `0.1772 to 0.2786`.

    Args:
        interval: Its bounds.
        digits: Digits after the point.
        sign: `+` to show the sign of positive numbers.
    """
    low, high = interval
    return f"{low:{sign}z.{digits}f} to {high:{sign}z.{digits}f}"


def bracket_text(interval: Interval, digits: int = 4, *, sign: str = "") -> str:
    """An interval in brackets: `[0.1772, 0.2786]`; arguments as for `range_text`."""
    low, high = interval
    return f"[{low:{sign}z.{digits}f}, {high:{sign}z.{digits}f}]"
