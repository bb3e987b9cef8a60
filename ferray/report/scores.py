"""What a classifier's probabilities are worth on one split: scores, their intervals, and what guessing would score.

A score alone misleads twice. It hides how far chance moved it: so each has a 95 % interval, from a bootstrap that draws
whole groups of faces, because faces of one photograph err together. It hides how easy the split is: so the scores of
guesses that never look at a face stand beside it.

Begin at `score`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.train import metrics

Interval = tuple[float, float]

COVERAGE = 0.95
"""Of the intervals."""

_CELLS_AT_ONCE = 2**22
"""Numbers that the bootstrap holds at once, 32 MiB."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores on one split, in [0, 1]. Intervals are (low, high)."""

    class_names: tuple[str, ...]
    """In the order of the confusion matrix."""
    confusion: NDArray[np.int64]
    """Faces, shape (classes, classes); rows are labels, columns predictions."""
    accuracy: float
    """Share of faces whose most probable class is their label."""
    balanced_accuracy: float
    """Mean of the recalls, over the classes that have faces."""
    macro_f1: float
    """Mean of the classes' F1 scores; a class with neither faces nor predictions counts as 0."""
    intervals: Mapping[str, Interval]
    """By name of the score."""
    num_groups: int
    """Photographs, which the bootstrap draws whole."""
    majority: float | None
    """Accuracy of always answering the most frequent training class; None where no training faces are known."""
    constant_guess: float
    """Accuracy of the best constant answer on this very split: its largest class share."""
    resamples: int
    """Bootstrap draws."""
    seed: int
    """Of the bootstrap."""

    @property
    def n(self) -> int:
        """Faces."""
        return int(self.confusion.sum())

    @property
    def chance(self) -> float:
        """Accuracy of answering at random, every class alike."""
        return 1 / len(self.class_names)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `interval` is the accuracy's."""
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "interval": list(self.intervals["accuracy"]),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "confusion": self.confusion.tolist(),
            "class_names": list(self.class_names),
            "n": self.n,
            "groups": self.num_groups,
            "baselines": {
                "majority": self.majority,
                "constant_guess": self.constant_guess,
                "chance": self.chance,
            },
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
    resamples: int = 2000,
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
    num_classes = len(class_names)
    if not len(labels) or probabilities.shape != (len(labels), num_classes) or groups.shape != labels.shape:
        shapes = f"labels {labels.shape}, probabilities {probabilities.shape}, groups {groups.shape}"
        raise ValueError(f"{shapes} and {num_classes} classes do not belong together")
    predictions = probabilities.argmax(axis=1).astype(np.int64)
    by_group = confusion_by_group(labels, predictions, groups, num_classes=num_classes)
    confusion = by_group.sum(axis=0)
    shares = confusion.sum(axis=1) / len(labels)
    return Scores(
        class_names=tuple(class_names),
        confusion=confusion,
        accuracy=metrics.accuracy(confusion),
        balanced_accuracy=metrics.balanced_accuracy(confusion),
        macro_f1=metrics.macro_f1(confusion),
        intervals=bootstrap_intervals(by_group, seed=seed, resamples=resamples),
        num_groups=len(by_group),
        majority=float(shares[np.argmax(train_counts)]) if train_counts is not None and any(train_counts) else None,
        constant_guess=float(shares.max()),
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
    cells = (places * num_classes + labels) * num_classes + predictions
    counts = np.bincount(cells, minlength=len(ids) * num_classes**2)
    return counts.reshape(len(ids), num_classes, num_classes).astype(np.int64)


def bootstrap_intervals(by_group: NDArray[np.int64], *, seed: int, resamples: int) -> dict[str, Interval]:
    """Percentile intervals of accuracy, balanced accuracy and macro F1.

    Each draw takes as many groups as there are, with replacement, and scores their joint confusion matrix. Groups with
    equal matrices are drawn together, as one category of a multinomial: the same law, and mostly few categories.

    Args:
        by_group: From `confusion_by_group`.
        seed: Of the draws.
        resamples: Number of draws.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; whole groups as in the cluster
        bootstrap of Davison and Hinkley, "Bootstrap Methods and Their Application", 1997, section 3.8.
    """
    num_groups, num_classes, _ = by_group.shape
    kinds, times = np.unique(by_group.reshape(num_groups, -1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // max(len(kinds), num_classes**2))
    parts: list[NDArray[np.float64]] = []
    for begin in range(0, resamples, at_once):
        draws = generator.multinomial(num_groups, times / num_groups, size=min(at_once, resamples - begin))
        confusions = draws.astype(np.float64) @ kinds.astype(np.float64)
        parts.append(_score_many(confusions.reshape(-1, num_classes, num_classes)))
    edge = (1 - COVERAGE) / 2
    low, high = np.quantile(np.concatenate(parts), [edge, 1 - edge], axis=0)
    names = ("accuracy", "balanced_accuracy", "macro_f1")
    return {name: (float(low[place]), float(high[place])) for place, name in enumerate(names)}


def _score_many(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy, balanced accuracy and macro F1 of many matrices at once, as `ferray.train.metrics` has them of one.

    Args:
        confusions: Shape (draws, classes, classes).

    Returns:
        Shape (draws, 3).
    """
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    labels, answers = confusions.sum(axis=2), confusions.sum(axis=1)
    recalls = hits / np.maximum(1, labels)  # 0 without labels, and not counted then
    return np.stack(
        [
            hits.sum(axis=1) / labels.sum(axis=1),
            recalls.sum(axis=1) / (labels > 0).sum(axis=1),
            (2 * hits / np.maximum(1, labels + answers)).mean(axis=1),
        ],
        axis=1,
    )
