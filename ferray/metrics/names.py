"""The scores that are all called accuracy: what each counts, and what a baseline that ignores the faces reaches.

In seven classes a model that predicts 68.5 % of the faces correctly has a one-vs-rest accuracy of 91 %, and one that
gives every class a probability of 1/7 has a binary accuracy of 85.7 %. So ferray never shows a score without its name.

Begin at `SCORE_TITLES`. `score_confusion` computes all scores of a confusion matrix; `ferray.audit.score.claims` goes
the other way, from a score to the top-1 accuracy behind it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.metrics import confusion as confusions

SCORE_TITLES: Mapping[str, str] = {
    "accuracy": "top-1 accuracy",  # share of the faces whose most probable class is their label
    "balanced_accuracy": "balanced accuracy",  # mean of the classes' recalls
    "macro_f1": "macro F1",  # mean of the classes' F1 scores
    "one_vs_rest_accuracy": "one-vs-rest accuracy",  # mean over classes of (TP+TN)/N
    "binary_accuracy": "binary accuracy",  # share of the cells of the one-hot table on their side of 0.5
}
"""Name of each score by its key in JSON. Top-1 accuracy comes first: it is what papers call accuracy."""


def score_confusion(confusion: NDArray[np.int64]) -> dict[str, float]:
    """All scores of predicted classes, by key; without probabilities, binary accuracy equals one-vs-rest accuracy.

    Args:
        confusion: Counts, shape (classes, classes); rows are labels, columns predictions.
    """
    top_1 = confusions.accuracy(confusion)
    cells = one_vs_rest_accuracy(top_1, num_classes=len(confusion))
    values = (top_1, confusions.balanced_accuracy(confusion), confusions.macro_f1(confusion), cells, cells)
    return dict(zip(SCORE_TITLES, values, strict=True))


def one_vs_rest_accuracy(top_1: float, *, num_classes: int) -> float:
    """Mean over classes of (TP+TN)/N, from the top-1 accuracy alone.

    A correct prediction has all cells of its one-hot row right. A wrong one has two wrong cells, the label's and the
    predicted class's. So the mean is 1 - 2 (1 - top-1) / classes.
    """
    return 1 - 2 * (1 - top_1) / num_classes


def correct_cells(labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Cells of each face's one-hot row that a threshold of 0.5 gets right, shape (faces,).

    Their mean over `classes` is Keras' `BinaryAccuracy(threshold=0.5)`, which counts a probability of exactly 0.5 as
    not above the threshold.

    Args:
        labels: True class numbers, shape (faces,).
        probabilities: Shape (faces, classes).
    """
    targets = np.arange(probabilities.shape[1]) == labels[:, None]
    return np.asarray(((probabilities > 0.5) == targets).sum(axis=1), dtype=np.int64)


def score_constant(counts: NDArray[np.int64], predicted: int) -> dict[str, float]:
    """The scores of predicting one class for every face, by key.

    Args:
        counts: Faces of each class, shape (classes,).
        predicted: Number of the class.
    """
    confusion = np.zeros((len(counts), len(counts)), dtype=np.int64)
    confusion[:, predicted] = counts
    return score_confusion(confusion)


def score_chance(counts: NDArray[np.int64]) -> dict[str, float]:
    """The expected scores of a model to which all classes are equally probable, by key.

    Its predicted class is drawn at random, so it is correct for one face in `classes`. Its probabilities never exceed
    0.5, so all cells but the label's are right. Its macro F1 is that of the expected confusion matrix.

    Args:
        counts: Faces of each class, shape (classes,).
    """
    num = len(counts)
    f1 = 2 * (counts / num) / (counts + counts.sum() / num)
    cells = one_vs_rest_accuracy(1 / num, num_classes=num)
    return dict(zip(SCORE_TITLES, (1 / num, 1 / num, float(f1.mean()), cells, 1 - 1 / num), strict=True))
