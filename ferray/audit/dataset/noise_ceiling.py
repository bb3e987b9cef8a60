"""The noise ceiling (label-noise ceiling): the best accuracy that is possible with labels as noisy as those of copies.

Copies of a photograph were labeled independently. Let p be the distribution of the labels that a face would get. Two
copies agree with probability sum(p^2), and the best prediction is right with probability max(p), which lies between
sum(p^2) and its root. Averaged over faces, by Jensen's inequality, with a for the agreement of two copies:

    a  <=  best possible accuracy  <=  sqrt(a)

Begin at `measure_noise_ceiling`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.intervals import Bootstrap, draw_totals

NUM_RESAMPLES = 2000
"""Resamples of the groups, for the intervals."""
MIN_GROUPS = 30
"""With fewer groups the intervals are rough."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval, from a bootstrap over groups."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, kw_only=True)
class NoiseCeiling:
    """How far the labels of copies agree; each group of copies has the same weight."""

    num_groups: int
    """Groups of two faces or more."""
    num_faces: int
    """Faces in those groups."""
    conflicts: Estimate
    """Share of the groups whose labels disagree."""
    agreement: Estimate
    """a: the probability that two copies of a face have the same label."""
    upper_bound: Estimate
    """sqrt(a): no classifier is expected to be more accurate; the best possible accuracy lies between a and this."""
    best_constant: Estimate
    """Accuracy of the most frequent label of each group: optimistic, since it is chosen with the labels it predicts."""
    kappa: Estimate | None
    """Cohen's kappa of two copies: their agreement beyond chance. None where all faces have the same label."""

    def __str__(self) -> str:
        lines = [
            f"{self.num_groups:,} faces appear more than once, in {self.num_faces:,} copies [95 % intervals]",
            f"  copies that disagree on the label  {self.conflicts} of the groups",
            f"  two copies agree (a)               {self.agreement}",
            f"  best possible accuracy, at most    {self.upper_bound}, the root of a; and at least a",
            f"  most frequent label of each group  {self.best_constant}, optimistic for groups of two",
            f"  agreement beyond chance (kappa)    {self.kappa or 'undefined: one label only'}",
            "  This holds for faces like those that were copied. If a class was cut from the",
            "  list, its agreeing copies are missing, and the agreement above is too low.",
        ]
        if self.num_groups < MIN_GROUPS:
            lines.append(f"  Only {self.num_groups} groups: these numbers are rough.")
        return "\n".join(lines)


def measure_noise_ceiling(
    groups: NDArray[np.int64], labels: NDArray[np.int64], *, seed: int = 0
) -> NoiseCeiling | None:
    """Measure the noise ceiling on copies.

    Args:
        groups: Equal numbers for copies of the same face, shape (faces,).
        labels: Classes from 0, shape (faces,).
        seed: Seed of the bootstrap.

    Returns:
        None where no face has a copy.

    Sources: Cohen, "A coefficient of agreement for nominal scales", 1960, over all ordered pairs of copies, each group
    with the same weight; Efron, "Bootstrap methods", 1979, percentile intervals.
    """
    counts = _count_labels(groups, labels)
    num_groups = len(counts)
    if not num_groups:
        return None
    size = counts.sum(axis=1)
    shares = counts / size[:, None]
    agreement = (counts * (counts - 1)).sum(axis=1) / (size * (size - 1))
    by_group = np.column_stack([agreement < 1, agreement, shares.max(axis=1), shares])
    means = by_group.mean(axis=0, keepdims=True)
    drawn_means = draw_totals(by_group, Bootstrap(seed=seed, resamples=NUM_RESAMPLES)) / num_groups

    def estimate(statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Estimate:
        low, high = np.nanquantile(statistic(drawn_means), [0.025, 0.975])
        return Estimate(float(statistic(means)[0]), float(low), float(high))

    has_one_label = bool((shares > 0).any(axis=0).sum() == 1)
    return NoiseCeiling(
        num_groups=num_groups,
        num_faces=int(size.sum()),
        conflicts=estimate(lambda means: means[:, 0]),
        agreement=estimate(lambda means: means[:, 1]),
        upper_bound=estimate(lambda means: np.sqrt(means[:, 1])),
        best_constant=estimate(lambda means: means[:, 2]),
        kappa=None if has_one_label else estimate(_kappa),
    )


def _count_labels(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of faces by group and label, shape (groups of two or more, classes)."""
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    counts = np.zeros((len(size), int(labels.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(counts, (group, labels), 1)
    return counts[size > 1]


def _kappa(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Agreement beyond that of two labels drawn from all copies; NaN for a resample with a single label."""
    by_chance = (means[:, 3:] ** 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance < 1, (means[:, 1] - by_chance) / (1 - by_chance), np.nan)
