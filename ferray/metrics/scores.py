"""What a classifier's probabilities are worth on one split: scores, their intervals, and what guessing would score.

A score alone misleads three times. It hides how far chance moved it: so each has a 95 % interval, from a bootstrap that
draws whole groups of faces, because faces of one photograph err together. It hides how easy the split is: so the scores
of guesses that never look at a face stand beside it. It hides which of the numbers called accuracy it is: so all of
them stand side by side, under their own names.

Begin at `score`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.metrics.bootstrap import RESAMPLES, Interval, draw_totals, percentiles, sum_by_group
from ferray.metrics.confusion import make_confusion
from ferray.metrics.names import TITLES, right_cells, score_chance, score_confusion, score_constant


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
    """Mean of the recalls, over the classes that have faces."""
    macro_f1: float
    """Mean of the classes' F1 scores; a class with neither faces nor predictions counts as 0."""
    one_vs_rest_accuracy: float
    """Mean over classes of (TP+TN)/N; far above top-1, and no substitute for it."""
    binary_accuracy: float | None
    """Share of the cells of the one-hot table on their side of 0.5; None where only hard answers are known."""
    intervals: Mapping[str, Interval]
    """By name of the score."""
    recall_intervals: tuple[Interval | None, ...]
    """By class; None for a class without faces."""
    num_groups: int
    """Photographs, which the bootstrap draws whole."""
    guesses: Mapping[str, Mapping[str, float] | None]
    """Scores, by name, of guesses that never look: `majority`, of always answering the most frequent training class,
    None where no training faces are known; `constant_guess`, of the best constant answer on this very split; `chance`,
    of equal probabilities for every class."""
    resamples: int
    """Bootstrap draws."""
    seed: int
    """Of the bootstrap."""

    @property
    def n(self) -> int:
        """Faces."""
        return int(self.confusion.sum())

    @property
    def values(self) -> dict[str, float | None]:
        """Every score by its name, in the order of `ferray.metrics.names.NAMES`."""
        return {key: getattr(self, key) for key in TITLES}

    @property
    def recalls(self) -> tuple[float | None, ...]:
        """Share of each class's faces that were found; None for a class without faces."""
        totals = self.confusion.sum(axis=1)
        return tuple(
            float(self.confusion[place, place] / total) if total else None for place, total in enumerate(totals)
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `interval` is that of `accuracy`, and `baselines` are top-1 accuracies."""
        return {
            **self.values,
            "interval": list(self.intervals["accuracy"]),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "recalls": list(self.recalls),
            "recall_intervals": [None if interval is None else list(interval) for interval in self.recall_intervals],
            "confusion": self.confusion.tolist(),
            "class_names": list(self.class_names),
            "n": self.n,
            "groups": self.num_groups,
            "baselines": {name: guess and guess["accuracy"] for name, guess in self.guesses.items()},
            "guesses": {name: guess and dict(guess) for name, guess in self.guesses.items()},
            "resamples": self.resamples,
            "seed": self.seed,
        }


def score(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    groups: NDArray[np.int64],
    *,
    class_names: Sequence[str],
    train_counts: Sequence[int] | None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Scores:
    """Compare probabilities with labels.

    Args:
        labels: True class numbers, shape (faces,).
        probabilities: Shape (faces, classes); the largest of a row is the answer, the first of equals.
        groups: Ids of the photographs that the faces come from, shape (faces,).
        class_names: In the order of the labels and of the columns.
        train_counts: Training faces by class, in the same order; None, or zeros, where they are not known.
        seed: Of the bootstrap.
        resamples: Bootstrap draws.

    Returns:
        Equal for equal faces in any order.

    Raises:
        ValueError: No faces, or shapes that disagree.
    """
    if probabilities.shape != (len(labels), len(class_names)):
        raise ValueError(
            f"labels {labels.shape}, probabilities {probabilities.shape} and {len(class_names)} classes"
            " do not belong together"
        )
    return score_answers(
        labels,
        probabilities.argmax(axis=1).astype(np.int64),
        groups,
        cells=right_cells(labels, probabilities),
        class_names=class_names,
        train_counts=train_counts,
        seed=seed,
        resamples=resamples,
    )


def score_answers(
    labels: NDArray[np.int64],
    answers: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    cells: NDArray[np.int64] | None,
    class_names: Sequence[str],
    train_counts: Sequence[int] | None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Scores:
    """Compare hard answers with labels.

    Args:
        labels: True class numbers, shape (faces,).
        answers: Predicted class numbers, shape (faces,).
        groups: Ids of the photographs that the faces come from, shape (faces,).
        cells: From `ferray.metrics.names.right_cells`, shape (faces,); None where there are no probabilities.
        class_names: In the order of the labels.
        train_counts: Training faces by class, in the same order; None, or zeros, where they are not known.
        seed: Of the bootstrap.
        resamples: Bootstrap draws.

    Raises:
        ValueError: No faces, or shapes that disagree.
    """
    num_classes = len(class_names)
    if not len(labels) or groups.shape != labels.shape or answers.shape != labels.shape:
        raise ValueError(
            f"labels {labels.shape}, answers {answers.shape}, groups {groups.shape} do not belong together"
        )
    confusion = make_confusion(labels, answers, num_classes=num_classes)
    counts = confusion.sum(axis=1)
    values = score_confusion(confusion)
    by_group = confusion_by_group(labels, answers, groups, num_classes=num_classes).reshape(-1, num_classes**2)
    if cells is not None:
        by_group = np.concatenate([by_group, sum_by_group(cells[:, None], groups)], axis=1)
    drawn = _score_many(draw_totals(by_group, seed=seed, resamples=resamples), num_classes)
    intervals = percentiles(drawn)
    names = list(TITLES)[: len(TITLES) - (cells is None)]
    of_scores = dict(zip(names, intervals, strict=False))
    majority = int(np.argmax(train_counts)) if train_counts is not None and any(train_counts) else None
    return Scores(
        class_names=tuple(class_names),
        confusion=confusion,
        accuracy=values["accuracy"],
        balanced_accuracy=values["balanced_accuracy"],
        macro_f1=values["macro_f1"],
        one_vs_rest_accuracy=values["one_vs_rest_accuracy"],
        binary_accuracy=None if cells is None else float(cells.mean() / num_classes),
        intervals={name: interval for name, interval in of_scores.items() if interval is not None},
        recall_intervals=tuple(intervals[len(names) :]),
        num_groups=len(by_group),
        guesses={
            "majority": None if majority is None else score_constant(counts, majority),
            "constant_guess": score_constant(counts, int(counts.argmax())),
            "chance": score_chance(counts),
        },
        resamples=resamples,
        seed=seed,
    )


def confusion_by_group(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], groups: NDArray[np.int64], *, num_classes: int
) -> NDArray[np.int64]:
    """One confusion matrix a group, shape (groups, classes, classes), by ascending group id.

    Args:
        labels: Shape (faces,).
        predictions: Shape (faces,).
        groups: Shape (faces,).
        num_classes: Side of the matrices.
    """
    ids, places = np.unique(groups, return_inverse=True)
    at = (places * num_classes + labels) * num_classes + predictions
    counts = np.bincount(at, minlength=len(ids) * num_classes**2)
    return counts.reshape(len(ids), num_classes, num_classes).astype(np.int64)


def _score_many(totals: NDArray[np.float64], num_classes: int) -> NDArray[np.float64]:
    """The scores of many draws at once, as `ferray.metrics.confusion` has them of one, and the recalls.

    Args:
        totals: Of confusion matrices, and of right cells where they are known, shape (draws, classes² [+ 1]).
        num_classes: Of them.

    Returns:
        Shape (draws, 4 [+ 1] + classes); the recall of a class without faces is NaN.
    """
    confusions = totals[:, : num_classes**2].reshape(-1, num_classes, num_classes)
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    labels, answers = confusions.sum(axis=2), confusions.sum(axis=1)
    num_faces = labels.sum(axis=1)
    accuracy = hits.sum(axis=1) / num_faces
    recalls = np.where(labels > 0, hits / np.maximum(1, labels), np.nan)
    scores = [
        accuracy,
        np.nansum(recalls, axis=1) / (labels > 0).sum(axis=1),
        (2 * hits / np.maximum(1, labels + answers)).mean(axis=1),
        1 - 2 * (1 - accuracy) / num_classes,
        *(column / num_faces / num_classes for column in totals[:, num_classes**2 :].T),
    ]
    return np.concatenate([np.stack(scores, axis=1), recalls], axis=1)
