"""Scores of a classifier's predictions on one split, with confidence intervals and with the scores of baselines.

A score alone misleads in three ways. It does not show how far chance moved it, so each score has a 95 % interval, from
a bootstrap of whole photographs. It does not show how easy the split is, so the scores of baselines that ignore the
faces stand beside it. It does not show which of the scores called accuracy it is, so all of them are given by name.

Begin at `score`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.confusion import make_confusion
from ferray.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    certain_interval,
    draw_kinds,
    percentiles,
    wilson_interval,
)
from ferray.metrics.labeled import LabeledPredictions
from ferray.metrics.names import SCORE_TITLES, correct_cells, score_chance, score_confusion, score_constant

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores on one split, in [0, 1]. Intervals are (low, high)."""

    class_names: tuple[str, ...]
    """In the order of the confusion matrix."""
    confusion: NDArray[np.int64]
    """Faces, shape (classes, classes); rows are labels, columns predictions."""
    accuracy: float
    """Top-1: share of faces whose most probable class is their label."""
    balanced_accuracy: float
    """Mean recall of the classes that have faces."""
    macro_f1: float
    """Mean of the classes' F1 scores; a class with neither faces nor predictions counts as 0."""
    one_vs_rest_accuracy: float
    """Mean over classes of (TP+TN)/N; far above top-1 accuracy, which it cannot replace."""
    binary_accuracy: float | None
    """Share of the cells of the one-hot table on their side of 0.5; None where only the predicted classes are known."""
    intervals: Mapping[str, Interval]
    """By key of the score."""
    recall_intervals: tuple[Interval | None, ...]
    """By class; None for a class without faces."""
    num_groups: int
    """Photographs, which the bootstrap draws whole."""
    baselines: Mapping[str, Mapping[str, float] | None]
    """Scores by key of three baselines that ignore the faces. `majority` always predicts the most frequent training
    class, and is None where no training faces are known. `constant_guess` always predicts the most frequent class of
    these very faces. `chance` gives every class the same probability."""
    bootstrap: Bootstrap
    """What the intervals come from."""

    @property
    def num_faces(self) -> int:
        """Faces of the split."""
        return int(self.confusion.sum())

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Faces of each class by label, shape (classes,)."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def values(self) -> dict[str, float | None]:
        """Every score by its key, in the order of `ferray.metrics.names.SCORE_TITLES`."""
        return {key: getattr(self, key) for key in SCORE_TITLES}

    @property
    def recalls(self) -> tuple[float | None, ...]:
        """Share of each class's faces that were predicted correctly; None for a class without faces."""
        return tuple(
            float(self.confusion[place, place] / total) if total else None
            for place, total in enumerate(self.class_counts)
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `interval` is that of `accuracy`, `baselines` has top-1 accuracies, `guesses` all scores."""
        return {
            **self.values,
            "interval": list(self.intervals["accuracy"]),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "recalls": list(self.recalls),
            "recall_intervals": [None if interval is None else list(interval) for interval in self.recall_intervals],
            "confusion": self.confusion.tolist(),
            "class_names": list(self.class_names),
            "n": self.num_faces,
            "groups": self.num_groups,
            "baselines": {name: values and values["accuracy"] for name, values in self.baselines.items()},
            "guesses": {name: values and dict(values) for name, values in self.baselines.items()},
            "resamples": self.bootstrap.resamples,
            "seed": self.bootstrap.seed,
        }


def score(
    predictions: LabeledPredictions,
    *,
    train_counts: Sequence[int] | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Scores:
    """Compare predictions with labels.

    Args:
        predictions: The faces of one split.
        train_counts: Training faces by class, in the order of the class numbers; None, or zeros, where they are not
            known.
        bootstrap: Number of draws and seed.

    Returns:
        The same for the same faces in any order.
    """
    labels = predictions.labels
    num_classes = len(predictions.class_names)
    confusion = make_confusion(labels, predictions.predicted, num_classes=num_classes)
    counts = confusion.sum(axis=1)
    values = score_confusion(confusion)
    cells = None
    if predictions.probabilities is not None:
        cells = correct_cells(labels, predictions.probabilities)
    kinds, times = _kinds_of_groups(predictions, cells)
    intervals = percentiles(_score_draws(draw_kinds(kinds, times, bootstrap), num_classes))
    names = list(SCORE_TITLES)[: len(SCORE_TITLES) - (cells is None)]
    num_of_class = _groups_by_class(predictions)
    of_scores = dict(zip(names, intervals, strict=False)) | _certain_scores(confusion, num_of_class, int(times.sum()))
    majority = int(np.argmax(train_counts)) if train_counts is not None and any(train_counts) else None
    return Scores(
        class_names=predictions.class_names,
        confusion=confusion,
        accuracy=values["accuracy"],
        balanced_accuracy=values["balanced_accuracy"],
        macro_f1=values["macro_f1"],
        one_vs_rest_accuracy=values["one_vs_rest_accuracy"],
        binary_accuracy=None if cells is None else float(cells.mean() / num_classes),
        intervals={name: interval for name, interval in of_scores.items() if interval is not None},
        recall_intervals=_replace_certain(intervals[len(names) :], confusion, num_of_class),
        num_groups=int(times.sum()),
        baselines={
            "majority": None if majority is None else score_constant(counts, majority),
            "constant_guess": score_constant(counts, int(counts.argmax())),
            "chance": score_chance(counts),
        },
        bootstrap=bootstrap,
    )


def _groups_by_class(predictions: LabeledPredictions) -> NDArray[np.int64]:
    """Photographs with faces of each class, shape (classes,)."""
    pairs = np.unique(np.stack([predictions.labels, predictions.groups]), axis=1)
    return np.bincount(pairs[0], minlength=len(predictions.class_names)).astype(np.int64)


def _certain_scores(
    confusion: NDArray[np.int64], num_of_class: NDArray[np.int64], num_groups: int
) -> dict[str, Interval]:
    """Intervals where all faces are predicted correctly, or none is; else nothing.

    Every draw of the bootstrap then has the same scores, though a model that is right on ten faces may fail on the
    next. An F1 score counts as its recall does.

    Args:
        confusion: Shape (classes, classes).
        num_of_class: Photographs with faces of each class.
        num_groups: All photographs.
    """
    num_classes, num_hits = len(confusion), int(confusion.trace())
    if num_hits not in (0, confusion.sum()):
        return {}
    share = float(num_hits > 0)
    low, high = certain_interval(share, [num_groups])
    counts = num_of_class[num_of_class > 0].tolist()
    return {
        "accuracy": (low, high),
        "balanced_accuracy": certain_interval(share, counts, [1 / len(counts)] * len(counts)),
        "macro_f1": certain_interval(share, counts, [1 / num_classes] * len(counts)),
        "one_vs_rest_accuracy": (1 - 2 * (1 - low) / num_classes, 1 - 2 * (1 - high) / num_classes),
    }


def _replace_certain(
    intervals: Sequence[Interval | None], confusion: NDArray[np.int64], num_of_class: NDArray[np.int64]
) -> tuple[Interval | None, ...]:
    """Intervals of recalls; where all faces of a class have one answer, every draw has it too, so Wilson's is taken.

    Args:
        intervals: Of the bootstrap, one per class.
        confusion: Shape (classes, classes).
        num_of_class: Photographs with faces of each class, which count, not the faces.
    """
    hits, counts = confusion.diagonal(), confusion.sum(axis=1)
    return tuple(
        wilson_interval(hit / count, int(num)) if interval is not None and hit in (0, count) else interval
        for interval, hit, count, num in zip(intervals, hits, counts, num_of_class, strict=True)
    )


def _kinds_of_groups(
    predictions: LabeledPredictions, cells: NDArray[np.int64] | None
) -> tuple["csr_array", NDArray[np.int64]]:
    """The kinds of groups, and how often each occurs; two groups are of one kind if they have the same confusion.

    A confusion matrix for each group would take gigabytes with a thousand classes, so only its cells with faces are
    kept, and of them the totals that scores are made of. The kinds are in the order in which `np.unique` would sort
    the whole matrices, so that a draw does not depend on how they are kept.

    Returns:
        Hits by class, faces by label, faces by prediction, and correct cells of the one-hot table where they are
        known, shape (kinds, 3 classes [+ 1]); and the number of groups of each kind.
    """
    from scipy.sparse import csr_array

    num_classes = len(predictions.class_names)
    ids, places = np.unique(predictions.groups, return_inverse=True)
    counts: list[dict[int, int]] = [{} for _ in ids]
    added = np.zeros(len(places), dtype=np.int64) if cells is None else cells
    at = predictions.labels * num_classes + predictions.predicted
    for group, cell, correct in zip(places.tolist(), at.tolist(), added.tolist(), strict=True):
        mine = counts[group]
        mine[cell] = mine.get(cell, 0) + 1
        mine[num_classes**2] = mine.get(num_classes**2, 0) + correct
    found = Counter(tuple(sorted((-cell, num) for cell, num in mine.items() if num))[::-1] for mine in counts)
    rows: list[int] = []
    columns: list[int] = []
    values: list[int] = []
    for row, kind in enumerate(sorted(found)):
        for negative, num in kind:
            label, predicted = divmod(-negative, num_classes)
            of_cell = [num_classes + label, 2 * num_classes + predicted] + [label] * (label == predicted)
            for column in of_cell if label < num_classes else [3 * num_classes]:
                rows.append(row)
                columns.append(column)
                values.append(num)
    shape = (len(found), 3 * num_classes + (cells is not None))
    kinds = csr_array((np.asarray(values, dtype=np.float64), (rows, columns)), shape=shape)
    return kinds, np.asarray([found[kind] for kind in sorted(found)], dtype=np.int64)


def _score_draws(totals: NDArray[np.float64], num_classes: int) -> NDArray[np.float64]:
    """The scores of all draws at once, by the rules of `ferray.metrics.confusion`, and the recalls.

    Args:
        totals: As the kinds of `_kinds_of_groups`, shape (draws, 3 classes [+ 1]).
        num_classes: Number of classes.

    Returns:
        Shape (draws, 4 [+ 1] + classes); the recall of a class without faces is NaN.
    """
    hits, labels, predicted = totals[:, : 3 * num_classes].reshape(-1, 3, num_classes).transpose(1, 0, 2)
    num_faces = labels.sum(axis=1)
    accuracy = hits.sum(axis=1) / num_faces
    recalls = np.where(labels > 0, hits / np.maximum(1, labels), np.nan)
    scores = [
        accuracy,
        np.nansum(recalls, axis=1) / (labels > 0).sum(axis=1),
        (2 * hits / np.maximum(1, labels + predicted)).mean(axis=1),
        1 - 2 * (1 - accuracy) / num_classes,
        *(column / num_faces / num_classes for column in totals[:, 3 * num_classes :].T),
    ]
    return np.concatenate([np.stack(scores, axis=1), recalls], axis=1)
