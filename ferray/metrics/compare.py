"""Whether one model is better than another, and how much of the best of many scores is luck.

Two models that are 1 point apart on 2,000 faces are equal for all that anybody can tell, unless they are compared face
by face: where both err on the same faces, chance moves both scores alike and their difference little.

The best of many validation scores is the one that chance helped most. `luck_of_the_search` takes that off again.

Begin at `compare_paired`. Pure functions of numbers; nothing here knows of trials.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.bootstrap import COVERAGE, RESAMPLES, Interval, draw_totals, percentiles, sum_by_group

Verdict = Literal["within noise", "beyond noise"]

_GRID = 300
"""Values that a true score may have."""

_ROUNDS = 200
"""Of expectation and maximization; five times as many move the corrected best of 24 scores by .0004 on average."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How much better the first of two models is."""

    difference: float
    """Accuracy of the first less that of the second, mean over seeds."""
    interval: Interval
    """95 %, over the choice of photographs and, with several seeds, over seeds."""
    p: float
    """Two-sided, that the difference is 0."""
    seeds: int
    groups: int
    """Photographs."""

    @property
    def verdict(self) -> Verdict:
        """Whether the interval leaves out 0."""
        low, high = self.interval
        return "within noise" if low <= 0 <= high else "beyond noise"


def compare_paired(
    correct_a: NDArray[Any],
    correct_b: NDArray[Any],
    groups: NDArray[np.int64],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two models face by face and seed by seed.

    Photographs and seeds are drawn independently of each other, and a draw has one seed less than there are: drawing
    all would make the variance of few seeds too small by (seeds - 1) / seeds. With one seed the interval is over
    photographs alone, and says nothing of another seed. Of pairs of equal models it calls 7 % different with one seed
    (300 faces), 2 to 4 % with several where seeds matter, and next to none where they do not.

    Args:
        correct_a: Whether the first model is right, shape (seeds, faces), or (faces,) for one seed.
        correct_b: The second, same shape, same seeds in the same order.
        groups: Ids of the photographs, shape (faces,).
        seed: Of the bootstrap.
        resamples: Bootstrap draws.

    Raises:
        ValueError: Shapes that disagree.

    Source: Owen, "The Pigeonhole Bootstrap", 2007, for two crossed sets of draws, which errs on the wide side; one less
        than there are: Rao and Wu, "Resampling Inference with Complex Survey Data", 1988.
    """
    a, b = (np.atleast_2d(some).astype(np.float64) for some in (correct_a, correct_b))
    if a.shape != b.shape or groups.shape != a.shape[1:]:
        raise ValueError(f"{a.shape}, {b.shape} and groups {groups.shape} do not belong together")
    num_seeds = len(a)
    faces = np.ones((1, a.shape[1]))
    by_group = sum_by_group(np.concatenate([a - b, faces]).T, groups)
    totals = draw_totals(by_group, seed=seed, resamples=resamples)
    of_seeds = totals[:, :-1] / totals[:, -1:]
    drawn = max(1, num_seeds - 1)
    weights = np.random.default_rng([seed, 1]).multinomial(drawn, [1 / num_seeds] * num_seeds, size=resamples) / drawn
    differences = (of_seeds * weights).sum(axis=1)
    (interval,) = percentiles(differences[:, None])
    assert interval is not None
    beyond = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return Comparison(
        difference=float((a - b).mean()),
        interval=interval,
        p=float(min(1.0, 2 * (1 + beyond) / (1 + resamples))),
        seeds=num_seeds,
        groups=len(by_group),
    )


@dataclass(frozen=True, kw_only=True)
class Luck:
    """What is left of the best of many scores."""

    best: float
    """As measured."""
    corrected: float
    """What another validation split of the same size would give, on average."""
    interval: Interval
    """95 %, of the winner's true score."""

    @property
    def luck(self) -> float:
        """What chance added to the best score."""
        return self.best - self.corrected


def luck_of_the_search(scores: Sequence[float], standard_error: float, *, correlation: float = 0.0) -> Luck:
    """Correct the best of many scores for having been chosen.

    Each score is a true one and a normal error. The distribution of the true scores is estimated from all scores, as
    the one under which these are most likely, and the winner's corrected score is its expectation given what was
    measured: that is right on average however the winner was chosen. Failed trials far below pull nothing down, as they
    would with a normal distribution of true scores.

    Trials are scored on the same faces, so they share a part of the error, which helps none of them to win:
    `correlation` takes it out of the luck, but not out of the interval. Without it the correction is the most cautious.

    Args:
        scores: Of all trials, larger is better, for example validation accuracy. Ones that were stopped early belong
            here as well as those that ended.
        standard_error: Of one score, by the choice of validation faces; `binomial_error` for accuracy.
        correlation: Of the errors of two trials, in [0, 1).

    Raises:
        ValueError: No scores, or a standard error or a correlation out of bounds.

    Source: nonparametric maximum likelihood of the true scores: Kiefer and Wolfowitz, 1956; Koenker and Mizera, "Convex
        Optimization, Shape Constraints, Compound Decisions, and Empirical Bayes Rules", 2014. Posterior means bear no
        bias of selection: Efron, "Tweedie's Formula and Selection Bias", 2011.
    """
    measured = np.asarray(scores, dtype=np.float64)
    if not len(measured) or not standard_error > 0 or not 0 <= correlation < 1:
        raise ValueError(f"{len(measured)} scores, standard error {standard_error}, correlation {correlation}")
    own_error = standard_error * math.sqrt(1 - correlation)
    distinct, times = np.unique(measured, return_counts=True)
    true = np.linspace(distinct[0], distinct[-1], _GRID)
    log_likelihood = -(((distinct[:, None] - true) / own_error) ** 2) / 2
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))  # up to a factor a score
    weights = np.full(_GRID, 1 / _GRID)
    for _ in range(_ROUNDS):
        posterior = likelihood * weights
        posterior /= posterior.sum(axis=1, keepdims=True)
        weights = times @ posterior / len(measured)
    corrected = float(posterior[-1] @ true)
    reach = NormalDist().inv_cdf((1 + COVERAGE) / 2) * standard_error
    return Luck(best=float(distinct[-1]), corrected=corrected, interval=(corrected - reach, corrected + reach))


def binomial_error(accuracy: float, n: int) -> float:
    """Standard error of an accuracy on n independent photographs."""
    return math.sqrt(accuracy * (1 - accuracy) / n)
