"""One set of answers, many numbers that are all called accuracy: what each is, and what guessing gets under each.

In seven classes a model that is right for 68.5 % of the faces has a one-vs-rest accuracy of 91 %, and one that answers
1/7 to everything a binary accuracy of 85.7 %. So a score never stands here without its own name.

Begin at `NAMES`; `score_confusion` computes them of one table, `ferray.audit.score.claims` goes the other way.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.metrics import confusion as confusions


@dataclass(frozen=True)
class Name:
    """A score's name and what it counts."""

    key: str
    """In JSON."""
    title: str
    """For people."""
    meaning: str
    """What it counts, in one line."""


NAMES: tuple[Name, ...] = (
    Name("accuracy", "top-1 accuracy", "faces whose most probable class is their label"),
    Name("balanced_accuracy", "balanced accuracy", "mean of the classes' recalls"),
    Name("macro_f1", "macro F1", "mean of the classes' F1 scores"),
    Name("one_vs_rest_accuracy", "one-vs-rest accuracy", "mean over classes of (TP+TN)/N; not top-1"),
    Name("binary_accuracy", "binary accuracy", "cells of the one-hot table on their side of 0.5; not top-1"),
)
"""Top-1 first: it is what papers call accuracy."""

TITLES = {name.key: name.title for name in NAMES}


def score_confusion(confusion: NDArray[np.int64]) -> dict[str, float]:
    """All scores that one hard answer a face gives, by key of `NAMES`; binary accuracy is then one-vs-rest accuracy.

    Args:
        confusion: Counts, shape (classes, classes); rows are labels, columns answers.
    """
    top_1 = confusions.accuracy(confusion)
    cells = one_vs_rest_accuracy(top_1, num_classes=len(confusion))
    values = (top_1, confusions.balanced_accuracy(confusion), confusions.macro_f1(confusion), cells, cells)
    return dict(zip(TITLES, values, strict=True))


def one_vs_rest_accuracy(top_1: float, *, num_classes: int) -> float:
    """Mean over classes of (TP+TN)/N, from the top-1 accuracy alone.

    With one answer a face, a right one has all its cells right and a wrong one all but two: the label's and the
    answer's. So it is 1 - 2 (1 - top-1) / classes.
    """
    return 1 - 2 * (1 - top_1) / num_classes


def right_cells(labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Cells of each face's one-hot row that a threshold of 0.5 gets right, shape (faces,).

    Their mean over `classes` is Keras' `BinaryAccuracy(threshold=0.5)`, for which a probability is above 0.5 or not.

    Args:
        labels: True class numbers, shape (faces,).
        probabilities: Shape (faces, classes).
    """
    targets = np.arange(probabilities.shape[1]) == labels[:, None]
    return np.asarray(((probabilities > 0.5) == targets).sum(axis=1), dtype=np.int64)


def score_constant(counts: NDArray[np.int64], answer: int) -> dict[str, float]:
    """The scores of answering one class to every face, by key of `NAMES`.

    Args:
        counts: Faces of each class, shape (classes,).
        answer: The class.
    """
    confusion = np.zeros((len(counts), len(counts)), dtype=np.int64)
    confusion[:, answer] = counts
    return score_confusion(confusion)


def score_chance(counts: NDArray[np.int64]) -> dict[str, float]:
    """The expected scores of a model to which all classes are equally probable, by key of `NAMES`.

    Its answer is drawn at random, and right for one face in `classes`; its probabilities never pass 0.5, so that all
    cells but the label's are right. Its macro F1 is that of the expected table.

    Args:
        counts: Faces of each class, shape (classes,).
    """
    num = len(counts)
    f1 = 2 * (counts / num) / (counts + counts.sum() / num)
    cells = one_vs_rest_accuracy(1 / num, num_classes=num)
    return dict(zip(TITLES, (1 / num, 1 / num, float(f1.mean()), cells, 1 - 1 / num), strict=True))
