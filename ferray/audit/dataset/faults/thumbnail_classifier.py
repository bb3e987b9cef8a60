"""A small classifier of thumbnails, for the checks on labels: where it learns anything, it detects wrong class names.

Histograms of oriented gradients (HOG) and ridge regression, in seconds and without torch. Begin at `predict_labels`.

Sources: Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", 2005; Hoerl and Kennard, "Ridge
Regression", 1970.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.dataset.scan.pictures import THUMBNAIL_PX
from ferray.data.sampling import evenly_spaced

MAX_CLASSIFIER_ROWS = 6_000
"""Most rows that are learned from, and most that are predicted: more would not change a finding."""
RIDGE = 10.0
"""Added to the diagonal, for standardized features."""
MIN_STANDARD_ERRORS = 4.0
"""Smallest difference between two readings of the labels that is reported, in standard errors: it occurs once in 30,000
times by chance, and several readings are tried."""

_CELLS, _DIRECTIONS = 8, 8
_AT_ONCE = 1_000


def predict_labels(
    features: NDArray[np.float32], labels: NDArray[np.int64], others: NDArray[np.float32], num_classes: int
) -> NDArray[np.int64]:
    """Learn labels from features, each class with the same weight, and predict the labels of other features.

    Args:
        features: Shape (n, d).
        labels: Shape (n,).
        others: Shape (m, d).
        num_classes: Number of classes; a class without rows is never predicted.

    Returns:
        Predicted labels, shape (m,).
    """
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    inputs = np.concatenate([(features - mean) / spread, np.ones((len(features), 1), np.float32)], axis=1)
    counts = np.bincount(labels, minlength=num_classes)
    weights = (len(labels) / (num_classes * np.maximum(counts, 1)))[labels].astype(np.float32)
    targets = np.eye(num_classes, dtype=np.float32)[labels]
    weighted = inputs * weights[:, None]
    square = weighted.T @ inputs + RIDGE * np.eye(inputs.shape[1], dtype=np.float32)
    solution = np.linalg.solve(square.astype(np.float64), (weighted.T @ targets).astype(np.float64))
    inputs = np.concatenate([(others - mean) / spread, np.ones((len(others), 1), np.float32)], axis=1)
    scores = inputs @ solution
    scores[:, counts == 0] = -np.inf
    return np.asarray(np.argmax(scores, axis=1), dtype=np.int64)


def hog_features(dataset: ScannedDataset, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Histograms of oriented gradients of some thumbnails, float32, shape (rows, 512).

    There are 8x8 cells of 4x4 pixels and 8 directions without sign; blocks of 2x2 cells are scaled to length 1.
    """
    parts = [_histograms(dataset.thumbnails[rows[begin : begin + _AT_ONCE]]) for begin in range(0, len(rows), _AT_ONCE)]
    return np.concatenate(parts)


def _histograms(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    padded = np.pad(thumbnails.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    across, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    direction = np.arctan2(down, across) * (_DIRECTIONS / np.pi)  # a rotation by pi counts as _DIRECTIONS
    strength = np.hypot(across, down)
    cells = np.empty((len(thumbnails), _CELLS, _CELLS, _DIRECTIONS), dtype=np.float32)
    for place in range(_DIRECTIONS):
        away = np.abs((direction - place + _DIRECTIONS / 2) % _DIRECTIONS - _DIRECTIONS / 2)
        share = strength * np.clip(1 - away, 0, None)  # divided between the two nearest directions
        cells[..., place] = share.reshape(len(thumbnails), _CELLS, -1, _CELLS, THUMBNAIL_PX // _CELLS).sum(axis=(2, 4))
    blocks = cells.reshape(len(thumbnails), _CELLS // 2, 2, _CELLS // 2, 2, _DIRECTIONS)
    length = np.sqrt((blocks**2).sum(axis=(2, 4, 5), keepdims=True))
    return np.asarray(blocks / (length + 1), dtype=np.float32).reshape(len(thumbnails), -1)


def limit_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MAX_CLASSIFIER_ROWS` of the rows, at even distances."""
    return evenly_spaced(rows, MAX_CLASSIFIER_ROWS)


def standard_errors(more: int, fewer: int) -> float:
    """The difference of two counts in standard errors, where each case counts for one of them or for neither.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
    """
    return (more - fewer) / math.sqrt(max(more + fewer, 1))
