"""What the trials of a point answer for the faces that they were validated with, from their checkpoints.

Those of a head on a frozen trunk are computed from cached features. A search compares its best two points by them, and
`ferray.report.results.compared` the winners of two searches.

Begin at `PointAnswers`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.reader import Store
from ferray.files import storage
from ferray.metrics.labeled import LabeledPredictions
from ferray.metrics.scores import score
from ferray.model.weights import Weights
from ferray.records.points import Point
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.train.predict import ValidationAnswers, answers_are_cached, predict_validation


class PointAnswers:
    """What the best epochs of whole points of a search predict.

    Args:
        run: The search.
        store: What it was made on.
        weights: What its trunks start from, by backbone.
        predict: Where a search has trials predict elsewhere; None for here, on the CPU.
    """

    def __init__(
        self,
        run: Run,
        store: Store,
        weights: Mapping[str, Weights],
        *,
        predict: Callable[[TrialRecord], ValidationAnswers] | None = None,
    ) -> None:
        self._run, self._store, self._weights = run, store, weights
        self._predict = predict or self._predict_here
        self._groups = np.asarray(store.table["group"].to_numpy(), dtype=np.int64)
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows in the store of the faces last asked for, ascending."""
        return self._rows

    @property
    def groups(self) -> NDArray[np.int64]:
        """Photographs of the faces last asked for."""
        return self._groups[self._rows]

    def are_cached(self, point: Point) -> bool:
        """Whether the answers of a point's trials cost no pass of the trunk."""
        cache = storage.cache_dir()
        return all(
            answers_are_cached(record.recipe, self._store, self._weights[record.recipe.backbone], cache=cache)
            for record in point.records
        )

    def correct(self, point: Point) -> NDArray[np.bool_]:
        """Whether the point's trials were right, shape (seeds, faces); the faces of all folds, by row.

        Raises:
            CheckpointError: A trial's best checkpoint is gone, broken, or not of its record's best epoch.
        """
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
        (low, high), value = scores.intervals[name], float(getattr(scores, name))
        # An interval that ends at 0 or 1 is cut off there: its other side says how far chance reaches.
        reach = (high - low) / 2 if low > 0 and high < 1 else max(high - value, value - low)
        return max(reach / 1.96, 1e-6)

    def _probabilities(self, records: Sequence[TrialRecord]) -> NDArray[np.float32]:
        """Probabilities of trials that validated with different faces, by row."""
        parts = [self._predict(record) for record in records]
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows)
        self._rows = rows[order]
        return np.concatenate([part.probabilities for part in parts])[order]

    def _predict_here(self, record: TrialRecord) -> ValidationAnswers:
        return predict_validation(
            record.recipe,
            self._store,
            self._weights[record.recipe.backbone],
            checkpoints=self._run.checkpoints(record.trial_id),
            cache=storage.cache_dir(),
            recorded=None if (best := record.best()) is None else best.epoch,
        )
