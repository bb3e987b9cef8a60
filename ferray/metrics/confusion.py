"""Scores of a classifier from one table of counts: the confusion matrix. NumPy only.

Begin at `make_confusion`.
"""

import numpy as np
from numpy.typing import NDArray


def make_confusion(labels: NDArray[np.int64], predictions: NDArray[np.int64], *, num_classes: int) -> NDArray[np.int64]:
    """Count how often each class was predicted for the faces of each class.

    Args:
        labels: True class numbers, shape (faces,).
        predictions: Predicted class numbers, shape (faces,).
        num_classes: Number of rows and columns of the result.

    Returns:
        Counts, shape (num_classes, num_classes); rows are labels, columns predictions.
    """
    places = labels * num_classes + predictions
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Share of the faces whose class was predicted; 0 without faces.

    Args:
        confusion: From `make_confusion`.
    """
    return float(np.trace(confusion) / max(1, confusion.sum()))


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """Mean recall of the classes that have faces; 0 without faces.

    Args:
        confusion: From `make_confusion`.

    Source: Brodersen et al., "The Balanced Accuracy and Its Posterior Distribution", 2010; scikit-learn's convention.
    """
    labels = confusion.sum(axis=1)
    present = labels > 0
    return float(np.mean(np.diag(confusion)[present] / labels[present])) if present.any() else 0.0


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Mean of the classes' F1 scores, with equal weights.

    Args:
        confusion: From `make_confusion`; a class with neither labels nor predictions counts as 0.

    Source: Opitz and Burst, "Macro F1 and Macro F1", 2019: the mean of F1s, not the F1 of means.
    """
    return float(np.mean(f1_by_class(confusion)))


def f1_by_class(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 score of each class, shape (classes,); 0 for a class with neither labels nor predictions.

    Args:
        confusion: From `make_confusion`.
    """
    seen = confusion.sum(axis=0) + confusion.sum(axis=1)  # 2 TP + FP + FN
    return np.asarray(2 * np.diag(confusion) / np.maximum(1, seen), dtype=np.float64)
