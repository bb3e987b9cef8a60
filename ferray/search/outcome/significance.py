"""How sure the winner of a search is: face by face against the next point, and how much of its score is luck.

Both need the predictions of trials for the faces that they were validated with; those of a head on a frozen trunk are
computed from cached features.

Begin at `assess_winner`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ferray.files import storage
from ferray.metrics.compare import compare_paired, correct_selection_bias
from ferray.metrics.labeled import LabeledPredictions
from ferray.metrics.scores import score
from ferray.records.points import Point
from ferray.records.trial import TrialRecord
from ferray.report.results.verdict import Significance
from ferray.search.open import Search
from ferray.search.outcome.finals import Ranking
from ferray.train.predict import predict_validation

SCORED = {"val_accuracy": "accuracy", "val_balanced_accuracy": "balanced_accuracy", "val_macro_f1": "macro_f1"}
"""Metrics that have an interval, and its name in `ferray.metrics.scores`."""


def assess_winner(search: Search, ranking: Ranking) -> Significance:
    """Compare the winner with the next point, and correct its score for having been chosen.

    Args:
        search: The search.
        ranking: Its points.

    Raises:
        CheckpointError: A trial's best checkpoint is gone, broken, or not of its record's best epoch.
    """
    predictions = _Predictions(search)
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
    )


def is_whole(point: Point) -> bool:
    """Whether no trial is missing, as a failed fold would be, so that each seed has answers for the same faces."""
    seeds = {record.recipe.seed for record in point.records}
    return len(point.records) == len(seeds) * (point.recipe.folds or 1)


class _Predictions:
    """What the best epochs of whole points predict."""

    def __init__(self, search: Search) -> None:
        self._search, self._store = search, search.store
        self._groups = np.asarray(search.store.table["group"].to_numpy(), dtype=np.int64)
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    @property
    def groups(self) -> NDArray[np.int64]:
        """Photographs of the faces last asked for."""
        return self._groups[self._rows]

    def correct(self, point: Point) -> NDArray[np.bool_]:
        """Whether the point's trials were right, shape (seeds, faces); the faces of all folds, by row."""
        seeds = sorted({record.recipe.seed for record in point.records})
        answers = [self._probabilities([one for one in point.records if one.recipe.seed == seed]) for seed in seeds]
        return np.stack([probabilities.argmax(axis=1) == self._store.labels[self._rows] for probabilities in answers])

    def standard_error(self, point: Point, name: str) -> float:
        """Of a score of one seed's trials, by the choice of photographs."""
        seed = point.recipe.seed
        probabilities = self._probabilities([record for record in point.records if record.recipe.seed == seed])
        labels = np.asarray(self._store.labels[self._rows])
        predictions = LabeledPredictions.from_probabilities(
            labels, probabilities, self.groups, class_names=self._store.class_names
        )
        scores = score(predictions)
        low, high = scores.intervals[name]
        return max((high - low) / (2 * 1.96), 1e-6)

    def _probabilities(self, records: Sequence[TrialRecord]) -> NDArray[np.float32]:
        """Probabilities of trials that validated with different faces, by row."""
        parts = [
            predict_validation(
                record.recipe,
                self._store,
                self._search.weights[record.recipe.backbone],
                checkpoints=self._search.plan.run.trial_dir(record.trial_id),
                cache=storage.cache_dir(),
                recorded=None if (best := record.best()) is None else best.epoch,
            )
            for record in records
        ]
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows)
        self._rows = rows[order]
        return np.concatenate([part.probabilities for part in parts])[order]


def _correlation(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Of two trials' hits, which is that of their scores' errors; 0 where one is always right or always wrong."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.clip(np.corrcoef(one, other)[0, 1], 0.0, 0.99))
