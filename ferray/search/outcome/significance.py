"""How sure the winner of a search is: face by face against the next point, and how much of its score is luck.

Both need the predictions of trials for the faces that they were validated with; those of a head on a frozen trunk are
computed from cached features.

Begin at `assess_winner`.
"""

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.compare import compare_paired, correct_selection_bias
from ferray.records.points import is_whole
from ferray.report.results.answers import PointAnswers
from ferray.report.results.verdict import Significance
from ferray.search.open import Search
from ferray.search.outcome.answers import HERE, Answers
from ferray.search.outcome.finals import Ranking

SCORED = {"val_accuracy": "accuracy", "val_balanced_accuracy": "balanced_accuracy", "val_macro_f1": "macro_f1"}
"""Metrics that have an interval, and its name in `ferray.metrics.scores`."""


def assess_winner(search: Search, ranking: Ranking, answers: Answers = HERE) -> Significance:
    """Compare the winner with the next point, and correct its score for having been chosen.

    Args:
        search: The search.
        ranking: Its points.
        answers: Where trials predict.

    Raises:
        CheckpointError: A trial's best checkpoint is gone, broken, or not of its record's best epoch.
    """
    predictions = PointAnswers(search.plan.run, search.store, search.weights, predict=answers.validation)
    winner, metric = ranking.winner, search.plan.space.metric.name
    equals = [point for point in ranking.points if is_whole(point) and len(point.records) == len(winner.records)]
    runner_up = equals[1] if len(equals) > 1 else None
    comparison, correlation = None, 0.0
    if runner_up is not None and is_whole(winner):
        ours, theirs = predictions.correct(winner), predictions.correct(runner_up)
        comparison = compare_paired(ours, theirs, predictions.groups)
        correlation = _correlation(ours[0], theirs[0])
    luck = None
    if metric in SCORED and is_whole(winner):
        error = predictions.standard_error(winner, SCORED[metric])
        luck = correct_selection_bias([point.mean for point in equals], error, correlation=correlation)
    return Significance(
        winner=winner.number,
        trials=len(winner.records),
        mean=winner.mean,
        spread=winner.spread,
        runner_up=None if runner_up is None or comparison is None else runner_up.number,
        comparison=comparison,
        luck=luck,
        num_points=len(equals),
    )


def _correlation(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Of two trials' hits, which is that of their scores' errors; 0 where one is always right or always wrong."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.clip(np.corrcoef(one, other)[0, 1], 0.0, 0.99))
