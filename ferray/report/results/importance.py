"""Which settings moved the score: functional ANOVA over a random forest, by Optuna.

Begin at `measure_importance`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ferray.records.points import Point
from ferray.report.results.series import pick_evenly

NUM_TREES = 64
MAX_DEPTH = 5
"""Of a tree. Optuna's own 64 take 3 s of 200 points, 5 take 0.3 s, and shares differ by .02 at most (decision 0053)."""

MAX_POINTS = 2000
"""Of more, some at even ranks are taken, since every point takes a millisecond."""

MIN_POINTS = 4
"""With fewer there is nothing to fit."""

POINTS_PER_SETTING = 10
"""With fewer points per setting the shares are uncertain."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The share of the variance of scores that each setting explains by itself."""

    shares: dict[str, float]
    """By setting, largest first; interactions of settings have the rest."""
    num_points: int
    """That the forest was fitted to."""
    is_uncertain: bool
    """Whether there are too few points to trust the shares."""

    @property
    def interactions(self) -> float:
        """What no setting explains by itself."""
        return max(0.0, 1 - sum(self.shares.values()))


def measure_importance(points: Sequence[Point], names: Sequence[str]) -> Importance | None:
    """The importance of the settings, as fANOVA measures it.

    Args:
        points: Of a search, best first, each with the mean of its scores.
        names: The settings; those with one value are left out.

    Returns:
        None where there are too few points, one setting at most, or all scores are equal.

    Source: Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", 2014.
    """
    points = pick_evenly(points, max_best=0, max_others=MAX_POINTS)
    values = {name: [getattr(point.recipe, name) for point in points] for name in names}
    values = {name: column for name, column in values.items() if len(set(column)) > 1}
    scores = [point.mean for point in points]
    if len(points) < MIN_POINTS or not values or len(set(scores)) == 1:
        return None
    shares = dict.fromkeys(values, 1.0) if len(values) == 1 else _evaluate(values, scores)
    return Importance(
        shares=dict(sorted(shares.items(), key=lambda item: -item[1])),
        num_points=len(points),
        is_uncertain=len(points) < POINTS_PER_SETTING * len(values),
    )


def _evaluate(values: dict[str, list[Any]], scores: Sequence[float]) -> dict[str, float]:
    import optuna
    import sklearn  # noqa: F401  the forest of Optuna's fANOVA, which imports it only when asked

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(column) for name, column in values.items()}
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: column[place] for name, column in values.items()},
                distributions=distributions,
                value=score,
            )
            for place, score in enumerate(scores)
        ]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=NUM_TREES, max_depth=MAX_DEPTH, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn about few points, which the page says itself
        return {name: float(share) for name, share in evaluator.evaluate(study).items()}


def _distribution(column: Sequence[Any]) -> Any:
    """Numbers on their scale, logarithmic over a wide range; everything else as categories."""
    import optuna

    distinct = list(dict.fromkeys(column))
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in distinct):
        return optuna.distributions.CategoricalDistribution(distinct)
    low, high = min(distinct), max(distinct)
    is_log = low > 0 and high >= 8 * low
    if all(isinstance(one, int) for one in distinct):
        return optuna.distributions.IntDistribution(low, high, log=is_log)
    return optuna.distributions.FloatDistribution(low, high, log=is_log)
