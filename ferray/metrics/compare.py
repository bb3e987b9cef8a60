"""Whether one model is better than another, and how much of the best of many scores is selection bias.

Two models whose accuracies differ by 1 point on 2,000 faces are indistinguishable by their separate intervals. A paired
comparison, face by face, can tell them apart: where both are wrong on the same faces, chance moves both accuracies
alike and their difference little.

The best of many validation scores is too high on average, because it was chosen for being high. Statistics calls this
the winner's curse, or selection bias (Efron, "Tweedie's Formula and Selection Bias", 2011; Andrews, Kitagawa and
McCloskey, "Inference on Winners", 2024; for the choice among trained models, Cawley and Talbot, "On Over-fitting in
Model Selection and Subsequent Selection Bias in Performance Evaluation", 2010). `correct_selection_bias` removes it.

Begin at `compare_paired`. All functions are pure; none knows of trials.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    draw_totals,
    normal_interval,
    percentiles,
    sum_by_group,
)

Conclusion = Literal["within noise", "beyond noise"]

MIN_DIFFERING = 6
"""Photographs on which two models must differ before any test can tell them apart: if chance decides who is ahead on
each, one of the two is ahead on all of 5 with probability 0.06, on all of 6 with 0.03."""

_GRID_SIZE = 300
"""Number of values that a true score may have."""

_NUM_ITERATIONS = 200
"""Of expectation and maximization; five times as many move the corrected best of 24 scores by .0004 on average."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How much better the first of two models is."""

    difference: float
    """Accuracy of the first minus that of the second, mean over seeds."""
    interval: Interval
    """95 %, over the choice of photographs and, with several seeds, over seeds."""
    p: float
    """Two-sided p value of the hypothesis that the difference is 0."""
    seeds: int
    """Number of seeds."""
    groups: int
    """Number of photographs."""

    @property
    def conclusion(self) -> Conclusion:
        """Whether the interval excludes 0."""
        low, high = self.interval
        return "within noise" if low <= 0 <= high else "beyond noise"


def compare_paired(
    correct_a: NDArray[Any],
    correct_b: NDArray[Any],
    groups: NDArray[np.int64],
    *,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Comparison:
    """Compare two models face by face and seed by seed.

    Photographs and seeds are drawn independently of each other. A draw has one seed less than there are: drawing all of
    them would make the variance of few seeds too small by (seeds - 1) / seeds. With one seed the interval covers the
    choice of photographs alone, not the choice of the seed. Of pairs of equal models it calls 7 % different with one
    seed (300 faces), 2 to 4 % with several where seeds matter, and almost none where they do not.

    Args:
        correct_a: Whether the first model is correct, shape (seeds, faces), or (faces,) for one seed.
        correct_b: Whether the second model is correct: the same shape, the same seeds in the same order.
        groups: Ids of the photographs, shape (faces,).
        bootstrap: Number of draws and seed.

    Fewer than `MIN_DIFFERING` photographs on which the models differ are never beyond noise.

    Raises:
        ValueError: The shapes disagree.

    Source: Owen, "The Pigeonhole Bootstrap", 2007, for two crossed sets of draws; its intervals are rather too wide
        than too narrow. One seed less: Rao and Wu, "Resampling Inference with Complex Survey Data", 1988.
    """
    a, b = (np.atleast_2d(each).astype(np.float64) for each in (correct_a, correct_b))
    if a.shape != b.shape or groups.shape != a.shape[1:]:
        raise ValueError(f"{a.shape}, {b.shape} and groups {groups.shape} do not belong together")
    num_seeds = len(a)
    faces = np.ones((1, a.shape[1]))
    by_group = sum_by_group(np.concatenate([a - b, faces]).T, groups)
    totals = draw_totals(by_group, bootstrap)
    of_seeds = totals[:, :-1] / totals[:, -1:]
    num_drawn, generator = max(1, num_seeds - 1), np.random.default_rng([bootstrap.seed, 1])
    weights = generator.multinomial(num_drawn, [1 / num_seeds] * num_seeds, size=bootstrap.resamples) / num_drawn
    differences = (of_seeds * weights).sum(axis=1)
    (interval,) = percentiles(differences[:, None])
    assert interval is not None
    num_differing = int(np.count_nonzero(by_group[:, :-1].sum(axis=1)))
    if num_differing < MIN_DIFFERING:  # draws from so few groups are hardly ever on the other side of 0
        interval = min(interval[0], 0.0), max(interval[1], 0.0)
    beyond = min(np.sum(differences <= 0), np.sum(differences >= 0))
    of_draws, of_signs = 2 * (1 + beyond) / (1 + bootstrap.resamples), 2.0 ** (1 - num_differing)
    return Comparison(
        difference=float((a - b).mean()),
        interval=interval,
        p=float(min(1.0, max(of_draws, of_signs))),
        seeds=num_seeds,
        groups=len(by_group),
    )


@dataclass(frozen=True, kw_only=True)
class SelectionBias:
    """How much of the best of many scores is selection bias."""

    best: float
    """The best score, as measured."""
    corrected: float
    """What the winner would score on another validation split of the same size, on average."""
    interval: Interval
    """95 %, of the winner's true score."""

    @property
    def bias(self) -> float:
        """By how much the best score is too high, on average."""
        return self.best - self.corrected


def correct_selection_bias(
    scores: Sequence[float],
    standard_error: float,
    *,
    correlation: float = 0.0,
    bounds: Interval = (0.0, 1.0),
) -> SelectionBias:
    """Correct the best of many scores for having been chosen.

    Each score is a true score plus a normal error. The distribution of the true scores is estimated from all scores, as
    the one under which these are most likely. The corrected score is the posterior mean of the winner's true score,
    which is right on average however the winner was chosen. Failed trials with scores far below do not lower it, as
    they would if the true scores were taken for normally distributed.

    Trials are scored on the same faces, so their errors have a common part, which helps none of them to win.
    `correlation` excludes this part from the bias, but not from the interval. Without it the correction is largest.

    Args:
        scores: Of all trials, for example validation accuracies; larger is better. Trials that were stopped early
            belong here as well.
        standard_error: Of one score, over the choice of validation faces.
        correlation: Of the errors of two trials, in [0, 1).
        bounds: The smallest and the largest score that there can be; the interval does not overrun them.

    Raises:
        ValueError: No scores, or a standard error or a correlation out of bounds.

    Source: nonparametric maximum likelihood of the true scores: Kiefer and Wolfowitz, 1956; Koenker and Mizera, "Convex
        Optimization, Shape Constraints, Compound Decisions, and Empirical Bayes Rules", 2014. Posterior means have no
        selection bias: Efron, 2011.
    """
    measured = np.asarray(scores, dtype=np.float64)
    if not len(measured) or not standard_error > 0 or not 0 <= correlation < 1:
        raise ValueError(f"{len(measured)} scores, standard error {standard_error}, correlation {correlation}")
    own_error = standard_error * math.sqrt(1 - correlation)
    distinct, times = np.unique(measured, return_counts=True)
    true = np.linspace(distinct[0], distinct[-1], _GRID_SIZE)
    log_likelihood = -(((distinct[:, None] - true) / own_error) ** 2) / 2
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))  # up to one factor per score
    weights = np.full(_GRID_SIZE, 1 / _GRID_SIZE)
    for _ in range(_NUM_ITERATIONS):
        posterior = likelihood * weights
        posterior /= posterior.sum(axis=1, keepdims=True)
        weights = times @ posterior / len(measured)
    corrected = float(posterior[-1] @ true)
    low, high = normal_interval(corrected, standard_error)
    return SelectionBias(
        best=float(distinct[-1]), corrected=corrected, interval=(max(low, bounds[0]), min(high, bounds[1]))
    )
